"""
Keys: rows that came before are noticed, rows without a key of their own are numbered.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from hashlib import blake2b
from itertools import islice, repeat
from operator import attrgetter
from typing import Any

from msgspec import Raw

from penstock._decode.page import EXACT_JSON, PLAIN, RawPage, fill_each, nulls, values_of
from penstock._decode.rejects import Rejects
from penstock.records import Column
from penstock.sinks import EXTRA

KEYS_REMEMBERED = 100_000


class SeenKeys:
    """
    What the pages of one listing have shown: keys, to notice those that come again, and how often equal rows occurred.

    Holds up to ``bound`` keys and forgets the earliest pages first. Listings of one partition that number their rows
    (``row_key``) share ``occurrences``. Rows whose time (``Stream.day_of``) is in ``span``, from its first moment to
    before its second, belong to the listing; others are dropped as repeated, since they come with another slice too.
    """

    def __init__(
        self,
        bound: int = KEYS_REMEMBERED,
        occurrences: "Counter[Any] | None" = None,
        span: tuple[datetime, datetime] | None = None,
    ) -> None:
        self.span = span
        self.occurrences: Counter[Any] = Counter() if occurrences is None else occurrences
        self._bound = bound
        # A dict keeps its order, so that the earliest can go; a set for each page would take twice the memory.
        self._known: dict[Any, None] = {}
        self._pages: deque[int] = deque()

    @property
    def known(self) -> Set[Any]:
        return self._known.keys()

    def add(self, keys: dict[Any, None]) -> None:
        """Remember a page's keys, none of which is known yet."""
        self._pages.append(len(keys))
        if len(self._pages) == 1:
            self._known = keys  # most listings have one page, and need no second dict of its keys
        elif len(self._pages) == 2:
            self._known = self._known | keys
        else:
            self._known |= keys
        while len(self._known) > self._bound and len(self._pages) > 1:
            earliest = list(islice(self._known, self._pages.popleft()))
            deque(map(self._known.__delitem__, earliest), maxlen=0)


class Keys:
    """
    Checks the keys of one stream's rows, page by page.

    ``key`` are the columns of the stream's key, ``identity`` those that tell two rows of one listing apart: the key,
    and the day where an answer covers several. ``day`` is the column within which equal rows are numbered.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        *,
        key: tuple[str, ...],
        identity: Sequence[str],
        day: str | None,
        rejects: Rejects,
    ) -> None:
        self._columns = columns
        self._key = key
        self._identity = attrgetter(*identity) if key else None
        self._day = day if day in columns else None
        self._row_keys = tuple(column for column in columns.values() if column.hash_of)
        self._rejects = rejects

    def check(
        self, page: RawPage, memory: SeenKeys, count: int, fill_rows: Callable[[RawPage], object]
    ) -> tuple[int, int, int]:
        """
        Drop rows that came before, and reject those whose key is null or came before with other values.

        (fresh, repeated on this page, repeated across pages), of ``count`` elements. ``fill_rows`` reads a former
        part of the same array once more, for the rows behind keys that come again.
        """
        if self._row_keys:
            return self._number_rows(page, memory) + len(page.rejected) + page.beyond, 0, 0
        if self._identity is None:
            return count, 0, 0
        for name in self._key:
            if self._columns[name].nullable:
                empty = nulls(values_of(page.rows, name))
                self._rejects.reject(page, dict.fromkeys(empty, (name, f"the key {name} is null")))
        keys = list(map(self._identity, page.rows))
        unique = dict.fromkeys(keys)
        if len(unique) == len(keys) and memory.known.isdisjoint(unique):
            memory.add(unique)
            _add_part(page, unique.keys())
            return count, 0, 0
        first = self._rows_before(page, unique.keys(), fill_rows)
        dropped: set[int] = set()
        bad: dict[int, tuple[str | None, str]] = {}
        across = 0
        for index, (key, row) in enumerate(zip(keys, page.rows, strict=True)):
            if key not in first and key in memory.known:
                across += 1
                dropped.add(index)
            elif key not in first:
                first[key] = row
            elif self._equal(first[key], row):
                dropped.add(index)
            else:
                shown = ", ".join(f"{name} {getattr(row, name)}" for name in self._key)
                bad[index] = (self._key[0], f"the key {shown} came before on this page, with other values")
        new = dict.fromkeys(key for key in unique if key not in memory.known)
        memory.add(new)
        _add_part(page, new.keys())
        self._rejects.note(page, bad)
        page.drop(dropped | bad.keys())
        return count - across, len(dropped) - across, across

    def _equal(self, row: Any, other: Any) -> bool:
        """Whether two rows have the same values, though they may be of different Structs."""
        return all(getattr(row, name) == getattr(other, name) for name in (*self._columns, EXTRA))

    def _rows_before(self, page: RawPage, keys: Set[Any], fill_rows: Callable[[RawPage], object]) -> dict[Any, Any]:
        """Of these keys, the rows in former parts of the same array: it is one page, in whatever parts it is read."""
        found: dict[Any, Any] = {}
        for data, known in page.parts.earlier if page.parts is not None else ():
            if known.isdisjoint(keys):
                continue
            again = RawPage(data=data(), constants=page.constants)
            fill_rows(again)
            assert self._identity is not None
            for key, row in zip(map(self._identity, again.rows), again.rows, strict=True):
                if key in keys:
                    found.setdefault(key, row)
        return found

    def _number_rows(self, page: RawPage, memory: SeenKeys) -> int:
        """Fill the row keys; how many rows had contents that no earlier page had."""
        fresh = len(page.rows)
        days = values_of(page.rows, self._day) if self._day is not None else repeat(None)
        for column in self._row_keys:
            parts = [self._canonical(page.rows, name) for name in column.hash_of]
            contents = list(map(EXACT_JSON.encode, zip(*parts, strict=True)))
            made = []
            for content, day in zip(contents, days, strict=False):
                place = (column.name, day, blake2b(content, digest_size=16).digest())
                number = memory.occurrences[place] = memory.occurrences[place] + 1
                made.append(blake2b(content + b"#%d" % number, digest_size=16).hexdigest())
            fill_each(page.rows, column.name, made)
            unique = dict.fromkeys(contents)
            before = memory.known & unique.keys()
            for _, known in page.parts.earlier if page.parts is not None else ():
                before -= known
            fresh = sum(1 for content in contents if content not in before) if before else len(contents)
            new = dict.fromkeys(content for content in unique if content not in memory.known)
            memory.add(new)
            _add_part(page, new.keys())
        return fresh

    def _canonical(self, rows: list[Any], name: str) -> list[Any]:
        """The values of a column, nested ones in one spelling whether they are kept raw or plain."""
        values = values_of(rows, name)
        if self._columns[name].type != "json":
            return values
        return [PLAIN.decode(value) if isinstance(value, Raw) else value for value in values]


def _add_part(page: RawPage, keys: Set[Any]) -> None:
    """Keep how to read this part of an array again, and which keys are in it."""
    if page.parts is not None:
        page.parts.earlier.append((page.again, keys))
        if sum(len(known) for _, known in page.parts.earlier) > KEYS_REMEMBERED:
            page.parts.earlier.popleft()
