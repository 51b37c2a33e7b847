"""
Safe file operations: encoded names, writes that survive a power failure, errors that name the remedy.
"""

import errno
import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, TypeVar, cast
from urllib.parse import quote, unquote

from penstock import PenstockError, SinkError, TargetError

from penstock_plugins.sink_support.attempts import attempt

T = TypeVar("T")

SYNCS_AT_ONCE = 8
_LONGEST_NAME = 200  # bytes; file systems allow 255
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNUSABLE = {
    errno.EACCES: "Give this user access to it, or name another target.",
    errno.EPERM: "Give this user access to it, or name another target.",
    errno.EROFS: "Make the file system writable (after an error of its disk it is read-only), or name another target.",
    errno.ENOTDIR: "A file stands where a directory is needed: move it away, or name another target.",
    errno.EEXIST: "A file stands where a directory is needed: move it away, or name another target.",
    errno.EISDIR: "A directory stands where a file is needed: move it away, or name another target.",
    errno.ENOTEMPTY: "A directory stands where a file is needed: move it away, or name another target.",
    errno.ENAMETOOLONG: "Name a target with a shorter path.",
}


# Without a cache, the four names of a partition take 26 µs more, of 500 µs that a small delivery in a group takes.
@lru_cache(10_000)
def file_name(text: str) -> str:
    """
    ``text`` as one file name: percent-encoded but for letters, digits and ``_ . - ~``, never starting with a dot,
    at most 200 bytes (a longer one is cut and ends in a hash of the whole).
    """
    return _bounded(_encoded(text), text)


@lru_cache(10_000)
def pair_name(column: str, value: str) -> str:
    """
    ``by_column=value`` as the name of a directory, each encoded as :func:`file_name` does.

    The key is not the column's name, which is in the rows, too: a query engine guesses the type of a path's value, and
    two types of one column would contradict each other.
    """
    return _bounded(f"by_{_encoded(column)}={_encoded(value)}", f"by_{column}={value}")


def pair_from(name: str) -> tuple[str, str] | None:
    """The column and the value of a directory's name, as :func:`pair_name` gave it. None: it is of something else."""
    column, equals, value = name.removeprefix("by_").partition("=")
    return (unquote(column), unquote(value)) if equals and name.startswith("by_") else None


# Development versions (decision 72).
def former_pair_name(column: str, value: str) -> str:
    """The name that :func:`pair_name` gave in a target of the first layout: ``column=value``."""
    return _bounded(f"{_encoded(column)}={_encoded(value)}", f"{column}={value}")


def _encoded(text: str) -> str:
    name = quote(text, safe="", errors="surrogatepass")
    return "%2E" + name[1:] if name.startswith(".") else name


def _bounded(name: str, text: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{name[: _LONGEST_NAME - 40].rpartition('%')[0] or name[: _LONGEST_NAME - 40]}~{digest}"


@contextmanager
def file_errors(path: Path | str) -> Iterator[None]:
    """Turn an operating system's refusal into a TargetError or SinkError that names the file."""
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path | str) -> PenstockError:
    place = Path(error.filename2 or error.filename or path)
    failure = f"{place}: {error.strerror or error}"
    if error.errno in _FULL:
        # The directory, not the file: so that all failures of a full disk have one message.
        failure = f"{place.parent if place.parent.name else place}: {error.strerror or error}"
        return SinkError(f"{failure}. Free some space and run again; what was delivered before is still there.")
    if error.errno in _UNUSABLE:
        return TargetError(f"{failure}. {_UNUSABLE[error.errno]}")
    return SinkError(f"{failure}. What was delivered before is still there; when the cause is gone, run again.")


def sync_directory(path: Path | str) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def syncing_threads() -> ThreadPoolExecutor:
    """Threads for :func:`all_at_once`. They start when they are first needed."""
    return ThreadPoolExecutor(SYNCS_AT_ONCE, thread_name_prefix="sync")


