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
recovers a commit that a crash interrupted: an intent whose files are all in place or still staged is completed; any
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen
from penstock import BaseSink, LockShare, TargetError
from penstock.ledger import Retention

from penstock_plugins.files.codec import Codec
from penstock_plugins.files.disk import file_errors, make_directories
from penstock_plugins.files.ledger import FileLedger
from penstock_plugins.files.locks import SourceLock, acquire_as_worker, wait_for_workers
from penstock_plugins.files.source_files import STATE, SourceFiles
from penstock_plugins.files.target import FileTarget
from penstock_plugins.sink_support.attempts import closed_on_error

if TYPE_CHECKING:
    from penstock_plugins.files.coordination import StagingTarget

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

    def open(
        self, source: str, run_id: str, streams: Sequence[str] = (), *, lock_share: LockShare | None = None
    ) -> "FileTarget":
        state = self.directory / STATE
        with file_errors(self.directory):
            is_other = self.directory.exists() and not self.directory.is_dir()
        if is_other:
            raise TargetError(
                f"{self.directory} is a file, and {self.codec.name}:DIR needs a directory. Name another one; a single "
                f"file must end in .{self.codec.name}{f' or .{self.codec.name}.gz' if self.codec.appends else ''}."
            )
        with file_errors(self.directory):
            make_directories(self.directory)
            make_directories(state, mode=0o700)
        what = f"{source} to {self.directory}"
        lock = SourceLock.acquire(state, source, what, run_id, lock_share)
        with closed_on_error(lock):
            ledger = FileLedger(state / LEDGER, retention=self.retention)
            target = FileTarget(self.source_files(source), ledger, lock)
        with closed_on_error(target):
            self._check_format(ledger)
            target.files.check_places(streams)
            target.check_source()
            if lock.first:
                wait_for_workers(state, source, what)
                target.recover()
            lock.share()
        return target

    def find_mark(self, source: str, mark: str) -> None:
        """See :class:`penstock.sinks.Staging`."""
        from penstock_plugins.files.coordination import find_mark

        find_mark(self.source_files(source), mark)

    def open_staging(self, source: str, run_id: str, request: Callable[[str], str]) -> "StagingTarget":
        """See :class:`penstock.sinks.Staging`."""
        from penstock_plugins.files.coordination import StagingTarget

        lock = acquire_as_worker(self.directory / STATE, source, run_id)
        return StagingTarget(self.source_files(source), request, lock)

    def source_files(self, source: str) -> SourceFiles:
        return SourceFiles(self.directory, source, self.codec, compress=self.compress)

    def open_readonly(self, source: str) -> "FileTarget | None":
        path = self.directory / STATE / LEDGER
        with file_errors(path):
            if not path.exists() or not path.stat().st_size:
                return None
        return FileTarget(self.source_files(source), FileLedger(path, readonly=True), None)

    def _check_format(self, ledger: FileLedger) -> None:
        former, dialect = ledger.fact("format"), ledger.fact("dialect")
        if former is None:
            ledger.set_fact("format", self.codec.name)
        elif former != self.codec.name:
            raise TargetError(
                f"{self.directory} holds {former} files, and its ledger counts them as delivered. Name another "
                f"directory for {self.codec.name}."
            )
        if not dialect and self.codec.dialect:  # "": Parquet of development versions (decision 72)
            ledger.set_fact("dialect", self.codec.dialect)
        elif dialect and dialect != self.codec.dialect:
            raise TargetError(
                f"{self.directory} holds {self.codec.name} files with {dialect}, and the sink has now "
                f"{self.codec.dialect}: no reader could read both. Restore the settings, or name another directory."
            )
