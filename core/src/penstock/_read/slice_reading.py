"""
One reading of a planned slice: from its first request to written partitions that are ready to be committed.

The seven steps of a slice are numbered, from :meth:`SliceReading._read_slice` on. The methods are generators: they
yield the calls to make, and the scheduler resumes them with the results.
"""

import json
from collections import deque
from collections.abc import Sequence
from urllib.parse import urljoin

from attrs import define, evolve

from penstock._fetch.call import Answered, Call, CallResult, Steps, answered
from penstock._plan.dependencies import ParentReading
from penstock._read.ceilings import CeilingReachedError, Ceilings, HalvesNeededError, SlicePart
from penstock._read.chunk_writer import HeldChunks
from penstock._read.clock_lag import clock_lag
from penstock._read.context import SliceContext
from penstock._read.halves import DAY, UNITS, halves
from penstock._read.listing import Listing, LoadedPage, broken_page
from penstock._read.loader import Loader
from penstock._read.on_demand import ReportsOnDemand, check_rows
from penstock._read.result import ReadResult
from penstock._read.slice_counts import SliceCounts
from penstock._read.undeclared_members import LISTINGS_SEARCHED, undeclared_members
from penstock.errors import BrokenBodyError
from penstock.model import Request, Slice
from penstock.protocols import BodyDecoder, Empty
from penstock.verdicts import Refuse, Skip


