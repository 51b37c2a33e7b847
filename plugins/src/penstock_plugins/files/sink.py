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

import errno
import gzip
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import date
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, ClassVar, cast

from attrs import define, evolve, field, frozen
from penstock import (
    Batch,
    Discrepancy,
    Erased,
    Erasure,
    FinalDay,
    Layout,
    LedgerEntry,
    LedgerFile,
    Part,
    Partition,
    PenstockError,
    SinkError,
    TargetError,
    fault_point,
)
from penstock.ledger import Kept, files_from, partition_of

from penstock_plugins.files.codec import Codec, RecordDraft
from penstock_plugins.files.datapackage import FILE_NAME, MOST_FILES, is_ours, with_resources
from penstock_plugins.files.disk import (
    Draft,
    all_at_once,
    alone,
    checksum_of,
    explained,
    file_errors,
    file_name,
    former_pair_name,
    locked,
    locked_with_others,
    make_directories,
    move,
    pair_from,
    pair_name,
    replace_text,
    share,
    sync_directory,
    syncing_threads,
)
from penstock_plugins.files.ledger import FileLedger, Merge
from penstock_plugins.files.merge import Latest, merge, merge_derived
from penstock_plugins.unfit import without_unfit

STATE = ".penstock"
MARK = ".penstock"
MARK_TEXT = b"penstock writes and replaces the files of this directory\n"
LAYOUT = "2"  # of the directories, see :meth:`FileTarget._move_to_this_layout`
LEDGER = "ledger.sqlite"
Finished = Mapping[RecordDraft, bool | Exception]
"""Drafts that are durable (false: without a row, so that there is no file), or could not be written."""

ERASED_AT_ONCE = 100  # partitions whose files are rewritten before they are put into place together


@frozen(kw_only=True)
class FileSink:
    """Record files under ``directory``, in the format of ``codec``."""

    directory: Path
    codec: Codec
    compress: bool = False
    kept: Kept = field(factory=Kept)
    one_machine: ClassVar[bool] = True  # SQLite's log cannot be shared over a network

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
        lock = _Lock.taken(state, source, f"{source} to {self.directory}", run_id, part)
        target = None
        try:
            ledger = FileLedger(state / LEDGER)
            ledger.kept = self.kept
            target = FileTarget(self, source, ledger, lock)
            self._check_format(ledger)
            target.check_places(streams)
            if lock.first:
                target.settle()
            lock.share()
        except BaseException:
            if target is not None:
                target.close()
            lock.close()
            raise
        return target

    def open_readonly(self, source: str) -> "FileTarget | None":
        path = self.directory / STATE / LEDGER
        with file_errors(path):
            if not path.exists() or not path.stat().st_size:
                return None
        return FileTarget(self, source, FileLedger(path, readonly=True), None)

    def _check_format(self, ledger: FileLedger) -> None:
        found = ledger.fact("format")
        if found is None:
            ledger.set_fact("format", self.codec.name)
        elif found != self.codec.name:
            raise TargetError(
                f"{self.directory} holds {found} files, and its ledger counts them as delivered. Name another "
                f"directory for {self.codec.name}."
            )


@frozen(kw_only=True)
class _Lock:
    """
    The lock of a source, held alone or as one part of a divided run: then its ``files`` are the shared lock of all
    parts, and the part's own one.
    """

    files: tuple[BinaryIO, ...]
    what: str  # what the lock protects, for errors
    first: bool = True  # nobody else holds it: what a crash left can be settled
    part: Part | None = None

    @classmethod
    def taken(cls, state: Path, source: str, what: str, run_id: str, part: Part | None) -> "_Lock":
        """Raises LockHeldError."""
        path = state / f"{file_name(source)}.lock"
        if part is None:
            return cls(files=(locked(path, what, run_id),), what=what)
        file, first = locked_with_others(path, what, run_id, part.division)
        try:
            own = locked(state / f"{file_name(source)}.{file_name(part.name)}.lock", f"{part.name} of {what}", run_id)
        except BaseException:
            file.close()
            raise
        return cls(files=(file, own), what=what, first=first, part=part)

    def share(self) -> None:
        """Let the other parts begin."""
        if self.part is not None and self.first:
            share(self.files[0], self.what)

    def close(self) -> None:
        for file in self.files:
            file.close()


