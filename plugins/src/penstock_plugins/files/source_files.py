"""
The files of one source in a directory: their paths, their existence, and their replacement.

The place of a file is its path relative to the directory.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count, starmap
from pathlib import Path
from secrets import token_hex

from penstock import Layout, LedgerEntry, LedgerFile, Partition, PenstockError, TargetError, fault_point

from penstock_plugins.files.codec import Codec, RecordDraft
from penstock_plugins.files.datapackage import FILE_NAME, is_ours
from penstock_plugins.files.disk import (
    Draft,
    all_at_once,
    check_writable,
    checksum_of,
    dangling,
    explained,
    file_errors,
    file_name,
    ignores_case,
    is_dangling,
    make_directories,
    move,
    pair_from,
    pair_name,
    replace_text,
    sync_directory,
    syncing_threads,
)

STATE = ".penstock"
OWNER_FILE = ".penstock"
OWNER_FILE_TEXT = b"penstock writes and replaces the files of this directory\n"


def _account_directory(place: str) -> str:
    """The directory of the account, of the place of a file: the third part."""
    return "/".join(place.split("/")[:3])


def _columns_below(directory: str) -> tuple[str, ...] | None:
    """The columns of the directories between this one and the first file found below it; None: no file is found."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("data."):
                return ()
            pair = pair_from(entry.name)
            if pair is not None and (columns := _columns_below(entry.path)) is not None:
                return (pair[0], *columns)
    return None