@define(eq=False, repr=False, kw_only=True)
class SliceReading:
    """
    One reading of a planned slice. ``is_first_reading``: it was not read before, so that what may be a defect of the
    reading is an error. ``counts`` and ``loader`` are of this reading, ``ceilings`` and ``on_demand`` of all readings
    of the slice.
    """

    context: SliceContext
    on_demand: ReportsOnDemand | None
    counts: SliceCounts
    loader: Loader
    ceilings: Ceilings
    is_first_reading: bool

    def read(self) -> Steps[ReadResult]:
        """
        Read the slice. If that fails, the loaded rows are dropped. Raises HalvesNeededError where it must be read again
        in halves.
        """
        try:
            self.loader.begin()
            if self.context.components.has_ceiling:
                yield from self._read_or_halve(self.context.planned.slice)
            else:
                yield from self._read_slice(SlicePart(self.context.planned.slice, may_halve=False))
            self.counts.check(self.context.stream_counters, is_first_reading=self.is_first_reading)
            if self.counts.has_mixed_derived:
                self.context.note(
                    "a record came again with other values; rows derived from its former values stay until it is read "
                    "again"
                )
        except BaseException:
            self.loader.abort()
            raise
        has_parent = self.context.planned.stream.parent is not None
        parents = self.context.dependencies.parent_readings(self.context.planned) if has_parent else ()
        result = self.counts.result(self.on_demand, parents)
        if self.context.components.needed_columns:
            reading = ParentReading(result.read_at, result.stays_open, result.is_imperfect)
            self.context.dependencies.add_reading(self.context.planned, reading)
        return result

    # --- a slice, or its halves ---------------------------------------------------------------------------------------

    def _read_or_halve(self, slice_: Slice) -> Steps[None]:
        """
        Read a slice, or its halves if a listing of it reaches a ceiling. The rows of a slice that may be halved are
        held until it is complete, so that no other slice must be read again because of it.
        """
        halved = self._halves(slice_)
        if not halved:
            yield from self._read_slice(SlicePart(slice_, may_halve=False))
            return
        if slice_ not in self.ceilings.reached_by:
            held = self.loader.hold()
            try:
                yield from self._read_slice(SlicePart(slice_, may_halve=True))
            except CeilingReachedError:
                self.ceilings.reached_by.append(slice_)
                self._discard(slice_, held)
            else:
                self.loader.release(held)
                return
        for half in halved:
            yield from self._read_or_halve(half)

    def _halves(self, slice_: Slice) -> list[Slice]:
        """The halves of the slice; none if it is as short as the stream allows, or if a half has the same requests."""
        halved = halves(slice_, DAY if self.ceilings.whole_days else UNITS[self.context.planned.stream.smallest])
        if not halved:
            return []
        whole = [request.identity for request in self._requests(slice_)]
        return [] if any([request.identity for request in self._requests(half)] == whole for half in halved) else halved

    def _discard(self, slice_: Slice, held: HeldChunks) -> None:
        """
        Drop the rows of a slice that reached a ceiling. Raises HalvesNeededError where they were too many to be held,
        and where halves of a day have no effect, since the provider returns whole days.
        """
        if self._returned_whole_days(slice_):
            self.ceilings.whole_days = True
            self.context.note("a part of a day brings what is outside of it; requesting whole days")
            raise HalvesNeededError
        if not self.loader.discard(held):
            raise HalvesNeededError

    def _returned_whole_days(self, slice_: Slice) -> bool:
        """Whether the response to a part of a day had records outside of it (``Stream.inexact_bounds``)."""
        within_a_day = slice_.start is not None and slice_.end is not None and slice_.end - slice_.start < DAY
        return within_a_day and self.context.planned.stream.inexact_bounds and self.counts.has_out_of_bounds

    # --- the seven steps ----------------------------------------------------------------------------------------------

    def _read_slice(self, slice_part: SlicePart) -> Steps[None]:
        """Read the listings of a slice, or of a half of it. Raises CeilingReachedError."""
        requests = self._requests(slice_part.slice)  # 1. The requests of the slice.
        if self.on_demand is None:
            listings = self._open_listings(requests, self.context.components.decoder)
            only_page = self.context.components.is_one_page and len(requests) == 1
            yield from self._read_listings(slice_part, listings, only_page=only_page)
            return
        yield from self.on_demand.submit_all(requests)  # 2. Their reports: each is polled until it is ready.
        for request in requests:
            listings = yield from self._listings_of_report(request, self.on_demand)
            yield from self._read_listings(slice_part, listings)

    def _read_listings(
        self, slice_part: SlicePart, listings: deque[Listing], *, only_page: bool = False
    ) -> Steps[None]:
        """
        Read listings one after the other, and drop each, since it holds bodies. Their first pages are requested
        together, with that of the first.
        """
        calls = tuple([call for listing in listings for call in listing.first_calls])
        while listings:
            listing = listings.popleft()
            self.loader.slice_keys.next_listing(only_page=only_page)
            yield from self._read_pages(slice_part, listing, calls)
            self._reconcile(listing)  # 7. Compare with the counts that the provider states.
            if self.context.stream_counters.searched < LISTINGS_SEARCHED:
                self._note_undeclared(listing)
            calls = ()  # all are made

    def _read_pages(self, slice_part: SlicePart, listing: Listing, calls: tuple[Call, ...]) -> Steps[None]:
        """
        Read the pages of a listing; ``calls``: those to make for the first. Raises CeilingReachedError, after the first
        page where that shows it.
        """
        following: tuple[Call, ...] | None = calls
        while following is not None:
            # 3. Fetch a page, or its refusal.
            result = listing.take_polled() or self._received((yield following))
            if isinstance(result.verdict, Refuse):
                following = listing.calls_after_refusal(result)
                continue
            listing.checks.check_stated(result.answer)  # 4. Compare it with the pages before it.
            repeat = listing.add_digest(result)
            loaded = self._load(slice_part.slice, result, repeat=repeat)  # 5. Decode it, write its rows.
            page = listing.add(result, loaded, repeat=repeat)
            if slice_part.may_halve and page.index == 0 and listing.reached_ceiling:
                raise CeilingReachedError
            following = listing.calls_after(page)  # 6. Name the next pages, unless they are requested already.
        if slice_part.may_halve and listing.reached_ceiling:
            raise CeilingReachedError

    # --- 1, 2: requests and reports -----------------------------------------------------------------------------------

    def _requests(self, slice_: Slice) -> list[Request]:
        stream, settings = self.context.planned.stream, self.context.planned.source.settings
        if stream.parent is None:
            return stream.first_requests(settings, slice_)
        rows = self.context.dependencies.rows(self.context.planned.parent_account, self.context.planned.slice.days)
        links = [link for row in rows for link in stream.parent.linked(row)]
        distinct = list({json.dumps(link, sort_keys=True, default=str): link for link in links}.values())
        step = stream.parent.per_request
        chunks = [tuple(distinct[start : start + step]) for start in range(0, len(distinct), step)]
        return [
            request for chunk in chunks for request in stream.first_requests(settings, evolve(slice_, parents=chunk))
        ]

    def _listings_of_report(self, submission: Request, on_demand: ReportsOnDemand) -> Steps[deque[Listing]]:
        """The listings of the report that this request submits."""
        components = self.context.components
        result, state = yield from on_demand.wait_until_ready(submission)
        self.counts.rows_as_of = on_demand.submitted_at
        self._record_clock_lag(result)
        if isinstance(state, Empty):
            return deque()
        if not state.downloads and not state.pages:
            check_rows(result)
            return self._open_listings([submission], components.decoder, polled=result)
        polled = result.call.request.url
        requests = [
            evolve(
                download,
                url=download.url if "://" in download.url else urljoin(polled, download.url),
                credentials=not state.downloads,
                columns={**submission.columns, **download.columns},
            )
            for download in state.downloads or state.pages
        ]
        file_digests: set[int] | None = set() if len(state.downloads) > 1 else None
        decoder = components.download_decoder if state.downloads else components.decoder
        return self._open_listings(requests, decoder, file_digests=file_digests)

    def _open_listings(
        self,
        requests: Sequence[Request],
        decoder: BodyDecoder,
        *,
        polled: Answered | None = None,
        file_digests: set[int] | None = None,
    ) -> deque[Listing]:
        """A listing of each request; ``polled``: the response to a poll that contains its first page."""
        listings = [
            Listing(
                context=self.context,
                request=request,
                decoder=decoder,
                polled=polled,
                file_digests=file_digests,
                is_first_reading=self.is_first_reading,
            )
            for request in requests
        ]
        return deque(listings)

    # --- 3 to 5: a page -----------------------------------------------------------------------------------------------

    def _received(self, fetched: CallResult | None) -> Answered:
        """
        A page that the client signed, sent, judged and retried, or its refusal. Raises the error of a call that failed,
        and ReportExpiredError where a refusal means that the report of the page has expired.
        """
        result = answered(fetched)
        self._record_clock_lag(result)
        if self.on_demand is not None:
            self.on_demand.check_expired(result)
        return result

    def _record_clock_lag(self, result: Answered) -> None:
        """Record how old a response is by our clock."""
        lag, note = clock_lag(result)
        self.counts.clock_lag = max(self.counts.clock_lag, lag)
        if note:
            stream = self.context.planned.stream.name
            self.context.log.note_once((stream, "Date header"), f"{stream}: {note}")

    def _load(self, slice_: Slice, result: Answered, *, repeat: bool) -> LoadedPage:
        """Load a page; one without a record (Skip) has no elements. Raises BrokenPageError if it cannot be decoded."""
        if isinstance(result.verdict, Skip):
            self.context.note(f"{result.verdict.reason} ({result.call.request})")
            self.context.stream_counters.without_record += 1
            self.counts.no_record_reason = result.verdict.reason
            return LoadedPage(count=0, fresh=0)
        self.context.stream_counters.found_any = True
        if result.answer.provisional and not self.counts.provisional:
            self.counts.provisional = result.answer.provisional
            self.context.note(f"provisional by the provider's own words ({result.answer.provisional}); it stays open")
        try:
            return self.loader.load(slice_, result, repeat=repeat)
        except BrokenBodyError as error:
            raise broken_page(error) from None

    # --- 7: counts ----------------------------------------------------------------------------------------------------

    def _reconcile(self, listing: Listing) -> None:
        """Check the counts after the last page of a listing. Raises CountMismatchError if they differ."""
        if self.context.components.has_ceiling and listing.reached_ceiling:
            self.counts.truncated = True
            self.context.note("the provider lists no more than this; there may be more records")
            return
        listing.checks.verify()
        if listing.checks.total is not None:
            self.loader.output.promise(listing.checks.total)
        else:
            self.counts.uncounted += 1

    def _note_undeclared(self, listing: Listing) -> None:
        """Note members of the first answers that may state more than what was read, once per stream."""
        if listing.last is None:
            return
        self.context.stream_counters.searched += 1
        counted = listing.checks.total is not None
        if note := undeclared_members(listing.decoder, listing.paginator, listing.last, counted=counted):
            self.context.stream_counters.searched = LISTINGS_SEARCHED
            self.context.log.note(f"{self.context.planned.stream.name}: {note}")
