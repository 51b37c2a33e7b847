"""
What a commit writes inside its transaction: the rows of a partition, and its row in the ledger.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import define, evolve, field
from penstock import LedgerEntry, Partition, SinkError, fault_point
from penstock.ledger import restated_sums

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.merge import Merge
from penstock_plugins.postgres.new_rows import NewRows
from penstock_plugins.postgres.replacement import NewRowsRelation, Replacement, RowDifferences, Scope, insert
from penstock_plugins.postgres.sql_text import columns_sql, quoted
from penstock_plugins.postgres.table_locations import SOURCE_COLUMN
from penstock_plugins.postgres.tables import Table


@define(eq=False)
class Delivery(ABC):
    """
    The rows of a partition by stream, the partition's own stream first. :meth:`prepare` comes before each try of
    :meth:`write`.
    """

    database: Database
    ledger: PostgresLedger
    source: str
    partition: Partition
    rows: Mapping[str, NewRows]

    _is_looked_up: bool = field(init=False, default=False)
    _former: LedgerEntry | None = field(init=False, default=None)
    """The reading that is replaced."""
    _present: frozenset[str] = field(init=False, default=frozenset())
    """The streams whose tables may have rows of the partition."""
    _relations: Mapping[str, NewRowsRelation | None] = field(init=False, factory=dict)
    """By stream: what statements read the new rows from. None: chunks are copied directly into the table."""

    @property
    def main(self) -> NewRows:
        """The rows of the partition's own stream; the others are derived from it."""
        return self.rows[self.partition.stream]

    def prepare(self, entry: LedgerEntry) -> None:
        """Look up, once, what is replaced, and make temporary tables where they are missing."""
        if not self._is_looked_up:
            self._former = entry.replaces
            if self._former is None and entry.version:
                self._former = self.ledger.entry(entry.source, self.partition)
            self._present = frozenset(stream for stream, rows in self.rows.items() if self._may_have_rows(rows.table))
            self._is_looked_up = True
        self._relations = {
            stream: rows.relation(
                f"penstock_new_{number}",
                copied_directly=self._is_copied_directly(stream) and not rows.table.altering,
            )
            for number, (stream, rows) in enumerate(self.rows.items())
        }

    def write(self, entry: LedgerEntry, *, delete_first: bool = False) -> LedgerEntry:
        """
        Write rows and ledger inside the transaction that is open. Returns the entry as it was recorded.

        Raises NotStoredError, SinkError and the errors of psycopg.
        """
        fault_point("postgres.begun")
        for stream, rows in self.rows.items():
            rows.copy_into(self._relations[stream])
        if any(rows.chunks and self._relations[stream] is not None for stream, rows in self.rows.items()):
            fault_point("postgres.staged")
        entry = self._change_tables(entry, delete_first=delete_first)
        self._check_stored()
        fault_point("postgres.written")
        self.ledger.deliver(entry)
        fault_point("postgres.recorded")
        return entry

    def rows_to_delete_first(self, rows: NewRows) -> Scope | None:
        """The former rows that must be deleted before new ones are inserted; None: a statement replaces by key."""
        return None

    def _check_stored(self) -> None:
        """
        Raises SinkError if a table with triggers or rules holds other rows or values than were sent. What these do at
        the end of the transaction is done before.
        """
        altering = [rows for rows in self.rows.values() if rows.table.altering]
        if altering:
            self.database.run("set constraints all immediate")
        for rows in altering:
            if not self._is_stored(rows):
                raise SinkError(
                    f"{rows.table.sql}: a trigger or a rule on the table alters what is sent: it holds other rows or "
                    f"values of {self.partition}. Nothing was replaced. Drop it, or let it leave penstock's columns "
                    "as they are (a column of your own may hold what it computes), and run again."
                )

    def _replacement(
        self,
        rows: NewRows,
        relation: NewRowsRelation,
        scope: Scope,
        compared: Sequence[str] = (),
        measures: Sequence[str] = (),
    ) -> Replacement:
        columns = compared or rows.table.columns
        return Replacement(self.database, rows.table, relation, scope, columns, measures)

    def _relation_of(self, rows: NewRows) -> NewRowsRelation:
        """The relation of rows that are not copied directly."""
        relation = self._relations[rows.layout.stream]
        assert relation is not None, "these rows are not copied directly"
        return relation

    def _scope(self, table: Table, values: Mapping[str, str]) -> Scope:
        """The rows of the source with these values in these columns."""
        types: Mapping[str, str] = table.types
        if table.shared:
            values, types = {SOURCE_COLUMN: self.source, **values}, {SOURCE_COLUMN: "text", **types}
        parameters = {f"scope_{number}": value for number, value in enumerate(values.values())}
        conditions = [
            f"old.{quoted(name)} = %({parameter})s::{types[name]}"
            for name, parameter in zip(values, parameters, strict=True)
        ]
        return Scope(where=" and ".join(conditions) or "true", values=parameters)

    # --- by kind of stream ------------------------------------------------------------------------------------------

    @abstractmethod
    def _may_have_rows(self, table: Table) -> bool:
        """Whether the table may have rows of the partition."""

    @abstractmethod
    def _is_copied_directly(self, stream: str) -> bool:
        """Whether chunks are copied directly into the table."""

    @abstractmethod
    def _change_tables(self, entry: LedgerEntry, *, delete_first: bool) -> LedgerEntry:
        """Give the tables their new rows. Returns the entry, with what changed."""

    @abstractmethod
    def _is_stored(self, rows: NewRows) -> bool:
        """Whether the table has the rows that were sent."""


