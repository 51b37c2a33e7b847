"""
The tables of one source in one run: creation, recognition as penstock's, and migration to the declared columns.

Existing columns are never dropped. Their type changes only to one that holds all of their values.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from attrs import field, frozen
from penstock import Layout, SinkError, TargetError
from psycopg import errors

from penstock_plugins.postgres import locks
from penstock_plugins.postgres.candidate import Candidate, TableChange
from penstock_plugins.postgres.catalog import definition_of, grant, locate, look_up
from penstock_plugins.postgres.column_types import RowTypes
from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.locks import lock_holders, lock_key, short_wait
from penstock_plugins.postgres.sql_text import short
from penstock_plugins.postgres.table_creation import create, evolve, has_nullable_key, set_comment, upkeep_statements
from penstock_plugins.postgres.table_locations import (
    SOURCE_COLUMN,
    SOURCE_DEFAULT,
    LedgerTable,
    TableLocation,
    source_condition,
)
from penstock_plugins.sink_support.sql_tables import added_notice


@frozen(kw_only=True)
class Table:
    """A stream's table."""

    sql: str
    layout: Layout = field(repr=False)
    types: Mapping[str, str]  # of the delivered columns in the table, in order; may be wider than the declared ones
    added: frozenset[str]  # columns that this run added: no earlier row has a value in them
    shared: bool  # by several sources, each row with its source in SOURCE_COLUMN
    unique: tuple[str, ...]  # the columns of its unique index
    altering: bool  # has triggers or rules of others, which may alter what is written
    oid: int
    definition: str  # of its columns, triggers and rules: see definition_of

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row of the source; none for a stream without a key."""
        return self.layout.unique_columns

    @property
    def comparable(self) -> bool:
        """Whether the key identifies its rows: there is one, and no column of it may be null."""
        return bool(self.key) and not has_nullable_key(self.layout)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.types)

    @cached_property
    def row_types(self) -> RowTypes:
        return RowTypes(self.layout.columns, self.types)


class Tables:
    """The tables of one source: checked before the first request, made on first use."""

    def __init__(
        self, database: Database, ledger: PostgresLedger, source: str, location_of: Callable[[Layout], TableLocation]
    ) -> None:
        self.database = database
        self.ledger = ledger
        self.source = source
        self.location_of = location_of
        self._tables: dict[str, Table] = {}
        self._added: dict[str, frozenset[str]] = {}
        self.notices: list[str] = []
        self._refused: dict[str, SinkError] = {}
        self._upkeep: dict[str, list[str]] = {}  # by stream, what a table of an earlier version lacks

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """
        Check that all these streams can be written. Missing columns are added to existing tables; no table is made yet.

        Raises TargetError with all problems: a schema or table that may not be made or written, that is not penstock's
        or belongs to another stream, or that contradicts the declaration.
        """
        problems, changes = [], []
        with self.database.explained():
            recorded = self._recorded_tables()
            for candidate in self._candidates(layouts):
                try:
                    if self._needed_changes(candidate, recorded.get(candidate.layout.stream)):
                        changes.append(candidate.layout)
                except TargetError as error:
                    problems.append(str(error))
        if problems:
            raise TargetError("\n".join(dict.fromkeys(problems)))
        for layout in changes:
            try:
                self.table(layout)
            except SinkError as error:
                self._refused[layout.stream] = error

    def _candidates(self, layouts: Sequence[Layout]) -> list[Candidate]:
        locations = [self.location_of(layout) for layout in layouts]
        return list(map(Candidate, layouts, locations, look_up(self.database, locations)))

    def _recorded_tables(self) -> dict[str, LedgerTable]:
        """The tables that the ledger records, by stream."""
        return {table.stream: table for table in self.ledger.tables(self.source)}

    def table(self, layout: Layout) -> Table:
        """
        The table for a layout, made or brought up to date once in a run.

        Raises TargetError, as :meth:`prepare` does, and SinkError if the table stays locked; both again, without a new
        try, for every further call with the stream.
        """
        if (refused := self._refused.get(layout.stream)) is not None:
            raise refused.to_raise_again()
        table = self._tables.get(layout.stream)
        if table is None or table.layout != layout:
            table = self._tables[layout.stream] = self._make_or_change(layout)
        return table

    def _make_or_change(self, layout: Layout) -> Table:
        for _ in range(locks.CHANGE_TRIES):
            try:
                with short_wait(self.database):
                    # Sources of one fresh run must not both make the table.
                    self.database.run("select pg_advisory_xact_lock(%s)", (lock_key(""),))
                    table = self._create_or_evolve(layout)
                self._run_upkeep(layout)
                return table
            except SinkError as error:
                if not isinstance(error.__cause__, errors.LockNotAvailable):
                    raise
            self.database.pause(locks.CHANGE_PAUSE_S)
        location = self.location_of(layout)
        self._refused[layout.stream] = SinkError(
            f"the table {location.name} is to be changed for {layout.source}.{layout.stream}, and other sessions hold "
            f"a lock ({lock_holders(self.database, location.sql)}): penstock waited {locks.CHANGE_TRIES} times for "
            f"{locks.SHORT_WAIT_MS / 1000:g} s. Nothing was replaced. Wait for these sessions to end, or end them, and "
            "run again."
        )
        raise self._refused[layout.stream]

    def check_unchanged(self, tables: Sequence[Table]) -> None:
        """
        Inside the transaction that wrote to these tables, which keeps their definitions: raises SinkError where one is
        not as it was when the run looked at it. A type that somebody changed meanwhile may round what was sent.
        """
        for table in {table.oid: table for table in tables}.values():
            if definition_of(self.database, table.sql, table.oid, table.columns) != table.definition:
                self._tables.pop(table.layout.stream, None)
                raise SinkError(
                    f"{table.sql} was changed while the run wrote to it: its columns, a trigger or a rule, or another "
                    "table is in its place. Nothing was replaced; run again."
                )

    def _run_upkeep(self, layout: Layout) -> None:
        """Give a table of an earlier version what it lacks, in one short try; it is not needed to write."""
        for statement in self._upkeep.pop(layout.stream, []):
            with suppress(SinkError, TargetError), short_wait(self.database):
                self.database.run(statement)

    def _create_or_evolve(self, layout: Layout) -> Table:
        (candidate,) = self._candidates([layout])
        former = self._recorded_tables().get(layout.stream)
        changes = self._needed_changes(candidate, former)
        if candidate.catalog.oid is None:
            if former is not None:  # it was there when the target was opened
                raise candidate.dropped_error()
            create(self.database, candidate)
        else:
            evolve(self.database, candidate.location, changes)
            self._upkeep[layout.stream] = upkeep_statements(self.database, candidate)
        if candidate.catalog.oid is None or changes:
            (candidate,) = self._candidates([layout])
        if (recorded := candidate.recorded) != former:
            self.ledger.record_table(recorded)
        if layout.kind == "changes" and self.ledger.merged_rows(layout.source, layout.stream) is None:
            self._count_merged_rows(candidate)
        for role in candidate.location.grant_to:
            grant(self.database, role, candidate.location.schema, [candidate.location.table])
        added = [change.added.name for change in changes if change.added is not None]
        if added:
            self.notices.append(added_notice(candidate.location.name, added))
        self._added[layout.stream] = self._added.get(layout.stream, frozenset()).union(added)
        return Table(
            sql=candidate.location.sql,
            layout=layout,
            types={column.name: candidate.catalog.types[short(column.name)] for column in layout.columns},
            added=self._added[layout.stream],
            shared=candidate.shared,
            unique=candidate.unique,
            altering=candidate.catalog.altering,
            oid=recorded.oid,
            definition=definition_of(
                self.database, candidate.location.sql, recorded.oid, [column.name for column in layout.columns]
            ),
        )

    def _count_merged_rows(self, candidate: Candidate) -> None:
        layout = candidate.layout
        where, values = source_condition(layout.source, shared=candidate.shared)
        rows = self.database.value(f"select count(*) from {candidate.location.sql} where {where}", values)
        self.ledger.set_merged_rows(layout.source, layout.stream, rows)

    def _needed_changes(self, candidate: Candidate, recorded: LedgerTable | None) -> list[TableChange]:
        """
        The changes that an existing table needs. Raises TargetError if they are not possible, or if this user may not
        make them.
        """
        candidate.check_names(self.ledger.schema)
        if candidate.catalog.oid is None:
            if recorded is not None:
                self._check_not_moved(candidate, recorded)
            candidate.check_rights()
            return []
        self._check_not_taken(candidate)
        self._check_recognised(candidate, recorded)
        return self._possible_changes(candidate)

    def _possible_changes(self, candidate: Candidate) -> list[TableChange]:
        """The changes that an existing table of the stream needs. Raises as :meth:`_needed_changes` does."""
        candidate.check_key()
        candidate.check_heirs()
        self._check_source(candidate)
        candidate.check_others()
        changes = candidate.changes()
        candidate.check_rights()
        return changes

    def _check_source(self, candidate: Candidate) -> None:
        """Refuse a shared table whose default would give rows of this source to another one, or to none."""
        if not candidate.shared:
            return
        location, catalog = candidate.location, candidate.catalog
        with short_wait(self.database):  # the server locks the table to write an expression
            default = self.database.value(
                "select pg_get_expr(adbin, adrelid) from pg_attrdef join pg_attribute on attrelid = adrelid and "
                "attnum = adnum where adrelid = %s::bigint::oid and attname = %s",
                (catalog.oid, SOURCE_COLUMN),
            )
        if "'penstock.source'" not in (default or ""):
            raise TargetError(
                f"the column {SOURCE_COLUMN} of the table {location.name} has lost its default, by which each row gets "
                f"its source. Its owner {catalog.owner} must run: alter table {location.sql} alter column "
                f"{SOURCE_COLUMN} set default {SOURCE_DEFAULT}. Nothing was changed."
            )

    def adoptable(self, layout: Layout) -> Candidate:
        """The existing table that can become the one of ``layout``. Raises TargetError."""
        (candidate,) = self._candidates([layout])
        candidate.check_names(self.ledger.schema)
        if candidate.catalog.oid is None or not candidate.catalog.is_table:
            what = "there is no table" if candidate.catalog.oid is None else "no table, but something else, is"
            raise TargetError(
                f"{what} {candidate.location.name} in the database {candidate.catalog.database}. Nothing was changed."
            )
        self._check_not_taken(candidate)
        candidate.check_mark()
        self._possible_changes(candidate)
        return candidate

    def adopt(self, candidate: Candidate) -> None:
        """Mark an existing table as the one of its stream, and record it."""
        with self.database.transaction():
            if not candidate.is_marked:
                text = candidate.catalog.comment or candidate.layout.summary or candidate.layout.stream
                set_comment(self.database, f"table {candidate.location.sql}", f"{text}\n\n{candidate.mark}")
            self.ledger.record_table(candidate.recorded)

    def unrecognised(self, layouts: Sequence[Layout]) -> list[str]:
        """The names of existing tables of streams in the ledger that are not recognised as theirs."""
        recorded = self._recorded_tables()
        candidates = self._candidates([layout for layout in layouts if layout.stream in recorded])
        return [
            table.location.name for table in candidates if table.catalog.is_table and not self._is_recognised(table)
        ]

    def _is_recognised(self, candidate: Candidate) -> bool:
        """
        Whether a table is the one of the stream, by its location and the mark in its comment. Its oid changes with a
        dump, so that it counts only together with the location.
        """
        at = self.ledger.recorded_at(candidate.location.schema, candidate.location.table)
        is_same = any(table.source == self.source and table.oid == candidate.catalog.oid for table in at)
        return candidate.catalog.is_table and (candidate.is_marked or is_same)

    def _check_not_taken(self, candidate: Candidate) -> None:
        """Refuse a table that has another stream, or another source although it is not shared."""
        stream = candidate.layout.stream
        for other in self.ledger.recorded_at(candidate.location.schema, candidate.location.table):
            if other.stream != stream or (other.source != self.source and not candidate.shared):
                raise candidate.taken_error(other)

    def _check_recognised(self, candidate: Candidate, recorded: LedgerTable | None) -> None:
        """Refuse a table that is not penstock's, or not the one that has the stream's rows."""
        if not self._is_recognised(candidate):
            raise candidate.foreign_error()
        if recorded is not None and recorded.name != candidate.location.name:
            self._check_not_moved(candidate, recorded)

    def _check_not_moved(self, candidate: Candidate, recorded: LedgerTable) -> None:
        """Refuse another table than the one that has the stream's rows."""
        (former,) = locate(self.database, [recorded])
        if former is not None and former.oid != candidate.catalog.oid:
            raise candidate.elsewhere_error(former)
