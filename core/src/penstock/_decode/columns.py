"""
The columns of a chunk's rows after reading: nested values, stamps, days, and amounts by ``amounts``, column by column.
"""

from collections.abc import Callable, Collection, Mapping, Set
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import compress
from types import MappingProxyType
from typing import Any, NamedTuple

from attrs import define, evolve, field
from msgspec import Raw

from penstock._decode.amounts import Amounts
from penstock._decode.chunk import DecodingChunk, get_column, nulls, set_column, set_column_each
from penstock._decode.conversion import (
    MisfitError,
    coerce,
    days_of,
)
from penstock._decode.elements import NULL
from penstock._decode.masks import Masks
from penstock._decode.rejects import Rejects
from penstock.errors import PluginError
from penstock.model import EXACT_JSON, PLAIN_JSON, Batch
from penstock.records import Column


class Requested(NamedTuple):
    """
    What a request states of the rows of its response.

    ``stamps`` (``Request.columns`` and the values of the partition): written to every row. ``days``: the requested
    days; rows of other days are rejected. ``span`` (start included, end not): rows outside of it (``Stream.day_of``)
    are dropped as repeated, since another slice returns them too.
    """

    stamps: Mapping[str, Any] = MappingProxyType({})
    days: Collection[date] | None = None
    span: tuple[datetime, datetime] | None = None


NOTHING_REQUESTED = Requested()