class ReplacingDelivery(Delivery):
    """Replaces the rows of a partition, of a report or a snapshot."""

    def rows_to_delete_first(self, rows: NewRows) -> Scope | None:
        return None if rows.table.comparable else self._of_partition(rows.table)

    def _of_partition(self, table: Table) -> Scope:
        """The rows of the partition."""
        return self._scope(table, {name: value for name, value in self.partition.values if name in table.types})

    def _may_have_rows(self, table: Table) -> bool:
        # Only this run writes rows of the partition, so that the result stays valid.
        if self._former is not None and self._former.delivered:
            return True
        scope = self._of_partition(table)
        return bool(
            self.database.value(f"select exists (select from {table.sql} as old where {scope.where})", scope.values)
        )

    def _is_copied_directly(self, stream: str) -> bool:
        return stream not in self._present

    def _change_tables(self, entry: LedgerEntry, *, delete_first: bool) -> LedgerEntry:
        row_differences = None
        for stream, rows in self.rows.items():
            relation = self._relations[stream]
            if relation is None:
                continue  # copied directly
            if stream not in self._present:
                if rows.count:
                    insert(self.database, rows.table, relation, rows.count)
            elif rows is self.main and rows.layout.kind == "report":
                row_differences = self._restate(relation, entry, delete_first=delete_first)
            else:
                replacement = self._replacement(rows, relation, self._of_partition(rows.table))
                replacement.replace_rows(rows.count, delete_first=delete_first)
        return entry if row_differences is None else evolve(entry, changes=row_differences)

    def _restate(self, relation: NewRowsRelation, entry: LedgerEntry, *, delete_first: bool) -> dict[str, int]:
        """
        Replace the rows of a report. Returns the numbers of added, removed and changed rows, which are also written to
        the ledger's restatements.
        """
        rows, scope = self.main, self._of_partition(self.main.table)
        reshaped = self._former is not None and self._former.fingerprint != entry.fingerprint
        compared = self._compared(scope, rows.table.columns if reshaped else rows.table.added)
        measures = tuple(name for name in rows.layout.measures if name in compared)
        replacement = self._replacement(rows, relation, scope, compared, measures)
        differences = replacement.replace_rows(rows.count, delete_first=delete_first)
        # Names of the ledger: inserted rows came, deleted rows went, restated rows changed in a compared column.
        changes = {"came": differences.inserted, "went": differences.deleted, "changed": differences.restated}
        if any(changes.values()):
            before = dict(zip(measures, differences.sums_before, strict=True))
            after = {**entry.sums, **dict(zip(measures, differences.sums_after, strict=True))}
            sums = {name: (old, after[name]) for name, old in before.items() if old != after[name]}
            of_readings = restated_sums(self._former, evolve(entry, changes=changes)) or {}
            sums |= {name: moved for name, moved in of_readings.items() if name not in rows.layout.measures}
            self.ledger.restate(entry, (differences.before, differences.after), sums, changes)
        return changes

    def _compared(self, scope: Scope, doubtful: Collection[str]) -> Sequence[str]:
        """
        The columns without those of ``doubtful`` that are null in every former row: that they have values now is a
        change of the settings or of the record class, not of the provider.
        """
        table = self.main.table
        queried = [name for name in table.columns if name in doubtful]
        if not queried:
            return table.columns
        filled = ", ".join(f"count({quoted(name)}) > 0" for name in queried)
        is_filled = self.database.row(f"select {filled} from {table.sql} as old where {scope.where}", scope.values)
        empty = {name for name, any_value in zip(queried, is_filled, strict=True) if not any_value}
        return [name for name in table.columns if name not in empty] or table.columns

    def _is_stored(self, rows: NewRows) -> bool:
        return self._replacement(rows, self._relation_of(rows), self._of_partition(rows.table)).is_stored()


