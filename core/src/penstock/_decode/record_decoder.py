"""
From the bytes of a page to rows, by Structs with the provider's member names.

A page is decoded at once by a Struct that refuses unknown members. If that fails, it is decoded by one that ignores
them, and the unknown members are decoded separately. If that fails, it is decoded element by element, and elements that
do not fit are rejected (:mod:`penstock._decode.single_elements`). Values whose JSON type is not that of their column
(money, times, days in another format) are decoded as they are, and then converted column by column
(:mod:`penstock._decode.values`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import UNSET, ValidationError

from penstock._decode.codecs import DICTS
from penstock._decode.outer_members import OuterMembers, unknown_in, value_at
from penstock._decode.page import RawPage, fill, fill_each, nulls, values_of
from penstock._decode.rejects import Rejects, add_extra
from penstock._decode.single_elements import SingleElements, UnfitError
from penstock._decode.structs import Nested, Shape, unknown_members
from penstock._decode.values import converted, is_converted
from penstock.errors import BrokenBodyError
from penstock.records import Column
from penstock.redact import clip
from penstock.sinks import EXTRA


class RecordDecoder:
    """
    Reads the pages of one stream. ``raw`` are the json columns that stay bytes; ``nested`` is the same for ``_extra``.
    """

    def __init__(
        self, columns: Mapping[str, Column], *, raw: Collection[str], nested: Nested, rejects: Rejects
    ) -> None:
        self._raw = raw
        self._nested = nested
        self._rejects = rejects
        self._members = frozenset(column.top_member for column in columns.values() if column.top_member is not None)
        self._outer = OuterMembers.of(columns.values())
        read = [column for column in columns.values() if column.top_member is not None]
        # Where a record must have a member, one without any is rejected for that. A stamp may fill all others.
        self._may_lack_all = tuple(column.name for column in read) if all(column.nullable for column in read) else ()
        self._converted = tuple(column for column in columns.values() if not column.added and is_converted(column))
        self._shapes = {texts: Shape.of(columns, raw, self._outer, texts=texts) for texts in (False, True)}
        self._single = SingleElements(
            columns=columns, raw=raw, nested=nested, rejects=rejects, members=self._members, outer=self._outer
        )

    def read(self, page: RawPage) -> type:
        """
        Fill ``page.rows``, ``positions``, ``unknown`` and ``count``; elements that do not fit are added to
        ``rejected``.

        Returns the Struct with the names of the columns.
        """
        shape = self._shapes[page.elements.texts]
        self._read_rows(page, shape)
        self._read_outer_members(page)
        self._reject_undeclared(page)
        for column in self._converted:
            self._convert(page, column)
        if page.unknown and self._rejects.keeps_unknown:
            self._rejects.mask_extras(page)
        page.count = len(page.rows) + len(page.rejected)
        return shape.out

    def check_header(self, header: Sequence[str]) -> None:
        """Raises BrokenBodyError for the header row of CSV without any declared member: it is a text, or no header."""
        if self._members and self._members.isdisjoint(header):
            raise BrokenBodyError(
                f"none of the columns of the report is declared; its first line is {clip(', '.join(header), 200)!r}. "
                "If that is a message or a row, the provider failed; if its columns have other names, declare these."
            )

    # --- rows: three tries ------------------------------------------------------------------------------------------

    def _read_rows(self, page: RawPage, shape: Shape) -> None:
        if self._raw:
            page.elements.compact()
        try:
            page.rows = page.elements.decode(shape.strict)
            page.positions = range(len(page.rows))
        except ValidationError:
            self._read_with_unknown(page, shape)

    def _read_with_unknown(self, page: RawPage, shape: Shape) -> None:
        elements = page.elements
        elements.compact()
        try:
            page.rows = elements.decode(shape.loose)
            page.members = set().union(*elements.decode(DICTS))
        except ValidationError:
            self._read_one_by_one(page, shape)
            return
        unknown = page.members - self._members
        page.positions = range(len(page.rows))
        page.unknown |= unknown
        if not self._rejects.keeps_unknown:
            return
        extras = elements.decode(unknown_members(tuple(sorted(unknown)), self._nested))
        fill_each(page.rows, EXTRA, [extra or UNSET for extra in extras])

    def _read_one_by_one(self, page: RawPage, shape: Shape) -> None:
        rows: list[Any] = []
        positions: list[int] = []
        for position, element in enumerate(page.elements.raw()):
            try:
                rows.append(self._single.read(page, position, element, shape))
                positions.append(position)
            except UnfitError as unfit:
                self._rejects.reject_element(page, position, unfit.column, unfit.reason)
        page.rows, page.positions = rows, positions

    # --- all rows at once -------------------------------------------------------------------------------------------

    def _read_outer_members(self, page: RawPage) -> None:
        """Fill the columns that are inside of another member; its other members go to ``_extra``."""
        for column in self._outer.columns:
            source, steps = self._outer.path_of(column)
            values = [value_at(value, steps) for value in values_of(page.rows, source)]
            fill_each(page.rows, column.name, values)
        for attribute, member in self._outer.attributes.items():
            claims = self._outer.claims[member]
            for row, value in zip(page.rows, values_of(page.rows, attribute), strict=True):
                if unknown := unknown_in(value, claims):
                    page.unknown |= {f"{member}.{name}" for name in unknown}
                    if self._rejects.keeps_unknown:
                        add_extra(row, member, unknown)
            fill(page.rows, attribute, UNSET)

    def _reject_undeclared(self, page: RawPage) -> None:
        """Reject the elements without any declared member, such as an error or a summary among the records."""
        undeclared = set()
        for index in self._empty_rows(page):
            position = page.positions[index]
            names = DICTS.one.decode(page.elements.raw()[position]).keys()
            if self._members.isdisjoint(names):
                undeclared.add(index)
                there = f"; it has {clip(', '.join(names), 100)}" if names else ""
                self._rejects.reject_element(page, position, None, f"it has none of the declared members{there}")
        if undeclared:
            page.drop(undeclared)

    def _empty_rows(self, page: RawPage) -> Sequence[int]:
        """The indices of the rows in which every column is null, where a record may lack each of its members."""
        empty: Sequence[int] = range(len(page.rows)) if self._may_lack_all else ()
        for name in self._may_lack_all:
            values = values_of(page.rows, name)
            empty = nulls(values) if len(empty) == len(values) else [index for index in empty if values[index] is None]
            if not empty:
                break
        return empty

    def _convert(self, page: RawPage, column: Column) -> None:
        """Convert a column's values to its type."""
        values = values_of(page.rows, column.name)
        typed, misfits = converted(column, values)
        if typed is not values:
            fill_each(page.rows, column.name, typed)
        if misfits:
            self._rejects.unfit(page, column, misfits, values)
