"""
From a page's bytes to rows, by Structs that know the provider's member names.

Unknown members are learnt and kept in ``_extra``; then numbers are allowed for text and digits for numbers; then
every element is taken by itself, and what still does not fit is rejected.
"""

import re
import secrets
from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from types import NoneType
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from attrs import frozen
from msgspec import UNSET, Meta, Raw, UnsetType, ValidationError

from penstock._decode.coerce import MisfitError, coerce, exact_all
from penstock._decode.page import DICTS, PLAIN, PLAIN_DICTS, Pair, RawPage, fill_each, pair, values_of
from penstock._decode.rejects import Rejects
from penstock.records import Column
from penstock.sinks import EXTRA

LEARNT_MEMBERS = 64
"""So many unknown members get a place of their own; a stream with more is read a little slower."""

LENIENT_COLUMNS = 4
"""In so many columns a page may hold values of another type before its elements are taken one by one."""

SHAPES_KEPT = 64

Nested = Literal["raw", "plain"]


@frozen(kw_only=True)
class Shape:
    """A Struct under the provider's names, its decoders, and the Struct of equal layout under the columns' names."""

    wire: type
    many: "msgspec.json.Decoder[Any]"
    one: "msgspec.json.Decoder[Any]"
    out: type
    learnt: tuple[tuple[str, str], ...]  # (attribute, member)


