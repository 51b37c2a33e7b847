"""
Items to typed records, a page at a time, without a Python statement per record.

:func:`compile_stream` makes of a stream's record class a :class:`Compiled`: a msgspec Struct that knows the provider's
member names, and one of equal layout that knows the columns' names. A page is decoded into the first and its rows
are moved to the second by swapping their class; stamps, exact money and hidden columns are set column by column.

Only a page that does not fit is looked at more closely: unknown members are learnt and kept in ``_extra``; then
numbers are allowed for text and digits for numbers; then every element is taken by itself, and what still does not
fit is set aside with its path and reason. See ``docs/decisions/0003-records-at-c-speed.md`` for the measurements.
"""

import re
import secrets
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, localcontext
from hashlib import blake2b
from itertools import accumulate, chain, compress, repeat
from operator import attrgetter, mul
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import msgspec
from attrs import evolve, field, frozen
from msgspec import UNSET, Meta, Raw, UnsetType, ValidationError

from penstock.coerce import (
    LARGEST_EXPONENT,
    MisfitError,
    bounded,
    cleaner,
    coerce,
    exact,
    masked_members,
)
from penstock.declare import Stream
from penstock.errors import BoundExceededError, BrokenBodyError, ConfigError, PluginError
from penstock.model import Batch, Items, Rejected
from penstock.rawpage import (
    DICTS,
    EXACT_JSON,
    LIST,
    LISTS,
    NO_ELEMENTS,
    NULL,
    PLAIN,
    PLAIN_DICTS,
    Parts,
    RawPage,
    array_of,
    fill,
    fill_each,
    joined,
    nulls,
    page_of,
    pair,
    values_of,
)
from penstock.record import Column
from penstock.redact import mask
from penstock.sink import Layout

EXTRA = "_extra"
"""The last column of every stream: members that the record class does not know, as an object; UNSET or null if none."""

LEARNT_MEMBERS = 64
"""So many unknown members get a place of their own; a stream with more is read a little slower."""

LENIENT_COLUMNS = 4
"""In so many columns a page may hold values of another type before its elements are taken one by one."""

SHAPES_KEPT = 64
KEYS_REMEMBERED = 200_000
JOINED_BYTES = 2**20
SPLIT_BYTES = 2 * 2**20  # a larger array is decoded in parts, which the processor's caches can hold
PART_BYTES = 2**20

Nested = Literal["raw", "plain"]
T = TypeVar("T")


# --- what comes out -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Decoded:
    """
    What became of a page: ``count`` = rows + rejected + ``repeated`` + ``repeated_across``.

    ``repeated``: equal to an earlier row of the page; ``repeated_across``: their key was on an earlier page of the
    chain, which in a listing with a promised total means that it shifted meanwhile, or their time is beyond the
    chain's (:class:`Memory`). Both are dropped. ``fresh``: elements whose key was not on an earlier page. ``derived``:
    the batches of the derived streams, in their order.
    """

    batch: Batch
    count: int
    fresh: int
    repeated: int = 0
    repeated_across: int = 0
    derived: tuple[Batch, ...] = ()


class Memory:
    """
    What one chain of pages has shown: keys, to notice those that come again, and how often equal rows occurred.

    Holds up to ``bound`` keys and forgets the earliest pages first. Chains of one partition that number their rows
    (``row_key``) share ``occurrences``. Rows whose time (``Stream.day_of``) is ``before`` this moment belong to the
    chain; others are dropped as repeated, since they come with the next ask too.
    """

    def __init__(
        self,
        bound: int = KEYS_REMEMBERED,
        occurrences: "Counter[Any] | None" = None,
        before: datetime | None = None,
    ) -> None:
        self.before = before
        self.known: set[Any] = set()
        self.occurrences: Counter[Any] = Counter() if occurrences is None else occurrences
        self._bound = bound
        self._pages: deque[set[Any]] = deque()

    def add(self, keys: set[Any]) -> None:
        self._pages.append(keys)
        if len(self._pages) == 1:
            self.known = keys  # most chains have one page, and need no second set of its keys
        elif len(self._pages) == 2:
            self.known = self.known | keys
        else:
            self.known |= keys
        while len(self.known) > self._bound and len(self._pages) > 1:
            self.known -= self._pages.popleft()


def sums(batch: Batch) -> dict[str, Decimal]:
    """The sum over the rows of every measure, nulls skipped, exact to 100 digits."""
    with localcontext(Context(prec=100)):
        return {
            name: sum(filter(None, map(attrgetter(name), batch.rows)), Decimal(0)) for name in batch.layout.measures
        }


def split_by_day(batch: Batch, column: str, zone: tzinfo = UTC) -> dict[date, Batch]:
    """
    The batch by the day of ``column`` (a date, or a time; an aware one is taken to ``zone``), days in order.

    Rows without a day are in none; so are ``rejected`` and ``unknown``, which have no day: take them from ``batch``.
    """
    days = _days(values_of(batch.rows, column), zone)
    found = sorted(set(days) - {None})  # type: ignore[type-var]
    if len(found) == 1 and None not in days:
        return {found[0]: evolve(batch, rejected=(), unknown=())}  # type: ignore[dict-item]
    return {
        day: evolve(batch, rows=list(compress(batch.rows, map(day.__eq__, days))), rejected=(), unknown=())
        for day in found
        if day is not None
    }


