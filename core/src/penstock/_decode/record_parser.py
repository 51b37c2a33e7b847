"""
From the bytes of a chunk to rows, by Structs with the provider's member names.

A chunk is decoded at once by a Struct that refuses unknown members. If that fails, it is decoded by one that ignores
them, and the unknown members are decoded separately. If that fails, it is decoded element by element, and elements that
do not fit are rejected (:meth:`RecordParser._read_element`). Values whose JSON type is not that of their column
(money, times, days in another format) are decoded as they are, and then converted column by column
(:mod:`penstock._decode.conversion`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, ValidationError

from penstock._decode.chunk import DecodingChunk, get_column, nulls, set_column, set_column_each
from penstock._decode.conversion import (
    Converter,
    MisfitError,
    coerce,
    converted,
    converter_of,
    is_converted,
    reason_of_null,
)
from penstock._decode.elements import DICTS, RAWS, Elements
from penstock._decode.rejects import Rejects, add_extra
from penstock._decode.structs import Nested, OuterMembers, Shape, is_sent, unknown_in, unknown_members, value_at
from penstock.errors import BrokenBodyError
from penstock.model import PLAIN_JSON
from penstock.names import nearest
from penstock.records import Column
from penstock.redact import clip
from penstock.sinks import EXTRA

FEW = 3  # unread members that are named where none is similar to the missing one


class RejectedElementError(Exception):
    """An element cannot become a row, because of the value of ``column``; None: because of the whole element."""

    def __init__(self, column: Column | None, reason: str) -> None:
        self.column = column
        self.reason = reason
        super().__init__(reason)


class _Unread(NamedTuple):
    """A value that does not fit its nullable column."""

    column: Column
    reason: str
    value: Any


class RecordParser:
    """
    Parses the chunks of a stream. ``raw`` are the json columns that stay bytes; ``nested`` is the same for ``_extra``.
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
        self._converters = tuple(
            (column, converter_of(column)) for column in columns.values() if not column.added and is_converted(column)
        )
        self._shapes = {texts: Shape.of(columns, raw, self._outer, texts=texts) for texts in (False, True)}
        self._sent = tuple(filter(is_sent, columns.values()))

    def parse(self, chunk: DecodingChunk) -> type:
        """
        Fill ``chunk.rows``, ``positions``, ``unknown`` and ``count``; elements that do not fit are added to
        ``rejected``.

        Returns the Struct with the names of the columns.
        """
        shape = self._shapes[chunk.elements.texts]
        self._read_rows(chunk, shape)
        if self._outer.columns:
            self._read_outer_members(chunk)
        if self._may_lack_all:
            self._reject_undeclared(chunk)
        for column, convert in self._converters:
            self._convert(chunk, column, convert)
        if chunk.unknown and self._rejects.keeps_unknown:
            self._rejects.mask_extras(chunk)
        chunk.count = len(chunk.rows) + len(chunk.rejected)
        return shape.row_type

    def check_header(self, header: Sequence[str]) -> None:
        """Raises BrokenBodyError for the header row of CSV without any declared member: it is a text, or no header."""
        if self._members and self._members.isdisjoint(header):
            raise BrokenBodyError(
                f"none of the columns of the report is declared; its first line is {clip(', '.join(header), 200)!r}. "
                "If that is a message or a row, the provider failed; if its columns have other names, declare these."
            )

    # --- rows: three tries ------------------------------------------------------------------------------------------

    def _read_rows(self, chunk: DecodingChunk, shape: Shape) -> None:
        if self._raw:
            chunk.elements.compact()
        try:
            chunk.rows = chunk.elements.decode(shape.strict)
            chunk.positions = range(len(chunk.rows))
        except ValidationError:
            self._read_with_unknown(chunk, shape)

    def _read_with_unknown(self, chunk: DecodingChunk, shape: Shape) -> None:
        elements = chunk.elements
        elements.compact()
        try:
            chunk.rows = elements.decode(shape.loose)
            chunk.members = set().union(*elements.decode(DICTS))
        except ValidationError:
            self._read_one_by_one(chunk, shape)
            return
        unknown = chunk.members - self._members
        chunk.positions = range(len(chunk.rows))
        chunk.unknown |= unknown
        if not self._rejects.keeps_unknown:
            return
        extras = elements.decode(unknown_members(tuple(sorted(unknown)), self._nested))
        set_column_each(chunk.rows, EXTRA, [extra or UNSET for extra in extras])

    def _read_one_by_one(self, chunk: DecodingChunk, shape: Shape) -> None:
        rows: list[Any] = []
        positions: list[int] = []
        for position, element in enumerate(chunk.elements.raw()):
            try:
                rows.append(self._read_element(chunk, position, element, shape))
                positions.append(position)
            except RejectedElementError as error:
                self._rejects.reject_element(chunk, position, error.column, error.reason)
        chunk.rows, chunk.positions = rows, positions

    # --- element by element -----------------------------------------------------------------------------------------

    def _read_element(self, chunk: DecodingChunk, position: int, element: Raw, shape: Shape) -> Any:
        """The row of an element. Values that do not fit a nullable column are null. Raises RejectedElementError."""
        try:
            members = DICTS.one.decode(element)
        except ValidationError:
            raise RejectedElementError(None, _reason_of_no_object(chunk.elements, position, element)) from None
        unread: list[_Unread] = []
        try:
            row = shape.loose.one.decode(element)
        except ValidationError:
            row = shape.element_type(**self._attributes(members, unread))
        self._keep_unknown(chunk, row, members)
        for column, reason, value in unread:
            self._rejects.keep_unread(chunk, position, column, reason, row, value)
        return row

    def _attributes(self, members: Mapping[str, Raw], unread: list[_Unread]) -> dict[str, Any]:
        """The attributes of a row, member by member; what does not fit is added to ``unread``."""
        attributes = {column.name: self._value(column, members, unread) for column in self._sent}
        for attribute, member in self._outer.attributes.items():
            attributes[attribute] = PLAIN_JSON.decode(members[member]) if member in members else UNSET
        return attributes

    def _keep_unknown(self, chunk: DecodingChunk, row: Any, members: Mapping[str, Raw]) -> None:
        unknown = {name: value for name, value in members.items() if name not in self._members}
        chunk.unknown |= unknown.keys()
        chunk.members |= members.keys()
        if unknown and self._rejects.keeps_unknown:
            plain = (
                unknown if self._nested == "raw" else {name: PLAIN_JSON.decode(raw) for name, raw in unknown.items()}
            )
            setattr(row, EXTRA, plain)

    def _value(self, column: Column, members: Mapping[str, Raw], unread: list[_Unread]) -> Any:
        """One member's value as its column's type; unchanged for a converted column; null if it does not fit."""
        raw = members.get(column.member or "")
        if raw is None:
            if not column.nullable:
                raise RejectedElementError(
                    column, f"the member {column.member!r} is missing{self._similar(column, members)}"
                )
            return None
        if column.name in self._raw:
            return raw
        value: Any = bytes(raw).decode()
        try:
            value = PLAIN_JSON.decode(raw)
            typed = value if is_converted(column) else coerce(column, value)
        except (MisfitError, ValidationError) as error:
            reason = str(error) if isinstance(error, MisfitError) else f"a value beyond all bounds: {error}"
            if self._rejects.is_required(column):
                raise RejectedElementError(column, reason) from None
            unread.append(_Unread(column, reason, value))
            return None
        if typed is None and not column.nullable:
            raise RejectedElementError(column, reason_of_null(column))
        return typed

    def _similar(self, column: Column, members: Mapping[str, Raw]) -> str:
        """The members that no column reads and one of which may be the missing one: a similar one, else a few."""
        unread = [name for name in members if name not in self._members]
        if near := nearest(column.member or "", unread):
            return f"; there is {clip(near, 60)}"
        return f"; there is {clip(', '.join(unread), 60)}" if 0 < len(unread) <= FEW else ""

    # --- all rows at once -------------------------------------------------------------------------------------------

    def _read_outer_members(self, chunk: DecodingChunk) -> None:
        """Fill the columns that are inside of another member; its other members go to ``_extra``."""
        for column in self._outer.columns:
            source, steps = self._outer.path_of(column)
            values = [value_at(value, steps) for value in get_column(chunk.rows, source)]
            set_column_each(chunk.rows, column.name, values)
        for attribute, member in self._outer.attributes.items():
            claims = self._outer.claims[member]
            for row, value in zip(chunk.rows, get_column(chunk.rows, attribute), strict=True):
                if unknown := unknown_in(value, claims):
                    chunk.unknown |= {f"{member}.{name}" for name in unknown}
                    if self._rejects.keeps_unknown:
                        add_extra(row, member, unknown)
            set_column(chunk.rows, attribute, UNSET)

    def _reject_undeclared(self, chunk: DecodingChunk) -> None:
        """Reject the elements without any declared member, such as an error or a summary among the records."""
        undeclared = set()
        for index in self._empty_rows(chunk):
            position = chunk.positions[index]
            names = DICTS.one.decode(chunk.elements.raw()[position]).keys()
            if self._members.isdisjoint(names):
                undeclared.add(index)
                found = f"; it has {clip(', '.join(names), 100)}" if names else ""
                self._rejects.reject_element(chunk, position, None, f"it has none of the declared members{found}")
        if undeclared:
            chunk.drop(undeclared)

    def _empty_rows(self, chunk: DecodingChunk) -> Sequence[int]:
        """The indices of the rows in which every column is null, where a record may lack each of its members."""
        empty: Sequence[int] = range(len(chunk.rows))
        for name in self._may_lack_all:
            values = get_column(chunk.rows, name)
            empty = nulls(values) if len(empty) == len(values) else [index for index in empty if values[index] is None]
            if not empty:
                break
        return empty

    def _convert(self, chunk: DecodingChunk, column: Column, convert: Converter) -> None:
        """Convert a column's values to its type."""
        values = get_column(chunk.rows, column.name)
        typed, misfits = converted(column, values, convert)
        if typed is not values:
            set_column_each(chunk.rows, column.name, typed)
        if misfits:
            self._rejects.handle_misfits(chunk, column, misfits, values)


def _reason_of_no_object(elements: Elements, position: int, element: Raw) -> str:
    """Why an element is no object: of CSV, its row has another number of fields than the header has names."""
    if not elements.texts:
        return "it is no object"
    number = len(RAWS.many.decode(element))
    fields = "field" if number == 1 else "fields"
    advice = ""
    if elements.header_length == 1 < number and position == 0:
        advice = "; where lines stand before the header, name its first columns in ReportFile(header=...)"
    return f"{number} {fields} for {elements.header_length} names{advice}"