@define(eq=False, repr=False, kw_only=True)
class ColumnRules:
    """
    The rules for the columns of one stream.

    ``raw``: json columns that stay bytes; ``cleaners`` remove the hidden members of nested values, by column; ``masks``
    apply to all of ``nested``, the json columns that are delivered. The day of a row is in the column ``day``, or is
    computed in ``zone`` from the column ``day_of`` if there is one.
    """

    columns: Mapping[str, Column]
    raw: Collection[str]
    nested: Collection[str]
    cleaners: Mapping[str, Callable[[Any], Any]]
    masks: Masks
    day: str | None
    day_of: str | None
    zone: tzinfo
    rejects: Rejects
    _cleans_nested: bool = field(init=False)
    _added: frozenset[str] = field(init=False)
    _amounts: Amounts = field(init=False)
    _stamped_not_null: tuple[str, ...] = field(init=False)
    _day_is_received: bool = field(init=False)  # stamped or a member, and not computed from another column

    def __attrs_post_init__(self) -> None:
        columns = self.columns.values()
        self._cleans_nested = bool(self.raw or self.cleaners or (self.nested and self.masks))
        self._added = frozenset(column.name for column in columns if column.added)
        self._day_is_received = self.day_of is None or self.day_of == self.day
        self._amounts = Amounts(self.columns, self.rejects)
        self._stamped_not_null = tuple(
            column.name for column in columns if column.added and not column.nullable and not column.hash_of
        )

    def apply(self, chunk: DecodingChunk, requested: Requested) -> None:
        """Fill and check all columns but row keys."""
        if self._cleans_nested:
            self._clean_nested(chunk)
        self._stamp(chunk, requested.stamps)
        self._amounts.compute(chunk)
        if requested.span is not None:
            self._drop_beyond(chunk, requested.span, requested.days)
        if self.day is not None:
            if not self._day_is_received:
                self._fill_day(chunk, self.day)
            if requested.days is not None:
                self._check_days(chunk, self.day, requested.days)
        self._check_added(chunk, requested.stamps)

    def _check_added(self, chunk: DecodingChunk, stamps: Mapping[str, Any]) -> None:
        """Reject the rows without a value in an added column that needs one; raises PluginError if nothing fills it."""
        for name in self._stamped_not_null:
            if chunk.uniform.get(name) is not None:
                continue
            empty = nulls(get_column(chunk.rows, name))
            if empty and len(empty) == len(chunk.rows) and not self._has_source(chunk, name, stamps):
                raise PluginError(
                    f"the column {name} is declared as added, and nothing fills it: name it in the "
                    f"stream's account or day, or stamp it on the request, Request(..., columns={{{name!r}: ...}})."
                )
            self.rejects.reject(chunk, dict.fromkeys(empty, (name, f"{name} has no value")))

    def _clean_nested(self, chunk: DecodingChunk) -> None:
        """Make JSON's null a null, and remove or mask hidden members of nested values."""
        for name in self.raw:
            values = get_column(chunk.rows, name)
            if NULL in values:
                set_column_each(chunk.rows, name, [None if value == NULL else value for value in values])
        for name, clean in self.cleaners.items():
            set_column_each(chunk.rows, name, map(clean, get_column(chunk.rows, name)))
        for name in self.nested if self.masks else ():
            self._mask(chunk, name)

    def _mask(self, chunk: DecodingChunk, name: str) -> None:
        """Mask secret members inside of a json column, whatever its shape is."""
        values = get_column(chunk.rows, name)
        if not any(values):
            return
        if self.masks.may_be_in(b"".join(filter(None, values)) if name in self.raw else EXACT_JSON.encode(values)):
            set_column_each(chunk.rows, name, map(self._masked, values))

    def _masked(self, value: Any) -> Any:
        if not value or (isinstance(value, Raw) and not self.masks.may_be_in(bytes(value))):
            return value
        plain = PLAIN_JSON.decode(value) if isinstance(value, Raw) else value
        masked = self.masks.apply(plain)
        if masked == plain:
            return value
        return Raw(EXACT_JSON.encode(masked)) if isinstance(value, Raw) else masked

    def _has_source(self, chunk: DecodingChunk, name: str, stamps: Mapping[str, Any]) -> bool:
        """Whether a column that penstock adds has a source, even if that gives nulls only."""
        elements = chunk.elements
        stamped = name in stamps or name in elements.common_stamps or name in elements.stamps
        return stamped or (name == self.day and bool(self.day_of))

    # --- stamps -----------------------------------------------------------------------------------------------------

    def _stamp(self, chunk: DecodingChunk, stamps: Mapping[str, Any]) -> None:
        for name, stamp in stamps.items():
            try:
                if isinstance(stamp, Set):
                    self._check_values(chunk, name, stamp)
                else:
                    self._stamp_all(chunk, name, stamp)
            except MisfitError as misfit:
                raise PluginError(f"the request stamps {name} with {stamp!r}: {misfit}") from None
        for name, stamp in chunk.elements.common_stamps.items():
            try:
                self._stamp_all(chunk, name, stamp)
            except MisfitError as misfit:
                self.rejects.reject(chunk, dict.fromkeys(range(len(chunk.rows)), (name, str(misfit))))
                return
        for name, value in chunk.uniform.items():
            set_column(chunk.rows, name, value)
        for name, each in chunk.elements.stamps.items():
            self._stamp_each(chunk, name, each)

    def _stamp_all(self, chunk: DecodingChunk, name: str, stamp: Any) -> None:
        """Stamp one value on all rows. If the provider sends the column too, compare the two."""
        value = coerce(self.columns.get(name) or self._stamped(name), stamp)
        if name in self._added:
            chunk.uniform[name] = value
        else:
            self._compare_stamp(chunk, name, [value] * len(chunk.rows))

    def _stamp_each(self, chunk: DecodingChunk, name: str, stamps: list[Any]) -> None:
        """Stamp a value of its own on each element."""
        column = self._stamped(name)
        values = chunk.at_rows(stamps)
        if column.type != "json":
            typed = {stamp: _as_column_type(column, stamp) for stamp in stamps if not isinstance(stamp, (list, dict))}
            values = [
                _as_column_type(column, value) if isinstance(value, (list, dict)) else typed[value] for value in values
            ]
            reasons = {i: (name, str(value)) for i, value in enumerate(values) if isinstance(value, MisfitError)}
            values = [value for value in values if not isinstance(value, MisfitError)]
            self.rejects.reject(chunk, reasons)
        if column.added:
            chunk.uniform.pop(name, None)
            set_column_each(chunk.rows, name, values)
        else:
            self._compare_stamp(chunk, name, values)

    def _stamped(self, name: str) -> Column:
        if name not in self.columns:
            raise PluginError(f"a response is stamped with {name}, which the record class does not declare.")
        return self.columns[name]

    def _compare_stamp(self, chunk: DecodingChunk, name: str, stamps: list[Any]) -> None:
        """Compare a stamp with the column that the provider sends: fill its nulls, reject rows with another value."""
        values = get_column(chunk.rows, name)
        if values == stamps:
            return
        pairs = list(zip(values, stamps, strict=True))
        set_column_each(chunk.rows, name, [stamp if value is None else value for value, stamp in pairs])
        self.rejects.reject(
            chunk,
            {
                i: (name, f"{name} is {value}, and {stamp} was requested")
                for i, (value, stamp) in enumerate(pairs)
                if value is not None and stamp is not None and value != stamp
            },
        )

    def _check_values(self, chunk: DecodingChunk, name: str, requested: Set[Any]) -> None:
        """Reject rows with a value that was not requested: they are other objects."""
        column = self._stamped(name)
        allowed = {coerce(column, value) for value in requested}
        self.rejects.reject(
            chunk,
            {
                i: (name, f"{name} is {value}, which was not requested")
                for i, value in enumerate(get_column(chunk.rows, name))
                if value is not None and value not in allowed
            },
        )

    # --- days -------------------------------------------------------------------------------------------------------

    def _drop_beyond(
        self, chunk: DecodingChunk, span: tuple[datetime, datetime], days: Collection[date] | None
    ) -> None:
        """
        Drop the rows that another slice returns too: those of a requested day, and those of the day after, as of a
        provider that returns whole days. Rows even earlier or later stay, to be rejected.
        """
        if self.day_of is None:
            return
        moments = get_column(chunk.rows, self.day_of)
        since, before = span
        present = [moment for moment in moments if moment is not None]
        if not present or (since <= min(present) and max(present) < before):
            return
        end_of_day_after, requested_days = before + timedelta(days=1), days or ()
        beyond = {
            index
            for index, (moment, day) in enumerate(zip(moments, days_of(moments, self.zone), strict=True))
            if moment is not None
            and not since <= moment < before
            and (day in requested_days or before <= moment < end_of_day_after)
        }
        end_included = before + timedelta(seconds=1)  # where the end belongs to the requested period
        chunk.repeated += len(beyond)
        chunk.out_of_bounds = sum(1 for index in beyond if not before <= moments[index] < end_included)
        chunk.drop(beyond)

    def _fill_day(self, chunk: DecodingChunk, day_column: str) -> None:
        """Compute the day of each row, where the response has none."""
        assert self.day_of is not None
        days: list[Any] = list(days_of(get_column(chunk.rows, self.day_of), self.zone))
        if self.columns[day_column].type == "text":
            days = [None if day is None else day.isoformat() for day in days]
        filled = get_column(chunk.rows, day_column)
        if filled.count(None) == len(filled):
            set_column_each(chunk.rows, day_column, days)

    def _check_days(self, chunk: DecodingChunk, day_column: str, requested: Collection[date]) -> None:
        """Reject the rows of days that were not requested."""
        stamped = chunk.uniform.get(day_column) if self._day_is_received else None
        if stamped in requested or (stamped is not None and days_of([stamped], self.zone)[0] in requested):
            return
        days = days_of(get_column(chunk.rows, day_column), self.zone)
        if not set(days) <= set(requested):
            self.rejects.reject(
                chunk,
                {
                    i: (self.day_of or day_column, f"its day is {day}, which was not requested")
                    for i, day in enumerate(days)
                    if day not in requested
                },
            )


def _as_column_type(column: Column, value: Any) -> Any:
    """The value as the column's type, or a MisfitError (returned, not raised)."""
    try:
        return coerce(column, value)
    except MisfitError as misfit:
        return misfit


def split_by_day(batch: Batch, column: str, zone: tzinfo = UTC) -> dict[date, Batch]:
    """
    The batch by the day of ``column`` (a date or a time; an aware time is converted to ``zone``), days ascending.

    Rows without a day, ``rejected`` and ``unknown`` are in none of the results: read the latter two from ``batch``.
    """
    days = days_of(get_column(batch.rows, column), zone)
    distinct = sorted(set(days) - {None})  # type: ignore[type-var]
    if len(distinct) == 1 and None not in days:
        return {distinct[0]: evolve(batch, rejected=(), unknown=())}  # type: ignore[dict-item]
    return {
        day: evolve(batch, rows=list(compress(batch.rows, map(day.__eq__, days))), rejected=(), unknown=())
        for day in distinct
        if day is not None
    }