# --- compiling ------------------------------------------------------------------------------------------------------


def compile_stream(
    source: str,
    stream: Stream,
    *,
    columns: Sequence[Column] = (),
    derived: Sequence[Stream] = (),
    exclude: Collection[str] = (),
    include_personal: bool = True,
    needed: Collection[str] = (),
    nested: Nested = "raw",
    zone: tzinfo = UTC,
) -> "Compiled":
    """
    The decoder of one stream of one source.

    ``columns`` are those the configuration declares besides the record class; ``derived`` the streams cut from this
    one; ``exclude`` holds "column" or "stream.column"; ``needed`` names columns that other streams or the ledger
    read. ``nested``: json columns stay bytes (``raw``, msgspec.Raw), or become plain values with exact decimals
    (``plain``, for hooks that look inside). ``zone``: in which a row's day is cut.

    Raises ConfigError when ``exclude`` or ``include_personal`` takes what cannot be missed, or a configured column is
    there already.
    """
    return Compiled(
        source,
        stream,
        _all_columns(source, stream, columns),
        partition=tuple(filter(None, (stream.account, stream.day))),
        derived=derived,
        exclude=exclude,
        include_personal=include_personal,
        needed=needed,
        nested=nested,
        zone=zone,
    )


def _all_columns(source: str, stream: Stream, more: Sequence[Column]) -> tuple[Column, ...]:
    own = stream.columns
    names = {column.name for column in own}
    taken = [column.name for column in more if column.name in names]
    if taken:
        raise ConfigError(
            f"source {source}: the stream {stream.name} has a column {taken[0]} already. Declare other names only."
        )
    front = []
    if stream.account is not None and stream.account not in names:
        front.append(Column(name=stream.account, type="text", description="the account asked for"))
    if stream.day is not None and stream.day not in names:
        front.append(Column(name=stream.day, type="date", description="the day asked for"))
    return (*front, *own, *more)


def _child_columns(child: Stream, parent: "Compiled") -> tuple[Column, ...]:
    """A derived stream's columns: what it is stamped with (the parent's partition first), then its own."""
    assert child.derived is not None
    stamps = {**{name: name for name in parent.layout.partition_columns}, **child.derived.stamps}
    names = {column.name for column in child.columns}
    front = [
        Column(
            name=own,
            type=parent.columns[theirs].type,
            zone=parent.columns[theirs].zone,
            personal=parent.columns[theirs].personal,
            description=f"{theirs} of the row in {parent.layout.stream}",
        )
        for own, theirs in stamps.items()
        if own not in names
    ]
    return (*front, *child.columns)


@frozen(kw_only=True)
class _Shape:
    """A Struct under the provider's names, its decoders, and the Struct of equal layout under the columns' names."""

    wire: type
    many: "msgspec.json.Decoder[Any]"
    one: "msgspec.json.Decoder[Any]"
    out: type
    learnt: tuple[tuple[str, str], ...]  # (attribute, member)


