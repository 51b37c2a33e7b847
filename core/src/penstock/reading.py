"""
Read one fetch: from its first request to writers that only wait for their commit.

The way of a page is here, top to bottom: a fetch asks (:meth:`Reader.asked`), a report is waited for
(:meth:`Reader.report`), a listing is paged (:meth:`Reader.listing`), a page is taken in (:meth:`Reader.take`). All but
the last are generators that yield the calls they want made; the engine makes them.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from penstock.clock import Clock
from penstock.decode import Memory
from penstock.engine import Call, Outcome, Pause, Reading, Step
from penstock.errors import BrokenBodyError, CountMismatchError, PagingError
from penstock.intake import Intake
from penstock.model import Ask, Page, Request, Response
from penstock.parts import BodyDecoder, Empty, Paginator, Refuse, SinglePage, Skip
from penstock.plan import Fetch
from penstock.polling import Lost, Reports, Standing, accepted
from penstock.reconcile import Listing
from penstock.source import ConfiguredSource
from penstock.streamparts import StreamParts
from penstock.values import define, evolve, field, frozen

# How often a fetch is read again from its start because its pages did not fit together.
REREADS = 5

# A span that still overflows the provider's limit and is no longer than this is not cut further.
SHORTEST_SPAN = timedelta(seconds=1)

_DAY = timedelta(days=1)


class _Capped(Exception):
    """The provider cut its answer to this ask at a limit. ``overran``: see :meth:`Reader._overran`."""

    def __init__(self, ask: Ask, *, overran: bool) -> None:
        self.ask = ask
        self.overran = overran


@frozen(kw_only=True, eq=False)
class _Paging:
    """One listing on its way: how its pages are asked for and read, its counts, and the keys they have shown."""

    read: BodyDecoder
    paginator: Paginator
    counts: Listing
    memory: Memory


@define(eq=False, kw_only=True)
class Reader:
    """
    One fetch on its way. After its reading ended well, the ``intake`` is complete and waits for commit.

    ``reports`` for a stream with a poller; ``parents`` gives the rows that a child is asked by.
    """

    source: ConfiguredSource
    fetch: Fetch
    parts: StreamParts
    intake: Intake
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
        asks = [self.fetch.ask]
        rereads = 0
        while True:
            try:
                yield from self._once(asks)
                return
            except _Capped as capped:
                asks = self._smaller(asks, capped)
            except Standing as standing:
                raise standing.error from standing.error.__cause__
            except (PagingError, CountMismatchError, BrokenBodyError, Lost) as error:
                rereads += 1
                if rereads > REREADS:
                    raise error.error if isinstance(error, Lost) else error from None
                self.on_note(f"{self.fetch}: {str(error).removeprefix(f'{self.fetch}: ')}; reading it again")
                yield Pause(min(self.source.settings.retry_max_s, self.source.settings.retry_first_s * rereads))

    def _once(self, asks: Sequence[Ask]) -> Reading:
        """All of these asks, one after the other; what was taken in is forgotten where one of them fails."""
        self._begin()
        try:
            for ask in asks:
                yield from self.asked(ask)
            if (unreadable := self.intake.unreadable_days()) is not None:
                raise Standing(unreadable)
        except BaseException:
            self.intake.abort()
            raise

    def _smaller(self, asks: Sequence[Ask], capped: _Capped) -> list[Ask]:
        """The asks in place of these: the one that was cut in halves, or all whole days where its part overran."""
        if capped.overran:
            self._shortest = _DAY
            self.on_note(f"{self.fetch}: a part of a day brings what is behind it; asking for whole days")
            return [self.fetch.ask]
        return [part for ask in asks for part in (halves(ask) if ask is capped.ask else (ask,))]

    def _begin(self) -> None:
        self.read_at = None if self.reports is not None else self.clock.now()
        self.truncated = False
        if self.reports is not None:
            self.reports.under_way.clear()
        self.intake.begin()

    # --- requests ---------------------------------------------------------------------------------------------------

    def asked(self, ask: Ask) -> Reading:
        """Everything that answers one ask."""
        requests = self._requests(ask)
        if self.reports is not None:
            for submission in requests:  # all before the first is waited for: the provider makes them side by side
                yield from self.reports.begun(submission)
            for submission in requests:
                yield from self.report(ask, submission, self.reports)
        else:
            yield from self.listings(ask, requests, self.parts.read, self.parts.paginator)

    def _requests(self, ask: Ask) -> list[Request]:
        stream, settings = self.fetch.stream, self.source.settings
        if stream.parent is None:
            return list(stream.requests(settings, ask))
        links = [link for row in self.parents() for link in stream.parent.links(row)]
        rows = list({json.dumps(link, sort_keys=True, default=str): link for link in links}.values())
        step = stream.parent.per_request
        chunks = [tuple(rows[at : at + step]) for at in range(0, len(rows), step)]
        return [request for chunk in chunks for request in stream.requests(settings, evolve(ask, parents=chunk))]

    def report(self, ask: Ask, submission: Request, reports: Reports) -> Reading:
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
            yield from self.listings(ask, requests, read, paginator)
        else:
            yield from self.listing(ask, finished.outcome, self.parts.read, paginator)

    def listings(self, ask: Ask, requests: Sequence[Request], read: BodyDecoder, paginator: Paginator) -> Reading:
        """Several listings, in order; their first pages are asked for ahead."""
        firsts = tuple(self._call(paginator.first(request), read, paginator) for request in requests)
        for place in range(len(firsts)):
            outcome = yield (firsts if place == 0 else ())
            assert outcome is not None
            yield from self.listing(ask, outcome, read, paginator)

    # --- pages ------------------------------------------------------------------------------------------------------

    def listing(self, ask: Ask, outcome: Outcome, read: BodyDecoder, paginator: Paginator) -> Reading:
        """All pages of one listing, from its first outcome on."""
        if isinstance(outcome.verdict, Refuse) and outcome.response is not None:
            again = paginator.restart(outcome.call.request, outcome.response)
            if again is not None:
                restarted = yield (self._call(again, read, paginator),)
                assert restarted is not None
                outcome = restarted
        counts = Listing(what=str(self.fetch))
        paging = _Paging(read=read, paginator=paginator, counts=counts, memory=self.intake.memory(ask))
        counts.ask(outcome.call.request.full_url, self.source.settings.max_pages)
        page = self.take(outcome, paging)
        if paginator.capped(page) and self._splittable(ask):
            raise _Capped(ask, overran=self._overran(ask))
        page = yield from self._further(page, paging)
        if not paginator.capped(page):
            counts.verify()
            if counts.total is not None:
                self.intake.promise(counts.total)
        elif self._splittable(ask):
            raise _Capped(ask, overran=self._overran(ask))
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
            calls = tuple(self._call(as_asked(request, first), paging.read, paging.paginator) for request in rest)
            for place, call in enumerate(calls):
                counts.ask(call.request.full_url, most)
                page = self.take((yield (calls if place == 0 else ())), paging)
                if place + 1 < len(calls):
                    counts.middle(page.count, first.count)
        else:
            while (following := paging.paginator.next(page)) is not None:
                counts.ask(following.full_url, most)
                outcome = yield (self._call(as_asked(following, first), paging.read, paging.paginator),)
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
        count, fresh = self.intake.take(page.request, page.answer, paging.memory, repeat=repeat)
        counts.fetched += count
        counts.distinct += fresh
        page = evolve(page, count=count, fresh=fresh, listed=counts.fetched, distinct=counts.distinct)
        if repeat and not paging.paginator.repeats(page):
            raise PagingError(f"{self.fetch}: page {page.index + 1} came again with the records of an earlier one")
        return page

    def _splittable(self, ask: Ask) -> bool:
        """Whether an ask whose answer was cut at a limit can be made smaller."""
        if ask.start is None or ask.end is None:
            return False
        # Between two times of one zone Python counts as the clock on the wall does: a day is a day, also of 23 hours.
        return ask.end - ask.start > _DAY or elapsed(ask) > self._shortest == SHORTEST_SPAN

    def _overran(self, ask: Ask) -> bool:
        """
        Whether an answer to a part of a day held what is outside of it (``Stream.end_unsure``), so that the provider
        goes by days: parts would only bring the whole day again and again.
        """
        part = ask.start is not None and ask.end is not None and ask.end - ask.start < _DAY
        return part and self.fetch.stream.end_unsure and any(tally.repeated for tally in self.intake.tallies.values())

    def _lost(self, response: Response) -> bool:
        return self.reports is not None and self.reports.lost(response)


def as_asked(request: Request, first: Page) -> Request:
    """A further page, asked for as the first was: one of a download without credentials."""
    signed = first.request.credentials
    return request if request.credentials == signed else evolve(request, credentials=signed)


def halves(ask: Ask) -> list[Ask]:
    """The same ask in two, between two days, or in a day at a full second; its days stay, since the partitions do."""
    assert ask.start is not None
    assert ask.end is not None
    middle = datetime.combine(ask.start + (ask.end - ask.start) / 2, time(), ask.start.tzinfo)
    if ask.end - ask.start <= _DAY or middle <= ask.start:
        # Counted in UTC: where clocks are set forward, times on the wall that do not exist would bring an hour twice.
        seconds = timedelta(seconds=elapsed(ask) // timedelta(seconds=2))
        middle = (ask.start.astimezone(UTC) + seconds).astimezone(ask.start.tzinfo)
    return [evolve(ask, end=middle), evolve(ask, start=middle)]


def elapsed(ask: Ask) -> timedelta:
    """How long the ask's time really is, also where clocks are set forward or back in it."""
    assert ask.start is not None
    assert ask.end is not None
    return ask.end.astimezone(UTC) - ask.start.astimezone(UTC)
