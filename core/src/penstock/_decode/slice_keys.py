"""
The keys of the rows of one slice, by which rows that come again are found, in bounded memory.
"""

import sqlite3
from collections.abc import Iterator, KeysView, Mapping, Sequence
from typing import Any, NamedTuple

from penstock._util.temporary_files import temporary_file_errors
from penstock.model import EXACT_JSON

KEYS_IN_MEMORY = 100_000
"""Keys of one slice that are held in memory; those before them are held in a temporary file."""

LOOKED_UP = 500  # keys at once

THIS_PAGE, EARLIER_PAGE, OTHER_LISTING = "this page", "an earlier page", "the response to another request"


class Seen(NamedTuple):
    """
    A key that a row before had. ``number``: what was added with it last. ``where``: ``EARLIER_PAGE`` of the listing if
    one had it, else ``THIS_PAGE`` or ``OTHER_LISTING``.
    """

    number: int
    where: str


class SliceKeys:
    """
    The keys of the rows that a slice has had so far, each with a number: a digest of its row's values, the index
    of its element, or for rows without a key how often they occurred.

    A slice has one or more listings, a listing has pages, and a page may come in chunks. What was added since a
    savepoint can be rolled back. At most about ``bound`` keys are held in memory, the others in a temporary file that
    is deleted with this object.
    """

    def __init__(self, bound: int = KEYS_IN_MEMORY) -> None:
        self.only_page = False
        self._bound = bound
        # Where a key is in several of these, the last one has its number.
        self._before_savepoint: dict[Any, int] = {}
        self._other_listings: dict[Any, int] = {}
        self._earlier_pages: dict[Any, int] = {}
        self._page: dict[Any, int] = {}
        self._page_number = 0
        self._first_page = 1  # of this listing
        self._file: _TemporaryTable | None = None

    def next_page(self) -> None:
        """Begin the next page: the keys added so far belong to earlier pages."""
        self._earlier_pages |= self._page
        self._page = {}
        self._page_number += 1

    def next_listing(self, *, only_page: bool = False) -> None:
        """Begin the next listing: the keys added so far belong to others. ``only_page``: the slice has one page."""
        self.only_page = only_page
        self._other_listings |= self._earlier_pages
        self._other_listings |= self._page
        self._earlier_pages, self._page = {}, {}
        self._first_page = self._page_number + 1

    def savepoint(self) -> None:
        """From the next listing on, what is added can be rolled back. A savepoint ends the one before."""
        self.next_listing()
        self._before_savepoint |= self._other_listings
        self._other_listings = {}

    def rollback(self) -> None:
        """Forget what was added since the savepoint, which must fit into memory."""
        self._other_listings, self._earlier_pages, self._page = {}, {}, {}

    def find(self, keys: KeysView[Any]) -> dict[Any, Seen]:
        """The keys that came before, and where."""
        seen = dict(self._find_in_file(self._file, keys)) if self._file is not None else {}
        for stored, where in (
            (self._before_savepoint, OTHER_LISTING),
            (self._other_listings, OTHER_LISTING),
            (self._earlier_pages, EARLIER_PAGE),
            (self._page, THIS_PAGE),
        ):
            for key in () if not stored or stored.keys().isdisjoint(keys) else stored.keys() & keys:
                is_earlier = key in seen and seen[key].where == EARLIER_PAGE
                seen[key] = Seen(stored[key], EARLIER_PAGE if is_earlier else where)
        return seen

    def _find_in_file(self, file: "_TemporaryTable", keys: KeysView[Any]) -> Iterator[tuple[Any, Seen]]:
        by_text = dict(zip(map(EXACT_JSON.encode, keys), keys, strict=True))
        for text, (page, number) in file.find(list(by_text)).items():
            is_other = page < self._first_page
            where = OTHER_LISTING if is_other else THIS_PAGE if page == self._page_number else EARLIER_PAGE
            yield by_text[text], Seen(number, where)

    def add(self, numbers: Mapping[Any, int]) -> None:
        """Add keys of this page: new ones, and former ones whose number is replaced."""
        self._page |= numbers
        in_memory = [
            (self._before_savepoint, 0),
            (self._other_listings, 0),
            (self._earlier_pages, self._page_number - 1),
            (self._page, self._page_number),
        ]
        held = len(self._before_savepoint) + len(self._other_listings) + len(self._earlier_pages) + len(self._page)
        for stored, page in in_memory:  # those that are not rolled back first
            if held <= self._bound:
                break
            if stored:
                with temporary_file_errors():
                    self._file = self._file or _TemporaryTable()
                    self._file.add(stored, page, self._first_page)
            held -= len(stored)
            stored.clear()


class _TemporaryTable:
    """
    Keys with their number and the first page of the listing that had them, in a temporary file of SQLite, which has no
    name and is gone when this object is.
    """

    def __init__(self) -> None:
        # Any thread may drop the last reference to this object.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("pragma journal_mode = off")
        self._connection.execute("pragma synchronous = off")
        self._connection.execute("create table keys (key blob primary key, page int, number int) without rowid")

    def __del__(self) -> None:
        # From Python 3.13 on, a connection that is dropped without being closed is a ResourceWarning.
        self._connection.close()

    def add(self, numbers: Mapping[Any, int], page: int, first_page: int) -> None:
        """Add keys of a page. ``first_page``: of its listing."""
        # In the order of the file: ten times faster.
        rows = sorted(zip(map(EXACT_JSON.encode, numbers), numbers.values(), strict=True))
        self._connection.execute("begin")
        self._connection.executemany(
            f"insert into keys values (?, {page}, ?) on conflict do update set number = excluded.number, "  # noqa: S608  numbers only
            f"page = case when page < {first_page} then excluded.page else page end",
            rows,
        )
        self._connection.execute("commit")

    def find(self, texts: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """The page and number of each of these keys (as JSON) that is stored."""
        stored: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(texts), LOOKED_UP):
            looked_up = texts[start : start + LOOKED_UP]
            parameters = ", ".join("?" * len(looked_up))
            query = f"select key, page, number from keys where key in ({parameters})"  # noqa: S608  question marks only
            stored.update({key: (page, number) for key, page, number in self._connection.execute(query, looked_up)})
        return stored