class SourceFiles:
    """
    The files of one source. Directories whose names changed are synced together, by :meth:`sync`.

    ``changed``: the directories of streams in which a file came or went.
    """

    def __init__(self, directory: Path, source: str, codec: Codec, *, compress: bool) -> None:
        self.directory = directory
        self.source = source
        self.codec = codec
        self.compress = compress
        self.changed: set[str] = set()
        self._root = f"{directory}/"
        self._source_name = file_name(source)
        self.staging = directory / STATE / "staged" / self._source_name
        self._file_name = f"data.{codec.name}{'.gz' if compress else ''}"
        self._begun_drafts: tuple[str, Iterator[int]] | None = None  # prefix of their paths, and their numbers
        self._emptied: set[str] = set()  # directories from which a file was removed
        self.folding: set[str] = set()  # streams on a file system that takes names of other case for one
        self._folded: dict[str, dict[str, str]] = {}  # by stream: case-folded account directory -> its name
        self._unsynced: dict[str, None] = {}  # directories
        self._threads = syncing_threads()

    @property
    def shown(self) -> str:
        """The target, for messages."""
        return f"{self.codec.name}:{self.directory}"

    def close(self) -> None:
        self._threads.shutdown()

    # --- places -----------------------------------------------------------------------------------------------------

    def place(self, stream: str, partition: Partition) -> str:
        """The place of a partition's file."""
        pairs = starmap(pair_name, partition.values)
        return "/".join([self._source_name, file_name(stream), *pairs, self._file_name])

    def other_place(self, place: str) -> str:
        """The place of the file with the other setting of ``gzip``."""
        return place.removesuffix(".gz") if self.compress else f"{place}.gz"

    def path(self, place: str) -> str:
        return self._root + place

    def directory_of(self, stream: str) -> Path:
        return self.directory / self._source_name / file_name(stream)

    def check_places(self, streams: Sequence[str]) -> None:
        """
        Check, before the first request, that no place of a stream is taken by other files. Creates nothing. A directory
        that cannot be used for another reason concerns the partitions of its stream only, see :meth:`claim`.
        """
        directory = self.directory / self._source_name
        with file_errors(directory):
            if directory.exists() and not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
        for stream in streams:
            with suppress(OSError):
                self.check_ours(self.directory_of(stream))

    def columns_of_places(self, stream: str) -> tuple[str, ...] | None:
        """The columns by which the files of a stream are placed, from the first one found; None: it has no file."""
        return _columns_below(str(self.directory_of(stream)))

    def claim(self, stream: str) -> None:
        """
        Mark a stream's directory as penstock's, before anything is fetched for it. Raises TargetError if it has other
        files or cannot be written, and SinkError if it has no space.
        """
        directory = self.directory_of(stream)
        with file_errors(directory):
            make_directories(directory)
            self.check_ours(directory)
            replace_text(directory / OWNER_FILE, OWNER_FILE_TEXT)
            check_writable(directory)
            if ignores_case(directory / OWNER_FILE):
                self.folding.add(stream)

    def distinguish(self, stream: str, partition: Partition, recorded_places: Callable[[], Iterable[str]]) -> None:
        """
        Raises TargetError where the file system takes the account's directory for that of another account: their rows
        would be in one file. ``recorded_places``: those of the stream's files, from the ledger.
        """
        if stream not in self.folding:
            return
        if stream not in self._folded:
            self._folded[stream] = {}
            for place in recorded_places():
                self._first_of(stream, place)
        place = self.place(stream, partition)
        if (first := self._first_of(stream, place)) != _account_directory(place):
            raise TargetError(
                f"{self.path(first)} has the rows of another account than {partition.without_day}, and the file system "
                "takes both names for one: they differ in upper and lower case only. Name another target for one of "
                "the two (--accounts), or one on a file system that tells them apart. Nothing was replaced."
            )

    def _first_of(self, stream: str, place: str) -> str:
        """The account's directory that has, or gets, the name that the file system takes ``place`` for."""
        directory = _account_directory(place)
        return self._folded[stream].setdefault(directory.lower().rstrip("."), directory)

    def check_ours(self, directory: Path) -> None:
        """Raises TargetError for a stream's directory with files that penstock did not make."""
        others = any(path.name[:1] != "." for path in directory.iterdir())
        # Development versions (decision 72).
        former = directory / FILE_NAME  # of the first layout
        is_owned = (directory / OWNER_FILE).is_file() or (former.is_file() and is_ours(former.read_bytes()))
        if others and not is_owned:
            raise TargetError(
                f"{directory} holds files that penstock did not make. Move them away, or name another target; "
                "they were not touched."
            )

    # --- what is there ----------------------------------------------------------------------------------------------

    def is_in_place(self, file: LedgerFile) -> bool:
        """Whether a file is in place, judged by its size."""
        return self._has_size(self.path(file.path), file)

    def are_in_place(self, files: Sequence[LedgerFile]) -> bool:
        """Whether all files are; a place that cannot be looked at has lost nothing."""
        try:
            for file in files:
                if not self._has_size(self.path(file.path), file):
                    return False
        except PenstockError:
            return True
        return True

    def are_staged(self, files: Sequence[LedgerFile]) -> bool:
        """Whether the files are whole in their temporary places; see :meth:`are_in_place`."""
        with suppress(PenstockError):
            return all(file.staged is None or self._has_size(self.path(file.staged), file) for file in files)
        return True

    def is_intact(self, entry: LedgerEntry, merged: Callable[[Partition], Sequence[LedgerFile] | None]) -> bool:
        """
        Whether the files of a partition are there. ``merged``: the files of an account of a changes stream, None where
        it has none.
        """
        if entry.state == "staged":
            return self.are_staged(entry.files)
        if entry.files:
            return self.are_in_place(entry.files)
        files = merged(entry.partition.without_day) if entry.partition.values else None
        return entry.rows == 0 if files is None else self.are_in_place(files)

    @staticmethod
    def _has_size(path: str, file: LedgerFile) -> bool:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return file.size is None
        except OSError as error:
            raise explained(error, path) from error
        return file.size == status.st_size

    def is_at(self, place: str | None, file: LedgerFile) -> bool:
        """Whether ``place`` has these bytes, by size and checksum; or no file, if there must be none."""
        if place is None or not self._has_size(self.path(place), file):
            return False
        with file_errors(self.directory / place):
            return file.size is None or checksum_of(self.directory / place) == file.checksum

    def difference(self, files: Sequence[LedgerFile]) -> str | None:
        """The first of these files that is not as the ledger has it, in words."""
        for file in files:
            path = self.directory / file.path
            if not self.is_in_place(file):
                return f"{file.path}: {'has another size' if path.exists() else self._gone(file)}"
            if not self.is_at(file.path, file):
                return f"{file.path}: has another content (same size, another checksum)"
        return None

    def _gone(self, file: LedgerFile) -> str:
        directory = self.directory.joinpath(*file.path.split("/")[:2])
        return f"cannot be reached: {dangling(directory)}" if is_dangling(directory) else "is gone"

    def can_be_put(self, files: Sequence[LedgerFile]) -> bool:
        """Whether each file is in place already, or still staged, or only has to be removed."""
        return all(file.size is None or self.is_at(file.path, file) or self.is_at(file.staged, file) for file in files)

    # --- drafts and renames -----------------------------------------------------------------------------------------

    def draft(self, layout: Layout, *, compress: bool) -> RecordDraft:
        return RecordDraft(self.draft_path(), self.codec.encoder(layout), compress=compress)

    def draft_path(self) -> str:
        if self._begun_drafts is None:
            with file_errors(self.staging):
                make_directories(self.staging, mode=0o700)
            place = f"{STATE}/staged/{self._source_name}/{token_hex(8)}-"
            self._begun_drafts = self.path(place), count(1)
        prefix, numbers = self._begun_drafts
        return f"{prefix}{next(numbers)}"

    def finish_all(self, drafts: Sequence[RecordDraft]) -> list[bool | Exception]:
        """Make drafts durable. Returns for each whether it has rows, and so a file, or its error."""
        return all_at_once(self._threads, [draft.finish for draft in drafts])

    def staged_file(self, place: str, draft: Draft, finished: bool | Exception | None = None) -> LedgerFile:
        """
        A draft, ``finished`` with this result (None: not yet), and its final place; without rows there is no file.
        """
        if isinstance(finished, Exception):
            raise finished
        if not (draft.finish() if finished is None else finished):
            return LedgerFile(path=place)
        return LedgerFile(path=place, size=draft.size, checksum=draft.checksum, staged=self.place_of(draft))

    def place_of(self, draft: Draft) -> str:
        """The temporary place of a draft."""
        return draft.path.removeprefix(self._root)

    def discard(self, files: Iterable[LedgerFile]) -> None:
        """Remove staged files."""
        for file in files:
            if file.staged is not None:
                with suppress(OSError):
                    os.unlink(self.path(file.staged))

    def prepare_places(self, files: Sequence[LedgerFile]) -> list[LedgerFile]:
        """
        The files, and for each the file of the other setting of ``gzip``, which must be removed. Their directories are
        made. Raises TargetError, before the intent is recorded, if a directory is at the place of a file.
        """
        placed = list(files)
        for file in files:
            path = self.path(file.path)
            try:
                if file.size is not None and make_directories(path.rpartition("/")[0], unsynced=self._unsynced):
                    continue  # nothing is in a new directory
                other = self.other_place(file.path)
                if os.path.lexists(self.path(other)):
                    placed.append(LedgerFile(path=other))
                if os.path.isdir(path):
                    raise TargetError(
                        f"{path} is a directory, and a file must go there. Move it away, or name another target."
                    )
            except OSError as error:
                raise explained(error, path) from error
        return placed

    def put(self, files: Sequence[LedgerFile]) -> None:
        """Move staged files to their places, and remove the files that must not exist."""
        for file in files:
            path = self.path(file.path)
            directory = path.rpartition("/")[0]
            stream = file.path.split("/")[1]
            try:
                if file.size is None:
                    if os.path.exists(path):
                        os.unlink(path)
                        self._unsynced[directory] = None
                        self.changed.add(stream)
                        self._emptied.add(directory)
                elif file.staged is not None:
                    if stream not in self.changed and not os.path.exists(path):
                        self.changed.add(stream)
                    self._move(self.path(file.staged), path)
                    self._unsynced[directory] = None
            except OSError as error:
                raise explained(error, path) from error
            fault_point("file.renamed")

    def _move(self, staged: str, path: str) -> None:
        """Move a staged file to its place, where a former run did not do it."""
        try:
            move(staged, path)
        except FileNotFoundError:
            if os.path.exists(staged):
                make_directories(os.path.dirname(path), unsynced=self._unsynced)
                move(staged, path)

    def sync(self) -> dict[str, PenstockError]:
        """
        Make the changed names durable, and remove the directories of partitions that have become empty. Returns the
        directories of which that is not known, with their errors.
        """
        failed: dict[str, PenstockError] = {}
        directories, self._unsynced = self._unsynced, {}
        done = all_at_once(self._threads, [partial(sync_directory, directory) for directory in directories])
        for directory, error in zip(directories, done, strict=True):
            if isinstance(error, OSError):
                failed[directory] = explained(error, directory)
            elif error is not None:
                raise error
            elif directory in self._emptied:
                self._emptied.discard(directory)
                with suppress(OSError):
                    os.rmdir(directory)
        return failed

    def remove_drafts(self, needed: Iterable[LedgerFile]) -> None:
        """Remove the files on their way, of earlier runs, except those that are still ``needed``."""
        needed_paths = {self.directory / file.staged for file in needed if file.staged is not None}
        with file_errors(self.staging):
            if self.staging.is_dir():
                for path in self.staging.iterdir():
                    if path not in needed_paths:
                        path.unlink(missing_ok=True)  # a worker of a run that was killed removes its own
