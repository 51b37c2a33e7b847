"""
The counts of a partition and of a stream.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

from attrs import define, field

from penstock.errors import BoundExceededError
from penstock.model import Rejected
from penstock.sinks import MOST_REJECTED


@define(eq=False, repr=False)
class PartitionCounts:
    """
    One partition's counts. ``fetched = rows + rejected + repeated`` holds at every moment.
    """

    fetched: int = 0
    rows: int = 0
    repeated: int = 0
    replaced: int = 0  # of those repeated, the records that a later one of the same key replaced by other values
    replaced_example: str = ""  # the key of the first
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
class StreamCounters:
    """Counters shared by all reads of one stream in a run."""

    without_record: int = 0  # requests
    found_any: bool = False  # whether a request was answered, and not by "no record" (Skip)
    searched: int = 0  # listings whose answers were searched for members that nothing reads
    _longest: dict[int | None, int] = field(factory=dict)  # page, by requested size

    def add_page(self, size: int | None, count: int) -> int:
        """
        Record a page's number of elements. Returns the largest number of a page that was requested with this size. A
        shorter page is the last of its listing. A page of the same length may not be, since the provider may cap its
        pages at that size.
        """
        longest = self._longest[size] = max(count, self._longest.get(size, 0))
        return longest
