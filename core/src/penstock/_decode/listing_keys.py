"""
The keys on the pages of one listing, each with a fingerprint of its row's values, in bounded memory.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.model import EXACT_JSON

KEYS_IN_MEMORY = 100_000
"""Keys of one listing that are held in memory; those before them are held in a temporary file."""

LOOKED_UP = 500  # keys at once


class ListingKeys:
    """
    The keys that the pages of one listing had, each with a fingerprint of its row's values.

    At most about ``bound`` keys are held in memory, the others in a temporary file that is deleted with this object.
    Listings of one partition that number their rows (``row_key``) share ``occurrences``. ``others``: the keys of all
    listings of the slice, where it has several.
    ``one_page``: the listing has one page. If that is one array, the index of an element replaces the fingerprint of
    its row (:meth:`.KeyRules.check`).
    """

    def __init__(
        self,
        bound: int = KEYS_IN_MEMORY,
        occurrences: "Occurrences | None" = None,
        one_page: bool = False,
        others: "KeysOfOtherListings | None" = None,
    ) -> None:
        self.others = others
        self.one_page = one_page
        self.by_index = False  # whether the numbers are indices of elements, not fingerprints of rows
        self.occurrences = Occurrences(bound) if occurrences is None else occurrences
        self._bound = bound
        self._page: dict[Any, int] = {}  # of the page that is being read, which may come in chunks
        self._earlier: dict[Any, int] = {}
        self._file = _TemporaryTable()
        self._number = 1  # of the page; 0 in the file are all pages before it was made

    def next_page(self) -> None:
        """Begin the next page: the keys added so far belong to earlier pages."""
        assert not (self.by_index and self._page), "a listing of one page has another one"
        self._earlier |= self._page
        self._page = {}
        self._number += 1

    def find(self, keys: Collection[Any]) -> tuple[Mapping[Any, int], Mapping[Any, int]]:
        """The fingerprints of those of these keys that came before: on this page, and on earlier pages."""
        on_page, earlier = (
            {key: stored[key] for key in stored.keys() & keys} if not stored.keys().isdisjoint(keys) else {}
            for stored in (self._page, self._earlier)
        )
        if self._file.used:
            # A key in memory may be in the file, too, with the values that were replaced since.
            others = [key for key in keys if key not in on_page and key not in earlier]
            by_text = dict(zip(map(EXACT_JSON.encode, others), others, strict=True))
            for text, (number, fingerprint) in self._file.find(list(by_text)).items():
                (on_page if number == self._number else earlier)[by_text[text]] = fingerprint
        return on_page, earlier

    def add(self, fingerprints: Mapping[Any, int]) -> None:
        """Add keys of this page: new ones, and earlier ones whose fingerprint is replaced."""
        self._page |= fingerprints
        if len(self._earlier) + len(self._page) > self._bound:
            self._file.add(_by_text(self._earlier), 0)
            self._earlier = {}
        if len(self._page) > self._bound:
            self._file.add(_by_text(self._page), self._number)
            self._page = {}


def _by_text(fingerprints: Mapping[Any, int]) -> dict[bytes, int]:
    return dict(zip(map(EXACT_JSON.encode, fingerprints), fingerprints.values(), strict=True))


class KeysOfOtherListings:
    """
    The keys of all listings of one slice, each with a fingerprint of its row's values: a row that several requests of a
    slice return is delivered once.
    """

    def __init__(self) -> None:
        self._keys: ListingKeys | None = None  # made when a slice has several listings
        self._since: dict[Any, int] | None = None  # what was added since the savepoint

    def savepoint(self) -> None:
        """From here on, what is added can be undone."""
        self._since = {}

    def release(self) -> None:
        """What was added since the savepoint stays."""
        since, self._since = self._since, None
        self.add(since or {})

    def rollback(self) -> None:
        """Forget what was added since the savepoint."""
        self._since = None

    def find(self, keys: Collection[Any]) -> dict[Any, int]:
        """The fingerprints of those of these keys that came before."""
        on_page, earlier = self._keys.find(keys) if self._keys is not None else ({}, {})
        since = self._since or {}
        return {**earlier, **on_page, **{key: since[key] for key in since.keys() & keys}}

    def add(self, fingerprints: Mapping[Any, int]) -> None:
        """Add keys."""
        if self._since is not None:
            self._since.update(fingerprints)
        elif fingerprints:
            self._keys = self._keys or ListingKeys()
            self._keys.add(fingerprints)


class Occurrences:
    """
    How often each of some values occurred, such as rows without a key of their own: at most about ``bound`` of them in
    memory, the others in a temporary file.
    """

    def __init__(self, bound: int = KEYS_IN_MEMORY) -> None:
        self._bound = bound
        self._counts: dict[bytes, int] = {}
        self._file = _TemporaryTable()
        self._since: Counter[bytes] | None = None  # what was counted since the savepoint

    def savepoint(self) -> None:
        """From here on, what is counted can be rolled back. There is one savepoint at a time."""
        self._since = Counter()

    def release(self) -> None:
        """What was counted since the savepoint stays."""
        self._since = None

    def rollback(self) -> None:
        """Forget what was counted since the savepoint."""
        since, self._since = self._since or Counter(), None
        stored = self._file.find([value for value in since if value not in self._counts])
        for value, times in since.items():
            count = self._counts[value] if value in self._counts else stored[value][1]
            self._counts[value] = count - times

    def number(self, values: Sequence[bytes]) -> list[int]:
        """The number of each value's occurrence, from 1 on; they are counted with it."""
        if self._since is not None:
            self._since.update(values)
        counts = self._counts
        new = [value for value in values if value not in counts] if self._file.used else ()
        counts.update({value: count for value, (_, count) in self._file.find(new).items()})
        numbers = []
        for value in values:
            counts[value] = number = counts.get(value, 0) + 1
            numbers.append(number)
        if len(counts) > self._bound:
            self._file.add(counts, 0)
            self._counts = {}
        return numbers


class _TemporaryTable:
    """Bytes -> two numbers, in a temporary file of SQLite, which has no name and is gone when this object is."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None

    @property
    def used(self) -> bool:
        return self._connection is not None

    def add(self, values: Mapping[bytes, int], group: int) -> None:
        if not values:
            return
        if self._connection is None:
            self._connection = sqlite3.connect("", isolation_level=None)
            self._connection.execute("pragma journal_mode = off")
            self._connection.execute("pragma synchronous = off")
            self._connection.execute("create table keys (key blob primary key, page int, value int) without rowid")
        self._connection.execute("begin")
        rows = sorted(
            (key, group, value) for key, value in values.items()
        )  # in the order of the file: ten times faster
        self._connection.executemany("insert or replace into keys values (?, ?, ?)", rows)
        self._connection.execute("commit")

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Of these keys, those that are there: group and value."""
        stored: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(keys), LOOKED_UP) if self._connection is not None else ():
            some = keys[start : start + LOOKED_UP]
            parameters = ", ".join("?" * len(some))
            assert self._connection is not None
            query = f"select key, page, value from keys where key in ({parameters})"  # noqa: S608  question marks only
            stored.update({key: (group, value) for key, group, value in self._connection.execute(query, some)})
        return stored


def fingerprints(rows: list[Any]) -> list[int]:
    """A number for each row's values: equal values have equal numbers, in one process."""
    return list(map(hash, map(EXACT_JSON.encode, rows)))
