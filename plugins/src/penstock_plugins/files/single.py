"""
One file for one stream, written whole by each run (``--to clicks.jsonl``): it appears after the run, or not at all.

There is no ledger. A partition is written to a file of its own beside the target, and appended to the draft when it is
committed, so that an aborted one leaves no trace. A ``changes`` stream is merged at the end.
"""

import gzip
import os
import stat
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, ClassVar

from attrs import frozen
from penstock import (
    BaseSink,
    BaseTarget,
    Batch,
    Layout,
    LedgerEntry,
    LockHeldError,
    Partition,
    PenstockError,
    TargetError,
    UsageError,
)

from penstock_plugins.files.codec import Codec, RecordDraft
from penstock_plugins.files.disk import file_errors, make_directories, opened, sync_directory
from penstock_plugins.files.locks import acquire
from penstock_plugins.files.merge import copy, merge
from penstock_plugins.sink_support.unfit import Omissions, entry_without

ACQUIRE_TRIES = 100  # of a lock whose directory another run removes meanwhile


@frozen(kw_only=True)
class SingleFileSink(BaseSink):
    """A file at ``path``, in the format of ``codec``."""

    keeps_ledger: ClassVar[bool] = False

    path: Path
    codec: Codec
    compress: bool = False

    @property
    def address(self) -> str:
        """The file, by whatever way it is named."""
        return f"file {os.path.realpath(self.path)}"

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "SingleFileTarget":
        if len(set(streams)) > 1:
            raise _too_many(self.path, self.codec, sorted(set(streams)))
        with file_errors(self.path):
            if self.path.is_dir():
                raise TargetError(f"{self.path} is a directory. For files in it, name it as {self.codec.name}:DIR.")
            if self.path.exists() and not self.path.is_file():
                raise TargetError(
                    f"{self.path} is a device or a pipe, and a run puts a new file in the place of the former one. "
                    "Name another file, or let the reader have standard output: --to -."
                )
            if not self.path.parent.is_dir():
                raise TargetError(f"{self.path.parent} is no directory. Make it, or name another target.")
        return SingleFileTarget(self, run_id)


def _too_many(path: Path, codec: Codec, streams: Sequence[str]) -> TargetError:
    return TargetError(
        f"{path} holds one stream, and this run has {', '.join(streams)}. Choose one with --streams, or name a "
        f"directory: --to {codec.name}:DIR."
    )


