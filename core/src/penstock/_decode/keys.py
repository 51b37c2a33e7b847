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

from penstock._decode.codecs import PLAIN
from penstock._decode.listing_keys import ListingKeys, fingerprints
from penstock._decode.page import RawPage, fill_each, nulls, values_of
from penstock._decode.rejects import Rejects
from penstock.model import EXACT_JSON
from penstock.records import Column


@define(eq=False, repr=False, kw_only=True)
class KeyRules:
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

    def check(self, page: RawPage, listing_keys: ListingKeys, read_again: Callable[[Iterable[int]], list[Any]]) -> int:
        """
        Reject rows whose key is null, or whose key an earlier row has with other values. Drop and count repeated rows.
        Returns the number of elements with a key that no earlier page had.

        ``read_again``: decodes the elements with these indices of the whole array once more.
        """
        if self._row_keys:
            return self._number_rows(page, listing_keys) + len(page.rejected) + page.repeated
        if not self.key:
            return page.count
        self._reject_null_keys(page)
        keys = list(map(attrgetter(*self.identity), page.rows))
        # What the listing keeps of a row: its fingerprint, or its index, from which the fingerprint is computed.
        stored = page.row_indices() if listing_keys.by_index else fingerprints(page.rows)
        unique = dict(zip(keys, stored, strict=True))
        on_page, earlier = listing_keys.find(unique.keys())
        others = self._of_other_listings(listing_keys, unique, on_page, earlier)
        if len(unique) == len(keys) and not on_page and not earlier and not others:
            listing_keys.add(unique)
            return page.count
        prints = stored
        if listing_keys.by_index:
            # Without an earlier chunk the rows are at hand; else both are read in one go, to be read alike.
            prints = fingerprints(read_again([*stored, *on_page.values()]) if on_page else page.rows)
            on_page = dict(zip(on_page, prints[len(stored) :], strict=True))
        classified = _classify(keys, prints[: len(stored)], on_page, earlier, others, last_wins=self.last_wins)
        listing_keys.add({key: stored[index] for key, index in classified.index_of.items()})
        self._drop_repeats(page, classified)
        return page.count - len(classified.with_earlier_key)

    def _of_other_listings(
        self,
        listing_keys: ListingKeys,
        unique: Mapping[Any, int],
        on_page: Mapping[Any, int],
        earlier: Mapping[Any, int],
    ) -> Mapping[Any, int]:
        """The keys of this page that another listing of the slice had, with the fingerprints of the rows that count."""
        if listing_keys.others is None:
            return {}
        others = listing_keys.others.find(unique.keys())
        first_wins = bool(others) and not self.last_wins
        listing_keys.others.add(
            {key: row for key, row in unique.items() if key not in others} if first_wins else unique
        )
        return {key: row for key, row in others.items() if key not in on_page and key not in earlier}

    def _reject_null_keys(self, page: RawPage) -> None:
        for name in self.key:
            if self.columns[name].nullable:
                empty = nulls(values_of(page.rows, name))
                self.rejects.reject(page, dict.fromkeys(empty, (name, f"the key {name} is null")))

    def _drop_repeats(self, page: RawPage, classified: "_ClassifiedRows") -> None:
        """Reject the rows that contradict an earlier one, count and drop the repeated ones."""
        bad: dict[int, tuple[str, str]] = {}
        for index, where in classified.conflicting.items():
            text = ", ".join(f"{name} {getattr(page.rows[index], name)}" for name in self.key)
            bad[index] = (self.key[0], f"the key {text} came before on {where}, with other values")
        self.rejects.add(page, bad)
        page.drop(classified.repeated | bad.keys())
        page.repeated += len(classified.repeated)
        page.superseded += classified.superseded

    def _number_rows(self, page: RawPage, listing_keys: ListingKeys) -> int:
        """Fill the row keys. Returns the number of rows with contents that no earlier page had."""
        fresh = len(page.rows)
        days = values_of(page.rows, self.day) if self.day is not None else repeat(None)
        for column in self._row_keys:
            columns = [self._canonical(page.rows, name) for name in column.hash_of]
            contents = list(map(EXACT_JSON.encode, zip(*columns, strict=True)))
            name = f"{column.name} ".encode()
            identities = [
                blake2b(b"%b%b%b" % (name, str(day).encode(), content), digest_size=16).digest()
                for content, day in zip(contents, days, strict=False)
            ]
            numbers = listing_keys.occurrences.number(identities)
            row_keys = [
                blake2b(b"%b#%d" % (content, number), digest_size=16).hexdigest()
                for content, number in zip(contents, numbers, strict=True)
            ]
            fill_each(page.rows, column.name, row_keys)
            unique = dict.fromkeys(identities, 0)
            on_page, earlier = listing_keys.find(unique.keys())
            if earlier:
                fresh = sum(1 for identity in identities if identity not in earlier)
            listing_keys.add({key: 0 for key in unique if key not in earlier and key not in on_page})
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
    with_earlier_key: set[int] = field(factory=set)  # the key is of an earlier page
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
    rows = _ClassifiedRows()
    for index, (key, fingerprint) in enumerate(zip(keys, prints, strict=True)):
        former = rows.index_of.get(key)  # an earlier row of this page
        before = on_page.get(key, earlier.get(key)) if former is None else prints[former]
        if key in earlier:
            rows.with_earlier_key.add(index)
        if before == fingerprint:
            rows.repeated.add(index)
        elif before is None or last_wins:
            if former is not None:  # replaced before it was delivered
                rows.repeated.add(former)
            elif before is not None:
                rows.superseded += 1
            rows.index_of[key] = index
        else:
            rows.conflicting[index] = EARLIER_PAGE if key in earlier else THIS_PAGE
    for key, before in others.items():
        index = rows.index_of[key]
        if prints[index] == before:
            rows.repeated.add(index)
        elif last_wins:
            rows.superseded += 1
        else:
            rows.conflicting[index] = OTHER_LISTING
    return rows
