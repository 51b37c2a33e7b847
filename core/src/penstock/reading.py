"""
Read one fetch: from its first request to writers that only wait for their commit.

The way of a page is here, top to bottom: a fetch asks (:meth:`Reader.asked`), a report is submitted and polled
(:meth:`Reader.report`), a listing is paged (:meth:`Reader.listing`), a page is decoded, counted and written
(:meth:`Reader.take`). Each is a generator that yields the calls it wants made; the engine makes them.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from penstock.checkpoint import checkpoint
from penstock.clock import Clock
from penstock.declare import SourceSettings, Stream
from penstock.decode import Compiled, Decoded, Memory, split_by_day, sums
from penstock.engine import Call, Outcome, Pause, Reading
from penstock.errors import BrokenBodyError, CountMismatchError, PagingError, ProviderError, ReportError
from penstock.model import Ask, Batch, Page, Partition, Request
from penstock.parts import BodyDecoder, Empty, Gone, Paginator, Poller, Ready, Refuse, SinglePage, Skip, Waiting
from penstock.plan import ConfiguredSource, Fetch
from penstock.reconcile import Listing, Tally
from penstock.record import snake
from penstock.sink import Ledger, PendingReport, Target, Writer
from penstock.streamparts import StreamParts
from penstock.values import define, evolve, field

# How often a fetch is read again from its start because its pages did not fit together.
REREADS = 3

# A span that still overflows the provider's limit and is no longer than this is not cut further.
SHORTEST_SPAN = timedelta(seconds=1)


class _Capped(Exception):
    """The provider cut its answer to this ask at a limit."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask


@define(eq=False)
class Reader:
    """
    One fetch on its way. After its reading ended well, ``writers`` and ``tallies`` are complete and wait for commit.

    ``target`` None: nothing is written, the rows are only seen by ``see`` (accounts, parents).
    """

    source: ConfiguredSource
    fetch: Fetch
    parts: StreamParts
    shape: Compiled
    target: Target | None
    clock: Clock
    fingerprint: str
    parents: Callable[[], Sequence[Mapping[str, Any]]]
    hooks: Sequence[Callable[[Batch], Batch | None]] = ()
    see: Callable[[Batch], None] | None = None
    forget_seen: Callable[[], object] = lambda: None
    on_unknown: Callable[[str, tuple[str, ...]], None] = lambda stream, names: None
    on_note: Callable[[str], None] = lambda text: None

    writers: dict[Partition, Writer] = field(factory=dict, init=False)
    tallies: dict[Partition, Tally] = field(factory=dict, init=False)
    truncated: bool = field(default=False, init=False)
    reports: list[PendingReport] = field(factory=list, init=False)
    read_at: datetime | None = field(default=None, init=False)
    _occurrences: Counter[Any] = field(factory=Counter, init=False)  # of equal rows that have no key
    _stands: Exception | None = field(default=None, init=False)  # what a request brought after its last retry

    @property
    def stream(self) -> Stream:
        return self.fetch.stream

    @property
    def ledger(self) -> Ledger | None:
        return self.target.ledger if self.target is not None else None

    def steps(self) -> Reading:
        """
        The whole reading. What does not fit together is read again; an answer cut at a limit is asked for in halves.
        A request that stayed broken through all its retries is not: reading again would only multiply the retries.
        """
        asks = [self.fetch.ask]
        rereads = 0
        while True:
            self._begin()
            try:
                for ask in asks:
                    yield from self.asked(ask)
                self._verify_days()
                return
            except _Capped as capped:
                self.abort()
                at = asks.index(capped.ask)
                asks[at : at + 1] = halves(capped.ask)
            except (PagingError, CountMismatchError, BrokenBodyError, _Lost) as error:
                self.abort()
                rereads += 1
                if rereads > REREADS or error is self._stands:
                    raise error.error if isinstance(error, _Lost) else error from None
                self.on_note(f"{self._what()}: {str(error).removeprefix(f'{self._what()}: ')}; reading it again")
                yield Pause(min(self.source.settings.retry_max_s, self.source.settings.retry_first_s * rereads))
            except BaseException:
                self.abort()
                raise

    def abort(self) -> None:
        """Forget what was written."""
        for writer in self.writers.values():
            writer.abort()
        self.writers.clear()
        self.tallies.clear()
        self._occurrences.clear()
        self.forget_seen()

    # --- requests ---------------------------------------------------------------------------------------------------

    def asked(self, ask: Ask) -> Reading:
        """Everything that answers one ask."""
        requests = self._requests(ask)
        if self.parts.poller is not None:
            for submission in requests:
                yield from self.report(ask, submission, self.parts.poller)
        else:
            yield from self.listings(ask, requests, self.parts.read, self.parts.paginator)

    def report(self, ask: Ask, submission: Request, poller: Poller) -> Reading:
        """
        Submit a report or adopt the one under way, wait for it, and read it.
        """
        settings, stream = self.source.settings, self.stream
        first_s = settings.poll_first_s if settings.poll_first_s is not None else stream.poll_first_s
        max_s = settings.poll_max_s if settings.poll_max_s is not None else stream.poll_max_s
        deadline_s = poll_deadline_s(settings, stream)
        pending = self._under_way(submission, deadline_s)
        resubmitted = False
        while True:
            if pending is None:
                outcome = self._good((yield (Call(request=submission, read=None, stream=self.stream, lenient=True),)))
                assert outcome.response is not None
                pending = self._submitted(submission, poller.handle(outcome.response))
            age_s = self._age_s(pending)
            pause_s, noted = first_s, ""
            if age_s < first_s:
                yield Pause(first_s - age_s)
            while True:
                poll = poller.poll(submission, pending.handle)
                poll = evolve(poll, columns={**submission.columns, **poll.columns})
                call = Call(request=poll, read=self.parts.read, stream=self.stream, lenient=True, digest=True)
                polled = yield (call,)
                assert polled is not None
                if polled.error is not None:
                    self._stands = polled.error
                    raise polled.error
                outcome = polled
                assert outcome.response is not None
                age_s = self._age_s(pending)
                if isinstance(outcome.verdict, Refuse) and outcome.response.status not in (404, 410):
                    raise outcome.verdict.error
                state = poller.state(outcome.response, age_s)
                if not isinstance(state, Waiting):
                    break
                if state.note and state.note != noted:
                    noted = state.note
                    self.on_note(f"{self._what()}: the report's state is {state.note!r}; waiting on")
                if age_s >= deadline_s:
                    self._drop(pending)
                    raise ReportError(
                        f"{self.source.name}: the report for {self._what()} was not ready {age_s:.0f} s after it was "
                        f"submitted. It is submitted anew by the next run; poll_deadline_s allows more time."
                    )
                pause_s = min(max_s, pause_s * 1.5)
                yield Pause(min(pause_s, max(0.0, deadline_s - age_s)))
            if not isinstance(state, Gone):
                break
            self._drop(pending)
            pending = None
            if resubmitted:
                raise ReportError(f"{self.source.name}: the report for {self._what()} failed twice: {state.reason}")
            self.on_note(f"{self._what()}: {state.reason}; submitting the report anew")
            resubmitted = True
        self.read_at = min(self.read_at or pending.submitted_at, pending.submitted_at)
        if isinstance(state, Empty):
            return
        if isinstance(state, Ready) and state.downloads:
            downloads = [
                evolve(request, credentials=False, columns={**submission.columns, **request.columns})
                for request in state.downloads
            ]
            yield from self.listings(ask, downloads, self.parts.downloads, SinglePage())
        else:
            yield from self.listing(ask, outcome, self.parts.read, self.parts.paginator)

    def listings(self, ask: Ask, requests: Sequence[Request], read: BodyDecoder, paginator: Paginator) -> Reading:
        """Several listings, in order; their first pages are asked for ahead."""
        firsts = tuple(self._call(paginator.first(request), read, paginator) for request in requests)
        for place in range(len(firsts)):
            outcome = yield (firsts if place == 0 else ())
            assert outcome is not None
            yield from self.listing(ask, outcome, read, paginator)

    def listing(self, ask: Ask, outcome: Outcome, read: BodyDecoder, paginator: Paginator) -> Reading:
        """All pages of one listing, from its first outcome on."""
        if isinstance(outcome.verdict, Refuse) and outcome.response is not None:
            again = paginator.restart(outcome.call.request, outcome.response)
            if again is not None:
                restarted = yield (self._call(again, read, paginator),)
                assert restarted is not None
                outcome = restarted
        settings = self.source.settings
        listing = Listing(what=self._what())
        memory = Memory(occurrences=self._occurrences, before=ask.end if self.stream.end_unsure else None)
        listing.ask(outcome.call.request.full_url, settings.max_pages)
        page = self.take(outcome, listing, memory, paginator)
        if self._splittable(ask) and paginator.capped(page):
            raise _Capped(ask)
        rest = paginator.rest(page)
        if rest is not None:
            size, calls = page.count, tuple(self._call(request, read, paginator) for request in rest)
            for place, call in enumerate(calls):
                listing.ask(call.request.full_url, settings.max_pages)
                got = yield (calls if place == 0 else ())
                assert got is not None
                page = self.take(got, listing, memory, paginator)
                if place + 1 < len(calls):
                    listing.middle(page.count, size)
        else:
            while (following := paginator.next(page)) is not None:
                listing.ask(following.full_url, settings.max_pages)
                got = yield (self._call(following, read, paginator),)
                assert got is not None
                page = self.take(got, listing, memory, paginator)
        if paginator.capped(page):
            if self._splittable(ask):
                raise _Capped(ask)
            self.truncated = True
            self.on_note(f"{self._what()}: the provider lists no more than this; there may be more records")
            return
        listing.verify()
        if len(self.fetch.partitions) == 1 and listing.total is not None:
            tally = self.tallies[self.fetch.partitions[0]]
            tally.promised = (tally.promised or 0) + listing.total

    # --- a page -----------------------------------------------------------------------------------------------------

    def take(self, outcome: Outcome, listing: Listing, memory: Memory, paginator: Paginator) -> Page:
        """
        Decode a page, count it, route its rows to their partitions and write them.
        """
        good = self._good(outcome)
        assert good.response is not None
        page = Page(request=good.call.request, response=good.response, answer=good.answer, index=listing.pages)
        listing.pages += 1
        if isinstance(good.verdict, Skip):
            self.on_note(f"{self._what()}: {good.verdict.reason} ({good.call.request})")
            return page
        listing.promise(good.answer)
        repeat = listing.is_repeat(good.digest)
        self._check_days(good)
        count = fresh = 0
        stamps = {**self._stamps(), **good.call.request.columns}
        for decoded in self.shape.decode_all(good.answer.items, stamps, memory, self._days()):
            count += decoded.count
            if repeat:
                self._tally(self.fetch.partitions[0]).add(rows=0, repeated=decoded.count, rejected=(), sums={})
            else:
                fresh += decoded.fresh
                self._deliver(decoded)
        listing.fetched += count
        listing.distinct += fresh
        page = evolve(page, count=count, fresh=fresh, listed=listing.fetched)
        if repeat and not paginator.repeats(page):
            raise PagingError(f"{self._what()}: page {page.index + 1} came again with the records of an earlier one")
        return page

    def _stamps(self) -> dict[str, Any]:
        """What the partition says of every row. A day that the rows themselves tell is not stamped."""
        stream, fetch = self.stream, self.fetch
        stamps: dict[str, Any] = {}
        if stream.account is not None and fetch.account is not None:
            stamps[stream.account] = fetch.account
        if self._days() is not None and self.parts.day_of is None and len(fetch.partitions) == 1:
            assert stream.day is not None
            stamps[stream.day] = fetch.ask.days[0]
        return stamps

    def _days(self) -> frozenset[date] | None:
        """The days asked for, where rows have one: a row of another day is set aside."""
        return frozenset(self.fetch.ask.days) if self.stream.kind == "report" and self.stream.day else None

    def _verify_days(self) -> None:
        """
        Where rows tell their own day, one of them at least could be read: if none, the days are written in another
        form, and replacing them by nothing would lose them all.
        """
        if self.parts.day_of is None or any(tally.rows or tally.repeated for tally in self.tallies.values()):
            return
        rejected = [one for tally in self.tallies.values() for one in tally.rejected]
        if rejected and all(snake(one.path.rpartition(".")[2]) == self.parts.day_of for one in rejected):
            self._stands = BrokenBodyError(
                f"{self._what()}: not one of {len(rejected)} records tells a day that was asked for, the first because "
                f"{rejected[0].path}: {rejected[0].reason}. The days stand in another member or form; "
                "nothing was replaced."
            )
            raise self._stands

    def _check_days(self, outcome: Outcome) -> None:
        """Where the envelope itself says of which days its records are, one at least was asked for."""
        wanted, column = self._days(), self.stream.day
        told = {items.columns[column] for items in outcome.answer.items if column and column in items.columns}
        if wanted is None or not told or told & {str(day) for day in wanted}:
            return
        raise BrokenBodyError(
            f"{self._what()}: the answer to {outcome.call.request} is of {', '.join(sorted(map(str, told))[:3])}, not "
            "of the days asked for"
        )

    def _deliver(self, decoded: Decoded) -> None:
        """Write what became of a page, each row with its partition."""
        stream, partitions = self.stream, self.fetch.partitions
        if decoded.batch.unknown:
            self.on_unknown(stream.name, decoded.batch.unknown)
        tally = self._tally(partitions[0])
        tally.add(rows=0, repeated=decoded.repeated + decoded.repeated_across, rejected=decoded.batch.rejected, sums={})
        if len(partitions) == 1:
            self._write(partitions[0], decoded.batch)
        else:
            assert stream.day is not None
            by_day = dict(zip(self.fetch.ask.days, partitions, strict=True))
            for day, batch in split_by_day(decoded.batch, stream.day, self.source.zone).items():
                self._write(by_day[day], batch)
        for derived in decoded.derived:
            name = derived.layout.stream
            tally.derived_rows[name] = tally.derived_rows.get(name, 0) + len(derived)
            tally.derived_rejected.extend(derived.rejected)
            if len(derived) and partitions[0] in self.writers:
                self.writers[partitions[0]].write(self._hooked(derived))

    def _write(self, partition: Partition, batch: Batch) -> None:
        batch = self._hooked(batch)
        self._tally(partition).add(rows=len(batch), repeated=0, rejected=(), sums=sums(batch))
        if self.see is not None:
            self.see(batch)
        if partition in self.writers and len(batch):
            self.writers[partition].write(batch)

    def _hooked(self, batch: Batch) -> Batch:
        for hook in self.hooks:
            batch = hook(batch) or batch
        return batch

    # --- bookkeeping ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.read_at = None if self.parts.poller is not None else self.clock.now()
        self.truncated = False
        self.reports.clear()
        for partition in self.fetch.partitions:
            self._tally(partition)
            if self.target is not None:
                layouts = (self.shape.layout, *(child.compiled.layout for child in self.shape.derived))
                self.writers[partition] = self.target.begin(layouts, partition)

    def _tally(self, partition: Partition) -> Tally:
        return self.tallies.setdefault(partition, Tally())

    def _requests(self, ask: Ask) -> list[Request]:
        stream, settings = self.stream, self.source.settings
        if stream.parent is None:
            return list(stream.requests(settings, ask))
        links = {json.dumps(link, sort_keys=True, default=str): link for link in self._links()}
        rows, step = list(links.values()), stream.parent.per_request
        chunks = [tuple(rows[at : at + step]) for at in range(0, len(rows), step)]
        return [request for chunk in chunks for request in stream.requests(settings, evolve(ask, parents=chunk))]

    def _links(self) -> list[Mapping[str, Any]]:
        assert self.stream.parent is not None
        return [link for row in self.parents() for link in self.stream.parent.links(row)]

    def _call(self, request: Request, read: BodyDecoder, paginator: Paginator) -> Call:
        return Call(request=request, read=read, stream=self.stream, digest=type(paginator) is not SinglePage)

    def _good(self, outcome: Outcome | None) -> Outcome:
        assert outcome is not None
        if outcome.error is not None:
            self._stands = outcome.error
            raise outcome.error
        if isinstance(outcome.verdict, Refuse):
            poller = self.parts.poller
            if poller is not None and self.reports and outcome.response and poller.lost(outcome.response):
                raise _Lost(outcome.verdict.error)
            raise outcome.verdict.error
        return outcome

    def _splittable(self, ask: Ask) -> bool:
        return ask.start is not None and ask.end is not None and ask.end - ask.start > SHORTEST_SPAN

    def _what(self) -> str:
        first, last = self.fetch.partitions[0], self.fetch.partitions[-1]
        return str(first) if first == last else f"{first} to {last.values[-1][1]}"

    # --- reports under way ------------------------------------------------------------------------------------------

    def _under_way(self, submission: Request, deadline_s: float) -> PendingReport | None:
        """The report that an earlier run submitted with this very request, unless its time is over."""
        if self.ledger is None:
            return None
        text = submission_text(submission)
        for report in self.ledger.pending(self.source.name, self.stream.name):
            if report.request != text:
                continue
            if report.fingerprint == self.fingerprint and self._age_s(report) < deadline_s:
                self.reports.append(report)
                return report
            self._drop(report)
        return None

    def _submitted(self, submission: Request, handle: str) -> PendingReport:
        report = PendingReport(
            source=self.source.name,
            stream=self.stream.name,
            handle=handle,
            request=submission_text(submission),
            partitions=self.fetch.partitions,
            submitted_at=self.clock.now(),
            fingerprint=self.fingerprint,
        )
        if self.ledger is not None:
            self.ledger.submit(report)
            checkpoint("report.submitted")
        self.reports.append(report)
        return report

    def _drop(self, report: PendingReport) -> None:
        if self.ledger is not None:
            self.ledger.drop(report)
        if report in self.reports:
            self.reports.remove(report)

    def _age_s(self, report: PendingReport) -> float:
        return (self.clock.now() - report.submitted_at).total_seconds()


def poll_deadline_s(settings: SourceSettings, stream: Stream) -> float:
    """Seconds after which a report that is not ready has failed, and none is adopted any more."""
    return settings.poll_deadline_s if settings.poll_deadline_s is not None else stream.poll_deadline_s


class _Lost(ProviderError):
    """A report expired while its pages were read; asking for its state again gives fresh links, or says it is gone."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(f"the report expired while it was read ({error})")
        self.error = error


def halves(ask: Ask) -> list[Ask]:
    """The same ask in two, at a full second; the days stay, since the partitions do."""
    assert ask.start is not None
    assert ask.end is not None
    middle = ask.start + timedelta(seconds=(ask.end - ask.start) // timedelta(seconds=2))
    return [evolve(ask, end=middle), evolve(ask, start=middle)]


def submission_text(request: Request) -> str:
    """A submission as the ledger keeps it, without credentials: they are added when it is signed."""
    body = (request.body or b"").decode("utf-8", "replace")
    return json.dumps([request.method, request.url, request.params, request.headers, body], ensure_ascii=False)
