"""
Keys: detect repeated rows, and number rows without a key of their own.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import repeat
from operator import attrgetter
from typing import Any

from attrs import define, field
from msgspec import Raw

from penstock._decode.chunk import DecodingChunk, get_column, nulls, set_column_each
from penstock._decode.conversion import NoObject
from penstock._decode.rejects import Rejects
from penstock._decode.row_comparison import RowComparison
from penstock._decode.slice_keys import EARLIER_PAGE, OTHER_LISTING, THIS_PAGE, Seen, SliceKeys
from penstock._decode.structs import value_at
from penstock.model import EXACT_JSON, PLAIN_JSON
from penstock.records import Column
from penstock.redact import clip


@define(eq=False, repr=False, kw_only=True)
class KeyRules:
    """
    Checks the keys of one stream's rows, chunk by chunk.

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
    _nullable: tuple[str, ...] = field(init=False)  # of the key

    @_row_keys.default
    def _default_row_keys(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns.values() if column.hash_of)

    @_nullable.default
    def _default_nullable(self) -> tuple[str, ...]:
        return tuple(name for name in self.key if self.columns[name].nullable)

    def drop_repeats(
        self, chunk: DecodingChunk, slice_keys: SliceKeys, comparison: RowComparison, stamps: Mapping[str, Any]
    ) -> int:
        """
        Reject rows whose key is null, or whose key an earlier row has with other values. Drop and count what came
        before: equal rows, and rejected elements. ``stamps``: of the request.

        Returns the number of fresh elements: no earlier page of the listing had their key, or where they were rejected
        before this check, their contents.
        """
        rejected_before = len(chunk.rejected)
        fresh = self._check_rows(chunk, slice_keys, comparison)
        if chunk.rejected:
            unchecked = {element.position for element in chunk.rejected[:rejected_before]}  # all of them count as fresh
            fresh -= len(unchecked & self._drop_rejected_again(chunk, slice_keys, stamps))
        return fresh

    def _check_rows(self, chunk: DecodingChunk, slice_keys: SliceKeys, comparison: RowComparison) -> int:
        """The number of elements with a key that no earlier page of the listing had; see :meth:`drop_repeats`."""
        if self._row_keys:
            return self._number_rows(chunk, slice_keys) + len(chunk.rejected) + chunk.repeated
        if not self.key:
            return chunk.count
        if self._nullable:
            self._reject_null_keys(chunk)
        chunk_keys = list(map(attrgetter(*self.identity), chunk.rows))
        numbers = comparison.numbers(chunk)
        unique = dict(zip(chunk_keys, numbers, strict=True))
        seen = slice_keys.find(unique.keys())
        if len(unique) == len(chunk_keys) and not seen:
            slice_keys.add(unique)
            return chunk.count
        former_numbers = {key: before.number for key, before in seen.items()}
        digests, former = comparison.digests(chunk, numbers, former_numbers)
        delivered = self._compare_digests(chunk, chunk_keys, digests, former, seen)
        in_other_listing = {key: before.number for key, before in seen.items() if before.where == OTHER_LISTING}
        slice_keys.add({**in_other_listing, **{key: numbers[index] for key, index in delivered.items()}})
        earlier = {key for key, before in seen.items() if before.where == EARLIER_PAGE}
        return chunk.count - sum(map(earlier.__contains__, chunk_keys))

    def _drop_rejected_again(self, chunk: DecodingChunk, slice_keys: SliceKeys, stamps: Mapping[str, Any]) -> set[int]:
        """
        Count the rejected elements that an earlier page had as repeated, as the rows of a listing that is read twice.
        ``stamps``: of the request; an element with others is another record. So is an element without its key: equal
        ones may be several records. Returns the positions of those that an earlier page of the same listing had.
        """
        if not self.key or self._row_keys:
            return set()
        elements, raw = chunk.elements, chunk.elements.raw()
        identities = {
            position: blake2b(
                repr((stamps, elements.common_stamps, [each[position] for each in elements.stamps.values()])).encode()
                + bytes(raw[position]),
                digest_size=16,
                person=b"rejected",
            ).digest()
            for position, _ in chunk.rejected
            if self._states_key(raw[position])
        }
        seen = slice_keys.find(dict.fromkeys(identities.values()).keys())
        again = {
            position
            for position, identity in identities.items()
            if identity in seen and seen[identity].where != THIS_PAGE
        }
        chunk.repeated += len(again)
        chunk.rejected = [element for element in chunk.rejected if element.position not in again]
        slice_keys.add({identity: 0 for position, identity in identities.items() if position not in again})
        return {position for position in again if seen[identities[position]].where == EARLIER_PAGE}

    def _states_key(self, element: Raw) -> bool:
        """Whether a rejected element has a value for each column of the key that comes from a member."""
        try:
            record = PLAIN_JSON.decode(element)
        except ValueError:
            return False
        columns = [self.columns[name] for name in self.key]
        paths = [column.path or (column.member,) for column in columns if column.member is not None]
        return not any(value is None or isinstance(value, NoObject) for value in map(partial(value_at, record), paths))

    def _reject_null_keys(self, chunk: DecodingChunk) -> None:
        for name in self._nullable:
            empty = nulls(get_column(chunk.rows, name))
            self.rejects.reject(chunk, dict.fromkeys(empty, (name, f"the key {name} is null")))

    def _compare_digests(
        self,
        chunk: DecodingChunk,
        keys: Sequence[Any],
        digests: Sequence[int],
        former: Mapping[Any, int],
        seen: Mapping[Any, Seen],
    ) -> Mapping[Any, int]:
        """
        Compare the digests of rows with the same key: drop and count repeated rows, and those that a later one
        replaces; reject the others. ``former``: digests of the rows before. Returns the index of the row that is
        delivered for a key.
        """
        delivered: dict[Any, int] = {}
        repeated: set[int] = set()
        rejected: dict[int, tuple[str, str]] = {}
        for index, (key, digest) in enumerate(zip(keys, digests, strict=True)):
            on_page = delivered.get(key)
            before = former.get(key) if on_page is None else digests[on_page]
            if before == digest:
                repeated.add(index)
            elif before is None or self.last_wins:
                if on_page is not None:  # replaced before it was delivered
                    repeated.add(on_page)
                if before is not None:
                    chunk.superseded += on_page is None
                    chunk.replaced += 1
                    chunk.replaced_example = chunk.replaced_example or self._example(chunk.rows[index])
                delivered[key] = index
            else:
                where = seen[key].where if key in seen else THIS_PAGE
                text = self._key_text(chunk.rows[index])
                rejected[index] = (self.key[0], f"the key {text} came before on {where}, with other values")
        self.rejects.record_rejected(chunk, rejected)
        chunk.drop(repeated | rejected.keys())
        chunk.repeated += len(repeated)
        return delivered

    def _key_text(self, row: Any) -> str:
        return ", ".join(f"{name} {getattr(row, name)}" for name in self.key)

    def _example(self, row: Any) -> str:
        """The key of a row for a notice, which goes to more places than the target; "" for a personal one."""
        is_personal = any(self.columns[name].personal for name in self.key)
        return "" if is_personal else clip(self._key_text(row), 200)

    def _number_rows(self, chunk: DecodingChunk, slice_keys: SliceKeys) -> int:
        """Fill the row keys. Returns the number of rows with contents that no earlier page had."""
        fresh = len(chunk.rows)
        days = get_column(chunk.rows, self.day) if self.day is not None else repeat(None)
        for column in self._row_keys:
            columns = [self._canonical(chunk.rows, name) for name in column.hash_of]
            contents = list(map(EXACT_JSON.encode, zip(*columns, strict=True)))
            name = f"{column.name} ".encode()
            identities = [
                blake2b(b"%b%b%b" % (name, str(day).encode(), content), digest_size=16).digest()
                for content, day in zip(contents, days, strict=False)
            ]
            seen = slice_keys.find(dict.fromkeys(identities).keys())
            occurrences = {identity: before.number for identity, before in seen.items()}
            row_keys = []
            for content, identity in zip(contents, identities, strict=True):
                occurrences[identity] = number = occurrences.get(identity, 0) + 1
                row_keys.append(blake2b(b"%b#%d" % (content, number), digest_size=16).hexdigest())
            set_column_each(chunk.rows, column.name, row_keys)
            slice_keys.add(occurrences)
            earlier = {identity for identity, before in seen.items() if before.where == EARLIER_PAGE}
            fresh = len(identities) - sum(map(earlier.__contains__, identities))
        return fresh

    def _canonical(self, rows: list[Any], name: str) -> list[Any]:
        """The values of a column, nested ones as canonical text, whether they are kept raw or plain."""
        values = get_column(rows, name)
        if self.columns[name].type != "json":
            return values
        return [PLAIN_JSON.decode(value) if isinstance(value, Raw) else value for value in values]
