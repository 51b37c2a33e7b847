"""
The ledger of a directory of files: the core's ledger, and tables for the files of ``changes`` streams.

A ``changes`` stream has one file per account, made of many partitions. Its size and checksum, and the intent to
replace it, are kept per account in ``merges``; ``layouts`` keeps the layouts, to merge without the connector, and to
compare the types of columns with those of files that have types.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from attrs import evolve, frozen
from penstock import Column, Layout, LedgerEntry, LedgerFile, Partition
from penstock.ledger import UNSETTLED, LedgerWrite, SqliteLedger, files_from, files_text, partition_of


@frozen(kw_only=True, eq=False, repr=False)
class MergedFiles:
    """
    An account's file, into which its days are merged, and those of streams derived from it. ``intended``: the files
    that are to replace them.
    """

    source: str
    stream: str
    account: str  # the partition's values without the day, as canonical JSON
    files: tuple[LedgerFile, ...] = ()
    intended: tuple[LedgerFile, ...] | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The values that identify its row."""
        return self.source, self.stream, self.account

    @property
    def partition(self) -> Partition:
        """The account, as a partition without a day."""
        return partition_of(self.stream, self.account)


# What is kept of a column: what the header of a file, or its schema, is made of.
_KEPT = (
    "name",
    "type",
    "nullable",
    "zone",
    "description",
    "unit",
    "unit_of",
    "member",
    "additive",
    "personal",
    "decimal_scale",
)

# Development versions (decision 72).
PlaceOf = Callable[[str, Partition], str]
"""A file's place and the partition (or the account) that it holds, to its new place."""


# A file without a size is none: the partition has no rows.
_HAS_FILES = """instr(files, '"size"') > 0"""