class Compiled:
    """
    Decodes the pages of one stream; made by :func:`compile_stream`. ``columns`` holds every column, hidden ones too,
    ``layout`` those that are delivered. It learns unknown members as it goes, so one thread uses it at a time.
    """

    def __init__(
        self,
        source: str,
        stream: Stream,
        columns: tuple[Column, ...],
        *,
        partition: tuple[str, ...],
        derived: Sequence[Stream],
        exclude: Collection[str],
        include_personal: bool,
        needed: Collection[str],
        nested: Nested,
        zone: tzinfo,
        derived_by: tuple[str, ...] = (),
        day: str | None = None,
        several_days: bool | None = None,
    ) -> None:
        self.columns: dict[str, Column] = {column.name: column for column in columns}
        self._name = f"{source}.{stream.name}"
        self._zone = zone
        self._nested = nested
        self._day = day or stream.day
        self._day_of = _settled(stream.day_of, str)
        self._key = stream.key
        read = (*stream.key, *partition, *derived_by, *((self._day_of,) if self._day_of else ()))
        missing = [name for name in read if name not in self.columns]
        if missing:
            raise TypeError(f"{self._name}: its record class has no column {missing[0]}")
        if any(self.columns[name].type == "json" for name in stream.key):
            raise TypeError(f"{self._name}: a json column cannot be part of a key")

        self._hidden = self._to_hide(stream, exclude, include_personal, {*partition, *needed})
        self._wire = tuple(column for column in columns if not column.added)
        self._by_member = {column.member: column for column in self._wire}
        self._json = tuple(column.name for column in self._wire if column.type == "json")
        self._raw = tuple(name for name in self._json if not self._is_plain(self.columns[name], include_personal))
        self._cleaners = {
            column.name: cleaner((*column.hidden, *(() if include_personal else column.hidden_personal)))
            for column in self._wire
            if column.hidden or (column.hidden_personal and not include_personal)
        }
        self._decimals = tuple(column.name for column in self._wire if column.type == "decimal")
        self._datetimes = tuple(column.name for column in self._wire if column.type == "datetime")
        self._numbers = tuple(column for column in columns if column.derived_of is not None)
        self._row_keys = tuple(column for column in columns if column.hash_of)
        for column in columns:
            for other in (*column.hash_of, *((column.derived_of,) if column.derived_of else ())):
                if other not in self.columns:
                    raise TypeError(f"{self._name}: {column.name} is made of {other}, which is no column")
        self._stamped_not_null = tuple(
            column.name for column in columns if column.added and not column.nullable and not column.hash_of
        )
        self._masked = frozenset(member for name in self._hidden if (member := self.columns[name].member) is not None)
        several = (_settled(stream.days_per_request, int) or 1) > 1 if several_days is None else several_days
        identity = [*stream.key, *([self._day] if several and self._day and self._day not in stream.key else [])]
        self._identity = attrgetter(*identity) if stream.key else None

        self.layout = Layout(
            source=source,
            stream=stream.name,
            kind=stream.kind,
            columns=(
                *(column for column in columns if column.name not in self._hidden),
                Column(name=EXTRA, type="json", description="members that the record class does not know"),
            ),
            key=stream.key,
            partition_columns=partition,
            summary=stream.summary,
            derived_by=derived_by,
        )
        self._token = secrets.token_hex(8)
        self._learnt: tuple[str, ...] = ()
        self._loose = False  # too many unknown members to learn, or ones whose names a Struct cannot have
        self._shapes: dict[tuple[frozenset[str], bool, tuple[str, ...], bool], _Shape] = {}
        self._extras: dict[tuple[str, ...], tuple[Any, Any]] = {}
        self.derived: tuple[_Child, ...] = tuple(
            _Child.of(self, child, exclude, include_personal, nested, several) for child in derived
        )

    def _to_hide(
        self, stream: Stream, exclude: Collection[str], include_personal: bool, needed: set[str]
    ) -> frozenset[str]:
        excluded = {name for name in self.columns if name in exclude or f"{stream.name}.{name}" in exclude}
        needed = needed | set(stream.key) | ({self._day_of} if self._day_of else set())
        for name in sorted(excluded & needed):
            raise ConfigError(
                f"exclude: {stream.name}.{name} cannot be left out; it is (part of) the key, the partition, or what "
                f"another stream is asked by."
            )
        unfit = {column.name for column in self.columns.values() if column.secret and column.name in needed}
        if unfit:
            raise TypeError(f"{self._name}: {min(unfit)} is secret, and cannot be key or partition")
        personal = {column.name for column in self.columns.values() if column.personal and not include_personal}
        for name in sorted(personal & needed):
            raise ConfigError(
                f"include_personal: {stream.name}.{name} is personal and cannot be left out; it is (part of) the key, "
                f"the partition, or what another stream is asked by. Leave out the stream instead."
            )
        return frozenset(excluded | personal | {column.name for column in self.columns.values() if column.secret})

    def _is_plain(self, column: Column, include_personal: bool) -> bool:
        hides = bool(column.hidden) or (bool(column.hidden_personal) and not include_personal)
        return self._nested == "plain" or hides

    # --- the way of a page ------------------------------------------------------------------------------------------

    def decode_all(
        self,
        items: Iterable[Items],
        columns: Mapping[str, Any] | None = None,
        memory: Memory | None = None,
        days: Collection[date] | None = None,
    ) -> Iterator[Decoded]:
        """
        Like :meth:`decode`, over all the items of an answer: small runs are joined to one batch, large arrays and
        files come in parts, each decoded when the one before has been taken.
        """
        memory = Memory() if memory is None else memory
        waiting: list[Items] = []
        size = 0
        for run in items:
            if run.form in ("lines", "csv") or run.texts:
                if waiting:
                    yield self._decode(joined(waiting), columns, memory, days)
                    waiting, size = [], 0
                yield self._decode(page_of(run), columns, memory, days)
                continue
            length = memoryview(run.raw).nbytes
            if run.form == "array" and length > SPLIT_BYTES:
                if waiting:
                    yield self._decode(joined(waiting), columns, memory, days)
                    waiting, size = [], 0
                yield from self._in_parts(Parts(run, PART_BYTES), columns, memory, days)
                continue
            if waiting and size + length > JOINED_BYTES:
                yield self._decode(joined(waiting), columns, memory, days)
                waiting, size = [], 0
            waiting.append(run)
            size += length
        if waiting:
            yield self._decode(joined(waiting), columns, memory, days)

    def decode(
        self,
        items: Items,
        columns: Mapping[str, Any] | None = None,
        memory: Memory | None = None,
        days: Collection[date] | None = None,
    ) -> Decoded:
        """
        The typed rows of a run of elements.

        ``columns`` are stamped on every row, texts taken to the column's type (``Request.columns`` and the
        partition's values); those of ``items`` come on top. A stamp for a column that the provider sends too fills
        its nulls; a row that says something else is rejected, as it belongs to another partition or parent.
        ``memory`` is the chain's; ``days``, if given, are the days asked for: rows of other days are rejected.

        Raises PluginError for a stamp that is no column or does not fit it, BrokenBodyError and BoundExceededError
        for JSON lines that the envelope had not checked.
        """
        return self._decode(page_of(items), columns, Memory() if memory is None else memory, days)

    def _in_parts(
        self, parts: Parts, columns: Mapping[str, Any] | None, memory: Memory, days: Collection[date] | None
    ) -> Iterator[Decoded]:
        while (page := parts.page()) is not None:
            try:
                decoded = self._decode(page, columns, memory, days)
            except BrokenBodyError:
                if not parts.by_elements():
                    raise
                continue
            parts.taken(decoded.count)
            yield decoded

    def _decode(
        self, page: "RawPage", columns: Mapping[str, Any] | None, memory: Memory, days: Collection[date] | None
    ) -> Decoded:
        shape, count = self._fill_rows(page, columns, days, memory.before)
        fresh, repeated, across = self._check_keys(page, memory, count, columns, days)
        derived = tuple(child.cut(self, page) for child in self.derived)
        for name in self._hidden:
            fill(page.rows, name, UNSET)
        for name, _ in shape.learnt:
            fill(page.rows, name, UNSET)
        fill(page.rows, "__class__", shape.out)
        return Decoded(
            batch=Batch(
                layout=self.layout,
                rows=page.rows,
                rejected=tuple(page.rejected),
                unknown=tuple(sorted(page.unknown)),
            ),
            count=count,
            fresh=fresh,
            repeated=repeated,
            repeated_across=across + page.beyond,
            derived=derived,
        )

    def _fill_rows(
        self,
        page: "RawPage",
        columns: Mapping[str, Any] | None,
        days: Collection[date] | None,
        before: datetime | None = None,
    ) -> tuple[_Shape, int]:
        """Everything about a page's rows but their keys; also how many elements it has."""
        try:
            shape = self._read(page)
        except RecursionError:
            raise BoundExceededError(f"{self._name}: an element is nested too deeply to be read safely.") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenBodyError(f"{self._name}: the answer is no JSON: {error}.") from None
        count = len(page.rows) + len(page.rejected)
        self._settle_nested(page)
        self._stamp(page, columns or {})
        self._check_decimals(page, self._decimals)
        self._derive_numbers(page)
        if before is not None:
            self._drop_beyond(page, before, days)
        self._cut_days(page, days)
        for name in self._stamped_not_null:
            if page.same.get(name) is None:
                self._reject(page, dict.fromkeys(nulls(values_of(page.rows, name)), (name, f"{name} has no value")))
        return shape, count

    # --- bytes to rows ----------------------------------------------------------------------------------------------

    def _read(self, page: "RawPage") -> _Shape:
        """Fill ``page.rows``, ``positions`` and ``unknown``; what fits on no road goes to ``rejected``."""
        if self._raw:
            page.compact()
        lenient: frozenset[str] = frozenset()
        while True:
            shape = self._shape(lenient, page.texts)
            try:
                page.rows = page.read((shape.many, shape.one))
                break
            except ValidationError as error:
                if "unknown field" in str(error) and self._learn(page):
                    continue
                name = self._misfit(str(error))
                if name is None or name in lenient or len(lenient) >= LENIENT_COLUMNS:
                    return self._one_by_one(page)
                lenient |= {name}
        page.positions = range(len(page.rows))
        if page.lines and self._lines_inside(page):
            page.to_array()
            return self._read(page)
        self._keep_extras(page, shape)
        self._fit(page, lenient)
        return shape

    def _misfit(self, message: str) -> str | None:
        """The column that a ValidationError is about, if it names one."""
        member = re.search(r" - at `\$\[\d+\]\.(.*)`$", message, re.DOTALL)
        column = self._by_member.get(member[1]) if member else None
        return column.name if column is not None else None

    def _fit(self, page: "RawPage", lenient: Collection[str]) -> None:
        """Take the values of lenient columns, and the moments of CSV, to their types."""
        for name in lenient:
            column = self.columns[name]
            values = values_of(page.rows, name)
            types = set(map(type, values))
            if column.type == "text" and types <= {str, int, Decimal}:
                fill_each(page.rows, name, map(str, values))
            else:
                self._coerce_each(page, column, values)
        if page.texts:
            for name in self._datetimes:
                column = self.columns[name]
                values = values_of(page.rows, name)
                try:
                    made = msgspec.convert(values, _moments(column))
                except ValidationError:
                    self._coerce_each(page, column, values)
                else:
                    fill_each(page.rows, name, made)

    def _coerce_each(self, page: "RawPage", column: Column, values: list[Any]) -> None:
        bad: dict[int, tuple[str | None, str]] = {}
        fitting = []
        wanted = self._annotation(column, frozenset(), texts=False)
        for index, value in enumerate(values):
            try:
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
        self._reject(page, bad)
        fill_each(page.rows, column.name, fitting)

    def _shape(self, lenient: frozenset[str], texts: bool) -> _Shape:
        known = (lenient, texts, self._learnt, self._loose)
        if known not in self._shapes:
            if len(self._shapes) >= SHAPES_KEPT:
                self._shapes.clear()
            self._shapes[known] = self._make_shape(lenient, texts)
        return self._shapes[known]

    def _make_shape(self, lenient: frozenset[str], texts: bool) -> _Shape:
        fields: list[Any] = []
        rename = {}
        for number, column in enumerate(self.columns.values()):
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
            "Wire", fields, rename=rename, kw_only=True, gc=False, forbid_unknown_fields=not self._loose
        )
        out = msgspec.defstruct(
            "Row", [(name, Any, UNSET) for name, *_ in fields], kw_only=True, gc=False, module=__name__
        )
        return _Shape(
            wire=wire,
            many=msgspec.json.Decoder(list[wire], strict=not texts, float_hook=Decimal),  # type: ignore[valid-type]
            one=msgspec.json.Decoder(wire, strict=not texts, float_hook=Decimal),
            out=out,
            learnt=learnt,
        )

    def _annotation(self, column: Column, lenient: frozenset[str], texts: bool) -> Any:
        if column.type == "json":
            return Raw if column.name in self._raw else Any
        if column.name in lenient:
            return Any
        if column.type != "datetime":
            wanted: Any = _TYPES[column.type]
        elif texts:
            wanted = Annotated[str, Meta(pattern=r"^\d{4}-\d\d")]  # digits alone would be taken for a Unix time
        else:
            wanted = _moment(column)
        return wanted | None if column.nullable else wanted

    # --- unknown members --------------------------------------------------------------------------------------------

    def _learn(self, page: "RawPage") -> bool:
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

    def _keep_extras(self, page: "RawPage", shape: _Shape) -> None:
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

    def _one_by_one(self, page: "RawPage") -> _Shape:
        shape = self._shape(frozenset(), page.texts)
        page.compact()
        rows: list[Any] = []
        positions: list[int] = []
        for position, element in enumerate(page.elements()):
            try:
                rows.append(self._typed(element, shape, page))
                positions.append(position)
            except _UnfitError as unfit:
                page.rejected.append(self._rejected(page, position, unfit.column, unfit.reason))
        page.rows, page.positions = rows, positions
        return shape

    def _typed(self, element: Raw, shape: _Shape, page: "RawPage") -> Any:
        if not (self._loose or page.texts):
            try:
                row = shape.one.decode(element)
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
        values = {column.name: self._fitted(column, members.pop(column.member or "", None)) for column in self._wire}
        row = shape.wire(**values)
        self._set_extra(row, members, page)
        return row

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

    def _set_extra(self, row: Any, extra: Mapping[str, Raw], page: "RawPage") -> None:
        if not extra:
            return
        page.unknown |= extra.keys()
        kept = extra if self._nested == "raw" else {name: PLAIN.decode(value) for name, value in extra.items()}
        setattr(row, EXTRA, kept)

    def _reject(self, page: "RawPage", bad: Mapping[int, tuple[str | None, str]]) -> None:
        """Set rows aside: index -> (column or None, reason)."""
        if bad:
            self._note_rejected(page, bad)
            page.drop(bad.keys())

    def _note_rejected(self, page: "RawPage", bad: Mapping[int, tuple[str | None, str]]) -> None:
        for index, (name, reason) in bad.items():
            member = self.columns[name].member if name is not None else None
            page.rejected.append(self._rejected(page, page.positions[index], member, reason))

    def _rejected(self, page: "RawPage", position: int, member: str | None, reason: str) -> Rejected:
        path, index = page.locate(position)
        return Rejected(
            stream=self.layout.stream,
            path=f"{path}[{index}]" + (f".{member}" if member is not None else ""),
            reason=mask(reason),
            raw=self._shown(page.elements()[position]),
        )

    def _shown(self, element: Raw) -> str:
        """The element as it may be kept: members that are not delivered as ``***``."""
        if not (self._masked or self._cleaners):
            return mask(bytes(element).decode(errors="replace"))
        try:
            value = PLAIN.decode(element)
            if isinstance(value, dict):
                for name, clean in self._cleaners.items():
                    clean(value.get(self.columns[name].member))
            return mask(EXACT_JSON.encode(masked_members(value, self._masked)).decode())
        except (ValidationError, RecursionError):
            return "(not shown: it cannot be read, and may hold what must not be kept)"

    # --- column by column -------------------------------------------------------------------------------------------

    def _lines_inside(self, page: "RawPage") -> bool:
        return any(
            b"\n" in (joined := b"".join(filter(None, values_of(page.rows, name)))) or b"\r" in joined
            for name in self._raw
        )

    def _settle_nested(self, page: "RawPage") -> None:
        """A JSON null is a null, and what is hidden inside nested values goes."""
        for name in self._raw:
            values = values_of(page.rows, name)
            if NULL in values:
                fill_each(page.rows, name, [None if value == NULL else value for value in values])
        for name, clean in self._cleaners.items():
            deque(map(clean, values_of(page.rows, name)), maxlen=0)

    def _stamp(self, page: "RawPage", columns: Mapping[str, Any]) -> None:
        for name, given in columns.items():
            try:
                value = coerce(self._stamped(name), given)
            except MisfitError as misfit:
                raise PluginError(f"{self._name}: the request stamps {name} with {given!r}: {misfit}") from None
            if self.columns[name].added:
                page.same[name] = value
            else:
                self._agree(page, name, [value] * len(page.rows))
        for name, given in page.constants.items():
            column = self._stamped(name)
            try:
                value = coerce(column, given)
            except MisfitError as misfit:
                self._reject(page, dict.fromkeys(range(len(page.rows)), (name, str(misfit))))
                return
            if column.added:
                page.same[name] = value
            else:
                self._agree(page, name, [value] * len(page.rows))
        for name, value in page.same.items():
            fill(page.rows, name, value)
        for name, all_values in page.stamps.items():
            column = self._stamped(name)
            made: dict[Any, Any] = {}
            for given in set(all_values) if column.type != "json" else ():
                try:
                    made[given] = coerce(column, given)
                except MisfitError as misfit:
                    made[given] = misfit
            values = page.at_rows(all_values)
            if made:
                values = list(map(made.__getitem__, values))
            if any(isinstance(value, MisfitError) for value in made.values()):
                bad = {i: (name, str(value)) for i, value in enumerate(values) if isinstance(value, MisfitError)}
                values = [value for value in values if not isinstance(value, MisfitError)]
                self._reject(page, bad)
            if column.added:
                page.same.pop(name, None)
                fill_each(page.rows, name, values)
            else:
                self._agree(page, name, values)

    def _stamped(self, name: str) -> Column:
        if name not in self.columns:
            raise PluginError(
                f"{self._name}: an answer is stamped with {name}, which the record class does not declare."
            )
        return self.columns[name]

    def _agree(self, page: "RawPage", name: str, wanted: list[Any]) -> None:
        """The provider sends this column too: nulls are filled, and who disagrees belongs elsewhere."""
        values = values_of(page.rows, name)
        if values == wanted:
            return
        both = list(zip(values, wanted, strict=True))
        fill_each(page.rows, name, [asked if value is None else value for value, asked in both])
        self._reject(
            page,
            {
                i: (name, f"{name} is {value}, and {asked} was asked for")
                for i, (value, asked) in enumerate(both)
                if value is not None and asked is not None and value != asked
            },
        )

    def _check_decimals(self, page: "RawPage", names: Iterable[str]) -> None:
        for name in names:
            values = values_of(page.rows, name)
            try:
                fine = _all_bounded(values)
            except TypeError:  # nulls; looking for them with "in" would cost more than all the rest
                fine = _all_bounded([value for value in values if value is not None])
            if fine:
                continue
            self._reject(
                page,
                {
                    i: (name, f"{value} is no finite number of at most {LARGEST_EXPONENT} digits")
                    for i, value in enumerate(values)
                    if value is not None and not bounded(value)
                },
            )

    def _derive_numbers(self, page: "RawPage") -> None:
        for column in self._numbers:
            assert column.derived_of is not None
            values = values_of(page.rows, column.derived_of)
            try:
                numbers = list(map(Decimal, values))
                if column.scale:
                    with localcontext(_EXACT):
                        numbers = list(map(mul, numbers, repeat(Decimal(1).scaleb(column.scale))))
            except (TypeError, ValueError, InvalidOperation, Inexact):
                # A null, a blank, or no number: one by one.
                bad = {}
                some: list[Decimal | None] = []
                for index, value in enumerate(values):
                    try:
                        some.append(_shifted(value, column.scale))
                    except MisfitError as misfit:
                        bad[index] = (column.derived_of, str(misfit))
                self._reject(page, bad)
                fill_each(page.rows, column.name, some)
            else:
                fill_each(page.rows, column.name, numbers)
        self._check_decimals(page, [column.name for column in self._numbers])

    def _drop_beyond(self, page: "RawPage", before: datetime, days: Collection[date] | None) -> None:
        """Drop what the next ask brings again; a row from still later is nobody's, and is left to be set aside."""
        if self._day_of is None:
            return
        moments = values_of(page.rows, self._day_of)
        if max(filter(None, moments), default=before) < before:
            return
        end, wanted = before + timedelta(seconds=1), days or ()
        beyond = {
            index
            for index, (moment, day) in enumerate(zip(moments, _days(moments, self._zone), strict=True))
            if moment is not None and moment >= before and (moment < end or day in wanted)
        }
        page.beyond = len(beyond)
        page.drop(beyond)

    def _cut_days(self, page: "RawPage", days: Collection[date] | None) -> None:
        if self._day is None or self._day not in self.columns:
            return
        stamped = self._day_of is None or self._day_of == self._day
        if self._day_of is not None and not stamped:
            values: list[Any] = list(_days(values_of(page.rows, self._day_of), self._zone))
            if self.columns[self._day].type == "text":
                values = [None if value is None else value.isoformat() for value in values]
            filled = values_of(page.rows, self._day)
            if filled.count(None) == len(filled):
                fill_each(page.rows, self._day, values)
        if days is None or (stamped and set(_days([page.same.get(self._day)], self._zone)) <= set(days)):
            return
        found = _days(values_of(page.rows, self._day), self._zone)
        if not set(found) <= set(days):
            self._reject(
                page,
                {
                    i: (self._day_of or self._day, f"its day is {value}, which was not asked for")
                    for i, value in enumerate(found)
                    if value not in days
                },
            )

    # --- keys -------------------------------------------------------------------------------------------------------

    def _check_keys(
        self,
        page: "RawPage",
        memory: Memory,
        count: int,
        columns: Mapping[str, Any] | None,
        days: Collection[date] | None,
    ) -> tuple[int, int, int]:
        """(fresh, repeated on this page, repeated across pages)"""
        if self._row_keys:
            return self._number_rows(page, memory) + len(page.rejected) + page.beyond, 0, 0
        if self._identity is None:
            return count, 0, 0
        for name in self._key:
            if self.columns[name].nullable:
                empty = nulls(values_of(page.rows, name))
                self._reject(page, dict.fromkeys(empty, (name, f"the key {name} is null")))
        keys = list(map(self._identity, page.rows))
        unique = set(keys)
        if len(unique) == len(keys) and memory.known.isdisjoint(unique):
            memory.add(unique)
            self._add_part(page, unique)
            return count, 0, 0
        first = self._rows_before(page, unique, columns, days)
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
        new = unique - memory.known
        memory.add(new)
        self._add_part(page, new)
        self._note_rejected(page, bad)
        page.drop(dropped | bad.keys())
        return count - across, len(dropped) - across, across

    def _equal(self, row: Any, other: Any) -> bool:
        """Whether two rows have the same values, though they may be of different Structs."""
        return all(getattr(row, name) == getattr(other, name) for name in (*self.columns, EXTRA))

    def _add_part(self, page: "RawPage", keys: set[Any]) -> None:
        if page.parts is not None:
            page.parts.earlier.append((page.again, keys))
            if sum(len(known) for _, known in page.parts.earlier) > KEYS_REMEMBERED:
                page.parts.earlier.popleft()

    def _rows_before(
        self, page: "RawPage", keys: set[Any], columns: Mapping[str, Any] | None, days: Collection[date] | None
    ) -> dict[Any, Any]:
        """Of these keys, the rows in former parts of the same array: it is one page, in whatever parts it is read."""
        found: dict[Any, Any] = {}
        for data, known in page.parts.earlier if page.parts is not None else ():
            if known.isdisjoint(keys):
                continue
            again = RawPage(data=data(), constants=page.constants)
            self._fill_rows(again, columns, days)
            assert self._identity is not None
            for key, row in zip(map(self._identity, again.rows), again.rows, strict=True):
                if key in keys:
                    found.setdefault(key, row)
        return found

    def _number_rows(self, page: "RawPage", memory: Memory) -> int:
        """Fill the row keys; how many rows had contents that no earlier page had."""
        fresh = len(page.rows)
        days = values_of(page.rows, self._day) if self._day in self.columns else repeat(None)
        for column in self._row_keys:
            parts = [self._canonical(page.rows, name) for name in column.hash_of]
            contents = list(map(EXACT_JSON.encode, zip(*parts, strict=True)))
            made = []
            for content, day in zip(contents, days, strict=False):
                place = (column.name, day, blake2b(content, digest_size=16).digest())
                number = memory.occurrences[place] = memory.occurrences[place] + 1
                made.append(blake2b(content + b"#%d" % number, digest_size=16).hexdigest())
            fill_each(page.rows, column.name, made)
            unique = set(contents)
            before = memory.known & unique
            for _, known in page.parts.earlier if page.parts is not None else ():
                before -= known
            fresh = sum(1 for content in contents if content not in before) if before else len(contents)
            new = unique - memory.known
            memory.add(new)
            self._add_part(page, new)
        return fresh

    def _canonical(self, rows: list[Any], name: str) -> list[Any]:
        """The values of a column, nested ones in one spelling whether they are kept raw or plain."""
        values = values_of(rows, name)
        if self.columns[name].type != "json":
            return values
        return [PLAIN.decode(value) if isinstance(value, Raw) else value for value in values]


