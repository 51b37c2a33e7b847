"""
The slowest way to decode a page: element by element, and member by member where an element does not fit.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from attrs import define, field
from msgspec import UNSET, Raw, ValidationError

from penstock._decode.codecs import DICTS, PLAIN, RAWS
from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.outer_members import OuterMembers
from penstock._decode.page import Elements, RawPage
from penstock._decode.rejects import Rejects
from penstock._decode.structs import Nested, Shape, is_sent
from penstock._decode.values import is_converted, reason_of_null
from penstock.names import nearest
from penstock.records import Column
from penstock.redact import clip
from penstock.sinks import EXTRA

FEW = 3  # unread members that are named where none is similar to the missing one


class UnfitError(Exception):
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


@define(eq=False, repr=False, kw_only=True)
class SingleElements:
    """
    Reads single elements of one stream. ``raw``: the json columns that stay bytes; ``nested``: the same for ``_extra``.
    ``members``: those that columns read.
    """

    columns: Mapping[str, Column]
    raw: Collection[str]
    nested: Nested
    rejects: Rejects
    members: Collection[str]
    outer: OuterMembers
    _sent: tuple[Column, ...] = field(init=False)

    @_sent.default
    def _sent_columns(self) -> tuple[Column, ...]:
        return tuple(filter(is_sent, self.columns.values()))

    def read(self, page: RawPage, position: int, element: Raw, shape: Shape) -> Any:
        """The row of an element. Values that do not fit a nullable column are null. Raises UnfitError."""
        try:
            members = DICTS.one.decode(element)
        except ValidationError:
            raise UnfitError(None, _reason_of_no_object(page.elements, position, element)) from None
        unread: list[_Unread] = []
        try:
            row = shape.loose.one.decode(element)
        except ValidationError:
            row = shape.wire(**self._fitted(members, unread))
        self._keep_unknown(page, row, members)
        for column, reason, value in unread:
            self.rejects.unread(page, position, column, reason, row, value)
        return row

    def _fitted(self, members: Mapping[str, Raw], unread: list[_Unread]) -> dict[str, Any]:
        """The attributes of a row, member by member; what does not fit is added to ``unread``."""
        fitted = {column.name: self._value(column, members, unread) for column in self._sent}
        for attribute, member in self.outer.attributes.items():
            fitted[attribute] = PLAIN.decode(members[member]) if member in members else UNSET
        return fitted

    def _keep_unknown(self, page: RawPage, row: Any, members: Mapping[str, Raw]) -> None:
        unknown = {name: value for name, value in members.items() if name not in self.members}
        page.unknown |= unknown.keys()
        page.members |= members.keys()
        if unknown and self.rejects.keeps_unknown:
            plain = unknown if self.nested == "raw" else {name: PLAIN.decode(raw) for name, raw in unknown.items()}
            setattr(row, EXTRA, plain)

    def _value(self, column: Column, members: Mapping[str, Raw], unread: list[_Unread]) -> Any:
        """One member's value as its column's type; unchanged for a converted column; null if it does not fit."""
        raw = members.get(column.member or "")
        if raw is None:
            if not column.nullable:
                raise UnfitError(column, f"the member {column.member!r} is missing{self._similar(column, members)}")
            return None
        if column.name in self.raw:
            return raw
        value: Any = bytes(raw).decode()
        try:
            value = PLAIN.decode(raw)
            typed = value if is_converted(column) else coerce(column, value)
        except (MisfitError, ValidationError) as error:
            reason = str(error) if isinstance(error, MisfitError) else f"a value beyond all bounds: {error}"
            if self.rejects.is_required(column):
                raise UnfitError(column, reason) from None
            unread.append(_Unread(column, reason, value))
            return None
        if typed is None and not column.nullable:
            raise UnfitError(column, reason_of_null(column))
        return typed

    def _similar(self, column: Column, members: Mapping[str, Raw]) -> str:
        """The members that no column reads and one of which may be the missing one: a similar one, else a few."""
        unread = [name for name in members if name not in self.members]
        if near := nearest(column.member or "", unread):
            return f"; there is {clip(near, 60)}"
        return f"; there is {clip(', '.join(unread), 60)}" if 0 < len(unread) <= FEW else ""


def _reason_of_no_object(elements: Elements, position: int, element: Raw) -> str:
    """Why an element is no object: of CSV, its row has another number of fields than the header has names."""
    if not elements.texts:
        return "it is no object"
    number = len(RAWS.many.decode(element))
    fields = "field" if number == 1 else "fields"
    advice = ""
    if elements.names == 1 < number and position == 0:
        advice = "; where lines stand before the header, name its first columns in ReportFile(header=...)"
    return f"{number} {fields} for {elements.names} names{advice}"
