"""
Keys: detect repeated rows, and number rows without a key of their own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import repeat
from operator import attrgetter
from typing import Any

from attrs import define, field
from msgspec import Raw

from penstock._decode.page import PLAIN, RawPage, fill_each, nulls, values_of
from penstock._decode.rejects import Rejects
from penstock._decode.seen import SeenKeys, fingerprints
from penstock.model import EXACT_JSON
from penstock.records import Column


@define(eq=False, repr=False, kw_only=True)
class Keys:
    """
    Checks the keys of one stream's rows, page by page.

    ``key``: the columns of the stream's key. ``identity``: the columns that identify a row in one listing: the key, and
    the day if a response covers several. ``day``: the column within which equal rows are numbered. ``last_wins``: a row
    replaces an earlier one of the same key with other values; otherwise it is rejected.
    """

    columns: Mapping[str, Column]
    key: tuple[str, ...]
    identity: Sequence[str]
    day: str | None
    last_wins: bool
    rejects: Rejects
    _row_keys: tuple[Column, ...] = field(init=False)

    @_row_keys.default
    def _hashed(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns.values() if column.hash_of)

    def check(self, page: RawPage, seen: SeenKeys, read_again: Callable[[Iterable[int]], list[Any]]) -> int:
        """
        Reject rows whose key is null, or whose key an earlier row has with other values. Drop and count repeated rows.
        Returns the number of elements with a key that no earlier page had.

        ``read_again``: decodes the elements with these indices of the whole array once more.
        """
        if self._row_keys:
            return self._number_rows(page, seen) + len(page.rejected) + page.repeated
        if not self.key:
            return page.count
        self._reject_null_keys(page)
        keys = list(map(attrgetter(*self.identity), page.rows))
        marks = page.row_indices() if seen.by_index else fingerprints(page.rows)
        unique = dict(zip(keys, marks, strict=True))
        on_page, earlier = seen.find(unique.keys())
        others = self._of_other_listings(seen, unique, on_page, earlier)
        if len(unique) == len(keys) and not on_page and not earlier and not others:
            seen.add(unique)
            return page.count
        prints = marks
        if seen.by_index:
            # Without an earlier chunk the rows are at hand; else both are read in one go, to be read alike.
            prints = fingerprints(read_again([*marks, *on_page.values()]) if on_page else page.rows)
            on_page = dict(zip(on_page, prints[len(marks) :], strict=True))
        split = _classify(keys, prints[: len(marks)], on_page, earlier, others, last_wins=self.last_wins)
        seen.add({key: marks[index] for key, index in split.index_of.items()})
        self._drop_repeats(page, split)
        return page.count - len(split.known_earlier)

    def _of_other_listings(
        self, seen: SeenKeys, unique: Mapping[Any, int], on_page: Mapping[Any, int], earlier: Mapping[Any, int]
    ) -> Mapping[Any, int]:
        """The keys of this page that another listing of the slice had, with the fingerprints of the rows that count."""
        if seen.others is None:
            return {}
        found = seen.others.find(unique.keys())
        first_wins = bool(found) and not self.last_wins
        seen.others.add({key: made for key, made in unique.items() if key not in found} if first_wins else unique)
        return {key: made for key, made in found.items() if key not in on_page and key not in earlier}

    def _reject_null_keys(self, page: RawPage) -> None:
        for name in self.key:
            if self.columns[name].nullable:
                empty = nulls(values_of(page.rows, name))
                self.rejects.reject(page, dict.fromkeys(empty, (name, f"the key {name} is null")))

    def _drop_repeats(self, page: RawPage, split: "_ClassifiedRows") -> None:
        """Reject the rows that contradict an earlier one, count and drop the repeated ones."""
        bad: dict[int, tuple[str, str]] = {}
        for index, where in split.conflicting.items():
            text = ", ".join(f"{name} {getattr(page.rows[index], name)}" for name in self.key)
            bad[index] = (self.key[0], f"the key {text} came before on {where}, with other values")
        self.rejects.note(page, bad)
        page.drop(split.repeated | bad.keys())
        page.repeated += len(split.repeated)
        page.superseded += split.superseded

    def _number_rows(self, page: RawPage, seen: SeenKeys) -> int:
        """Fill the row keys. Returns the number of rows with contents that no earlier page had."""
        fresh = len(page.rows)
        days = values_of(page.rows, self.day) if self.day is not None else repeat(None)
        for column in self._row_keys:
            parts = [self._canonical(page.rows, name) for name in column.hash_of]
            contents = list(map(EXACT_JSON.encode, zip(*parts, strict=True)))
            name = f"{column.name} ".encode()
            identities = [
                blake2b(b"%b%b%b" % (name, str(day).encode(), content), digest_size=16).digest()
                for content, day in zip(contents, days, strict=False)
            ]
            numbers = seen.occurrences.number(identities)
            made = [
                blake2b(b"%b#%d" % (content, number), digest_size=16).hexdigest()
                for content, number in zip(contents, numbers, strict=True)
            ]
            fill_each(page.rows, column.name, made)
            unique = dict.fromkeys(identities, 0)
            on_page, earlier = seen.find(unique.keys())
            if earlier:
                fresh = sum(1 for identity in identities if identity not in earlier)
            seen.add({key: 0 for key in unique if key not in earlier and key not in on_page})
        return fresh

    def _canonical(self, rows: list[Any], name: str) -> list[Any]:
        """The values of a column, nested ones as canonical text, whether they are kept raw or plain."""
        values = values_of(rows, name)
        if self.columns[name].type != "json":
            return values
        return [PLAIN.decode(value) if isinstance(value, Raw) else value for value in values]


THIS_PAGE, EARLIER_PAGE, OTHER_LISTING = "this page", "an earlier page", "the response to another request"


@define(eq=False, repr=False)
class _ClassifiedRows:
    """The rows of a page, classified, by index."""

    index_of: dict[Any, int] = field(factory=dict)  # key -> its row, which is delivered unless it is repeated
    repeated: set[int] = field(factory=set)
    conflicting: dict[int, str] = field(factory=dict)  # the page that has the key with other values
    known_earlier: set[int] = field(factory=set)  # the key is of an earlier page
    superseded: int = 0


def _classify(
    keys: Sequence[Any],
    prints: Sequence[int],
    on_page: Mapping[Any, int],
    earlier: Mapping[Any, int],
    others: Mapping[Any, int],
    *,
    last_wins: bool,
) -> _ClassifiedRows:
    """
    Compare rows with fingerprints of rows with the same key: by key, those that an earlier chunk of the page had, an
    earlier page of the listing, and other listings of the slice.
    """
    split = _ClassifiedRows()
    for index, (key, made) in enumerate(zip(keys, prints, strict=True)):
        place = split.index_of.get(key)
        before = on_page.get(key, earlier.get(key)) if place is None else prints[place]
        if key in earlier:
            split.known_earlier.add(index)
        if before == made:
            split.repeated.add(index)
        elif before is None or last_wins:
            if place is not None:  # replaced before it was delivered
                split.repeated.add(place)
            elif before is not None:
                split.superseded += 1
            split.index_of[key] = index
        else:
            split.conflicting[index] = EARLIER_PAGE if key in earlier else THIS_PAGE
    for key, before in others.items():
        index = split.index_of[key]
        if prints[index] == before:
            split.repeated.add(index)
        elif last_wins:
            split.superseded += 1
        else:
            split.conflicting[index] = OTHER_LISTING
    return split
