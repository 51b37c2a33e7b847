"""
From the bytes of a page to rows, by Structs with the provider's member names.

A page is decoded at once by a Struct that refuses unknown members. If that fails, it is decoded by one that ignores
them, and the unknown members are decoded separately. If that fails, it is decoded element by element, and elements that
do not fit are rejected. Values whose JSON type is not that of their column (money, times, days in another format) are
decoded as they are, and then converted column by column (:mod:`penstock._decode.values`).
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import UNSET, Raw, ValidationError

from penstock._decode.coerce import MisfitError, coerce
from penstock._decode.nested import Outer, found, left_over
from penstock._decode.page import DICTS, PLAIN, RAWS, Decoders, RawPage, decoders, fill, fill_each, nulls, values_of
from penstock._decode.rejects import Rejects, add_extra
from penstock._decode.values import converted, is_converted, reason_of_null
from penstock.errors import BrokenBodyError
from penstock.names import nearest
from penstock.records import Column
from penstock.redact import clip
from penstock.sinks import EXTRA

FEW = 3  # unread members that are named where none is similar to the missing one

Nested = Literal["raw", "plain"]


class Shape(NamedTuple):
    """
    Structs of one memory layout, so that assigning ``__class__`` turns rows of one into rows of another. ``out`` has
    the names of the columns, the others have the provider's. The decoders ``strict`` refuse unknown members.
    """

    strict: Decoders
    loose: Decoders
    wire: type
    out: type


class RecordDecoder:
    """
    Reads the pages of one stream. ``raw`` are the json columns that stay bytes; ``nested`` is the same for ``_extra``.
    """

    def __init__(
        self, columns: Mapping[str, Column], *, raw: Collection[str], nested: Nested, rejects: Rejects
    ) -> None:
        self._columns = columns
        self._raw = raw
        self._nested = nested
        self._rejects = rejects
        self._sent = tuple(column for column in columns.values() if not column.added and not column.path)
        self._members = frozenset(column.top_member for column in columns.values() if column.top_member is not None)
        self._outer = Outer.of(columns.values())
        read = [column for column in columns.values() if column.top_member is not None]
        # Where a record must have a member, one without any is rejected for that. A stamp may fill all others.
        self._may_lack_all = tuple(column.name for column in read) if all(column.nullable for column in read) else ()
        self._converted = tuple(column for column in columns.values() if not column.added and is_converted(column))
        self._shapes = {texts: self._shape(texts=texts) for texts in (False, True)}

    def read(self, page: RawPage) -> type:
        """
        Fill ``page.rows``, ``positions`` and ``unknown``; elements that do not fit are added to ``rejected``.

        Returns the Struct with the names of the columns.
        """
        if self._raw:
            page.compact()
        shape = self._shapes[page.texts]
        try:
            page.rows = page.read(shape.strict)
            page.positions = range(len(page.rows))
        except ValidationError:
            self._read_with_unknown(page, shape)
        self._read_nested(page)
        self._reject_strangers(page)
        for column in self._converted:
            self._convert(page, column)
        if page.unknown and self._rejects.keeps_unknown:
            self._rejects.mask_extras(page)
        return shape.out

    # --- Structs ----------------------------------------------------------------------------------------------------

    def _shape(self, *, texts: bool) -> Shape:
        # A column that penstock adds, or that is read from inside another member, has a place in the Struct. Its name
        # there is random, so that no member sets it.
        token = secrets.token_hex(16)
        fields: list[Any] = []
        rename = {}
        sent = {column.name for column in self._sent}
        for column in self._columns.values():
            required = column.name in sent and not column.nullable
            fields.append((column.name, self._annotation(column), *([] if required else [None])))
            rename[column.name] = str(column.member) if column.name in sent else f"{token} {column.name}"
        for attribute, member in self._outer.attributes.items():
            fields.append((attribute, Any, UNSET))
            rename[attribute] = member
        fields.append((EXTRA, Any, UNSET))
        rename[EXTRA] = f"{token} {EXTRA}"
        strict, loose = (
            msgspec.defstruct("Record", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=forbid)
            for forbid in (True, False)
        )
        out = msgspec.defstruct("Row", [(name, Any, UNSET) for name in rename], kw_only=True, gc=False, module=__name__)
        return Shape(strict=decoders(strict, texts=texts), loose=decoders(loose, texts=texts), wire=loose, out=out)

    def _annotation(self, column: Column) -> Any:
        if column.added or column in self._converted:
            return Any
        if column.type == "json":
            return Raw if column.name in self._raw else Any
        return _TYPES[column.type] | None if column.nullable else _TYPES[column.type]

    # --- nested members ---------------------------------------------------------------------------------------------

    def _read_nested(self, page: RawPage) -> None:
        """Fill the columns that are inside of another member; its other members go to ``_extra``."""
        for column in self._outer.columns:
            source, steps = self._outer.place(column)
            values = [found(value, steps) for value in values_of(page.rows, source)]
            fill_each(page.rows, column.name, values)
        for attribute, member in self._outer.attributes.items():
            lefts = [left_over(value, self._outer.claims[member]) for value in values_of(page.rows, attribute)]
            for row, left in zip(page.rows, lefts, strict=True):
                if left:
                    page.unknown |= {f"{member}.{name}" for name in left}
                    if self._rejects.keeps_unknown:
                        add_extra(row, member, left)
            fill(page.rows, attribute, UNSET)

    # --- unknown members --------------------------------------------------------------------------------------------

    def _read_with_unknown(self, page: RawPage, shape: Shape) -> None:
        page.compact()
        try:
            page.rows = page.read(shape.loose)
            page.members = set().union(*page.read(DICTS))
        except ValidationError:
            self._one_by_one(page, shape)
            return
        unknown = page.members - self._members
        page.positions = range(len(page.rows))
        page.unknown |= unknown
        if not self._rejects.keeps_unknown:
            return
        extras = page.read(_only(tuple(sorted(unknown)), self._nested))
        fill_each(page.rows, EXTRA, [extra or UNSET for extra in extras])

    def check_header(self, header: Sequence[str]) -> None:
        """Raises BrokenBodyError for the header row of CSV without any declared member: it is a text, or no header."""
        if self._members and self._members.isdisjoint(header):
            raise BrokenBodyError(
                f"none of the columns of the report is declared; its first line is {clip(', '.join(header), 200)!r}. "
                "If that is a message or a row, the provider failed; if its columns have other names, declare these."
            )

    def _reject_strangers(self, page: RawPage) -> None:
        """Reject the elements without any declared member, such as an error or a summary among the records."""
        if not self._may_lack_all:
            return
        left: Sequence[int] = range(len(page.rows))
        for name in self._may_lack_all:
            values = values_of(page.rows, name)
            left = nulls(values) if len(left) == len(values) else [index for index in left if values[index] is None]
            if not left:
                return
        strangers = set()
        for index in left:
            position = page.positions[index]
            names = DICTS.one.decode(page.elements()[position]).keys()
            if self._members.isdisjoint(names):
                strangers.add(index)
                there = f"; it has {clip(', '.join(names), 100)}" if names else ""
                self._rejects.reject_element(page, position, None, f"it has none of the declared members{there}")
        if strangers:
            page.drop(strangers)

    # --- one by one -------------------------------------------------------------------------------------------------

    def _one_by_one(self, page: RawPage, shape: Shape) -> None:
        rows: list[Any] = []
        positions: list[int] = []
        for position, element in enumerate(page.elements()):
            try:
                rows.append(self._typed(page, position, element, shape))
                positions.append(position)
            except _UnfitError as unfit:
                self._rejects.reject_element(page, position, unfit.column, unfit.reason)
        page.rows, page.positions = rows, positions

    def _typed(self, page: RawPage, position: int, element: Raw, shape: Shape) -> Any:
        try:
            members = DICTS.one.decode(element)
        except ValidationError:
            if page.texts:
                number = len(RAWS.many.decode(element))
                fields = "field" if number == 1 else "fields"
                advice = ""
                if page.names == 1 < number and position == 0:
                    advice = "; where lines stand before the header, name its first columns in ReportFile(header=...)"
                raise _UnfitError(None, f"{number} {fields} for {page.names} names{advice}") from None
            raise _UnfitError(None, "it is no object") from None
        unread: list[tuple[Column, str, Any]] = []
        try:
            row = shape.loose.one.decode(element)
        except ValidationError:
            fitted = {column.name: self._member_value(column, members, unread) for column in self._sent}
            for attribute, member in self._outer.attributes.items():
                fitted[attribute] = PLAIN.decode(members[member]) if member in members else UNSET
            row = shape.wire(**fitted)
        extra = {name: value for name, value in members.items() if name not in self._members}
        page.unknown |= extra.keys()
        page.members |= members.keys()
        if extra and self._rejects.keeps_unknown:
            plain = extra if self._nested == "raw" else {name: PLAIN.decode(value) for name, value in extra.items()}
            setattr(row, EXTRA, plain)
        for column, reason, value in unread:
            self._rejects.unread(page, position, column, reason, row, value)
        return row

    def _possible_renames(self, column: Column, members: Mapping[str, Raw]) -> str:
        """The members that no column reads and one of which may be the missing one: a similar one, else a few."""
        others = [name for name in members if name not in self._members]
        if near := nearest(column.member or "", others):
            return f"; there is {clip(near, 60)}"
        return f"; there is {clip(', '.join(others), 60)}" if 0 < len(others) <= FEW else ""

    def _member_value(self, column: Column, members: Mapping[str, Raw], unread: list[tuple[Column, str, Any]]) -> Any:
        """One member's value as its column's type; unchanged for a converted column; null if it does not fit."""
        raw = members.get(column.member or "")
        if raw is None:
            if not column.nullable:
                raise _UnfitError(
                    column, f"the member {column.member!r} is missing{self._possible_renames(column, members)}"
                )
            return None
        if column.name in self._raw:
            return raw
        value: Any = bytes(raw).decode()
        try:
            value = PLAIN.decode(raw)
            made = value if column in self._converted else coerce(column, value)
        except (MisfitError, ValidationError) as error:
            reason = str(error) if isinstance(error, MisfitError) else f"a value beyond all bounds: {error}"
            if self._rejects.is_required(column):
                raise _UnfitError(column, reason) from None
            unread.append((column, reason, value))
            return None
        if made is None and not column.nullable:
            raise _UnfitError(column, reason_of_null(column))
        return made

    # --- whole columns ----------------------------------------------------------------------------------------------

    def _convert(self, page: RawPage, column: Column) -> None:
        """Take a column's values to its type."""
        values = values_of(page.rows, column.name)
        made, misfits = converted(column, values)
        if made is not values:
            fill_each(page.rows, column.name, made)
        if misfits:
            self._rejects.unfit(page, column, misfits, values)


class _UnfitError(Exception):
    """An element cannot become a row, because of the value of ``column``; None: because of the whole element."""

    def __init__(self, column: Column | None, reason: str) -> None:
        self.column = column
        self.reason = reason
        super().__init__(reason)


_TYPES: dict[str, Any] = {"text": str, "integer": int, "boolean": bool, "date": date}


@lru_cache(maxsize=64)
def _only(members: tuple[str, ...], nested: Nested) -> Decoders:
    """Decoders of dictionaries that contain, of these members, those that are present."""
    kept = dict.fromkeys(members, Raw if nested == "raw" else Any)
    return decoders(TypedDict("Extra", kept, total=False))  # type: ignore[operator]