class SingleFileTarget(BaseTarget):
    """The draft of the file, as ``.NAME.part`` beside its final place, locked."""

    whole_stream: ClassVar[bool] = True

    def __init__(self, sink: SingleFileSink, run_id: str) -> None:
        self.codec = sink.codec
        self.path = Path(os.path.realpath(sink.path))  # a symlink stays, and leads to the new file
        self._compress = sink.compress
        self._layout: Layout | None = None
        self._work = self.path.with_name(f".{self.path.name}.part")
        self._number = 0
        self._committed: dict[Partition, Path | None] = {}
        self._lock_path = self._work / "lock"
        self._lock = self._acquire(sink, run_id)
        with file_errors(self._work):
            self._remove_drafts()  # of a killed run

    def _acquire(self, sink: SingleFileSink, run_id: str) -> BinaryIO:
        """
        The lock. A run that ends removes its file and the directory, so that one which was opened before may be another
        one by now, or be gone.
        """
        tries = 0
        while True:
            tries += 1
            try:
                with file_errors(self._work):
                    make_directories(self._work)
                lock = acquire(self._lock_path, str(sink.path), run_id)
                if self._is_in_place(lock):
                    return lock
                lock.close()
            except LockHeldError as error:
                if error.run_id != run_id:
                    raise
                raise UsageError(
                    f"{sink.path} holds a stream of one source, and this run has several sources. Name one of them in "
                    f"place of the pipeline, or name a directory: --to {sink.codec.name}:DIR."
                ) from None
            except PenstockError as error:
                if not isinstance(error.__cause__, (FileNotFoundError, FileExistsError)) or tries == ACQUIRE_TRIES:
                    raise

    def _is_in_place(self, lock: BinaryIO) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(lock.fileno()), self._lock_path.stat())
        return False

    def _remove_drafts(self) -> None:
        for left in self._work.iterdir():
            if left != self._lock_path:
                left.unlink()

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> "SingleFileWriter":
        names = {layout.stream for layout in layouts} | ({self._layout.stream} if self._layout else set())
        if len(names) > 1:
            raise _too_many(self.path, self.codec, sorted(names))
        if self._layout is None:
            self._claim(layouts[0])
        self._layout = layouts[0]
        self._number += 1
        # Files that are read back first have a header.
        bare = self.codec.appends and not self._to_merge
        draft = RecordDraft(f"{self._work}/{self._number:09d}", self.codec.encoder(self._layout), bare=bare)
        return SingleFileWriter(self, self._layout, draft)

    def _claim(self, layout: Layout) -> None:
        """Raises TargetError if the file that would be replaced is of another stream or format."""
        with file_errors(self.path):
            if not self.path.exists() or not self.path.stat().st_size:
                return
            try:
                with opened(self.path, compressed=self._compress) as file:
                    ours = self.codec.holds(file, (*layout.partition_columns, *layout.key))
            except (EOFError, zlib.error, gzip.BadGzipFile):
                ours = False
        if not ours:
            raise TargetError(
                f"{self.path} holds something else than {layout.stream} of penstock. Move it away, or name another "
                f"file; it was not touched."
            )

    @property
    def _to_merge(self) -> bool:
        return self._layout is not None and self._layout.kind == "changes" and bool(self._layout.key)

    def keep(self, partition: Partition, file: Path | None) -> None:
        """``file``: None when the partition has no rows."""
        self._committed[partition] = file

    def finish(self, stream: str) -> None:
        """Put the file in place, if any partition was committed; without rows it holds the header only."""
        if not self._committed or self._layout is None:
            return
        with file_errors(self.path):
            self._put(self._joined(self._layout))
        self._committed = {}

    def _joined(self, layout: Layout) -> Path:
        """
        The draft of the file: the files of the partitions, in the order of these, so that it does not depend on the
        order of the commits.
        """
        files = [file for _, file in sorted(self._committed.items()) if file is not None]
        joined = RecordDraft(f"{self._work}/joined", self.codec.encoder(layout), compress=self._compress)
        joined.begin()
        if self._to_merge:
            merge(self.codec, layout, None, dict(enumerate(files)), joined.block)
        else:
            for file in files:
                if self.codec.appends:
                    joined.append(file)
                else:
                    copy(self.codec, layout, file, joined.block)
                file.unlink()
        joined.finish()
        return Path(joined.path)

    def _put(self, draft: Path) -> None:
        with suppress(FileNotFoundError):
            draft.chmod(stat.S_IMODE(self.path.stat().st_mode))
        draft.replace(self.path)
        sync_directory(self.path.parent)

    def close(self) -> None:
        # The lock's file goes last, and while it is held: what is in the directory after that is another run's.
        with suppress(OSError):
            self._remove_drafts()
            self._lock_path.unlink()
        self._lock.close()
        with suppress(OSError):
            self._work.rmdir()


class SingleFileWriter:
    """Writes one partition of the file."""

    def __init__(self, target: SingleFileTarget, layout: Layout, draft: RecordDraft) -> None:
        self._target = target
        self._layout = layout
        self._draft = draft

    def write(self, batch: Batch) -> None:
        if batch.rows:
            self._draft.rows(batch.rows)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        entry = entry_without(entry, [Omissions(self._layout, self._draft.unfit)], str(self._target.path))
        self._target.keep(entry.partition, Path(self._draft.path) if self._draft.finish() else None)
        return entry

    def abort(self) -> None:
        self._draft.discard()