class _UnfitError(Exception):
    def __init__(self, column: str | None, reason: str) -> None:
        self.column = column
        self.reason = reason
        super().__init__(reason)


# --- derived streams ------------------------------------------------------------------------------------------------


@frozen
class _Child:
    """A derived stream: the column it is cut from, and what its rows are stamped with."""

    compiled: Compiled
    column: str
    stamps: Mapping[str, str] = field(factory=dict)

    @classmethod
    def of(
        cls,
        parent: Compiled,
        child: Stream,
        exclude: Collection[str],
        include_personal: bool,
        nested: Nested,
        several_days: bool,
    ) -> "_Child":
        declared = child.derived
        if declared is None or declared.column not in parent.columns:
            raise TypeError(f"{child.name} is not derived from a column of {parent.layout.stream}")
        partition = parent.layout.partition_columns
        stamps = {**{name: name for name in partition}, **declared.stamps}
        compiled = Compiled(
            parent.layout.source,
            child,
            _child_columns(child, parent),
            partition=partition,
            derived=(),
            exclude=exclude,
            include_personal=include_personal,
            needed=(*declared.stamps,),
            nested=nested,
            zone=parent._zone,
            derived_by=tuple(own for own, theirs in declared.stamps.items() if theirs in parent.layout.key),
            day=parent._day,
            several_days=several_days,
        )
        return cls(compiled, declared.column, stamps)

    def cut(self, parent: Compiled, page: "RawPage") -> Batch:
        """The elements of the column over all rows of a page, as one page of the derived stream."""
        values = values_of(page.rows, self.column)
        if not set(map(type, values)) <= {Raw}:
            values = [
                value if isinstance(value, Raw) else NO_ELEMENTS if value is None else Raw(EXACT_JSON.encode(value))
                for value in values
            ]
        try:
            lists = LISTS.decode(array_of(values))
        except ValidationError:
            lists = list(map(_as_list, values))
        lengths = list(map(len, lists))
        member = parent.columns[self.column].member or self.column

        def path(index: int) -> str:
            outer, number = page.locate(page.positions[index])
            return f"{outer}[{number}].{member}"

        inner = RawPage(
            data=array_of(chain.from_iterable(lists)),
            starts=list(accumulate(lengths, initial=0)),
            path=path,
            stamps={
                own: list(chain.from_iterable(map(repeat, values_of(page.rows, theirs), lengths)))
                for own, theirs in self.stamps.items()
            },
        )
        return self.compiled._decode(inner, None, Memory(), None).batch