class RecordDecoder:
    """
    Reads the pages of one stream. ``raw`` are the json columns that stay bytes; ``nested`` says the same of
    ``_extra``. It learns as it goes, so one thread uses it at a time.
    """

    def __init__(
        self, columns: Mapping[str, Column], *, raw: Collection[str], nested: Nested, rejects: Rejects
    ) -> None:
        self._columns = columns
        self._raw = raw
        self._nested = nested
        self._rejects = rejects
        self._sent = tuple(column for column in columns.values() if not column.added)
        self._by_member = {column.member: column for column in self._sent}
        self._decimals = tuple(column for column in self._sent if column.type == "decimal")
        self._spelled = frozenset(column.name for column in self._sent if column.format)
        self._datetimes = tuple(column for column in self._sent if column.type == "datetime")
        self._token = secrets.token_hex(8)
        self._learnt: tuple[str, ...] = ()
        self._loose = False  # too many unknown members to learn, or ones whose names a Struct cannot have
        self._shapes: dict[tuple[frozenset[str], bool, tuple[str, ...], bool], Shape] = {}
        self._probe: Pair | None = None
        self._extras: dict[tuple[str, ...], tuple[Any, Any]] = {}

    def read(self, page: RawPage) -> Shape:
        """Fill ``page.rows``, ``positions`` and ``unknown``; what fits on no road goes to ``rejected``."""
        if self._raw:
            page.compact()
        looked_at = self._spelled
        if self._decimals and not page.texts and _may_mislead(page.data):
            looked_at |= {column.name for column in self._decimals}
        lenient = looked_at
        while True:
            shape = self._shape(lenient, page.texts)
            try:
                page.rows = page.read((shape.many, shape.one))
                break
            except ValidationError as error:
                if "unknown field" in str(error) and self._learn(page):
                    continue
                name = self._misfit(str(error))
                if name is None or name in lenient or len(lenient - looked_at) >= LENIENT_COLUMNS:
                    return self._one_by_one(page)
                lenient |= {name}
        page.positions = range(len(page.rows))
        if page.lines and self._lines_inside(page):
            page.to_array()
            return self.read(page)
        self._keep_extras(page, shape)
        self._fit(page, lenient)
        return shape

    def _lines_inside(self, page: RawPage) -> bool:
        return any(
            b"\n" in (joined := b"".join(filter(None, values_of(page.rows, name)))) or b"\r" in joined
            for name in self._raw
        )

    # --- Structs ----------------------------------------------------------------------------------------------------

    def _shape(self, lenient: frozenset[str], texts: bool) -> Shape:
        known = (lenient, texts, self._learnt, self._loose)
        if known not in self._shapes:
            if len(self._shapes) >= SHAPES_KEPT:
                self._shapes.clear()
            self._shapes[known] = self._make_shape(lenient, texts)
        return self._shapes[known]

    def _make_shape(self, lenient: frozenset[str], texts: bool) -> Shape:
        fields: list[Any] = []
        rename = {}
        for number, column in enumerate(self._columns.values()):
            if column.added:
                fields.append((column.name, Any, None))
                # No provider can guess this name, and so not set a column that is stamped.
                rename[column.name] = f"\ue000{self._token}{number}"
                continue
            fields.append((column.name, self._annotation(column, lenient, texts), *([None] * column.nullable)))
            rename[column.name] = column.member or ""
        fields.append((EXTRA, Any, UNSET))
        rename[EXTRA] = f"\ue000{self._token}"
        learnt = tuple((f"_learnt{number}", member) for number, member in enumerate(self._learnt))
        fields += [(name, Raw | UnsetType, UNSET) for name, _ in learnt]
        rename.update(learnt)
        wire = msgspec.defstruct(
            "RecordDecoder", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=not self._loose
        )
        out = msgspec.defstruct(
            "Row", [(name, Any, UNSET) for name, *_ in fields], kw_only=True, gc=False, module=__name__
        )
        return Shape(
            wire=wire,
            many=msgspec.json.Decoder(list[wire], strict=not texts, float_hook=Decimal),  # type: ignore[valid-type]
            one=msgspec.json.Decoder(wire, strict=not texts, float_hook=Decimal),
            out=out,
            learnt=learnt,
        )

    def _annotation(self, column: Column, lenient: Collection[str], texts: bool) -> Any:
        if column.type == "json":
            return Raw if column.name in self._raw else Any
        if column.name in lenient:
            return Any
        wanted: Any
        if column.type == "decimal" and texts:
            wanted = str
        elif column.type != "datetime":
            wanted = _TYPES[column.type]
        elif texts:
            wanted = Annotated[str, Meta(pattern=r"^\d{4}-\d\d")]  # digits alone would be taken for a Unix time
        else:
            wanted = _moment(column)
        return wanted | None if column.nullable else wanted

    # --- values of another type -------------------------------------------------------------------------------------

    def _misfit(self, message: str) -> str | None:
        """The column that a ValidationError is about, if it names one."""
        member = re.search(r" - at `\$\[\d+\]\.(.*)`$", message, re.DOTALL)
        column = self._by_member.get(member[1]) if member else None
        return column.name if column is not None else None

    def _fit(self, page: RawPage, lenient: Collection[str]) -> None:
        """Take the values of lenient columns, and the moments of CSV, to their types."""
        for name in lenient:
            column = self._columns[name]
            values = values_of(page.rows, name)
            types = set(map(type, values))
            if column.type == "text" and types <= {str, int, Decimal}:
                fill_each(page.rows, name, map(str, values))
            elif column.type == "decimal" and str in types:
                self._numbers(page, column, values)
            elif column.type == "decimal" and types <= {int, Decimal, *([NoneType] if column.nullable else [])}:
                if int in types:
                    fill_each(page.rows, name, [None if value is None else Decimal(value) for value in values])
            elif column.format and types <= {str, NoneType}:
                self._days(page, column, values)
            else:
                self._coerce_each(page, column, values)
        for column in self._decimals if page.texts else ():
            if column.name not in lenient:
                self._numbers(page, column, values_of(page.rows, column.name))
        for column in self._datetimes if page.texts else ():
            values = values_of(page.rows, column.name)
            try:
                made = msgspec.convert(values, _moments(column))
            except ValidationError:
                self._coerce_each(page, column, values)
            else:
                fill_each(page.rows, column.name, made)

    def _numbers(self, page: RawPage, column: Column, values: list[Any]) -> None:
        """The numbers in texts, among them perhaps some that came as numbers, and nulls."""
        present = [value for value in values if value is not None]
        try:
            if len(present) < len(values) and not column.nullable:
                raise TypeError("a null")
            numbers = iter(exact_all(present))
        except (TypeError, ValueError, InvalidOperation):
            self._coerce_each(page, column, values)
        else:
            fill_each(page.rows, column.name, [None if value is None else next(numbers) for value in values])

    def _days(self, page: RawPage, column: Column, values: list[Any]) -> None:
        """The days in texts of the column's form: few in many rows, so each is looked at once."""
        try:
            made = {value: coerce(column, value) for value in set(values)}
            if not column.nullable and None in made.values():
                raise MisfitError("a null")
        except MisfitError:
            self._coerce_each(page, column, values)
        else:
            fill_each(page.rows, column.name, map(made.__getitem__, values))

    def _coerce_each(self, page: RawPage, column: Column, values: list[Any]) -> None:
        bad: dict[int, tuple[str | None, str]] = {}
        fitting = []
        wanted = self._annotation(column, (), texts=False)
        for index, value in enumerate(values):
            try:
                if column.type == "decimal" or column.format:
                    raise ValidationError("a number in a text, or a day in a form of its own, is looked at")
                fitted = msgspec.convert(value, wanted)
            except ValidationError:
                try:
                    fitted = coerce(column, value)
                except MisfitError as misfit:
                    bad[index] = (column.name, str(misfit))
                    continue
            if fitted is None and not column.nullable:
                bad[index] = (column.name, "it is null")
                continue
            fitting.append(fitted)
        self._rejects.reject(page, bad)
        fill_each(page.rows, column.name, fitting)

    # --- unknown members --------------------------------------------------------------------------------------------

    def _learn(self, page: RawPage) -> bool:
        """Whether the page has members that were unknown so far, and now are known as such."""
        if self._loose:
            return False
        try:
            names = page.read(DICTS)
        except ValidationError:
            return False  # something that is no object: element by element
        new = sorted(set().union(*names) - self._by_member.keys() - set(self._learnt))
        if not new:
            return False
        if len(self._learnt) + len(new) > LEARNT_MEMBERS or not all(map(_can_be_learnt, new)):
            self._loose = True
        else:
            self._learnt = (*self._learnt, *new)
        return True

    def _keep_extras(self, page: RawPage, shape: Shape) -> None:
        """Set ``_extra`` of the rows, which are all the elements of the page."""
        if not self._loose and not shape.learnt:
            return
        page.compact()
        if self._loose:
            dicts = page.read(DICTS if self._nested == "raw" else PLAIN_DICTS)
            known = self._by_member
            extras = [{name: value for name, value in one.items() if name not in known} for one in dicts]
        else:
            rows = page.rows
            present = tuple(member for name, member in shape.learnt if values_of(rows, name).count(UNSET) != len(rows))
            if not present:
                return
            if present not in self._extras:
                self._extras[present] = pair(
                    TypedDict(  # type: ignore[operator]
                        "Extra", dict.fromkeys(present, Raw if self._nested == "raw" else Any), total=False
                    )
                )
            extras = page.read(self._extras[present])
        page.unknown |= set().union(*extras)
        fill_each(page.rows, EXTRA, [extra or UNSET for extra in extras])

    # --- the slow road ----------------------------------------------------------------------------------------------

    def _one_by_one(self, page: RawPage) -> Shape:
        shape = self._shape(frozenset(), page.texts)
        page.compact()
        rows: list[Any] = []
        positions: list[int] = []
        for position, element in enumerate(page.elements()):
            try:
                rows.append(self._typed(element, shape, page))
                positions.append(position)
            except _UnfitError as unfit:
                page.rejected.append(self._rejects.rejected(page, position, unfit.member, unfit.reason))
        page.rows, page.positions = rows, positions
        return shape

    def _typed(self, element: Raw, shape: Shape, page: RawPage) -> Any:
        if not (self._loose or page.texts or self._spelled):
            try:
                row = shape.one.decode(element)
                if self._decimals and _may_mislead(bytes(element)):
                    self._numbers_only().decode(element)
            except ValidationError:
                pass
            else:
                extra = {member: value for name, member in shape.learnt if (value := getattr(row, name)) is not UNSET}
                self._set_extra(row, extra, page)
                return row
        try:
            members = DICTS[1].decode(element)
        except ValidationError:
            raise _UnfitError(None, "it is no object") from None
        values = {column.name: self._fitted(column, members.pop(column.member or "", None)) for column in self._sent}
        row = shape.wire(**values)
        self._set_extra(row, members, page)
        return row

    def _numbers_only(self) -> "msgspec.json.Decoder[Any]":
        """Reads the decimals of an element, and takes no text for one."""
        if self._probe is None:
            fields: list[Any] = [(column.name, int | float | None, None) for column in self._decimals]
            rename = {column.name: column.member or "" for column in self._decimals}
            self._probe = pair(msgspec.defstruct("Probe", fields, rename=rename, gc=False))
        return self._probe[1]

    def _fitted(self, column: Column, raw: Raw | None) -> Any:
        """One member's value as its column's type."""
        if raw is None:
            if not column.nullable:
                raise _UnfitError(column.member, f"the member {column.member!r} is missing")
            return None
        if column.name in self._raw:
            return raw
        try:
            value = coerce(column, PLAIN.decode(raw))
        except MisfitError as misfit:
            raise _UnfitError(column.member, str(misfit)) from None
        except ValidationError as error:
            raise _UnfitError(column.member, f"a value beyond all bounds: {error}") from None
        if value is None and not column.nullable:
            raise _UnfitError(column.member, "it is null")
        return value

    def _set_extra(self, row: Any, extra: Mapping[str, Raw], page: RawPage) -> None:
        if not extra:
            return
        page.unknown |= extra.keys()
        kept = extra if self._nested == "raw" else {name: PLAIN.decode(value) for name, value in extra.items()}
        setattr(row, EXTRA, kept)


def _may_mislead(data: bytes) -> bool:
    """
    Whether a text may be in it that Python takes for a number and JSON would not: Python knows ``1_000`` and the digits
    of every script. Then decimals are read as whatever they are, and texts among them are looked at.
    """
    return not data.isascii() or b"_" in data or b"\\u" in data


class _UnfitError(Exception):
    """An element that cannot become a row; ``member`` None: the whole of it."""

    def __init__(self, member: str | None, reason: str) -> None:
        self.member = member
        self.reason = reason
        super().__init__(reason)


_TYPES: dict[str, Any] = {"text": str, "integer": int, "decimal": Decimal, "boolean": bool, "date": date}


def _moment(column: Column) -> Any:
    return Annotated[datetime, Meta(tz=column.zone == "aware")]


def _moments(column: Column) -> Any:
    return list[_moment(column) | None] if column.nullable else list[_moment(column)]  # type: ignore[misc]


def _can_be_learnt(member: str) -> bool:
    """Whether a Struct can have a field of this name on the wire."""
    return re.fullmatch(r'[^"\\\x00-\x1f]+', member) is not None
