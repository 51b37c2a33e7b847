"""
Locks of a source in a directory: files that a process holds until it closes them, or ends in any way.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from attrs import frozen
from penstock import LockHeldError, LockShare

from penstock_plugins.files.disk import file_errors, file_name
from penstock_plugins.sink_support.attempts import closed_on_error

# Processes that share a lock wait for each other's opening, and a run for the processes of one that was just killed.
SHARES_WAIT_S = 30.0
KILLED_WAIT_S = 1.0
WORKERS_WAIT_S = 20.0  # those of other machines end some seconds after their coordinator was killed
TRY_S = 0.05

MACHINE_LOCK = ".machine.lock"  # of no source: their names have no dot in front
# In the text of a holder: that it is one process of a divided run, and its machine.
DIVIDED_MARK = "divided into "
MACHINE_MARK = " on the machine "


def machine() -> str:
    """
    This machine: the id of its present boot, which all its containers have, or its name.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


@frozen(kw_only=True, eq=False, repr=False)
class SourceLock:
    """
    The lock of a source, held alone, or in lock shares by the processes of a divided run: then the first of its
    ``files`` is the lock that all of them hold, and the second one is of this lock share. The last one is that of the
    ledger, which the processes of a machine hold together: SQLite's log cannot be shared over a network.
    """

    files: tuple[BinaryIO, ...]
    what: str  # what the lock protects, for errors
    first: bool = True  # nobody else holds it: what a crash left can be recovered
    lock_share: LockShare | None = None

    @classmethod
    def acquire(cls, state: Path, source: str, what: str, run_id: str, lock_share: LockShare | None) -> "SourceLock":
        """Raises LockHeldError."""
        path, first = state / f"{file_name(source)}.lock", True
        with ExitStack() as opened:
            if lock_share is None:
                files = [opened.enter_context(acquire(path, what, run_id))]
            else:
                shared, first = _acquire_shared(path, what, run_id, f"{DIVIDED_MARK}{lock_share.division}")
                files = [opened.enter_context(shared)]
                own = state / f"{file_name(source)}.{file_name(lock_share.name)}.lock"
                files.append(opened.enter_context(acquire(own, f"{lock_share.name} of {what}", run_id)))
            ledger, alone = _acquire_shared(
                state / MACHINE_LOCK, f"the ledger of {what}", run_id, f"{MACHINE_MARK}{machine()}"
            )
            files.append(opened.enter_context(ledger))
            if alone:
                _share(ledger, what)
            opened.pop_all()
        return cls(files=tuple(files), what=what, first=first, lock_share=lock_share)

    def share(self) -> None:
        """Let the processes with the other lock shares begin."""
        if self.lock_share is not None and self.first:
            _share(self.files[0], self.what)

    def close(self) -> None:
        for file in self.files:
            file.close()


def acquire(path: Path, what: str, run_id: str, *, patience_s: float = 0.0) -> BinaryIO:
    """
    A lock file, held until it is closed or the process ends in any way. The file stays when the lock is free.
    ``patience_s``: how long to wait for its holder.

    Raises LockHeldError, naming process and run of the holder, when another one holds it.
    """
    with _open(path) as file:
        # The processes of a divided run end a moment after it, where it was killed.
        _wait(
            file,
            what,
            lambda: _try_lock(file, fcntl.LOCK_EX),
            patience_s=lambda holder: KILLED_WAIT_S if DIVIDED_MARK in holder else patience_s,
        )
        _write_holder(file, run_id)
    return file


def _acquire_shared(path: Path, what: str, run_id: str, mark: str) -> tuple[BinaryIO, bool]:
    """
    A lock file that all processes with the same ``mark`` hold together. Also whether this is the first of them: it
    holds the lock alone until it is shared, and the others wait until then.

    Raises LockHeldError when a process without this mark holds it.
    """
    with _open(path) as file:
        first = False

        def attempt() -> bool:
            nonlocal first
            first = _try_lock(file, fcntl.LOCK_EX)
            return first or _try_lock(file, fcntl.LOCK_SH)

        _wait(file, what, attempt, patience_s=lambda holder: SHARES_WAIT_S if holder.endswith(mark) else KILLED_WAIT_S)
        if first:
            _write_holder(file, f"{run_id}, {mark}")
        elif not (holder := _holder(file)).endswith(mark):
            raise _held_error(what, holder)
    return file, first


def acquire_as_worker(state: Path, source: str, run_id: str) -> BinaryIO:
    """
    A lock that the workers of a run hold while they read for a coordinator, which has the lock of the source. It ends
    with each of them, and so tells a run that begins after the coordinator was killed from when on nobody else reads.
    """
    with _open(_of_workers(state, source)) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        _write_holder(file, f"{run_id}, a worker on {socket.gethostname()}")
    return file


def wait_for_workers(state: Path, source: str, what: str) -> None:
    """
    Wait for the workers of a run whose coordinator was killed: together with those of this run they would make more
    requests than the provider allows. Raises LockHeldError.
    """
    path = _of_workers(state, source)
    if path.exists():
        with _open(path) as file, file:
            _wait(file, what, lambda: _try_lock(file, fcntl.LOCK_EX), patience_s=lambda _: WORKERS_WAIT_S)


def _of_workers(state: Path, source: str) -> Path:
    return state / f"{file_name(source)}.workers.lock"


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a lock file for a moment; waits for any other process."""
    with _open(path) as file, file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _share(file: BinaryIO, what: str) -> None:
    """Hold a lock together with others from now on."""
    # Between the two locks is a moment without any, in which another process may be faster.
    if not _try_lock(file, fcntl.LOCK_SH):
        raise _held_error(what, _holder(file))


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """A lock file, closed where an error is raised."""
    with file_errors(path):
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        with closed_on_error(file):
            yield file


def _wait(file: BinaryIO, what: str, attempt: Callable[[], bool], *, patience_s: Callable[[str], float]) -> None:
    """Repeat an attempt to lock a file. ``patience_s``: for how long, by the text of the present holder."""
    waited = 0.0
    while not attempt():
        holder = _holder(file)
        if waited >= patience_s(holder):
            raise _held_error(what, holder)
        time.sleep(TRY_S)
        waited += TRY_S


def _try_lock(file: BinaryIO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def _run_id(holder: str) -> str | None:
    """The id in a text of :func:`_write_holder`."""
    return holder.partition(", run ")[2].partition(",")[0] or None


def _write_holder(file: BinaryIO, run: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()}, run {run}\n".encode())
    file.flush()


def _held_error(what: str, holder: str) -> LockHeldError:
    if MACHINE_MARK in holder and not holder.endswith(f"{MACHINE_MARK}{machine()}"):
        return LockHeldError(
            f"another machine writes {what} ({holder}). Wait for it to end. Machines cannot share the ledger, an "
            "SQLite file: start all runs and shards on one machine, which may have workers on others (--engine), or "
            "name a Postgres database.",
            run_id=_run_id(holder),
        )
    return LockHeldError(
        f"another run writes {what} ({holder or 'it has just begun'}). Wait for it to end, or stop it; a run "
        "that was killed holds no lock.",
        run_id=_run_id(holder),
    )