@define(eq=False, repr=False)
class _Commit:
    """A commit of a group: the ledger row to write next, and the intent, except for a day of changes."""

    recorded: LedgerEntry
    entry: LedgerEntry  # as committed
    intended: LedgerEntry | None = None
    version: int = 0  # of the ledger row with the intent
    error: Exception | None = None


def _is_good(commit: _Commit) -> bool:
    return commit.error is None


class FileTarget:
    """A directory opened for one source. Without a lock it is read-only."""

    def __init__(self, sink: FileSink, source: str, ledger: FileLedger, lock: _Lock | None) -> None:
        self.ledger = ledger
        self.directory = sink.directory
        self._root = f"{sink.directory}/"
        self.codec = sink.codec
        self.source = source
        self.compress = sink.compress
        self._lock = lock
        self._threads = syncing_threads()
        self._drafts = sink.directory / STATE / "staged" / file_name(source)
        self._begun_drafts: tuple[str, Iterator[int]] | None = None  # prefix of their paths, and their numbers
        self._layouts: dict[str, Sequence[Layout]] = {}  # by the stream's name, its derived ones after it
        self._claimed: dict[str, Layout] = {}
        self._emptied: set[str] = set()  # directories from which a file was removed
        self._changed: set[str] = set()  # directories of streams in which a file came or went
        self._begun: set[Partition] = set()  # accounts of changes streams that this run writes

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "FileWriter":
        first = layouts[0]
        if first.kind == "changes":
            if self._layouts.get(first.stream) != layouts:
                self.ledger.keep_layouts(self.source, first.stream, layouts)
            self._begun.add(partition.without_day)
        self._layouts[first.stream] = layouts
        for layout in layouts:
            self._claim(layout)
        return FileWriter(self, layouts, partition)

    def is_intact(self, entry: LedgerEntry) -> bool:
        """Whether every file has its recorded size. For a day of changes: the account's file. Contents are not read."""
        if entry.state == "staged":
            return all(self._staged(file) for file in entry.files)
        if entry.files:
            return all(self._there(file) for file in entry.files)
        merged = self.ledger.merge(self.source, entry.partition.without_day) if entry.partition.values else None
        if merged is None:
            return entry.rows == 0
        return all(self._there(file) for file in merged.files)

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterator[FinalDay]:
        """See :class:`penstock.sinks.ListsFinal`."""
        whole: dict[str, bool] = {}  # by account, of a stream of changes
        for one in self.ledger.merges(self.source):
            if one.stream == stream:
                _, account = next(iter(partition_of(stream, one.account).values), ("", ""))
                whole[account] = all(map(self._there, one.files))
        for day, files, rows in self.ledger.final_days(
            self.source, stream, since=since, until=until, accounts=accounts
        ):
            if whole.get(day.account, not rows) if files == "[]" else all(map(self._there, files_from(files))):
                yield day

    def verify(self, stream: str, entries: Sequence[LedgerEntry]) -> Iterator[Discrepancy]:
        """
        Size and checksum of every file; a file of a ``changes`` stream stands for all days of its account. Each file is
        read once. A record file that the ledger does not count is named, since readers of the directory read it, too.
        """
        merged: dict[Partition, str | None] = {}
        for entry in entries:
            files: Sequence[LedgerFile] = entry.files
            if files or not entry.partition.values:
                found = self._difference(files)
            else:
                account = entry.partition.without_day
                if account not in merged:
                    merge = self.ledger.merge(self.source, account)
                    merged[account] = None if merge is None else self._difference(merge.files)
                found = merged[account]
            if found is not None:
                yield Discrepancy(partition=entry.partition, what=found)
        for name in dict.fromkeys(name for entry in entries for name in (stream, *entry.derived_rows)):
            yield from self._uncounted(stream, name)

    def _uncounted(self, stream: str, name: str) -> Iterator[Discrepancy]:
        """The record files in the directory of a stream that are of no partition in the ledger."""
        directory = self._directory(name)
        prefix = f"{directory.relative_to(self.directory).as_posix()}/"
        known = set(self.ledger.places(self.source, stream, prefix, -1))
        suffixes = (f".{self.codec.name}", f".{self.codec.name}.gz")
        for folder, _, names in os.walk(directory, followlinks=True):
            place = Path(folder).relative_to(self.directory).as_posix()
            for path in (f"{place}/{one}" for one in names if one.endswith(suffixes) and not one.startswith(".")):
                if path not in known:
                    pairs = [pair_from(part) for part in Path(path).relative_to(prefix).parts[:-1]]
                    partition = Partition(stream=stream, values=tuple(pair for pair in pairs if pair is not None))
                    yield Discrepancy(partition=partition, what=f"{name}: the file {path}", uncounted=True)

    def _difference(self, files: Sequence[LedgerFile]) -> str | None:
        for file in files:
            path = self.directory / file.path
            if not self._there(file):
                return f"{file.path}: {'has another size' if path.exists() else 'is gone'}"
            if not self._is(file.path, file):
                return f"{file.path}: has another content (same size, another checksum)"
        return None

    def finish(self, stream: str) -> None:
        """Merge the staged days of a changes stream (of a part: those of its accounts); no effect for others."""
        self._merge_days(stream, only=None if self._lock is None or self._lock.part is None else self._begun)

    def _merge_days(self, stream: str, only: Collection[Partition] | None = None) -> None:
        staged = [entry for entry in self.ledger.unsettled(self.source, stream) if entry.state == "staged"]
        accounts: dict[Partition, list[LedgerEntry]] = {}
        for entry in sorted(staged, key=lambda entry: entry.partition):
            if only is None or entry.partition.without_day in only:
                accounts.setdefault(entry.partition.without_day, []).append(entry)
        for account, entries in accounts.items():
            self._merge(account, entries)

    def close(self) -> None:
        try:
            divided = self._lock is not None and self._lock.part is not None
            # The other parts of the run describe the same files.
            path = self.directory / STATE / f"{file_name(self.source)}.description.lock"
            with alone(path) if divided else nullcontext():
                self._describe()
        finally:
            self._close()

    def _close(self) -> None:
        self._threads.shutdown()
        self.ledger.close()
        if self._lock is not None:
            self._lock.close()

    # --- places -----------------------------------------------------------------------------------------------------

    def _place(self, stream: str, partition: Partition) -> str:
        """Where a partition's file is, relative to the directory."""
        pairs = [pair_name(column, value) for column, value in partition.values]
        return "/".join([file_name(self.source), file_name(stream), *pairs, self._data_name(self.compress)])

    def _data_name(self, compressed: bool) -> str:
        return f"data.{self.codec.name}{'.gz' if compressed else ''}"

    def _other(self, place: str) -> str:
        """The place of the file with the other setting of ``gzip``."""
        return place[: -len(self._data_name(self.compress))] + self._data_name(not self.compress)

    def check_places(self, streams: Sequence[str]) -> None:
        """Check, before the first request, that every stream can have a place here. Creates nothing."""
        for stream in streams:
            directory = self._directory(stream)
            with file_errors(directory), suppress(FileNotFoundError):
                self._check_ours(directory)
                if not os.access(directory, os.W_OK | os.X_OK):
                    readonly = os.statvfs(directory).f_flag & os.ST_RDONLY
                    code = errno.EROFS if readonly else errno.EACCES
                    raise OSError(code, os.strerror(code), str(directory))

    def _directory(self, stream: str) -> Path:
        return self.directory / file_name(self.source) / file_name(stream)

    def _check_ours(self, directory: Path) -> None:
        """Raises TargetError for a stream's directory with files that penstock did not make."""
        others = any(one.name[:1] != "." for one in directory.iterdir())
        former = directory / FILE_NAME  # the mark of the first layout
        if others and not (directory / MARK).is_file() and not (former.is_file() and is_ours(former.read_bytes())):
            raise TargetError(
                f"{directory} holds files that penstock did not make. Move them away, or name another target; "
                "they were not touched."
            )

    def _claim(self, layout: Layout) -> None:
        """Mark a stream's directory as penstock's. Raises TargetError if it has other files."""
        if layout.stream in self._claimed:
            return
        directory = self._directory(layout.stream)
        with file_errors(directory):
            make_directories(directory)
            self._check_ours(directory)
            replace_text(directory / MARK, MARK_TEXT)
        self._claimed[layout.stream] = layout

    def _describe(self) -> None:
        """Update the source's data package to the files after this run."""
        path = self.directory / file_name(self.source) / FILE_NAME
        with file_errors(path), suppress(FileNotFoundError):
            if not self._claimed or (not self._changed and path.exists()):
                return
            former = path.read_bytes() if path.exists() else b""
            if former and not is_ours(former):
                return
            resources = {
                stream: (self._claimed[stream], self._listed(stream))
                for stream in sorted(self._claimed)
                if file_name(stream) in self._changed or not former
            }
            if resources and (package := with_resources(former, self.source, self.codec, resources)):
                replace_text(path, package)
            elif resources:
                path.unlink(missing_ok=True)

    def _listed(self, stream: str) -> list[str]:
        """The stream's files, relative to the source's directory, in the order of their partitions."""
        prefix = f"{file_name(self.source)}/"
        parent = next(first for first, layouts in self._layouts.items() if stream in {one.stream for one in layouts})
        found = self.ledger.places(self.source, parent, f"{prefix}{file_name(stream)}/", MOST_FILES)
        return [place.removeprefix(prefix) for place in found]

    # --- targets of earlier versions --------------------------------------------------------------------------------

    def _move_to_this_layout(self) -> None:
        """
        Move the files of a target of an earlier version, whose directories were named ``<column>=<value>``.

        After a kill it is repeated: moved files are at their new places already.
        """
        fact = f"layout of {self.source}"
        if self.ledger.fact(fact) == LAYOUT:
            return
        with file_errors(self.directory):
            emptied: set[Path] = set()
            for old, new in self.ledger.moves(self.source, self._place_of):
                if (self.directory / old).exists():
                    make_directories((self.directory / new).parent)
                    move(self._at(old), self._at(new))
                    sync_directory((self.directory / new).parent)
                    emptied.add((self.directory / old).parent)
            for directory in sorted(emptied, reverse=True):
                for path in (directory, *directory.parents[: len(directory.relative_to(self.directory).parts) - 3]):
                    with suppress(OSError):
                        path.rmdir()
            for package in (self.directory / file_name(self.source)).glob(f"*/{FILE_NAME}"):
                if is_ours(package.read_bytes()):
                    replace_text(package.with_name(MARK), MARK_TEXT)
                    package.unlink()
        fault_point("files.moved")
        self.ledger.move(self.source, self._place_of, fact, LAYOUT)

    def _place_of(self, place: str, partition: Partition) -> str:
        """Where the file of a partition, or of an account, of an earlier version is to go."""
        names = {former_pair_name(column, value): pair_name(column, value) for column, value in partition.values}
        return "/".join(names.get(name, name) for name in place.split("/"))

    def _at(self, place: str) -> str:
        """The path of a place."""
        return self._root + place

    def _there(self, file: LedgerFile) -> bool:
        """Whether a file is in place, judged by its size."""
        return self._looks(self._at(file.path), file)

    def _staged(self, file: LedgerFile) -> bool:
        return file.staged is None or self._looks(self._at(file.staged), file)

    @staticmethod
    def _looks(path: str, file: LedgerFile) -> bool:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return file.size is None
        except OSError as error:
            raise explained(error, path) from error
        return file.size == found.st_size

    def _is(self, path: str | None, file: LedgerFile) -> bool:
        """Whether ``path`` has these bytes, by size and checksum; or no file, if there must be none."""
        if path is None or not self._looks(self._at(path), file):
            return False
        with file_errors(self.directory / path):
            return file.size is None or checksum_of(self.directory / path) == file.checksum

    # --- drafts and renames -----------------------------------------------------------------------------------------

    def draft(self, layout: Layout, *, compress: bool) -> RecordDraft:
        return RecordDraft(self._draft_path(), self.codec.encoder(layout), compress=compress)

    def _draft_path(self) -> str:
        if self._begun_drafts is None:
            with file_errors(self._drafts):
                make_directories(self._drafts, mode=0o700)
            place = f"{STATE}/staged/{file_name(self.source)}/{token_hex(8)}-"
            self._begun_drafts = self._at(place), count(1)
        prefix, numbers = self._begun_drafts
        return f"{prefix}{next(numbers)}"

    def _file(self, place: str, draft: RecordDraft | Draft, finished: bool | Exception | None = None) -> LedgerFile:
        """
        A draft, ``finished`` with this result (None: not yet), and its final place; without rows there is no file.
        """
        if isinstance(finished, Exception):
            raise finished
        if not (draft.finish() if finished is None else finished):
            return LedgerFile(path=place)
        staged = draft.path.removeprefix(self._root)
        return LedgerFile(path=place, size=draft.size, checksum=draft.checksum, staged=staged)

    def _make_way(self, files: Sequence[LedgerFile], unsynced: dict[str, None]) -> list[LedgerFile]:
        """
        The files, and for each the file of the other setting of ``gzip``, which must be removed. Their directories are
        made. Raises TargetError, before the intent is recorded, if a directory is at the place of a file.
        """
        found = list(files)
        for file in files:
            path = self._at(file.path)
            with file_errors(path):
                if file.size is not None and make_directories(os.path.dirname(path), unsynced=unsynced):
                    continue  # nothing is in a new directory
                other = self._other(file.path)
                if os.path.lexists(self._at(other)):
                    found.append(LedgerFile(path=other))
                if os.path.isdir(path):
                    raise TargetError(
                        f"{path} is a directory, and a file must go there. Move it away, or name another target."
                    )
        return found

    def _put(self, files: Sequence[LedgerFile], unsynced: dict[str, None]) -> None:
        """
        Move staged files to their places, and remove the files that must not exist. The directories that change are
        added to ``unsynced``.
        """
        for file in files:
            path = self._at(file.path)
            directory = os.path.dirname(path)
            stream = file.path.split("/")[1]
            with file_errors(path):
                if file.size is None:
                    if os.path.exists(path):
                        os.unlink(path)
                        unsynced[directory] = None
                        self._changed.add(stream)
                        self._emptied.add(directory)
                elif file.staged is not None:
                    if stream not in self._changed and not os.path.exists(path):
                        self._changed.add(stream)
                    self._move(self._at(file.staged), path, unsynced)
                    unsynced[directory] = None
            fault_point("file.renamed")

    @staticmethod
    def _move(staged: str, path: str, unsynced: dict[str, None]) -> None:
        """Move a staged file to its place, where a former run did not do it."""
        try:
            move(staged, path)
        except FileNotFoundError:
            if os.path.exists(staged):
                make_directories(os.path.dirname(path), unsynced=unsynced)
                move(staged, path)

    def _sync(self, unsynced: dict[str, None]) -> None:
        """Make the names in these directories durable, and remove those of partitions that have become empty."""
        done = all_at_once(self._threads, [partial(sync_directory, directory) for directory in unsynced])
        for directory, error in zip(unsynced, done, strict=True):
            with file_errors(directory):
                if error is not None:
                    raise error
                if directory in self._emptied:
                    self._emptied.discard(directory)
                    with suppress(OSError):
                        os.rmdir(directory)

    # --- commit -----------------------------------------------------------------------------------------------------

    def commit_group(self, commits: "Sequence[tuple[FileWriter, LedgerEntry]]") -> list[LedgerEntry | Exception]:
        """See :class:`penstock.sinks.Grouping`."""
        unsynced: dict[str, None] = {}
        drafts = [draft for writer, _ in commits for draft in writer.drafts.values()]
        finished = dict(zip(drafts, all_at_once(self._threads, [draft.finish for draft in drafts]), strict=True))
        group = [self._intended(writer, entry, finished, unsynced) for writer, entry in commits]
        self._record(group)
        for (writer, _), one in zip(commits, group, strict=True):
            if one.error is not None:
                writer.abort()
        self._deliver([one for one in group if one.intended is not None], unsynced)
        return [one.entry if one.error is None else one.error for one in group]

    def _intended(
        self, writer: "FileWriter", entry: LedgerEntry, finished: Finished, unsynced: dict[str, None]
    ) -> "_Commit":
        """A commit whose files are durable, at their temporary places."""
        try:
            entry = writer.fitting(entry)
            if writer.merged:
                return _Commit(recorded=self._staged_day(entry, writer.drafts, finished), entry=entry)
            former = entry.replaces  # as planned; if it is another one by now, the intent is refused
            if former is None and entry.version:
                former = self.ledger.entry(self.source, entry.partition)
            files = [
                self._file(self._place(stream, entry.partition), draft, finished[draft])
                for stream, draft in writer.drafts.items()
            ]
            files = self._make_way(files, unsynced)
            files += self._kept(former.files if former is not None else (), files)
        except Exception as error:
            return _Commit(recorded=entry, entry=entry, error=error)
        fault_point("files.staged")
        intended = evolve(entry, state="intended", files=tuple(files))
        return _Commit(recorded=intended, entry=entry, intended=intended, version=entry.version + 1)

    def _record(self, group: "Sequence[_Commit]") -> None:
        """Record the intents, and the days of changes, in one transaction; if it fails, one by one."""
        if any(one.intended is None and one.error is None for one in group):
            with file_errors(self._drafts):
                sync_directory(self._drafts)
            fault_point("day.written")
        self._all_at_once(group)
        if any(one.intended is None and one.error is None for one in group):
            fault_point("day.staged")

    def _all_at_once(self, group: "Sequence[_Commit]") -> None:
        """Write the ledger rows of a group in one transaction. If it fails, write each by itself, and keep errors."""
        good = list(filter(_is_good, group))
        if not good:
            return
        try:
            self.ledger.deliver_all([one.recorded for one in good])
        except PenstockError:
            for one in good:
                try:
                    self.ledger.deliver(one.recorded)
                except PenstockError as error:
                    one.error = error

    def _deliver(self, group: "Sequence[_Commit]", unsynced: dict[str, None]) -> None:
        """
        Put the files of recorded intents into place, and record the deliveries. An intent that fails here stays, and is
        settled when the target is opened next.
        """
        for one in filter(_is_good, group):
            assert one.intended is not None
            fault_point("files.intended")
            files = one.intended.files
            try:
                self._put(files, unsynced)
            except Exception as error:
                one.error = error
            settled = tuple(LedgerFile(path=one.path, size=one.size, checksum=one.checksum) for one in files)
            one.recorded = evolve(one.intended, state="delivered", files=settled, version=one.version)
        self._sync(unsynced)
        for _ in filter(_is_good, group):
            fault_point("files.in_place")
        self._all_at_once(group)
        for _ in filter(_is_good, group):
            fault_point("files.delivered")

    def _kept(self, former: Sequence[LedgerFile], files: Sequence[LedgerFile]) -> list[LedgerFile]:
        """The former files of derived streams that this run does not read: they stay."""
        named = {file.path for file in files} | {self._other(file.path) for file in files}
        return [file for file in former if file.path not in named and file.size is not None]

    def _staged_day(self, entry: LedgerEntry, drafts: Mapping[str, RecordDraft], finished: Finished) -> LedgerEntry:
        """The ledger row of a day of changes that is kept until it is merged."""
        account = entry.partition.without_day
        files = [self._file(self._place(stream, account), draft, finished[draft]) for stream, draft in drafts.items()]
        return evolve(entry, state="staged", files=tuple(one for one in files if one.size is not None))

    def _merge(self, account: Partition, entries: Sequence[LedgerEntry]) -> None:
        found = self.ledger.merge(self.source, account)
        known = Merge(source=self.source, stream=account.stream, account=account.text) if found is None else found
        layouts = self._layouts.get(account.stream) or self.ledger.layouts(self.source, account.stream)
        partitions = tuple(entry.partition for entry in entries)
        drafts: dict[str, RecordDraft] = {}
        unsynced: dict[str, None] = {}
        try:
            if any(entry.files for entry in entries):
                self._merge_into(drafts, account, layouts, entries)
            files = [self._file(self._place(stream, account), draft) for stream, draft in drafts.items()]
            if not files:  # days without a record: the account's files stay as they are
                self.ledger.deliver_merge(known, partitions)
                return
            files = self._make_way(files, unsynced)
            files += self._kept(known.files, files)
            fault_point("merge.written")
            meant = evolve(known, meant=tuple(files))
            self.ledger.intend_merge(meant)
        except BaseException:
            for draft in drafts.values():
                draft.discard()
            raise
        fault_point("merge.intended")
        self._complete_merge(meant, partitions, unsynced)
        self._remove_staged(entries)

    def _merge_into(
        self,
        drafts: dict[str, RecordDraft],
        account: Partition,
        layouts: Sequence[Layout],
        entries: Sequence[LedgerEntry],
    ) -> None:
        parents: Latest = {}
        for layout in layouts:
            place = self._place(layout.stream, account)
            days = {
                day: self.directory / file.staged
                for day, entry in enumerate(entries)
                for file in entry.files
                if file.staged is not None and file.path in (place, self._other(place))
            }
            base = next(
                (path for path in map(self.directory.joinpath, (place, self._other(place))) if path.is_file()), None
            )
            draft = drafts[layout.stream] = self.draft(layout, compress=self.compress)
            if layout is layouts[0]:
                parents = merge(self.codec, layout, base, days, draft.block)
            else:
                merge_derived(self.codec, layout, base, days, parents, draft.block)

    def _remove_staged(self, entries: Sequence[LedgerEntry]) -> None:
        for entry in entries:
            for file in entry.files:
                if file.staged is not None:
                    with suppress(OSError):
                        (self.directory / file.staged).unlink()

    # --- erasure ----------------------------------------------------------------------------------------------------

    def erase(self, erasures: Sequence[Erasure], entries: Sequence[LedgerEntry]) -> Erased:
        """
        See :class:`penstock.sinks.Erasing`. A file without such a value stays as it is; one that differs from its
        ledger row is left.
        """
        layouts = [one.layout for one in erasures]
        for layout in layouts:
            self._claim(layout)
            self._changed.add(file_name(layout.stream))  # its description has these columns
        self._layouts[layouts[0].stream] = layouts
        by_directory = {file_name(one.layout.stream): one for one in erasures}
        rows = 0
        left: list[Discrepancy] = []
        if layouts[0].kind == "changes":
            lost: set[Partition] = set()
            for account in dict.fromkeys(entry.partition.without_day for entry in entries):
                merged = self.ledger.merge(self.source, account)
                if merged is not None and (what := self._altered(merged.files)):
                    lost.add(account)
                    left.append(Discrepancy(partition=account, what=what))
                elif merged is not None:
                    rows += self._erase_merged(merged, by_directory)
            self.ledger.deliver_all([entry for entry in entries if entry.partition.without_day not in lost])
            return Erased(rows=rows, left=tuple(left))
        for start in range(0, len(entries), ERASED_AT_ONCE):
            group: list[_Commit] = []
            unsynced: dict[str, None] = {}
            for entry in entries[start : start + ERASED_AT_ONCE]:
                if what := self._altered(entry.files):
                    left.append(Discrepancy(partition=entry.partition, what=what))
                    continue
                count, files = self._erased(entry.files, by_directory)
                rows += count
                if files == entry.files:
                    group.append(_Commit(recorded=entry, entry=entry))
                    continue
                fault_point("files.staged")
                intended = evolve(entry, state="intended", files=files)
                group.append(_Commit(recorded=intended, entry=entry, intended=intended, version=entry.version + 1))
            self._all_at_once(group)
            self._deliver([one for one in group if one.intended is not None], unsynced)
            for one in group:
                if one.error is not None:
                    raise one.error
        return Erased(rows=rows, left=tuple(left))

    def _altered(self, files: Sequence[LedgerFile]) -> str | None:
        """In which way a file that is there differs from its ledger row, and what to do then."""
        there = [file for file in files if file.size is not None and (self.directory / file.path).exists()]
        found = self._difference(there)
        if found is None:
            return None
        return f"{found}. Move the file away, so that the day is read again; or run penstock verify --repair first"

    def _erase_merged(self, merged: Merge, by_directory: Mapping[str, Erasure]) -> int:
        """Erase values in an account's files; the number of records that lost one."""
        rows, files = self._erased(merged.files, by_directory)
        if files == merged.files:
            return 0
        fault_point("merge.written")
        meant = evolve(merged, meant=files)
        self.ledger.intend_merge(meant)
        fault_point("merge.intended")
        self._complete_merge(meant, (), {})
        return rows

    def _complete_merge(self, meant: Merge, partitions: Sequence[Partition], unsynced: dict[str, None]) -> None:
        """Put the files of an intent into place, and record that they hold these staged days."""
        assert meant.meant is not None
        self._put(meant.meant, unsynced)
        self._sync(unsynced)
        fault_point("files.in_place")
        self.ledger.deliver_merge(meant, partitions)
        fault_point("merge.delivered")

    def _erased(
        self, files: Sequence[LedgerFile], by_directory: Mapping[str, Erasure]
    ) -> tuple[int, tuple[LedgerFile, ...]]:
        """The number of records that lost a value, and the files, the rewritten ones at their temporary places."""
        rows = 0
        found: list[LedgerFile] = []
        for file in files:
            erasure = by_directory.get(file.path.split("/")[1])
            path = self.directory / file.path
            lost, draft = 0, None
            if erasure is not None and file.size is not None and path.exists():
                lost, draft = self._rewritten(path, erasure)
            found.append(file if draft is None else self._file(file.path, draft))
            rows += lost
        return rows, tuple(found)

    def _rewritten(self, path: Path, erasure: Erasure) -> tuple[int, Draft | None]:
        """The number of records of a file that lose a value, and a draft of it without these; None where none does."""
        draft = Draft(self._draft_path(), compress=path.suffix == ".gz")
        lost = 0
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for content, count in self.codec.erased(cast(BinaryIO, file), erasure):
                    draft.write(content)
                    lost += count
        except (EOFError, ValueError, OSError, zlib.error) as error:
            draft.discard()
            raise SinkError(f"{path} cannot be rewritten: {error}. It was not touched.") from error
        if not lost:
            draft.discard()
            return 0, None
        return lost, draft

    # --- after a crash ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Complete or take back interrupted commits of earlier runs, and remove orphaned files."""
        for entry in self.ledger.unsettled(self.source):
            if entry.state == "intended":
                self._settle_intent(entry)
        self._move_to_this_layout()
        for merged in self.ledger.merges(self.source):
            self._check_merge(merged)
        waiting: dict[str, None] = {}
        for entry in self.ledger.unsettled(self.source):
            if all(self._is(file.staged, file) for file in entry.files):
                waiting[entry.partition.stream] = None
            else:
                self.ledger.forget(self.source, [entry.partition])
        for stream in waiting:
            self._merge_days(stream)
        for merged in self.ledger.merges(self.source):
            self._settle_erasure(merged)
        self._remove_orphans()

    def _settle_intent(self, entry: LedgerEntry) -> None:
        if self._can_be_put(entry.files):
            # An intent that cannot be completed affects its partition only, which is read again.
            with suppress(SinkError, TargetError):
                self._deliver([_Commit(recorded=entry, entry=entry, intended=entry, version=entry.version)], {})
            return
        former = self.ledger.take_back(self.source, entry.partition)
        if former is not None and not all(self._is(file.path, file) for file in former.files):
            self.ledger.forget(self.source, [entry.partition])

    def _check_merge(self, found: Merge) -> None:
        """
        If an account's file was removed or changed, all partitions merged into it are missing.

        During an interrupted merge it may be the former or the new file: the days are still staged, and merging them
        again into either gives the same result.
        """
        former = {file.path: file for file in found.files}
        files = found.files if found.meant is None else found.meant
        for file in files:
            before = former.get(file.path, LedgerFile(path=file.path))
            if not (self._there(file) or (found.meant is not None and self._there(before))):
                self.ledger.forget_merge(found)
                return

    def _settle_erasure(self, found: Merge) -> None:
        """Complete or take back the intent to replace an account's files, where no staged day is merged into them."""
        if found.meant is None:
            return
        if self._can_be_put(found.meant):
            self._complete_merge(found, (), {})
        else:
            self.ledger.deliver_merge(evolve(found, meant=found.files), ())

    def _can_be_put(self, files: Sequence[LedgerFile]) -> bool:
        """Whether each file is in place already, or still staged, or only has to be removed."""
        return all(file.size is None or self._is(file.path, file) or self._is(file.staged, file) for file in files)

    def _remove_orphans(self) -> None:
        with file_errors(self._drafts):
            if self._drafts.is_dir():
                for path in self._drafts.iterdir():
                    path.unlink()


class FileWriter:
    """Writes one partition to staged files, which readers do not see."""

    def __init__(self, target: FileTarget, layouts: Sequence[Layout], partition: Partition) -> None:
        self._target = target
        self.merged = layouts[0].kind == "changes"
        compress = target.compress and not self.merged
        self._layouts = layouts
        self.drafts = {one.stream: target.draft(one, compress=compress) for one in layouts}

    def write(self, batch: Batch) -> None:
        if batch.rows:
            self.drafts[batch.layout.stream].rows(batch.rows)

    def fitting(self, entry: LedgerEntry) -> LedgerEntry:
        """The entry without the records that the format cannot hold."""
        unfit = [(one, self.drafts[one.stream].unfit) for one in self._layouts]
        return without_unfit(entry, unfit, f"{self._target.codec.name}:{self._target.directory}")

    def abort(self) -> None:
        for draft in self.drafts.values():
            draft.discard()
