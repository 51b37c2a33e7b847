"""
One partition on its way into its tables: see :mod:`.sink` for what a commit is.
"""

# Names in statements come from quoted(), and those of temporary tables from a counter; values are parameters.
# ruff: noqa: S608

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from typing import Any, Protocol

import psycopg
from attrs import define, evolve, field
from penstock import MOST_REJECTED, Batch, Layout, LedgerEntry, Partition, SinkError, fault_point
from psycopg import errors

from penstock_plugins.postgres.database import Database, columns_sql, quoted, where_sql
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.rows import Chunk, Encoder, Unfit
from penstock_plugins.postgres.tables import AWARE, STAMPS, Table

# What a server says of a value, not of itself: it cannot be stored (class 22), or is too long for an index.
_OF_A_ROW = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.NotNullViolation,
    errors.CheckViolation,
)
_TWICE = (errors.UniqueViolation, errors.CardinalityViolation)

# In a report no part of the key is null, so a key that is null says that the row is on the other side only.
_COMPARE_BY_KEY = """select count(o.{first}), count(n.{first}), count(*) filter (where o.{first} is null),
    count(*) filter (where n.{first} is null),
    count(*) filter (where o.{first} is not null and n.{first} is not null and {differ})
    from {old} o full join {new} n on {equal}"""
_COMPARE_ROWS = """with o as {old}, n as (select {names} from {new})
    select (select count(*) from o), (select count(*) from n),
    (select count(*) from (select * from n except all select * from o) came),
    (select count(*) from (select * from o except all select * from n) went), 0"""


def _words(table: Table, columns: Sequence[str]) -> dict[str, str]:
    """What :data:`_COMPARE_BY_KEY` needs to know of a table, and of the columns to be compared."""
    if not table.key:
        return {}
    return {
        "first": quoted(table.key[0]),
        "equal": " and ".join(f"o.{quoted(name)} = n.{quoted(name)}" for name in table.key),
        "differ": _differ([name for name in columns if name not in table.key], "o.", "n."),
    }


def _differ(columns: Sequence[str], left: str, right: str) -> str:
    return f"({columns_sql(columns, left)}) is distinct from ({columns_sql(columns, right)})" if columns else "false"


def _readable(name: str, type_: str) -> str:
    """A column as psycopg can read it back whatever it holds: Python knows no time before year 1 or after 9999."""
    return {"jsonb": f"{name}::text", AWARE: f"to_json({name}) #>> '{{}}'"}.get(type_, name)


@define(eq=False)
class _Part:
    """One stream's share of a partition: bytes that wait, and the temporary table they went to."""

    table: Table
    encoder: Encoder
    chunks: list[Chunk] = field(factory=list)
    stage: str | None = None
    held: int = 0
    unfit: list[Unfit] = field(factory=list)
    repeated: int = 0  # rows of a key that had come before

    @property
    def layout(self) -> Layout:
        return self.table.layout

    def add(self, chunk: Chunk) -> None:
        if not chunk.rows:
            return
        if self.chunks and self.chunks[-1].columns == chunk.columns:
            last = self.chunks[-1]
            last.blocks += chunk.blocks
            last.rows += chunk.rows
            last.size += chunk.size
        else:
            self.chunks.append(chunk)
        self.held += chunk.size


class Around(Protocol):
    """What a writer needs of its target."""

    @property
    def database(self) -> Database: ...

    @property
    def ledger(self) -> PostgresLedger: ...

    def make_room(self) -> None: ...

    def stage_name(self) -> str: ...

    def ended(self, writer: "PostgresWriter") -> None: ...


