"""
Read one fetch: from its first request to writers that only wait for their commit.

The way of a page is here, top to bottom: a fetch asks (:meth:`Reader.asked`), a report is waited for
(:meth:`Reader.report`), a listing is paged (:meth:`Reader.listing`), a page is taken in (:meth:`Reader.take`). All but
the last are generators that yield the calls they want made; the scheduler makes them.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from attrs import define, evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._decode import SeenKeys
from penstock._fetch.scheduler import Call, Outcome, Pause, Reading, Step
from penstock._plan.planner import Fetch
from penstock._read.components import Components
from penstock._read.loader import Loader
from penstock._read.reconcile import PageCounts
from penstock._read.reports import Lost, Reports, Standing, accepted
from penstock._util.clock import Clock
from penstock.errors import BrokenBodyError, CountMismatchError, PagingError
from penstock.model import Page, Request, Response, Slice
from penstock.protocols import BodyDecoder, Empty, Paginator, Refuse, SinglePage, Skip

# How often a fetch is read again from its start because its pages did not fit together.
REREADS = 5

# A span that still overflows the provider's limit and is no longer than this is not cut further.
SHORTEST_SPAN = timedelta(seconds=1)

_DAY = timedelta(days=1)


class _Capped(Exception):
    """The provider cut its answer to this slice at a limit. ``overran``: see :meth:`Reader._overran`."""

    def __init__(self, slice_: Slice, *, overran: bool) -> None:
        self.slice = slice_
        self.overran = overran


@frozen(kw_only=True, eq=False)
class _Paging:
    """One listing on its way: how its pages are asked for and read, its counts, and the keys they have shown."""

    read: BodyDecoder
    paginator: Paginator
    counts: PageCounts
    memory: SeenKeys


@define(eq=False, kw_only=True)
class Reader:
    """
    One fetch on its way. After its reading ended well, the ``loader`` is complete and waits for commit.

    ``reports`` for a stream with a poller; ``parents`` gives the rows that a child is asked by.
    """

    source: ConfiguredSource
    fetch: Fetch
    parts: Components
    loader: Loader
    reports: Reports | None
    clock: Clock
    parents: Callable[[], Sequence[Mapping[str, Any]]]
    on_note: Callable[[str], None] = lambda text: None

    truncated: bool = field(default=False, init=False)
    read_at: datetime | None = field(default=None, init=False)  # of reports, when the first was submitted
    _shortest: timedelta = field(default=SHORTEST_SPAN, init=False)

    def steps(self) -> Reading:
        """
        The whole reading. What does not fit together is read again; an answer cut at a limit is asked for in halves.
        A request that stayed broken through all its retries is not: reading again would only multiply the retries.
        """
        slices = [self.fetch.slice]
        rereads = 0
        while True:
            try:
                yield from self._once(slices)
                return
            except _Capped as capped:
                slices = self._smaller(slices, capped)
            except Standing as standing:
                raise standing.error from standing.error.__cause__
            except (PagingError, CountMismatchError, BrokenBodyError, Lost) as error:
                rereads += 1
                if rereads > REREADS:
                    raise error.error if isinstance(error, Lost) else error from None
                self.on_note(f"{self.fetch}: {str(error).removeprefix(f'{self.fetch}: ')}; reading it again")
                yield Pause(min(self.source.settings.retry_max_s, self.source.settings.retry_first_s * rereads))

    def _once(self, slices: Sequence[Slice]) -> Reading:
        """All of these asks, one after the other; what was taken in is forgotten where one of them fails."""
        self._begin()
        try:
            for slice_ in slices:
                yield from self.read_slice(slice_)
            if (unreadable := self.loader.unreadable_days()) is not None:
                raise Standing(unreadable)
        except BaseException:
            self.loader.abort()
            raise

    def _smaller(self, slices: Sequence[Slice], capped: _Capped) -> list[Slice]:
        """The asks in place of these: the one that was cut in halves, or all whole days where its part overran."""
        if capped.overran:
            self._shortest = _DAY
            self.on_note(f"{self.fetch}: a part of a day brings what is behind it; asking for whole days")
            return [self.fetch.slice]
        return [part for slice_ in slices for part in (halves(slice_) if slice_ is capped.slice else (slice_,))]

    def _begin(self) -> None:
        self.read_at = None if self.reports is not None else self.clock.now()
        self.truncated = False
        if self.reports is not None:
            self.reports.under_way.clear()
        self.loader.begin()

    # --- requests ---------------------------------------------------------------------------------------------------

    def read_slice(self, slice_: Slice) -> Reading:
        """Everything that answers one slice."""
        requests = self._requests(slice_)
        if self.reports is not None:
            for submission in requests:  # all before the first is waited for: the provider makes them side by side
                yield from self.reports.begun(submission)
            for submission in requests:
                yield from self.report(slice_, submission, self.reports)
        else:
            yield from self.listings(slice_, requests, self.parts.read, self.parts.paginator)

    def _requests(self, slice_: Slice) -> list[Request]:
        stream, settings = self.fetch.stream, self.source.settings
        if stream.parent is None:
            return list(stream.requests(settings, slice_))
        links = [link for row in self.parents() for link in stream.parent.links(row)]
        rows = list({json.dumps(link, sort_keys=True, default=str): link for link in links}.values())
        step = stream.parent.per_request
        chunks = [tuple(rows[at : at + step]) for at in range(0, len(rows), step)]
        return [request for chunk in chunks for request in stream.requests(settings, evolve(slice_, parents=chunk))]

    def report(self, slice_: Slice, submission: Request, reports: Reports) -> Reading:
        """One report, from its submission to its last page."""
        finished = yield from reports.finished(submission)
        submitted_at = finished.report.submitted_at
        self.read_at = min(self.read_at or submitted_at, submitted_at)
        if isinstance(finished.state, Empty):
            return
        state, paginator = finished.state, self.parts.paginator
        if state.downloads or state.pages:
            files = bool(state.downloads)
            requests = [
                evolve(request, credentials=not files, columns={**submission.columns, **request.columns})
                for request in state.downloads or state.pages
            ]
            read = self.parts.downloads if files else self.parts.read
            yield from self.listings(slice_, requests, read, paginator)
        else:
            yield from self.listing(slice_, finished.outcome, self.parts.read, paginator)

    def listings(self, slice_: Slice, requests: Sequence[Request], read: BodyDecoder, paginator: Paginator) -> Reading:
        """Several listings, in order; their first pages are asked for ahead."""
        firsts = tuple(self._call(paginator.first(request), read, paginator) for request in requests)
        for place in range(len(firsts)):
            outcome = yield (firsts if place == 0 else ())
            assert outcome is not None
            yield from self.listing(slice_, outcome, read, paginator)

    # --- pages ------------------------------------------------------------------------------------------------------

    def listing(self, slice_: Slice, outcome: Outcome, read: BodyDecoder, paginator: Paginator) -> Reading:
        """All pages of one listing, from its first outcome on."""
        if isinstance(outcome.verdict, Refuse) and outcome.response is not None:
            again = paginator.restart(outcome.call.request, outcome.response)
            if again is not None:
                restarted = yield (self._call(again, read, paginator),)
                assert restarted is not None
                outcome = restarted
        counts = PageCounts(what=str(self.fetch))
        paging = _Paging(read=read, paginator=paginator, counts=counts, memory=self.loader.memory(slice_))
        counts.count_request(outcome.call.request.full_url, self.source.settings.max_pages)
        page = self.take(outcome, paging)
        if paginator.capped(page) and self._splittable(slice_):
            raise _Capped(slice_, overran=self._overran(slice_))
        page = yield from self._further(page, paging)
        if not paginator.capped(page):
            counts.verify()
            if counts.total is not None:
                self.loader.promise(counts.total)
        elif self._splittable(slice_):
            raise _Capped(slice_, overran=self._overran(slice_))
        else:
            self.truncated = True
            self.on_note(f"{self.fetch}: the provider lists no more than this; there may be more records")

    def _further(self, first: Page, paging: _Paging) -> Generator[Step, Outcome | None, Page]:
        """
        The pages after the first: all asked for at once where the first tells their number, else one after the other.
        The last of them, which may be the first itself.
        """
        page, counts, most = first, paging.counts, self.source.settings.max_pages
        rest = paging.paginator.rest(first)
        if rest is not None:
            calls = tuple(self._call(like_first(request, first), paging.read, paging.paginator) for request in rest)
            for place, call in enumerate(calls):
                counts.count_request(call.request.full_url, most)
                page = self.take((yield (calls if place == 0 else ())), paging)
                if place + 1 < len(calls):
                    counts.middle(page.count, first.count)
        else:
            while (following := paging.paginator.next(page)) is not None:
                counts.count_request(following.full_url, most)
                outcome = yield (self._call(like_first(following, first), paging.read, paging.paginator),)
                refusal = outcome.response if outcome is not None and isinstance(outcome.verdict, Refuse) else None
                if refusal is not None and paging.paginator.ends(following, refusal):
                    break
                page = self.take(outcome, paging)
        return page

    def _call(self, request: Request, read: BodyDecoder, paginator: Paginator) -> Call:
        return Call(request=request, read=read, stream=self.fetch.stream, digest=type(paginator) is not SinglePage)

    def take(self, outcome: Outcome | None, paging: _Paging) -> Page:
        """Take in a page; the page with its counts, for the paginator."""
        good, counts = accepted(outcome, self._lost), paging.counts
        assert good.response is not None
        page = Page(request=good.call.request, response=good.response, answer=good.answer, index=counts.pages)
        counts.pages += 1
        if isinstance(good.verdict, Skip):
            self.on_note(f"{self.fetch}: {good.verdict.reason} ({page.request})")
            return page
        counts.promise(page.answer)
        repeat = counts.is_repeat(good.digest)
        count, fresh = self.loader.take(page.request, page.answer, paging.memory, repeat=repeat)
        counts.fetched += count
        counts.distinct += fresh
        page = evolve(page, count=count, fresh=fresh, listed=counts.fetched, distinct=counts.distinct)
        if repeat and not paging.paginator.repeats(page):
            raise PagingError(f"{self.fetch}: page {page.index + 1} came again with the records of an earlier one")
        return page

    def _splittable(self, slice_: Slice) -> bool:
        """Whether an slice whose answer was cut at a limit can be made smaller."""
        if slice_.start is None or slice_.end is None:
            return False
        # Between two times of one zone Python counts as the clock on the wall does: a day is a day, also of 23 hours.
        return slice_.end - slice_.start > _DAY or elapsed(slice_) > self._shortest == SHORTEST_SPAN

    def _overran(self, slice_: Slice) -> bool:
        """
        Whether an answer to a part of a day held what is outside of it (``Stream.inexact_bounds``): the provider
        goes by days: parts would only bring the whole day again and again.
        """
        part = slice_.start is not None and slice_.end is not None and slice_.end - slice_.start < _DAY
        return (
            part and self.fetch.stream.inexact_bounds and any(count.repeated for count in self.loader.counts.values())
        )

    def _lost(self, response: Response) -> bool:
        return self.reports is not None and self.reports.lost(response)


def like_first(request: Request, first: Page) -> Request:
    """A further page, asked for as the first was: one of a download without credentials."""
    signed = first.request.credentials
    return request if request.credentials == signed else evolve(request, credentials=signed)


def halves(slice_: Slice) -> list[Slice]:
    """The same ask in two, between two days, or in a day at a full second; its days stay, since the partitions do."""
    assert slice_.start is not None
    assert slice_.end is not None
    middle = datetime.combine(slice_.start + (slice_.end - slice_.start) / 2, time(), slice_.start.tzinfo)
    if slice_.end - slice_.start <= _DAY or middle <= slice_.start:
        # Counted in UTC: where clocks are set forward, times on the wall that do not exist would bring an hour twice.
        seconds = timedelta(seconds=elapsed(slice_) // timedelta(seconds=2))
        middle = (slice_.start.astimezone(UTC) + seconds).astimezone(slice_.start.tzinfo)
    return [evolve(slice_, end=middle), evolve(slice_, start=middle)]


def elapsed(slice_: Slice) -> timedelta:
    """How long the slice's time really is, also where clocks are set forward or back in it."""
    assert slice_.start is not None
    assert slice_.end is not None
    return slice_.end.astimezone(UTC) - slice_.start.astimezone(UTC)