class MergingDelivery(Delivery):
    """Merges the rows of a ``changes`` stream by key; derived rows are replaced by parent."""

    def _may_have_rows(self, table: Table) -> bool:
        return False

    def _is_copied_directly(self, stream: str) -> bool:
        return False

    def _change_tables(self, entry: LedgerEntry, *, delete_first: bool) -> LedgerEntry:
        if len(self.rows) > 1:  # derived rows are looked up by their parents
            self.database.run("select set_config('enable_nestloop', 'on', true)")
        for rows in self.rows.values():
            if rows is not self.main:
                differences = self._children(rows).replace_rows(rows.count, delete_first=delete_first)
                self._count_children(rows.layout.stream, differences)
        self._merge().merge_rows(self.main.count)
        return entry

    def _count_children(self, stream: str, differences: RowDifferences) -> None:
        """Add what a derived stream gained to the ledger's count of its rows."""
        if more := differences.after - differences.before:
            values = {"more": more, "source": self.source, "stream": stream}
            self.database.run(self.ledger.add_merged_rows_sql("%(more)s::bigint"), values)

    def _merge(self) -> Merge:
        table = self.main.table
        relation = self._relation_of(self.main)
        return Merge(self.database, self.ledger, self.source, table, relation, self._scope(table, {}))

    def _children(self, rows: NewRows) -> Replacement:
        """The replacement of all rows that are derived from the parents in this partition."""
        parents, children = self._relation_of(self.main), self._relation_of(rows)
        key = self.main.layout.key
        references = [f"{quoted(column)}{as_key}" for column, as_key in self._references(rows)]
        parent, relations_of_parents = parents.name, [parents]
        if self.main.unfit:  # the rows that are derived from a rejected parent are delivered all the same
            rejected = f"select {', '.join(references)} from {children.name}"
            parent = f"(select {columns_sql(key)} from {parents.name} union {rejected})"
            relations_of_parents.append(children)
        pairs = zip(references, map(quoted, key), strict=True)
        is_child = " and ".join(f"old.{reference} = parent.{of_parent}" for reference, of_parent in pairs)
        own_rows = self._scope(rows.table, {})
        where = f"{own_rows.where} and exists (select from {parent} as parent where {is_child})"
        scope = Scope(where=where, values=own_rows.values, relations=relations_of_parents)
        return self._replacement(rows, children, scope)

    def _references(self, rows: NewRows) -> Iterator[tuple[str, str]]:
        """
        The columns of a derived stream that hold its parent's key, each with the cast by which a text is compared as
        the key is: equal values may be written otherwise.
        """
        types, types_of_key = rows.table.types, self.main.table.types
        for column, of_parent in zip(rows.layout.derived_by, self.main.layout.key, strict=True):
            is_text = types[column] == "text" != types_of_key[of_parent]
            yield column, f"::{types_of_key[of_parent]}" if is_text else ""

    def _is_stored(self, rows: NewRows) -> bool:
        stored = self._merge() if rows is self.main else self._children(rows)
        return stored.is_stored()
