"""
Keys: repeated rows, other values of a key, row keys, the bound of memory.
"""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from random import Random
from typing import Any

import pytest
from decoding import Lead, Row, a_stream, an_array, compiled, decode_one, reasons
from penstock._decode import DecodedChunk, SliceKeys, compile_stream
from penstock._decode.slice_keys import KEYS_IN_MEMORY
from penstock._read.chunk_writer import MAX_HELD_RECORDS
from penstock.errors import PenstockError
from penstock.model import Items
from sqlite_statements import Statements


def test_row_that_comes_twice_is_delivered_once() -> None:
    """
    A row that comes twice is delivered once and counted; another row of its key is rejected.
    """
    decoded = decode_one(
        compiled(), an_array({"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 2})
    )

    assert (len(decoded.batch), decoded.repeated, decoded.count) == (1, 1, 3)
    assert reasons(decoded) == [("$[2].clickId", "the key click_id a came before on this page, with other values")]


def test_keys_of_earlier_pages() -> None:
    """
    Rows whose key an earlier page of the chain had are dropped and counted apart; another chain knows nothing of it.
    """
    shape, keys = compiled(), SliceKeys()
    decode_one(shape, an_array({"clickId": "a"}, {"clickId": "b"}), slice_keys=keys)

    decoded = decode_one(shape, an_array({"clickId": "b"}, {"clickId": "c"}), slice_keys=keys)

    assert [row.click_id for row in decoded.batch.rows] == ["c"]
    assert (decoded.repeated, decoded.fresh, decoded.count) == (1, 1, 2)
    assert decode_one(shape, an_array({"clickId": "b"})).repeated == 0


def test_the_file_of_keys_ends_with_its_slice(statements: Statements) -> None:
    """
    The temporary file is closed, by whichever thread drops the slice: it is no warning, and takes no more disk.
    """
    keys = SliceKeys(bound=1)
    keys.add({"a": 1, "b": 2})
    (connection,) = statements.connections

    with ThreadPoolExecutor(1) as other:
        dropped, keys = [keys], SliceKeys()
        other.submit(dropped.clear).result()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("select 1")


def test_keys_beyond_the_bound_of_memory_are_still_found() -> None:
    """
    A listing with more keys than memory may hold forgets none, neither of earlier pages nor of a large one.
    """
    shape, keys = compiled(key=("click_id", "job_id")), SliceKeys(bound=4)

    def page(*numbers: int) -> DecodedChunk:
        return decode_one(
            shape, an_array(*({"clickId": str(n), "jobId": n, "price": str(n)} for n in numbers)), slice_keys=keys
        )

    pages = [page(1, 2, 3), page(4, 5, 6), page(*range(7, 20)), page(1, 4, 7, 20), page(20, 20)]

    assert [(len(one.batch), one.fresh, one.repeated) for one in pages] == [
        *((3, 3, 0), (3, 3, 0), (13, 13, 0), (1, 1, 3), (0, 0, 2))
    ]


def test_composite_keys_have_no_null() -> None:
    """
    A record with a null in its key is rejected; keys are compared as a whole.
    """
    decoded = decode_one(
        compiled(key=("click_id", "job_id")),
        an_array({"clickId": "a", "jobId": 1}, {"clickId": "a", "jobId": 2}, {"clickId": "a"}),
    )

    assert (len(decoded.batch), reasons(decoded)) == (2, [("$[2].jobId", "the key job_id is null")])


def test_rows_without_a_key_get_one_that_another_reading_gives_again() -> None:
    """
    A row key depends on the row's values and how often they occurred in the partition, not on the page.
    """
    rows = [{"title": "x", "clicks": 1}, {"title": "x", "clicks": 1}, {"title": "y"}]
    together = decode_one(compiled(Row), an_array(*rows))
    keys = SliceKeys()
    apart = [decode_one(compiled(Row), an_array(row), slice_keys=keys) for row in rows]

    keys = [row.key for row in together.batch.rows]
    assert len(set(keys)) == 3
    assert keys == [one.batch.rows[0].key for one in apart]
    assert [one.fresh for one in apart] == [1, 0, 1]
    assert sum(one.repeated for one in apart) == 0


@pytest.mark.parametrize("together", [True, False], ids=["on one page", "on two pages"])
@pytest.mark.parametrize("kind", ["report", "changes"])
def test_the_same_key_with_other_values(kind: Any, together: bool) -> None:
    """
    A second row of a key with other values is rejected with its reason, on the same page and on a later one. In
    ``changes`` the last one read wins: before it is delivered it takes the place of the former, afterwards it is
    delivered too and counted as superseding.
    """
    shape = compile_stream("s", a_stream(kind=kind))
    keys = SliceKeys()
    sale, other = {"clickId": "7", "price": "20"}, {"clickId": "8"}
    pages = [[sale, other], [{**sale, "price": "-20"}, other, {**sale, "price": "-20"}]]
    runs = [an_array(*pages[0], *pages[1])] if together else [an_array(*one) for one in pages]

    decoded = [decode_one(shape, one, slice_keys=keys) for one in runs]

    rows = [(row.click_id, row.price) for one in decoded for row in one.batch.rows]
    assert sum(one.count for one in decoded) == 5
    if kind == "report":
        place, where = (2, "this page") if together else (0, "an earlier page")
        assert rows == [("7", "20"), ("8", None)]
        assert [output for one in decoded for output in reasons(one)] == [
            (f"$[{place}].clickId", f"the key click_id 7 came before on {where}, with other values"),
            (f"$[{place + 2}].clickId", f"the key click_id 7 came before on {where}, with other values"),
        ]
    else:
        assert rows == ([("8", None), ("7", "-20")] if together else [("7", "20"), ("8", None), ("7", "-20")])
        assert [reasons(one) for one in decoded] == [[] for _ in decoded]
        assert sum(one.superseded for one in decoded) == (0 if together else 1)
    assert sum(len(one.batch) + len(one.batch.rejected) + one.repeated for one in decoded) == 5


def test_the_last_values_of_a_key_are_found_beyond_the_bound_of_memory() -> None:
    """
    In changes, a row is compared with the latest values of its key, not with those that these replaced.
    """
    shape, keys = compile_stream("s", a_stream(kind="changes")), SliceKeys(bound=3)
    rows = [*({"clickId": str(n), "price": "1"} for n in range(4)), {"clickId": "0", "price": "2"}]
    for one in rows:
        decode_one(shape, an_array(one), slice_keys=keys)

    same, back = (
        decode_one(shape, an_array({"clickId": "0", "price": price}), slice_keys=keys) for price in ("2", "1")
    )

    assert (len(same.batch), same.repeated, same.superseded) == (0, 1, 0)
    assert (len(back.batch), back.repeated, back.superseded) == (1, 0, 1)


def test_a_fraction_finer_than_a_microsecond_is_cut() -> None:
    """
    Nothing is rounded up into the next day, by every road.
    """
    fine = ["2026-11-03T23:59:59.9999999Z", "2026-11-03T23:59:59.999999999+00:00", "2026-11-04T00:00:00.0000001Z"]
    rows = [{"id": str(n), "saved": text} for n, text in enumerate(fine)]
    csv_rows = "".join(f"{one['id']},{one['saved']}\n" for one in rows).encode()
    runs = [
        an_array(*rows),
        an_array(*rows, 1),
        Items(raw=csv_rows, format="csv", texts=True, header=("id", "saved")),
    ]
    shape = compiled(Lead, day="report_date", day_of="saved", days_per_request=2)

    for run in runs:
        decoded = decode_one(shape, run, days={date(2026, 11, 3), date(2026, 11, 4)})
        assert [row.report_date.day for row in decoded.batch.rows] == [3, 3, 4]
        assert [row.saved.microsecond for row in decoded.batch.rows] == [999999, 999999, 0]


@pytest.mark.parametrize("value", [["a"], {"slug": "a"}], ids=["array", "object"])
def test_a_stamp_of_the_answer_that_is_no_scalar_rejects_its_records(value: Any) -> None:
    """
    A list where a slug was expected is the fault of its records, alone or joined with others.
    """
    shape = compiled(account="slug")
    bad, good = an_array({"clickId": "a"}, columns={"slug": value}), an_array({"clickId": "b"}, columns={"slug": "s"})

    alone, together = list(shape.build([bad])), list(shape.build([bad, good]))

    assert [len(one.batch) for one in (*alone, *together)] == [0, 1]
    assert [one.column for one in together[0].batch.rejected] == ["slug"]
    assert "expected text, got" in reasons(alone[0])[0][1]


@pytest.mark.parametrize("bound", [100, 3], ids=["in memory", "on file"])
def test_occurrences_are_numbered_however_many_there_are(bound: int) -> None:
    """
    Occurrences of a row are numbered also in other listings, and beyond the bound of memory. What came since a
    savepoint can be rolled back.
    """
    shape, keys = compiled(Row), SliceKeys(bound)

    def numbered(titles: str) -> list[str]:
        """The row keys of a page of a new listing."""
        keys.next_listing()
        decoded = decode_one(shape, an_array(*({"title": title} for title in titles)), slice_keys=keys)
        assert decoded.fresh == decoded.count
        return [row.key for row in decoded.batch.rows]

    all_at_once = decode_one(shape, an_array(*({"title": title} for title in "ababcaaebcd")))
    expected = [row.key for row in all_at_once.batch.rows]

    assert numbered("abab") + numbered("ca") == expected[:6]
    keys.savepoint()
    assert numbered("ae") == expected[6:8]
    keys.rollback()
    assert numbered("aebcd") == expected[6:]


@pytest.mark.parametrize("bound", [100, 2], ids=["in memory", "on file"])
@pytest.mark.parametrize("kind", ["report", "changes"])
def test_keys_of_other_listings(kind: Any, bound: int) -> None:
    """
    A row that another listing of the slice had is delivered once. It is fresh where no earlier page of its own listing
    had it, so that the counts of a listing are those that the provider states.
    """
    shape, keys = compile_stream("s", a_stream(kind=kind)), SliceKeys(bound)

    def page(*rows: tuple[str, str]) -> DecodedChunk:
        return decode_one(shape, an_array(*({"clickId": key, "price": price} for key, price in rows)), slice_keys=keys)

    keys.next_listing()
    page(("a", "1"), ("b", "1"), ("c", "1"))
    keys.next_listing()
    same = page(("a", "1"), ("d", "1"))
    again = page(("a", "1"), ("d", "1"), ("e", "1"))
    other = page(("b", "2"))

    assert (len(same.batch), same.repeated, same.fresh) == (1, 1, 2)
    assert (len(again.batch), again.repeated, again.fresh) == (1, 2, 1)
    if kind == "changes":
        assert (len(other.batch), other.superseded, other.fresh) == (1, 1, 1)
    else:
        where = "the response to another request"
        assert reasons(other) == [("$[0].clickId", f"the key click_id b came before on {where}, with other values")]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["report", "changes"])
def test_repeated_keys_do_not_depend_on_the_bound_of_memory(kind: Any, seed: int) -> None:
    """
    Keys in memory and keys in a file lead to equal delivered rows, counts and rejected records.
    """
    random = Random(seed)
    listings = [
        [[{"clickId": random.choice("abcdef"), "price": random.choice("12")} for _ in range(6)] for _ in range(3)]
        for _ in range(3)
    ]
    shape = compile_stream("s", a_stream(kind=kind))

    def read(bound: int) -> list[Any]:
        keys, found = SliceKeys(bound), []
        for pages in listings:
            keys.next_listing()
            for page in pages:
                one = decode_one(shape, an_array(*page), slice_keys=keys)
                rows = [(row.click_id, row.price) for row in one.batch.rows]
                found.append((one.count, one.fresh, one.repeated, one.superseded, rows, reasons(one)))
        return found

    assert read(1) == read(3) == read(100)


def test_rows_that_are_held_have_their_keys_in_memory() -> None:
    """
    Rows are held until their slice is known to be whole. A rollback must find all of their keys in memory: rows of its
    halves would count as repeated.
    """
    assert MAX_HELD_RECORDS < KEYS_IN_MEMORY


def test_a_full_directory_of_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A full directory of temporary files is no defect: the message states what to do.
    """

    connect = sqlite3.connect

    def of_three_pages(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("pragma max_page_count = 3")
        return connection

    monkeypatch.setattr(sqlite3, "connect", of_three_pages)
    SliceKeys(bound=1).add({"a": 0, "b": 0})

    with pytest.raises(PenstockError, match=r"a temporary file cannot be written: database or disk is full\. .*TMPDIR"):
        SliceKeys(bound=1).add(dict.fromkeys(map(str, range(10_000)), 0))