def all_at_once(threads: ThreadPoolExecutor, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """
    Make calls that wait for the disk, several at the same time: a file system commits together what waits for it
    together. Returns the result or the error of each.
    """
    if len(calls) < 2:
        return [attempt(call) for call in calls]
    waiting, done = iter(list(enumerate(calls))), dict[int, T | Exception]()

    def make_waiting(_: int) -> None:
        for number, call in waiting:  # shared by the threads: each takes the next one
            done[number] = attempt(call)

    list(threads.map(make_waiting, range(min(SYNCS_AT_ONCE, len(calls)))))
    return [done[number] for number in range(len(calls))]


def make_directories(path: Path | str, mode: int = 0o777, unsynced: dict[str, None] | None = None) -> bool:
    """
    Make ``path`` and its missing parents, durably, unless ``unsynced`` is given: the directories that are to be synced
    are then added to it. Returns whether ``path`` was missing. Raises TargetError if that is not possible.
    """
    directory = os.fspath(path)
    if os.path.isdir(directory):
        return False
    parent = directory.rpartition("/")[0] or ("/" if directory.startswith("/") else ".")
    if not os.path.isdir(parent):
        make_directories(parent, mode, unsynced)
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        if is_dangling(directory):
            raise TargetError(f"{dangling(directory)}. Mount the volume, or correct the symlink.") from None
        if not os.path.isdir(directory):  # else another process made it
            raise
    except FileNotFoundError as error:  # though its parent is there: /proc and its kind
        raise TargetError(
            f"{directory}: no directory can be made in {parent} ({error.strerror}), which is no ordinary file system. "
            "Name another target."
        ) from None
    if unsynced is None:
        sync_directory(parent)
    else:
        unsynced[parent] = None
    return True


def is_dangling(path: Path | str) -> bool:
    """Whether it is a symlink to a place that is not there, such as a volume that is not mounted."""
    return os.path.islink(path) and not os.path.exists(path)


def dangling(path: Path | str) -> str:
    return f"{path} is a symlink to {os.readlink(path)}, which is not there"


def ignores_case(path: Path) -> bool:
    """Whether the file system finds this file, which is there and has letters in its name, in another case, too."""
    return path.with_name(path.name.swapcase()).exists()


def check_writable(directory: Path) -> None:
    """Raises OSError if this user can make no file in a directory."""
    if not os.access(directory, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(directory).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code), str(directory))


def replace_text(path: Path, content: bytes) -> None:
    """Write a small file whole and durably, unless it has this content already."""
    with suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    draft = path.with_name(f".{path.name}.{token_hex(4)}.part")  # several writers of one division
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def move(path: str, place: str) -> None:
    """
    Let a file appear at ``place``, whole, in place of what is there. The directory of ``place`` is not synced.

    A directory may be on another volume than the target's state, as a mount or behind a symlink: the file is then
    copied beside its place first.
    """
    try:
        os.replace(path, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        directory, name = os.path.split(place)
        draft = f"{directory}/.{name}.part"
        try:
            with open(path, "rb") as source, open(draft, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            os.replace(draft, place)
        except OSError:
            with suppress(OSError):  # half a copy would keep the space of a full volume
                os.unlink(draft)
            raise
        os.unlink(path)


def opened(path: Path, *, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def checksum_of(path: Path) -> str:
    """``crc32:...`` of a file's bytes: detects truncated and foreign files, at a tenth of the cost of a digest."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return f"crc32:{checksum:08x}"


HELD_BYTES = 1 << 16  # of a file that is not created yet: most partitions are smaller, and are written at once


class Draft:
    """
    A file while it is written, at a place that readers do not read. It is created when it has more bytes than are held
    in memory, or is finished.

    ``compress`` makes it a gzip file (without a time stamp: equal rows, equal bytes).
    """

    def __init__(self, path: str, *, compress: bool = False) -> None:
        self.path = path
        self.size = 0
        self._gzip = zlib.compressobj(wbits=31) if compress else None
        self._crc = 0
        self.begun = False  # there is to be a file
        self._held: list[bytes] = []  # bytes that are not in the file yet
        self._file: BinaryIO | None = None

    def write(self, content: bytes) -> None:
        if content:
            self.begun = True
            self._put(self._gzip.compress(content) if self._gzip else content)

    def _put(self, content: bytes) -> None:
        self._crc = zlib.crc32(content, self._crc)
        self.size += len(content)
        self._held.append(content)
        if self._file is not None or self.size > HELD_BYTES:
            self._write_held()

    def _write_held(self) -> None:
        try:
            if self._file is None:
                self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed by finish
            for content in self._held:
                view = memoryview(content)
                while view:
                    view = view[self._file.write(view) :]
        except OSError as error:
            raise explained(error, self.path) from error
        self._held.clear()

    def finish(self) -> bool:
        """Make the file durable. False if nothing was written, so that there is no file."""
        if not self.begun:
            return False
        if self._gzip is not None:
            self._put(self._gzip.flush())
        self._write_held()
        assert self._file is not None
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise explained(error, self.path) from error
        return True

    @property
    def checksum(self) -> str:
        return f"crc32:{self._crc:08x}"

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            with suppress(OSError):
                os.unlink(self.path)
