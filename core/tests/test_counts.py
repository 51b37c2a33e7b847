"""
Counts of a listing: fetched, written, rejected, repeated, promised; and pages that are repeated.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from penstock._fetch.call import Answered, Call
from penstock._read.counts import PartitionCounts, StreamCounters
from penstock._read.listing_checks import ListingChecks
from penstock.errors import BoundExceededError, CountMismatchError, PagingError, PenstockError
from penstock.model import Answer, Rejected, Request
from penstock.sinks import MOST_REJECTED
from penstock.testing import a_response
from penstock.verdicts import Accept

BAD = Rejected(stream="clicks", path="$[0].id", reason="it is null", raw="{}")
counts = st.integers(0, 50)


PAGE = Answered(Call(Request(url="https://provider.example/clicks"), None), a_response({}), Accept())


def a_listing(*, count: int = 0, fresh: int = 0, **values: Any) -> ListingChecks:
    """After one page of ``count`` elements, of which ``fresh`` have a key of their own."""
    listing = ListingChecks(**{"paginator": "the paginator", "max_pages": 100, **values})
    listing.add_page(PAGE, count=count, fresh=fresh, longest=count)
    return listing


@given(st.lists(st.tuples(counts, counts, counts), max_size=20))
def test_every_fetched_record_is_counted_once(batches: list[tuple[int, int, int]]):
    """
    After each batch, the number of fetched records is that of the written, rejected and repeated ones.
    """
    tally = PartitionCounts()
    for rows, repeated, rejected in batches:
        tally.add_rows(rows, {})
        tally.add_repeated(repeated)
        tally.reject((BAD,) * rejected)
        tally.supersede(rows // 2)
        assert tally.fetched == tally.rows + tally.repeated + len(tally.rejected)
        assert tally.rows >= 0

    assert tally.fetched == sum(map(sum, batches))


@given(st.lists(st.integers(-(10**40), 10**40), max_size=30))
def test_sums_are_exact(units: list[int]):
    """
    A column's sum over all batches is the sum of its amounts, to the last digit.
    """
    tally = PartitionCounts()
    for unit in units:
        tally.add_rows(1, {"cost": Decimal(f"{unit}E-4")})

    assert tally.sums.get("cost", Decimal(0)) == Decimal(f"{sum(units)}E-4")


def test_records_of_another_format_fail_the_partition():
    """
    A partition fails where too many of its records have another format; the error has the path and the reason of the
    first one.
    """
    tally = PartitionCounts()
    tally.reject((BAD,) * MOST_REJECTED)

    with pytest.raises(BoundExceededError, match="it is null"):
        tally.reject((BAD,))


@given(total=counts, arrived=counts)
def test_another_number_than_promised_is_an_error(total: int, arrived: int):
    """
    A listing with exactly the promised number of records passes; one record more or fewer is an error.
    """
    listing = a_listing(count=arrived, fresh=arrived)
    listing.check_stated(Answer(total=total))

    if total == arrived:
        listing.verify()
    else:
        with pytest.raises(CountMismatchError, match=f"{total} records and {arrived} arrived"):
            listing.verify()


def test_records_with_a_key_that_another_page_had_are_named():
    """
    The promised number of records arrived, but some keys came twice: the message does not state that records are
    missing.
    """
    listing = a_listing(total=8, count=8, fresh=4)

    with pytest.raises(
        CountMismatchError, match="states 8 records and 8 arrived, 4 of them with the key of a record on"
    ):
        listing.verify()


def test_without_a_promise_every_number_passes():
    """
    Where the provider states no total, every number of records passes.
    """
    listing = a_listing(count=3, fresh=3)
    listing.check_stated(Answer())

    listing.verify()

    assert (listing.total, listing.stated_pages) == (None, None)
    with pytest.raises(CountMismatchError):
        a_listing(total=2, count=3, fresh=3).verify()


@pytest.mark.parametrize("member", ["total", "pages"])
def test_a_total_that_changes_is_an_error(member: str):
    """
    A later page that states another total, or another number of pages, is an error: the data changed during the
    listing.
    """
    listing = a_listing()
    listing.check_stated(Answer(**{member: 5}))
    listing.check_stated(Answer())

    with pytest.raises(CountMismatchError, match="stated 5"):
        listing.check_stated(Answer(**{member: 6}))


@given(st.lists(st.integers(0, 5), max_size=12))
def test_a_page_is_requested_once(pages: list[int]):
    """
    A request that was made before is an error: a circle of links is not followed twice.
    """
    listing = a_listing()
    requested: set[int] = set()
    for page in pages:
        if page in requested:
            with pytest.raises(PagingError, match="circle"):
                listing.count_request(Request(url=f"http://localhost/?page={page}"))
            return
        listing.count_request(Request(url=f"http://localhost/?page={page}"))
        requested.add(page)
    assert len(requested) == len(pages)


def test_a_listing_has_a_largest_number_of_pages():
    """
    A listing of more pages than the largest number is an error.
    """
    listing = a_listing(max_pages=3)
    for page in range(3):
        listing.count_request(Request(url=f"http://localhost/?page={page}"))

    with pytest.raises(BoundExceededError, match="max_pages"):
        listing.count_request(Request(url="http://localhost/?page=3"))


def test_a_page_that_comes_again_is_detected():
    """
    A page with the items of an earlier page is an error.
    """
    listing = a_listing()

    assert [listing.add_digest(digest) for digest in (7, 8, 7)] == [False, False, True]


@pytest.mark.parametrize(
    ("first", "later", "error"),
    [
        (Answer(total=3, pages=2), Answer(total=3, pages=2), None),
        (Answer(total=3), Answer(), None),
        (Answer(pages=2), Answer(), None),
        (Answer(total=3), Answer(total=4), CountMismatchError),
        (Answer(pages=5), Answer(pages=0), CountMismatchError),
    ],
    ids=["same", "total not repeated", "pages not repeated", "other total", "other pages"],
)
def test_a_later_page_may_omit_the_totals(first: Answer, later: Answer, error: type[PenstockError] | None) -> None:
    """
    A later page may omit the totals; it must not state others.
    """
    counts = a_listing()
    counts.check_stated(first)

    if error is None:
        counts.check_stated(later)
        assert (counts.total, counts.stated_pages) == (first.total, first.pages)
    else:
        with pytest.raises(error, match="stated"):
            counts.check_stated(later)


@pytest.mark.parametrize(
    "other",
    [
        Request(method="POST", url="http://localhost/", body=b"1"),
        Request(url="http://localhost/", body=b"1"),
        Request(url="http://localhost/", headers=(("X-Page", "2"),)),
        Request(url="http://localhost/", params=(("page", "2"),)),
    ],
    ids=["method", "body", "header", "parameter"],
)
def test_a_request_is_identified_by_method_url_body_and_headers(other: Request) -> None:
    """
    A request is another one where its method, URL, body or headers differ: each may hold the page number. The same
    request again is a circle.
    """
    listing = a_listing()
    listing.count_request(Request(url="http://localhost/"))
    listing.count_request(other)

    with pytest.raises(PagingError, match="circle"):
        listing.count_request(other)


def test_the_longest_page_is_kept_by_size() -> None:
    """
    The longest page is kept for each page size.
    """
    history = StreamCounters()

    assert [history.add_page(size, count) for size, count in ((100, 40), (100, 20), (10, 10), (100, 50))] == [
        40,
        40,
        10,
        50,
    ]