def _as_list(value: Raw) -> list[Raw]:
    """
    The elements of what should be an array: null and ``{}`` have none; an object of objects is an array with its
    numbers, as PHP prints one; anything else is a single element, and rejected if it is no object.
    """
    first = bytes(memoryview(value)[:1])
    if first == b"[":
        return LIST.decode(value)
    if value == NULL:
        return []
    if first == b"{":
        members = list(DICTS[1].decode(value).values())
        if all(bytes(memoryview(member)[:1]) == b"{" for member in members):
            return members
    return [value]


# --- values ---------------------------------------------------------------------------------------------------------


def _days(values: list[Any], zone: tzinfo) -> list[date | None]:
    """The days of dates, times (aware ones taken to ``zone``) or texts that begin with a date."""
    if set(map(type, values)) <= {date, type(None)}:
        return values
    return [_day(value, zone) for value in values]


def _day(value: Any, zone: tzinfo) -> date | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(zone)).date()
    if isinstance(value, str):
        try:
            return date.fromisoformat(value[:10])
        except ValueError:
            return None
    return value if isinstance(value, date) else None


def _all_bounded(numbers: list[Decimal]) -> bool:
    exponents = set(map(Decimal.adjusted, numbers))
    return (
        all(map(Decimal.is_finite, numbers))
        and max(exponents, default=0) <= LARGEST_EXPONENT
        and min(exponents, default=0) >= -LARGEST_EXPONENT
    )