class PostgresWriter:
    """One partition on its way into its tables."""

    def __init__(self, target: Around, tables: Sequence[Table], partition: Partition) -> None:
        self._target = target
        self._database = target.database
        self._partition = partition
        self._merged = tables[0].layout.kind == "changes"
        self._parts = {table.layout.stream: _Part(table, Encoder(target.database, table)) for table in tables}

    @property
    def held(self) -> int:
        """Bytes that wait in memory."""
        return sum(part.held for part in self._parts.values())

    def write(self, batch: Batch) -> None:
        if not batch.rows:
            return
        part = self._parts[batch.layout.stream]
        chunk, unfit = part.encoder.chunk(batch.rows)
        part.add(chunk)
        self._set_aside(part, unfit)
        self._target.make_room()

    def spill(self) -> None:
        """Put what waits into temporary tables."""
        with self._database.explained():
            for part in self._parts.values():
                if part.chunks:
                    self._stage(part)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        try:
            with self._database.explained():
                committed = self._committed(entry)
        finally:
            self.abort()
        fault_point("postgres.committed")
        return committed

    def abort(self) -> None:
        for part in self._parts.values():
            part.chunks.clear()
            part.held = 0
            if part.stage is not None:
                # A session that is lost has dropped it already.
                with suppress(psycopg.Error):
                    self._database.run(f"drop table if exists {part.stage}")
                part.stage = None
        self._target.ended(self)

    # --- temporary tables -------------------------------------------------------------------------------------------

    def _stage(self, part: _Part) -> None:
        """Move what waits into the part's temporary table; outside of a transaction."""
        if part.stage is None:
            stage = self._target.stage_name()
            columns = columns_sql(part.table.columns)
            self._database.run(f"create temporary table {stage} as select {columns} from {part.table.sql} with no data")
            part.stage = stage
        for chunk in part.chunks:
            self._copy(part, chunk, part.stage)
        part.chunks.clear()
        part.held = 0
        fault_point("postgres.staged")

    def _copy(self, part: _Part, chunk: Chunk, into: str) -> None:
        """COPY; rows that the server refuses are set aside, and the others sent again."""
        while chunk.rows:
            try:
                self._send(chunk, into)
                return
            except _OF_A_ROW as error:
                chunk, unfit = part.encoder.sifted(chunk, error)
                self._set_aside(part, unfit)

    def _send(self, chunk: Chunk, into: str) -> None:
        self._database.copy(
            f"copy {into} ({columns_sql(chunk.columns)}) from stdin (format binary)", iter(chunk.stream())
        )

    def _set_aside(self, part: _Part, unfit: Sequence[Unfit]) -> None:
        part.unfit += unfit
        if len(part.unfit) > MOST_REJECTED:
            first = part.unfit[0].rejected
            raise SinkError(
                f"{part.table.sql} cannot hold more than {MOST_REJECTED} records of {self._partition}, the first for "
                f"this reason: {first.path}: {first.reason}. Nothing was replaced."
            )

    # --- the transaction --------------------------------------------------------------------------------------------

    def _committed(self, entry: LedgerEntry) -> LedgerEntry:
        former = self._target.ledger.entry(entry.source, self._partition) if entry.version else None
        had_rows = {stream: self._has_rows(part) for stream, part in self._parts.items()}
        for stream, part in self._parts.items():
            if part.stage is not None or (self._merged and part.chunks) or had_rows[stream]:
                self._stage(part)
        while True:
            held = self._as_held(entry)
            if had_rows[self._partition.stream]:
                self._refuse_emptying(held)
            try:
                with self._database.transaction():
                    fault_point("postgres.begun")
                    held = self._replace(held, former, had_rows)
                    fault_point("postgres.written")
                    self._target.ledger.deliver(held)
                    fault_point("postgres.recorded")
                return held
            except _TWICE as error:
                if not self._without_repeats():
                    raise error
            except _OF_A_ROW as error:
                if not self._without_unfit():
                    raise error

    def _refuse_emptying(self, held: LedgerEntry) -> None:
        """
        Raises SinkError where the table refuses every record: rows that are there do not make way for nothing.
        """
        part = self._parts[self._partition.stream]
        if held.rows or not part.unfit:
            return
        first = part.unfit[0].rejected
        raise SinkError(
            f"{part.table.sql} refuses all {len(part.unfit)} records of {self._partition}, the first because "
            f"{first.path}: {first.reason}. The rows delivered before stay. If the table has a constraint or a trigger "
            "of yours, correct it, and run again."
        )

    def _has_rows(self, part: _Part) -> bool:
        """Whether the partition has rows in the table. Only this run writes it, so that stays true until it does."""
        if self._merged:
            return False
        where, values = self._where(part)
        return bool(self._database.one(f"select exists (select from {part.table.sql} where {where})", values))

    def _where(self, part: _Part) -> tuple[str, list[Any]]:
        own = {name: value for name, value in self._partition.values if name in part.table.types}
        return where_sql(own, part.table.types)

    def _replace(self, entry: LedgerEntry, former: LedgerEntry | None, had_rows: Mapping[str, bool]) -> LedgerEntry:
        parts = list(self._parts.values())
        main = parts[0]
        changes = None
        if main.layout.kind == "report" and (had_rows[main.layout.stream] or (former is not None and former.delivered)):
            reshaped = former is not None and former.fingerprint != entry.fingerprint
            changes = self._compare(main, entry, reshaped=reshaped)
        if self._merged and main.stage is not None:
            for part in parts[1:]:
                self._drop_children(main, part)
        for part in parts:
            if had_rows[part.layout.stream]:
                self._drop_old(part)
            if part.stage is not None:
                self._insert(part)
            for chunk in part.chunks:
                self._send(chunk, part.table.sql)
        return entry if changes is None else evolve(entry, changes=changes)

    def _insert(self, part: _Part, *, where: str = "true") -> None:
        """The staged rows into their table; those of a merged stream in place of the rows of their keys."""
        columns = part.table.columns
        listed = columns_sql(columns)
        statement = f"insert into {part.table.sql} as old ({listed}) select {listed} from {part.stage} where {where}"
        if self._merged and not part.layout.derived_by:
            others = [name for name in columns if name not in part.table.key]
            updated = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in (*others, *STAMPS))
            statement += f" on conflict ({columns_sql(part.table.key)}) do update set {updated}"
            statement += f" where {_differ(others, 'old.', 'excluded.')}"
        self._database.run(statement)

    def _drop_old(self, part: _Part) -> None:
        if not self._merged:
            where, values = self._where(part)
            self._database.run(f"delete from {part.table.sql} where {where}", values)

    def _drop_children(self, parent: _Part, child: _Part) -> None:
        """A parent that was read again brings all its derived rows anew."""
        pairs = zip(child.layout.derived_by, parent.layout.key, strict=True)
        equal = " and ".join(f"c.{quoted(own)} = p.{quoted(theirs)}" for own, theirs in pairs)
        self._database.run(f"delete from {child.table.sql} c using {parent.stage} p where {equal}")

    # --- what changed -----------------------------------------------------------------------------------------------

    def _compare(self, part: _Part, entry: LedgerEntry, *, reshaped: bool) -> dict[str, int]:
        """
        Rows that came, went and changed against what the table holds; written to ``penstock.restatements``.

        ``reshaped``: the former reading was made with other settings, such as ``exclude``.
        """
        table, measures = part.table, part.layout.measures
        before: Sequence[Any] = ()
        after: Sequence[Any] = ()
        if part.stage is None:  # nothing was there: all that comes is new
            rows_before, rows_after, came, went, changed = 0, entry.rows, entry.rows, 0, 0
            before = [0] * len(measures)
            after = [entry.sums.get(name, 0) for name in measures]
        else:
            where, values = self._where(part)
            columns = self._told_before(part, table.columns if reshaped else table.added)
            measures = tuple(name for name in measures if name in columns)
            names = columns_sql(columns)
            old = f"(select {names} from {table.sql} where {where})"
            compared = _COMPARE_BY_KEY if table.key else _COMPARE_ROWS
            words = _words(table, columns)
            found = self._row(compared.format(old=old, new=part.stage, names=names, **words), values)
            rows_before, rows_after, came, went, changed = found
            if measures:
                totals = ", ".join(f"coalesce(sum({quoted(name)}), 0)" for name in measures)
                before = self._row(f"select {totals} from {old} o", values)
                after = self._row(f"select {totals} from {part.stage}")
        changes = {"came": came, "went": went, "changed": changed}
        if any(changes.values()):
            moved = {name: (old, new) for name, old, new in zip(measures, before, after, strict=True) if old != new}
            self._target.ledger.restate(entry, (rows_before, rows_after), moved, changes)
        return changes

    def _told_before(self, part: _Part, doubtful: Collection[str]) -> Sequence[str]:
        """
        The columns without those of ``doubtful`` that are null in every row of before: that they have values now is
        news of the settings or of the record class, not of the provider.
        """
        asked = [name for name in part.table.columns if name in doubtful]
        if not asked:
            return part.table.columns
        where, values = self._where(part)
        filled = ", ".join(f"count({quoted(name)}) > 0" for name in asked)
        found = self._row(f"select {filled} from {part.table.sql} where {where}", values)
        empty = {name for name, any_value in zip(asked, found, strict=True) if not any_value}
        return [name for name in part.table.columns if name not in empty] or part.table.columns

    def _row(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Any]:
        row = self._database.run(statement, values).fetchone()
        assert row is not None
        return row

    # --- rows that do not fit ---------------------------------------------------------------------------------------

    def _as_held(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the rows that were set aside here."""
        rejected = [*entry.rejected_records]
        changes: dict[str, Any] = {}
        for part in self._parts.values():
            rejected += [one.rejected for one in part.unfit]
            missing = len(part.unfit) + part.repeated
            if not missing:
                continue
            stream = part.layout.stream
            if stream != self._partition.stream:
                changes["derived_rows"] = {**entry.derived_rows, **changes.get("derived_rows", {})}
                changes["derived_rows"][stream] = entry.derived_rows.get(stream, 0) - missing
                continue
            changes |= {
                "rows": entry.rows - missing,
                "rejected": entry.rejected + len(part.unfit),
                "repeated": entry.repeated + part.repeated,
                "sums": self._sums_without(part, entry),
            }
        return evolve(entry, **changes, rejected_records=tuple(rejected)) if changes else entry

    def _sums_without(self, part: _Part, entry: LedgerEntry) -> dict[str, Decimal]:
        if part.repeated and part.stage is not None and part.layout.measures:
            total = ", ".join(f"coalesce(sum({quoted(name)}), 0)" for name in part.layout.measures)
            found = self._row(f"select {total} from {part.stage}")
            return {name: Decimal(value) for name, value in zip(part.layout.measures, found, strict=True)}
        with localcontext(prec=1000):  # one that does not fit may be longer than all the others
            return {
                name: total - sum((Decimal(one.values.get(name) or 0) for one in part.unfit), Decimal(0))
                for name, total in entry.sums.items()
            }

    def _without_repeats(self) -> bool:
        """
        Drop all but one row of each key: the latest of changes, else the first, as on a page. Whether there were any.
        """
        found = 0
        for part in self._parts.values():
            if not part.table.key:
                continue
            self._stage(part)
            same = " and ".join(f"a.{quoted(name)} = b.{quoted(name)}" for name in part.table.key)
            # Rows of a temporary table that was only ever filled lie in the order in which they came.
            repeated = self._database.run(
                f"delete from {part.stage} a using (select {columns_sql(part.table.key)}, "
                f"{'max' if self._merged else 'min'}(ctid) as kept from {part.stage} "
                f"group by {columns_sql(part.table.key)} having count(*) > 1) b where {same} and a.ctid <> b.kept"
            ).rowcount
            found += repeated
            if not self._merged:
                part.repeated += repeated
        return found > 0

    def _without_unfit(self) -> bool:
        """
        Set aside the rows that the table refuses, looked for by halving. Whether it is worth another try.
        """
        found = False
        for part in self._parts.values():
            known = len(part.unfit)
            found = found or bool(part.chunks)  # on its way into the temporary table each is looked at
            self._stage(part)
            places = [row[0] for row in self._database.run(f"select ctid::text from {part.stage}").fetchall()]
            with self._database.connection.transaction(force_rollback=True):
                self._drop_old(part)
                bad = self._refused(part, places)
            for place, reason in bad:
                listed = ", ".join(_readable(quoted(name), type_) for name, type_ in part.table.types.items())
                row = self._row(f"delete from {part.stage} where ctid = %s::tid returning {listed}", (place,))
                self._set_aside(part, [part.encoder.refused(row, reason)])
            found = found or len(part.unfit) > known
        return found

    def _refused(self, part: _Part, places: Sequence[str]) -> list[tuple[str, str]]:
        """Which of these rows of the temporary table cannot be inserted, each with the reason."""
        if not places:
            return []
        try:
            with self._database.connection.transaction(force_rollback=True):
                listed = ", ".join(f"'{place}'" for place in places)
                self._insert(part, where=f"ctid in ({listed})")
        except (*_TWICE, *_OF_A_ROW) as error:
            if len(places) == 1:
                return [(places[0], error.diag.message_primary or str(error))]
            middle = len(places) // 2
            return [*self._refused(part, places[:middle]), *self._refused(part, places[middle:])]
        return []
