"""
The decoder of one stream: the rules for its columns, compiled once, and the decoding of each page.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from functools import cached_property, partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import msgspec
from attrs import evolve, frozen
from msgspec import UNSET

from penstock._decode.columns import NOTHING_REQUESTED, ColumnRules, Requested
from penstock._decode.derived import columns_of_derived, elements_of, stamps_of
from penstock._decode.keys import Keys
from penstock._decode.nested import Masks, cleaner, personal_cleaner
from penstock._decode.page import CHUNK_BYTES, RawPage, fill, joined, pages_of, values_of
from penstock._decode.rejects import Rejects
from penstock._decode.seen import SeenKeys
from penstock._decode.structs import Nested, RecordDecoder
from penstock._decode.totals import Totals
from penstock.connector import Stream
from penstock.errors import BoundExceededError, BrokenBodyError, ConfigError, PenstockError
from penstock.model import Batch, Items
from penstock.records import Column
from penstock.sinks import EXTRA, Layout

NOT_READ = (RecursionError, msgspec.DecodeError, UnicodeDecodeError)

JOINED_BYTES = 2**20  # runs of elements are joined into batches of about this size

T = TypeVar("T")


@frozen(kw_only=True, eq=False, repr=False)
class Decoded:
    """
    The result of decoding a page: ``count`` = rows + rejected + ``repeated``.

    ``repeated``: rows that were dropped: those equal to an earlier row of the slice, and those outside of the requested
    span. ``overrun``: the latter, except those up to one second after its end. ``fresh``: elements whose key was not on
    an earlier page of the listing.

    ``superseded``: for ``changes``, rows of earlier pages that rows of this page replace. They count as repeated, so
    the target has ``superseded`` rows fewer than were delivered.

    ``unread_values``: values that did not fit a nullable column, became null and are kept in ``_extra``;
    ``unread_example``: path and reason of the first.
    ``derived``: the batches of the derived streams, in their order. ``absent``: the measures that no element has, where
    some elements have unknown members instead.
    """

    batch: Batch
    count: int
    fresh: int
    repeated: int = 0
    overrun: int = 0
    superseded: int = 0
    unread_values: int = 0
    unread_example: tuple[str, str] | None = None
    derived: tuple[Batch, ...] = ()
    absent: frozenset[str] = frozenset()


class ColumnOptions(NamedTuple):
    """
    A source's settings for its columns, and the columns of this stream that other streams read.

    ``exclude`` holds "column" or "stream.column"; ``needed`` names columns that other streams or the ledger read.
    ``nested``: json columns stay bytes (``raw``, msgspec.Raw), or become plain values with exact decimals (``plain``,
    for hooks that read them). ``zone``: the zone of a row's day. ``extra``: whether unknown members are kept in
    ``_extra``; default (None): as ``include_personal``, since they may be personal. ``connector``: the connector of the
    stream. ``secrets``: the columns of all its streams that are secret, or have secrets inside: these are masked in the
    json columns and in ``_extra`` of this stream, too.
    """

    exclude: Collection[str] = ()
    include_personal: bool = True
    extra: bool | None = None
    needed: Collection[str] = ()
    nested: Nested = "raw"
    zone: tzinfo = UTC
    connector: str = ""
    secrets: Collection[Column] = ()


EVERYTHING = ColumnOptions()


def compile_stream(
    source: str,
    stream: Stream,
    options: ColumnOptions = EVERYTHING,
    *,
    columns: Sequence[Column] = (),
    derived: Sequence[Stream] = (),
) -> "StreamDecoder":
    """
    The decoder of one stream of one source.

    ``columns`` are those that the configuration declares in addition to the record class; ``derived`` are the streams
    cut from this one.

    Raises ConfigError if ``exclude`` or ``include_personal`` leaves out a column that is needed, or if a configured
    column exists already; TypeError for a contradictory declaration.
    """
    return StreamDecoder(source, stream, _all_columns(source, stream, columns), options, derived)


def _all_columns(source: str, stream: Stream, configured: Sequence[Column]) -> tuple[Column, ...]:
    columns = {column.name: column for column in stream.all_columns(configured)}
    if taken := [column.name for column in configured if columns[column.name] != column]:
        raise ConfigError(
            f"source {source}: the stream {stream.name} has a column {taken[0]} already. Declare other names only."
        )
    return tuple(columns.values())


class StreamDecoder:
    """
    Decodes the pages of one stream; made by :func:`compile_stream`. ``columns`` holds every column, hidden ones too,
    ``layout`` those that are delivered. ``day_of``: the column that a row's own day is read from, if there is one.
    """

    def __init__(
        self,
        source: str,
        stream: Stream,
        columns: tuple[Column, ...],
        options: ColumnOptions,
        derived: Sequence[Stream] = (),
        parent: Stream | None = None,
    ) -> None:
        """``parent``: what a derived stream is cut from; its rows are divided into partitions as the parent's."""
        divided_as = parent or stream
        self.columns: dict[str, Column] = {column.name: column for column in columns}
        self._name = f"{source}.{stream.name}"
        self._stream, self._options = stream, options
        day = divided_as.day
        day_of = self.day_of = _value(stream.day_of, str)
        parent_key = _parent_key(stream, parent)
        read = (*stream.key, *divided_as.partition_columns, *([day_of] if day_of else ()))
        self._check_declaration((*read, *parent_key))
        paths = _hidden_paths(columns, options.include_personal)
        hidden = self._to_hide({*read, *options.needed})
        rejects = self.rejects = self._rejects_of(frozenset({*read, *options.needed, *parent_key}), hidden, paths)
        raw = tuple(
            column.name
            for column in columns
            if column.type == "json" and not column.added and options.nested == "raw" and column.name not in paths
        )
        self._records = RecordDecoder(self.columns, raw=raw, nested=options.nested, rejects=rejects)
        self._rules = ColumnRules(
            name=self._name,
            columns=self.columns,
            raw=raw,
            nested=tuple(
                column.name for column in columns if column.type == "json" and not column.added and not column.secret
            ),
            cleaners={name: _cleaner(self.columns[name], options.include_personal) for name in paths},
            masks=Masks.of(*self._secrets, labels=False),
            day=day if day in self.columns else None,
            day_of=day_of,
            zone=options.zone,
            rejects=rejects,
        )
        self._keys = self._keys_of(divided_as)
        self.layout = self._layout(source, divided_as.partition_columns, parent_key)
        self._nullable_measures = tuple(_nullable_measures(columns, hidden))
        self._measures = tuple(
            column for column in columns if column.additive and not column.added and not column.unit_of
        )
        named = {column.name: column for column in columns}
        self._priced = tuple(
            (column, named[column.unit_of]) for column in columns if column.additive and column.unit_of in named
        )
        self.derived = tuple(self._derived(child) for child in derived)

    def _rejects_of(
        self, required: frozenset[str], hidden: frozenset[str], paths: Mapping[str, Sequence[str]]
    ) -> Rejects:
        options = self._options
        left_out = [self.columns[name] for name in hidden]
        masked = {column: _last_name(column) for column in left_out if column.member is not None}
        within = [path for those in paths.values() for path in those]
        names, selections = self._secrets
        # Without excluded columns, which are not secret, and without the last names of paths, which are common.
        personal = [name for column, name in masked.items() if column.personal and not options.include_personal]
        selected = [path for path in within if path.endswith("]")]
        return Rejects(
            stream=self._stream.name,
            columns=self.columns,
            required=required,
            hidden=hidden,
            masks=Masks.of({*names, *masked.values()}, {*selections, *within}),
            extra_masks=Masks.of({*names, *personal}, {*selections, *selected}),
            unknown=options.include_personal if options.extra is None else options.extra,
            extra=EXTRA not in options.exclude and f"{self._stream.name}.{EXTRA}" not in options.exclude,
        )

    @property
    def _secrets(self) -> tuple[frozenset[str], frozenset[str]]:
        """The names of the connector's secret members, and the paths that select others by a member's value."""
        columns = (*self.columns.values(), *self._options.secrets)
        return (
            frozenset(_last_name(column) for column in columns if column.secret and column.member is not None),
            frozenset(path for column in columns for path in column.hidden if path.endswith("]")),
        )

    def _keys_of(self, divided_as: Stream) -> Keys:
        """``divided_as``: the stream that determines the partitions."""
        stream, day = self._stream, divided_as.day
        # One response for two days may have a row of the same key on each.
        several_days = (_value(divided_as.days_per_request, int) or 1) > 1
        return Keys(
            columns=self.columns,
            key=stream.key,
            identity=(*stream.key, day) if several_days and day and day not in stream.key else stream.key,
            day=day if day in self.columns else None,
            last_wins=stream.kind == "changes" and stream.derived is None,
            rejects=self.rejects,
        )

    def _layout(self, source: str, partition_columns: tuple[str, ...], parent_key: tuple[str, ...]) -> Layout:
        stream = self._stream
        delivered = [column for name, column in self.columns.items() if name not in self.rejects.hidden]
        if self.rejects.extra:
            delivered.append(Column(name=EXTRA, type="json", description=_OF_EXTRA))
        return Layout(
            source=source,
            stream=stream.name,
            kind=stream.kind,
            columns=tuple(delivered),
            key=stream.key,
            partition_columns=partition_columns,
            summary=stream.summary,
            derived_by=parent_key,
            connector=self._options.connector,
        )

    @property
    def streams(self) -> "tuple[StreamDecoder, ...]":
        """The stream itself, then those derived from it."""
        return (self, *(child.decoder for child in self.derived))

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """The stream's own layout, then those of the streams derived from it."""
        return tuple(stream.layout for stream in self.streams)

    def _check_declaration(self, read: Iterable[str]) -> None:
        """Raises TypeError for a stream that reads columns its record class does not have."""
        missing = [name for name in read if name not in self.columns]
        if missing:
            raise TypeError(f"{self._name}: its record class has no column {missing[0]}")
        if any(self.columns[name].type == "json" for name in self._stream.key):
            raise TypeError(f"{self._name}: a json column cannot be part of a key")
        for column in self.columns.values():
            for other in (*column.hash_of, *((column.derived_of,) if column.derived_of else ())):
                if other not in self.columns:
                    raise TypeError(f"{self._name}: {column.name} is made of {other}, which is no column")

    def _to_hide(self, needed: set[str]) -> frozenset[str]:
        """The columns that are not delivered; raises ConfigError where one of them is needed."""
        columns, stream, options = self.columns.values(), self._stream, self._options
        names = {column.name for column in columns}
        excluded = {name for name in names if {name, f"{stream.name}.{name}"} & set(options.exclude)}
        personal = {column.name for column in columns if column.personal and not options.include_personal}
        secret = {column.name for column in columns if column.secret}
        for setting, left_out in (("exclude", excluded), ("include_personal", personal)):
            for name in sorted(left_out & needed):
                raise ConfigError(
                    f"{setting}: {stream.name}.{name} cannot be left out; it is (part of) the key, the partition, or "
                    "what another stream is requested by. Leave out the stream instead."
                )
        units = {column.unit_of for column in columns if column.unit_of and column.name not in excluded}
        for name in sorted(excluded & units):
            raise ConfigError(
                f"exclude: {stream.name}.{name} cannot be left out; it is the currency of a column that is not. Leave "
                "out both."
            )
        if unfit := secret & needed:
            raise TypeError(f"{self._name}: {min(unfit)} is secret, and cannot be key or partition")
        return frozenset(excluded | personal | secret)

    def _derived(self, child: Stream) -> "_Derived":
        declared = child.derived
        if declared is None or declared.column not in self.columns:
            raise TypeError(f"{child.name} is not derived from a column of {self._stream.name}")
        decoder = StreamDecoder(
            self.layout.source,
            child,
            columns_of_derived(child, self.layout, self.columns),
            self._options._replace(needed=tuple(declared.stamps)),
            parent=self._stream,
        )
        return _Derived(decoder, self.columns[declared.column], stamps_of(child, self.layout))

    # --- the way of a page ------------------------------------------------------------------------------------------

    def decode(
        self, items: Iterable[Items], requested: Requested = NOTHING_REQUESTED, seen: SeenKeys | None = None
    ) -> Iterator[Decoded]:
        """
        The typed rows of all items of an answer. Small runs are joined into one batch. Large arrays and files are
        decoded in chunks, each when the caller requests it.

        Stamps are converted to the column's type; those of ``items`` override those of ``requested``. If the provider
        sends a stamped column too, the stamp fills its nulls, and a row with another value is rejected, since it
        belongs to another partition or parent. ``seen``: the keys of the earlier pages.

        Raises PluginError for a stamp without a column, or of another type; BrokenBodyError and BoundExceededError
        for files of lines, which the envelope does not check.
        """
        seen = SeenKeys() if seen is None else seen
        seen.next_page()
        waiting: list[Items] = []
        size = 0
        taken: dict[str, int] = {}  # elements, by path: a file comes in blocks
        totals: dict[str, Totals] = defaultdict(lambda: Totals(self._measures, self._priced))
        seen.by_index = seen.one_page and isinstance(items, tuple) and [run.format for run in items] == ["array"]
        for run in items:
            if run.format == "csv" and run.path not in taken:
                self._records.check_header(run.header)
                taken[run.path] = 0
                if not run.raw:
                    continue
            length = memoryview(run.raw).nbytes
            alone = run.format in ("lines", "csv") or run.texts or length > 2 * CHUNK_BYTES
            if waiting and (alone or size + length > JOINED_BYTES):
                yield self._decode(joined(waiting), requested, seen)
                waiting, size = [], 0
            if alone:
                for page in self._pages(run if run.format == "array" else evolve(run, first=taken.get(run.path, 0))):
                    decoded = self._decode(page, requested, seen, totals[run.path] if run.totals else None)
                    taken[run.path] = taken.get(run.path, 0) + decoded.count
                    yield decoded
                    del page, decoded  # else the rows of two pages are in memory
            else:
                waiting.append(run)
                size += length
        if waiting:
            yield self._decode(joined(waiting), requested, seen)

    def _pages(self, run: Items) -> Iterator[RawPage]:
        try:
            yield from pages_of(run)
        except NOT_READ as error:
            raise self._broken_json(error) from None

    def _decode(self, page: RawPage, requested: Requested, seen: SeenKeys, totals: Totals | None = None) -> Decoded:
        try:
            out = self._records.read(page)
        except NOT_READ as error:
            raise self._broken_json(error) from None
        page.count = len(page.rows) + len(page.rejected)
        self._rules.apply(page, requested)
        if totals is not None:
            totals.add(page)
            totals.check(self._name, page)

        fresh = self._keys.check(page, seen, partial(self._read_again, page, requested))
        derived = tuple(child.cut(page) for child in self.derived)
        absent = self._absent_measures(page) if page.unknown else frozenset[str]()
        examples = [*page.unread[:1], *(inner.unread_example for inner in derived if inner.unread_example is not None)]
        for name in self.rejects.hidden:
            fill(page.rows, name, UNSET)
        fill(page.rows, "__class__", out)
        return Decoded(
            batch=Batch(
                layout=self.layout,
                rows=page.rows,
                rejected=tuple(record for _, record in sorted(page.rejected, key=itemgetter(0))),
                unknown=tuple(sorted(page.unknown)),
            ),
            count=page.count,
            fresh=fresh,
            repeated=page.repeated,
            overrun=page.overrun,
            superseded=page.superseded,
            unread_values=len(page.unread) + sum(inner.unread_values for inner in derived),
            unread_example=examples[0] if examples else None,
            derived=tuple(inner.batch for inner in derived),
            absent=absent,
        )

    def _read_again(self, page: RawPage, requested: Requested, indices: Iterable[int]) -> list[Any]:
        """The rows of some elements, as :meth:`_decode` read them."""
        again = page.again(indices)
        self._records.read(again)
        self._rules.apply(again, requested)
        return again.rows

    def _absent_measures(self, page: RawPage) -> frozenset[str]:
        """
        The measures that no element has. A page of which all members are known has none: what was renamed is unknown.
        """
        return frozenset(
            name
            for name, read in self._nullable_measures
            if read.top_member not in page.members
            or (read.path and not any(value is not None for value in values_of(page.rows, read.name)))
        )

    def _broken_json(self, error: Exception) -> PenstockError:
        """An error of reading JSON (``NOT_READ``) as the provider's."""
        if isinstance(error, RecursionError):
            return BoundExceededError(f"{self._name}: an element is nested too deeply to be read safely.")
        return BrokenBodyError(f"{self._name}: the response is no JSON: {error}.")


