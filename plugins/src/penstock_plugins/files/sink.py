"""
A directory of record files, one per partition, with its ledger beside them; shared by the formats (codecs).

::

    DIR/<source>/<stream>/by_<column>=<value>/.../data.jsonl  whole or not there, never half
    DIR/<source>/<stream>/.penstock                           the mark of a stream's directory
    DIR/<source>/datapackage.json                             what the columns are, and which files there are
    DIR/.penstock/ledger.sqlite, <source>.lock                mode 0700; nothing for readers in it
    DIR/.penstock/staged/<source>/                            files on their way to their places

**A commit.** Staged files are written and synced; the ledger records the intent (places, sizes, checksums); the files
are renamed into place and the directories synced; the ledger records the delivery. The next opening of the target
settles a commit that a crash interrupted: an intent whose files are all in place or still staged is completed; any
other is taken back, and the former delivery counts again if its files are intact.

Partitions that are ready together take each of these steps together: the ledger records their intents in one
transaction and their deliveries in another, and a directory that several of them change is synced once. Several syncs
are made at a time.

**A changes stream** has one file per account. Its days are staged (durably, with a ledger row), and merged by key
once per run, by ``finish`` or, after a crash, by the next opening: intent, renames, then all days delivered at once.
Merging a day again has no effect, so an interrupted merge is repeated.

**An erasure** of values rewrites files by the same steps. An account's file of a changes stream then has an intent
without staged days: it is completed if its files are in place or still staged, else taken back.

The names passed to :func:`fault_point` are the moments at which the tests kill the process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen
from penstock import (
    BaseSink,
    BaseTarget,
    Difference,
    Erased,
    Erasure,
    FinalDay,
    Layout,
    LedgerEntry,
    LedgerFile,
    Part,
    Partition,
    PenstockError,
    TargetError,
)
from penstock.ledger import Retention, files_from, partition_of

from penstock_plugins.files.changes import AccountFiles
from penstock_plugins.files.codec import Codec
from penstock_plugins.files.commit import Commits, FileWriter, stage_all
from penstock_plugins.files.datapackage import FILE_NAME, MOST_FILES, is_ours, with_resources
from penstock_plugins.files.disk import file_errors, file_name, ignores_case, make_directories, pair_from, replace_text
from penstock_plugins.files.earlier import move_to_this_layout
from penstock_plugins.files.erasure import Eraser
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.locks import SourceLock, alone, locked_by_worker, wait_for_workers
from penstock_plugins.files.places import MARK, STATE, SourceFiles

if TYPE_CHECKING:
    from penstock_plugins.files.staging import Coordination, StagingTarget

LEDGER = "ledger.sqlite"


@frozen(kw_only=True, eq=False, repr=False)
class FileSink(BaseSink):
    """Record files under ``directory``, in the format of ``codec``."""

    directory: Path
    codec: Codec
    compress: bool = False
    retention: Retention = field(factory=Retention)
    one_machine: ClassVar[bool] = True  # of processes that open it; see open_staging for others

    @property
    def address(self) -> str:
        """The directory, by whatever way it is named."""
        return f"directory {os.path.realpath(self.directory)}"

    def open(self, source: str, run_id: str, streams: Sequence[str] = (), *, part: Part | None = None) -> "FileTarget":
        state = self.directory / STATE
        if self.directory.exists() and not self.directory.is_dir():
            raise TargetError(
                f"{self.directory} is a file, and {self.codec.name}:DIR needs a directory. Name another one; a single "
                f"file must end in .{self.codec.name}{f' or .{self.codec.name}.gz' if self.codec.appends else ''}."
            )
        with file_errors(self.directory):
            make_directories(self.directory)
            make_directories(state, mode=0o700)
        what = f"{source} to {self.directory}"
        lock = SourceLock.taken(state, source, what, run_id, part)
        target = None
        try:
            ledger = FileLedger(state / LEDGER, retention=self.retention)
            target = FileTarget(self, source, ledger, lock)
            self._check_format(ledger)
            target.files.check_places(streams)
            target.check_source()
            if lock.first:
                wait_for_workers(state, source, what)
                target.settle()
            lock.share()
        except BaseException:
            if target is not None:
                target.close()
            lock.close()
            raise
        return target

    def find_mark(self, source: str, mark: str) -> None:
        """See :class:`penstock.sinks.Staging`."""
        from penstock_plugins.files.staging import find_mark

        find_mark(self.source_files(source), mark)

    def open_staging(self, source: str, run_id: str, request: Callable[[str], str]) -> "StagingTarget":
        """See :class:`penstock.sinks.Staging`."""
        from penstock_plugins.files.staging import StagingTarget

        lock = locked_by_worker(self.directory / STATE, source, run_id)
        return StagingTarget(self.source_files(source), request, lock)

    def source_files(self, source: str) -> SourceFiles:
        return SourceFiles(self.directory, source, self.codec, compress=self.compress)

    def open_readonly(self, source: str) -> "FileTarget | None":
        path = self.directory / STATE / LEDGER
        with file_errors(path):
            if not path.exists() or not path.stat().st_size:
                return None
        return FileTarget(self, source, FileLedger(path, readonly=True), None)

    def _check_format(self, ledger: FileLedger) -> None:
        former = ledger.fact("format")
        if former is None:
            ledger.set_fact("format", self.codec.name)
        elif former != self.codec.name:
            raise TargetError(
                f"{self.directory} holds {former} files, and its ledger counts them as delivered. Name another "
                f"directory for {self.codec.name}."
            )


class FileTarget(BaseTarget):
    """A directory opened for one source. Without a lock it is read-only."""

    ledger: FileLedger

    def __init__(self, sink: FileSink, source: str, ledger: FileLedger, lock: SourceLock | None) -> None:
        self.ledger = ledger
        self.source = source
        self.files = sink.source_files(source)
        self._lock = lock
        self._layouts: dict[str, Sequence[Layout]] = {}  # by the stream's name, its derived ones after it
        self._claimed: dict[str, Layout] = {}
        self._begun: set[Partition] = set()  # accounts of changes streams that this run writes
        self.notices: list[str] = []
        self.commits = Commits(self.files, ledger)
        self._accounts = AccountFiles(self.files, ledger, self._layouts)

    def check_source(self) -> None:
        """Raises TargetError where the file system takes the source's directory for that of another source."""
        if ignores_case(self.files.directory / STATE):
            for other in {source for source, _ in self.ledger.sources()}:
                if other != self.source and other.lower() == self.source.lower():
                    raise TargetError(
                        f"{self.files.directory} has the rows of the source {other}, and the file system takes "
                        f"{self.source} and {other} for one name. Name another target for {self.source}."
                    )

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> FileWriter:
        self.claim(layouts)
        if layouts[0].kind == "changes":
            self._begun.add(partition.without_day)
        self.distinguish(partition)
        return FileWriter(self.files, layouts, partition)

    def claim(self, layouts: Sequence[Layout]) -> None:
        """Claim the directories of a stream, and of those derived from it, before the first partition is written."""
        first = layouts[0]
        if first.kind == "changes" and self._layouts.get(first.stream) != layouts:
            self.ledger.keep_layouts(self.source, first.stream, layouts)
        self._layouts[first.stream] = layouts
        for layout in layouts:
            self._claim(layout)

    def distinguish(self, partition: Partition) -> None:
        """Raises TargetError where the file system takes its account's directory for that of another account."""
        for layout in self._layouts[partition.stream]:
            self.files.distinguish(layout.stream, partition, partial(self._places, partition.stream, layout.stream))

    def commit_group(self, commits: Sequence[tuple[FileWriter, LedgerEntry]]) -> list[LedgerEntry | Exception]:
        """See :class:`penstock.sinks.Grouping`."""
        return self.commits.commit_group(stage_all(self.files, commits))

    def mark(self) -> str:
        """See :class:`penstock.sinks.Coordinating`."""
        return self._coordination.leave_mark()

    def reply(self, request: str) -> str:
        """See :class:`penstock.sinks.Coordinating`."""
        return self._coordination.reply(request)

    @cached_property
    def _coordination(self) -> "Coordination":
        from penstock_plugins.files.staging import Coordination  # only runs over several machines need it

        return Coordination(self)

    def is_intact(self, entry: LedgerEntry) -> bool:
        """
        Whether every file has its recorded size. For a day of changes: the account's file. Contents are not read.
        """
        return self.files.is_intact(entry, self._merged_files)

    def _merged_files(self, account: Partition) -> Sequence[LedgerFile] | None:
        merged = self.ledger.merge(self.source, account)
        return None if merged is None else merged.files

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterator[FinalDay]:
        """See :class:`penstock.sinks.ListsFinal`."""
        intact: dict[str, bool] = {}  # by account, of a stream of changes
        for merge in self.ledger.merges(self.source):
            if merge.stream == stream:
                _, account = next(iter(partition_of(stream, merge.account).values), ("", ""))
                intact[account] = self.files.are_in_place(merge.files)
        for day, files, rows in self.ledger.final_days(
            self.source, stream, since=since, until=until, accounts=accounts
        ):
            if intact.get(day.account, not rows) if files == "[]" else self.files.are_in_place(files_from(files)):
                yield day

    def verify(
        self, stream: str, entries: Sequence[LedgerEntry], *, since: date | None = None, until: date | None = None
    ) -> Iterator[Difference]:
        """
        Size and checksum of every file; a file of a ``changes`` stream stands for all days of its account. Each file is
        read once. A record file that the ledger does not count is named, since readers of the directory read it, too.
        The directories of other days are not looked into.
        """
        merged: dict[Partition, str | None] = {}
        names: dict[str, None] = {}
        day_column = ""
        for entry in entries:
            day_column = entry.partition.values[-1][0] if entry.partition.day is not None else day_column
            names |= dict.fromkeys((stream, *entry.derived_rows))
            files: Sequence[LedgerFile] = entry.files
            if files or not entry.partition.values:
                difference = self.files.difference(files)
            else:
                account = entry.partition.without_day
                if account not in merged:
                    merge = self.ledger.merge(self.source, account)
                    merged[account] = None if merge is None else self.files.difference(merge.files)
                difference = merged[account]
            if difference is not None:
                yield Difference(partition=entry.partition, what=difference)
        for name in names:
            yield from self._uncounted(stream, name, day_column, since, until)

    def _uncounted(
        self, stream: str, name: str, day_column: str, since: date | None, until: date | None
    ) -> Iterator[Difference]:
        """The record files of these days in the directory of a stream that are of no partition in the ledger."""
        directory = self.files.directory_of(name)
        if not (directory / MARK).is_file():
            return  # not penstock's
        prefix = f"{directory.relative_to(self.files.directory).as_posix()}/"
        folded = str.lower if ignores_case(directory / MARK) else str
        # Of each text its hash, which is a third of the size.
        known = {hash(folded(path)) for path in self.ledger.places(self.source, stream, prefix, since, until)}
        suffixes = (f".{self.files.codec.name}", f".{self.files.codec.name}.gz")
        may_hold = _holding(day_column, since, until)
        for folder, folders, names in os.walk(directory, followlinks=True):
            folders[:] = filter(may_hold, folders)
            place = Path(folder).relative_to(self.files.directory).as_posix()
            for path in (f"{place}/{name}" for name in names if name.endswith(suffixes) and not name.startswith(".")):
                if hash(folded(path)) not in known:
                    pairs = [pair_from(part) for part in Path(path).relative_to(prefix).parts[:-1]]
                    partition = Partition(stream=stream, values=tuple(pair for pair in pairs if pair is not None))
                    yield Difference(partition=partition, what=f"{name}: the file {path}", uncounted=True)

    def finish(self, stream: str) -> None:
        """Merge the staged days of a changes stream (of a part: those of its accounts); no effect for others."""
        self._accounts.merge_days(stream, only=None if self._lock is None or self._lock.part is None else self._begun)

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """See :class:`penstock.sinks.Erasing`."""
        layouts = [erasure.layout for erasure in erasures]
        for layout in layouts:
            self._claim(layout)
            self.files.changed.add(file_name(layout.stream))  # its description has these columns
        self._layouts[layouts[0].stream] = layouts
        eraser = Eraser(
            files=self.files,
            ledger=self.ledger,
            commits=self.commits,
            accounts=self._accounts,
            erasures={file_name(erasure.layout.stream): erasure for erasure in erasures},
        )
        return (eraser.erase_accounts if layouts[0].kind == "changes" else eraser.erase_days)(entries)

    def settle(self) -> None:
        """Complete or take back interrupted commits of earlier runs, and remove orphaned files."""
        for entry in self.ledger.unsettled(self.source):
            if entry.state == "intended":
                with self._concerning(entry.partition.stream):
                    self.commits.settle(entry)
        move_to_this_layout(self.files, self.ledger)
        self._accounts.settle(self._concerning)
        waiting = [file for entry in self.ledger.unsettled(self.source) for file in entry.files]
        waiting += [file for merged in self.ledger.merges(self.source) for file in merged.meant or ()]
        self.files.remove_drafts(waiting)

    @contextmanager
    def _concerning(self, stream: str) -> Iterator[None]:
        """What cannot be settled concerns its stream only, with a notice. The next opening tries again."""
        try:
            yield
        except PenstockError as error:
            of = f"{self.source}.{stream}"
            if not any(text.startswith(f"{of} ") for text in self.notices):
                self.notices.append(f"{of} cannot be looked at, or completed after a run that was ended: {error}")

    def close(self) -> None:
        try:
            divided = self._lock is not None and self._lock.part is not None
            # The other parts of the run describe the same files.
            path = self.files.directory / STATE / f"{file_name(self.source)}.description.lock"
            with alone(path) if divided else nullcontext():
                self._describe()
        finally:
            self.files.close()
            self.ledger.close()
            if self._lock is not None:
                self._lock.close()

    # --- directories of streams -------------------------------------------------------------------------------------

    def _claim(self, layout: Layout) -> None:
        if layout.stream in self._claimed:
            return
        self.files.claim(layout.stream)
        self._claimed[layout.stream] = layout

    def _describe(self) -> None:
        """Update the source's data package to the files after this run."""
        path = self.files.directory / file_name(self.source) / FILE_NAME
        with file_errors(path), suppress(FileNotFoundError):
            if not self._claimed or (not self.files.changed and path.exists()):
                return
            former = path.read_bytes() if path.exists() else b""
            if former and not is_ours(former):
                return
            resources = {
                stream: (self._claimed[stream], self._listed(stream))
                for stream in sorted(self._claimed)
                if file_name(stream) in self.files.changed or not former
            }
            if resources and (package := with_resources(former, self.source, self.files.codec, resources)):
                replace_text(path, package)
            elif resources:
                path.unlink(missing_ok=True)

    def _listed(self, stream: str) -> list[str]:
        """The stream's files, relative to the source's directory, in the order of their partitions."""
        parent = next(
            first for first, layouts in self._layouts.items() if stream in {layout.stream for layout in layouts}
        )
        prefix = f"{file_name(self.source)}/"
        return [place.removeprefix(prefix) for place in islice(self._places(parent, stream), MOST_FILES)]

    def _places(self, parent: str, stream: str) -> Iterator[str]:
        """The places of a stream's files in the ledger; ``parent``: the stream whose partitions have them."""
        return self.ledger.places(self.source, parent, f"{file_name(self.source)}/{file_name(stream)}/")


def _holding(day_column: str, since: date | None, until: date | None) -> Callable[[str], bool]:
    """Whether a directory may hold files of these days, by its name; one that is of no day may."""

    @cache  # each account has directories of the same names
    def may_hold(folder: str) -> bool:
        pair = pair_from(folder)
        day = Partition("", (pair,)).day if pair is not None and pair[0] == day_column else None
        return day is None or (since or day) <= day <= (until or day)

    return may_hold