class FileLedger(SqliteLedger):
    # Else a run, which lists the files of its streams, would read the rows of all empty days.
    indexes = (
        *SqliteLedger.indexes,
        "create index if not exists partitions_files on {t}partitions "
        f"(source, stream, partition) where {_HAS_FILES}",
    )
    more_tables = (
        """create table if not exists {t}merges (
            source text not null, stream text not null, account text not null, files text not null,
            meant text, primary key (source, stream, account))""",
        """create table if not exists {t}layouts (
            source text not null, stream text not null, layouts text not null, primary key (source, stream))""",
    )

    def unsettled(self, source: str, stream: str | None = None) -> list[LedgerEntry]:
        """The entries whose commit was interrupted, by a crash or the end of a run; found by an index."""
        entries = self._entries(f"source = ? and {UNSETTLED}", source)
        return [entry for entry in entries if stream in (None, entry.partition.stream)]

    def _compare(self, write: LedgerWrite) -> None:
        if write.version > 1:  # else it is the version of the first intent: nothing was delivered before
            super()._compare(write)

    # --- places -----------------------------------------------------------------------------------------------------

    def places(
        self, source: str, stream: str, directory: str, since: date | None = None, until: date | None = None
    ) -> Iterator[str]:
        """
        The places below ``directory`` of the files of the partitions of ``stream``, in the order of these. A derived
        stream's files are in the rows of the stream that it is derived from.

        ``since``, ``until``: of partitions that have a day, those of these days, and those whose commit was
        interrupted; then in any order, and some places twice.
        """
        days = ((since or date.min).isoformat(), (until or date.max).isoformat())
        every = [("partitions", f"stream = ? and {_HAS_FILES} order by source, stream, partition", ())]
        of_days = [
            ("partitions", "stream = ? and day >= ? and day <= ?", days),
            ("partitions", "stream = ? and day = ''", ()),
            ("partitions", f"+stream = ? and {UNSETTLED}", ()),  # the sign: by the index of these few rows
        ]
        chosen = every if since is None and until is None else of_days
        for table, where, values in (*chosen, ("merges", "stream = ? order by source, stream, account", ())):
            for (text,) in self._sql(
                f"select files from {{t}}{table} where source = ? and {where}", source, stream, *values
            ):
                for file in files_from(text):
                    if file.size is not None and file.path.startswith(directory):
                        yield file.path

    # --- places of development versions (decision 72) ---------------------------------------------------------------

    def moves(self, source: str, place_of: PlaceOf) -> list[tuple[str, str]]:
        """Every file of a source whose place is another one by ``place_of``: the old place, the new one."""
        return [
            (file.path, place)
            for _, of, texts in self._files(source)
            for text in texts
            for file in files_from(text or "[]")
            if (place := place_of(file.path, of)) != file.path
        ]

    def move(self, source: str, place_of: PlaceOf, fact: str, value: str) -> None:
        """Record all moves, and the fact that they were made, at once."""
        with self._transaction():
            for statement, of, texts in self._files(source):
                moved = [
                    text and files_text(evolve(file, path=place_of(file.path, of)) for file in files_from(text))
                    for text in texts
                ]
                self._sql(statement, *moved, source, of.stream, of.text)
            self.set_fact(fact, value)

    def _files(self, source: str) -> list[tuple[str, Partition, tuple[str | None, ...]]]:
        """What sets the files of a row, the row's partition (or account), and the texts of its files."""
        updates: list[tuple[str, Partition, tuple[str | None, ...]]] = []
        for table, key, columns in (("partitions", "partition", ["files"]), ("merges", "account", ["files", "meant"])):
            where = f"source = ? and stream = ? and {key} = ?"
            statement = f"update {{t}}{table} set {', '.join(f'{column} = ?' for column in columns)} where {where}"
            names = ", ".join(("stream", key, *columns))
            rows = self._sql(f"select {names} from {{t}}{table} where source = ? and files <> '[]'", source).fetchall()
            updates += [(statement, partition_of(stream, text), tuple(texts)) for stream, text, *texts in rows]
        return updates

    # --- changes ----------------------------------------------------------------------------------------------------

    def all_merged_files(self, source: str, stream: str | None = None) -> list[MergedFiles]:
        """The files of all accounts of a stream; None: of all streams."""
        if stream is not None:
            return self._merged_files("source = ? and stream = ?", source, stream)
        return self._merged_files("source = ?", source)

    def merged_files(self, source: str, account: Partition) -> MergedFiles | None:
        found = self._merged_files("source = ? and stream = ? and account = ?", source, account.stream, account.text)
        return found[0] if found else None

    def _merged_files(self, where: str, *values: str) -> list[MergedFiles]:
        rows = self._sql(
            f"select source, stream, account, files, meant from {{t}}merges where {where}",
            *values,
        ).fetchall()
        return [
            MergedFiles(
                source=source,
                stream=stream,
                account=account,
                files=files_from(files),
                intended=None if intended is None else files_from(intended),
            )
            for source, stream, account, files, intended in rows
        ]

    def intend(self, merged: MergedFiles) -> None:
        """Record the files that are about to replace an account's files."""
        self._sql(
            "insert into {t}merges (source, stream, account, files, meant) values (?, ?, ?, ?, ?) "
            "on conflict (source, stream, account) do update set meant = excluded.meant",
            *(*merged.key, files_text(merged.files), files_text(merged.intended or ())),
        )

    def deliver_merged(self, merged: MergedFiles, partitions: Iterable[Partition]) -> None:
        """Record, after the account's files are in place, that all merged partitions are delivered."""
        with self._transaction():
            if merged.intended is not None:
                files = files_text(evolve(file, staged=None) for file in merged.intended)
                self._sql(
                    "update {t}merges set files = ?, meant = null where source = ? and stream = ? and account = ?",
                    *(files, *merged.key),
                )
            for partition in partitions:
                self._sql(
                    "update {t}partitions set state = 'delivered', files = '[]', version = version + 1 "
                    "where source = ? and stream = ? and partition = ? and state = 'staged'",
                    *(merged.source, merged.stream, partition.text),
                )

    def forget_merged(self, merged: MergedFiles) -> list[Partition]:
        """Record that an account's file is lost: all partitions merged into it are missing. Returns them."""
        with self._transaction():
            accounts = [account for _, account in merged.partition.values] or None
            lost = [
                partition
                for partition, entry in self.entries(merged.source, merged.stream, accounts=accounts).items()
                if entry.delivered and partition.without_day.text == merged.account
            ]
            self._sql(
                "delete from {t}merges where source = ? and stream = ? and account = ?",
                *merged.key,
            )
            self.forget(merged.source, lost)
        return lost

    def keep_layouts(
        self, source: str, stream: str, layouts: Sequence[Layout], former: Mapping[str, Sequence[Column]]
    ) -> None:
        """
        Keep the layouts of a stream, and of those derived from it. ``former``: the columns that their files may have,
        by stream; those that a layout lacks are kept beside it.
        """
        text = json.dumps(
            [
                {
                    "stream": layout.stream,
                    "key": layout.key,
                    "derived_by": layout.derived_by,
                    "columns": _texts_of(layout.columns),
                    "former": _texts_of(_gone(former.get(layout.stream, ()), layout)),
                }
                for layout in layouts
            ]
        )
        self._sql(
            "insert into {t}layouts (source, stream, layouts) values (?, ?, ?) "
            "on conflict (source, stream) do update set layouts = excluded.layouts",
            *(source, stream, text),
        )

    def layouts(self, source: str, stream: str) -> tuple[Layout, ...]:
        """The layouts of :meth:`keep_layouts`, as far as merging needs them."""
        return tuple(
            Layout(
                source=source,
                stream=layout["stream"],
                kind="changes",
                key=tuple(layout["key"]),
                derived_by=tuple(layout["derived_by"]),
                columns=tuple(_columns_of(layout["columns"])),
            )
            for layout in self._stored_layouts(source, stream)
        )

    def written_columns(self, source: str, stream: str) -> dict[str, list[Column]]:
        """All columns that files of a stream, and of those derived from it, may have, by stream."""
        return {
            layout["stream"]: _columns_of([*layout["columns"], *layout.get("former", ())])
            for layout in self._stored_layouts(source, stream)
        }

    def _stored_layouts(self, source: str, stream: str) -> list[dict[str, Any]]:
        rows = self._sql("select layouts from {t}layouts where source = ? and stream = ?", source, stream).fetchall()
        return json.loads(rows[0][0]) if rows else []


def _gone(former: Sequence[Column], layout: Layout) -> list[Column]:
    declared = {column.name for column in layout.columns}
    return [column for column in former if column.name not in declared]


def _texts_of(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [{name: getattr(column, name) for name in _KEPT} for column in columns]


def _columns_of(stored: Sequence[Any]) -> list[Column]:
    """Development versions (decision 72) wrote name and type only."""
    return [
        Column(**(column if isinstance(column, dict) else dict(zip(_KEPT, column, strict=False)))) for column in stored
    ]