class _Derived(NamedTuple):
    """A derived stream: the column that it is cut from, and the columns that its rows are stamped with."""

    decoder: StreamDecoder
    column: Column
    stamps: Mapping[str, str]

    def cut(self, page: RawPage) -> Decoded:
        return self.decoder._decode(elements_of(page, self.column, self.stamps), NOTHING_REQUESTED, SeenKeys())


_OF_EXTRA = "members that the record class does not know, and values that do not fit their column"


def _nullable_measures(columns: Sequence[Column], hidden: Collection[str]) -> Iterator[tuple[str, Column]]:
    """The measures that may be null in every record, each with the column that reads the provider's member."""
    by_name = {column.name: column for column in columns}
    for column in columns:
        read = by_name[column.derived_of] if column.derived_of is not None else column
        if column.additive and read.nullable and read.member is not None and column.name not in hidden:
            yield column.name, read


def _cleaner(column: Column, include_personal: bool) -> Callable[[Any], Any]:
    """A function that returns a value of the column without what is hidden in it."""
    clean = cleaner(column.hidden)
    if include_personal or not column.hidden_personal:
        return clean
    without_personal = personal_cleaner(column.hidden_personal)
    return lambda value: without_personal(clean(value))


def _last_name(column: Column) -> str:
    """The name of the member that a column reads, wherever it is."""
    return column.path[-1] if column.path else str(column.member)


def _hidden_paths(columns: Iterable[Column], include_personal: bool) -> dict[str, tuple[str, ...]]:
    """The paths of secret members, and of personal ones that are left out, by column."""
    hidden = {
        column.name: (*column.hidden, *(() if include_personal else column.hidden_personal))
        for column in columns
        if not column.added
    }
    return {name: paths for name, paths in hidden.items() if paths}


def _parent_key(stream: Stream, parent: Stream | None) -> tuple[str, ...]:
    """The columns of a derived stream that hold its parent's key."""
    if parent is None or stream.derived is None:
        return ()
    return tuple(own for own, theirs in stream.derived.stamps.items() if theirs in parent.key)


def _value(declared: Any, type_: type[T]) -> T | None:
    """A declared value. Raises TypeError for a function of the settings, which the caller must have called."""
    if declared is not None and not isinstance(declared, type_):
        raise TypeError(f"{declared!r} depends on the settings: evolve the stream with its value first")
    return declared