def _shifted(value: Any, scale: int) -> Decimal | None:
    """The number in ``value`` times ten to the power ``scale``; None for null and blank; raises MisfitError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = exact(value)
    try:
        return _EXACT.scaleb(number, scale) if scale else number
    except (InvalidOperation, Inexact):
        raise MisfitError(f"{str(value)[:60]!r} has too many digits") from None


def _settled(said: Any, wanted: type[T]) -> T | None:
    """A declared value; a function of the settings must have been asked before."""
    if said is not None and not isinstance(said, wanted):
        raise TypeError(f"{said!r} depends on the settings: evolve the stream with its value first")
    return said


# --- types ----------------------------------------------------------------------------------------------------------

# Wide enough for every number that passes, and loud where one does not.
_EXACT = Context(prec=2000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])

_TYPES: dict[str, Any] = {"text": str, "integer": int, "decimal": Decimal, "boolean": bool, "date": date}


def _moment(column: Column) -> Any:
    return Annotated[datetime, Meta(tz=column.zone == "aware")]


def _moments(column: Column) -> Any:
    return list[_moment(column) | None] if column.nullable else list[_moment(column)]  # type: ignore[misc]


def _can_be_learnt(member: str) -> bool:
    """Whether a Struct can have a field of this name on the wire."""
    return re.fullmatch(r'[^"\\\x00-\x1f]+', member) is not None
