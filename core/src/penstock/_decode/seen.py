"""
What the pages of one listing have shown: the keys of their rows with a fingerprint of the values, in bounded memory.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock._decode.page import EXACT_JSON

KEYS_IN_MEMORY = 100_000
"""Keys of one listing that are held in memory; those before them are held in a temporary file."""


class SeenKeys:
    """
    The keys that the pages of one listing had, each with a fingerprint of its row's values.

    At most about ``bound`` keys are held in memory, the others in a temporary file that is gone with this object.
    Listings of one partition that number their rows (``row_key``) share ``occurrences``. Rows whose time
    (``Stream.day_of``) is in ``span``, from its first moment to before its second, belong to the listing; others are
    dropped as repeated, since they come with another slice too.
    """

    def __init__(
        self,
        bound: int = KEYS_IN_MEMORY,
        occurrences: "Counter[Any] | None" = None,
        span: tuple[datetime, datetime] | None = None,
    ) -> None:
        self.span = span
        self.occurrences: Counter[Any] = Counter() if occurrences is None else occurrences
        self._bound = bound
        self._page: dict[Any, int] = {}  # of the page that is being read, which may come in chunks
        self._earlier: dict[Any, int] = {}
        self._file = _KeyFile()

    def next_page(self) -> None:
        """What was added so far is of earlier pages from now on."""
        if self._page:
            self._earlier = self._earlier | self._page if self._earlier else self._page
            self._page = {}
        self._file.next_page()

    def find(self, keys: Iterable[Any]) -> tuple[Mapping[Any, int], Mapping[Any, int]]:
        """The fingerprints of those keys that came before: on this page, and on an earlier page."""
        found = [
            {key: known[key] for key in known.keys() & keys} if not known.keys().isdisjoint(keys) else {}
            for known in (self._page, self._earlier)
        ]
        for stored, on_file in zip(found, self._file.find(keys), strict=True):
            stored.update(on_file)
        return found[0], found[1]

    def add(self, fingerprints: dict[Any, int]) -> None:
        """Remember keys of this page, none of which is known yet or whose values are to be replaced."""
        if self._page:
            self._page |= fingerprints
        else:
            self._page = fingerprints  # most listings have one page, and need no second dict of its keys
        if len(self._earlier) + len(self._page) > self._bound:
            self._file.add(self._earlier, earlier=True)
            self._earlier = {}
        if len(self._page) > self._bound:
            self._file.add(self._page, earlier=False)
            self._page = {}


class _KeyFile:
    """Keys in a temporary file of SQLite, which has no name and is gone when this object is."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._page = 1

    def next_page(self) -> None:
        self._page += 1

    def add(self, fingerprints: Mapping[Any, int], *, earlier: bool) -> None:
        if not fingerprints:
            return
        if self._connection is None:
            self._connection = sqlite3.connect("", isolation_level=None)
            self._connection.execute("pragma journal_mode = off")
            self._connection.execute("pragma synchronous = off")
            self._connection.execute("create table seen (key blob primary key, page int, print int) without rowid")
        page = 0 if earlier else self._page
        rows = sorted((key, page, made) for key, made in zip(_texts(fingerprints), fingerprints.values(), strict=True))
        self._connection.execute("begin")
        self._connection.executemany("insert or replace into seen values (?, ?, ?)", rows)
        self._connection.execute("commit")

    def find(self, keys: Iterable[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
        on_page: dict[Any, int] = {}
        earlier: dict[Any, int] = {}
        if self._connection is not None:
            query = self._connection.execute
            for key, text in zip(keys, _texts(keys), strict=True):
                for page, made in query("select page, print from seen where key = ?", (text,)):
                    (on_page if page == self._page else earlier)[key] = made
        return on_page, earlier


def _texts(keys: Iterable[Any]) -> Sequence[bytes]:
    return list(map(EXACT_JSON.encode, keys))


def fingerprints(rows: list[Any]) -> list[int]:
    """A number for each row's values: equal values have equal numbers, in one process."""
    return list(map(hash, map(EXACT_JSON.encode, rows)))
