"""
The counts of a listing, of a partition, and of a stream, and the checks that they agree.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

from attrs import define, field

from penstock.errors import BoundExceededError, CountMismatchError, PagingError
from penstock.model import Answer, Rejected, Request
from penstock.sinks import MOST_REJECTED


@define(eq=False, repr=False)
class PartitionCounts:
    """
    One partition's counts. ``fetched = rows + rejected + repeated`` holds at every moment.
    """

    fetched: int = 0
    rows: int = 0
    repeated: int = 0
    rejected: list[Rejected] = field(factory=list)
    unread_values: int = 0  # values that did not fit a nullable column: null there
    promised: int | None = None
    sums: dict[str, Decimal] = field(factory=dict)
    derived_rows: dict[str, int] = field(factory=dict)
    derived_rejected: list[Rejected] = field(factory=list)  # of derived streams: no part of the sum above

    @property
    def is_imperfect(self) -> bool:
        """Whether a record was rejected, or a value not read."""
        return bool(self.rejected or self.derived_rejected or self.unread_values)

    def add_rows(self, rows: int, sums: Mapping[str, Decimal]) -> None:
        """Count rows, with the sums of their measures."""
        self.fetched += rows
        self.rows += rows
        if not sums:
            return
        with localcontext(prec=1000):  # the usual 28 digits would round a sum of long numbers
            for column, amount in sums.items():
                self.sums[column] = self.sums.get(column, Decimal(0)) + amount

    def add_repeated(self, number: int) -> None:
        """Count elements that were dropped since an equal one came before."""
        self.fetched += number
        self.repeated += number

    def supersede(self, number: int) -> None:
        """Rows that were counted, and were replaced by later ones of this read, are repeated elements in the end."""
        self.rows -= number
        self.repeated += number

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Count rejected records; raises BoundExceededError when they are too many."""
        self.fetched += len(rejected)
        self.rejected.extend(rejected)
        check_rejected(self.rejected)


def check_rejected(rejected: Sequence[Rejected]) -> None:
    """Raises BoundExceededError when too many records were rejected."""
    if len(rejected) > MOST_REJECTED:
        first = rejected[0]
        raise BoundExceededError(
            f"more than {MOST_REJECTED} records of one partition were rejected, the first because "
            f"{first.path}: {first.reason}. The provider's format is not the declared one; nothing was replaced."
        )


@define(eq=False, repr=False)
class ListingCounts:
    """
    The counts of one listing, over all its pages. No page may be repeated. The numbers that the provider states must
    not change, and must agree with the pages.
    """

    paginator: str  # for messages
    max_pages: int
    total: int | None = None
    stated_pages: int | None = None
    fetched: int = 0
    distinct: int = 0
    pages: int = 0
    _seen: set[int] = field(factory=set, init=False)  # digests of pages
    _requested: set[object] = field(factory=set, init=False)  # identities of requests

    def count_request(self, request: Request) -> None:
        """
        Count a request. Raises PagingError for one that was made before in this listing, BoundExceededError for one
        too many.
        """
        identity = request.identity
        if identity in self._requested:
            raise PagingError(
                f"{self.paginator} names a page as the next one that was read before, so that its pages go in a circle"
            ).at(request=request)
        if len(self._requested) >= self.max_pages:
            raise BoundExceededError(
                f"the listing has more than {self.max_pages} pages; raise max_pages if that is right"
            )
        self._requested.add(identity)

    def add_digest(self, digest: int) -> bool:
        """Record the digest of a page's items. Returns whether an earlier page had it."""
        came_before = digest in self._seen
        self._seen.add(digest)
        return came_before

    def check_stated(self, answer: Answer) -> None:
        """
        Record the numbers of records and pages that a page states. A different number means that the data changed
        meanwhile, or that this is no page (a report that is "in progress" again states no pages).
        """
        for what, before, now in (("records", self.total, answer.total), ("pages", self.stated_pages, answer.pages)):
            if before is not None and now is not None and before != now:
                raise CountMismatchError(
                    f"the provider stated {before} {what}, then {now}, while its pages were read. Its "
                    "data changed meanwhile, or a response is no page"
                )
        self.total = self.total if answer.total is None else answer.total
        self.stated_pages = self.stated_pages if answer.pages is None else answer.pages

    def compare(self, count: int, size: int, *, last: bool) -> None:
        """
        Check that a page has as many elements as the first, and the last one no more, unless the total is known: each
        page but the last is full, so that a shorter one was cut.
        """
        if self.total is None and (count > size if last else count != size):
            place = "the last page" if last else "a page in the middle"
            raise PagingError(
                f"{place} holds {count} records where the first holds {size}. The provider cut a page, or "
                f"its data changed while {self.paginator} requested its pages"
            )

    def verify(self) -> None:
        """Raises CountMismatchError if the counts differ from those that the provider states."""
        if self.total is None or self.distinct == self.total:
            return
        arrived, cause = self.distinct, ""
        if self.fetched > self.distinct:
            arrived = self.fetched
            cause = (
                f", {self.fetched - self.distinct} of them with the key of a record on an earlier page. The data "
                "changed while its pages were read, or the key of the stream does not identify a record"
            )
        raise CountMismatchError(f"the provider states {self.total} records and {arrived} arrived{cause}")


@define(eq=False, repr=False)
class StreamHistory:
    """Counters shared by all reads of one stream in a run."""

    without_record: int = 0  # requests
    found_any: bool = False  # whether a request was answered, and not by "no record" (Skip)
    searched: int = 0  # listings whose answers were searched for members that nothing reads
    _longest: dict[int | None, int] = field(factory=dict)  # page, by requested size

    def longest(self, size: int | None, count: int) -> int:
        """
        Record a page's number of elements. Returns the largest number of a page that was requested with this size. A
        shorter page is the last of its listing. A page of the same length may not be, since the provider may cap its
        pages at that size.
        """
        longest = self._longest[size] = max(count, self._longest.get(size, 0))
        return longest
