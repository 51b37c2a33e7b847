"""
What commands need at the ends of the process: signals, standard output that has only data, closed pipes, files that are
written whole.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, TextIO

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # None on Windows


@contextmanager
def stop_on_signals(stop: threading.Event, on_signal: Callable[[str], None] = lambda name: None) -> Iterator[None]:
    """
    The first Ctrl-C or SIGTERM sets ``stop`` and calls ``on_signal`` with the signal's name; the second ends the
    process at once. So does SIGHUP, of a terminal that closes, but further ones are ignored: it may send several. It
    stays ignored under ``nohup``. Outside of the main thread it has no effect: there the caller handles signals.
    """
    former: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        for number_of_signal in former:
            signal.signal(number_of_signal, signal.SIG_IGN if number_of_signal == _HANGUP else signal.SIG_DFL)
        on_signal(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        if _HANGUP is not None and signal.getsignal(_HANGUP) == signal.SIG_DFL:
            numbers.append(_HANGUP)
        former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


_data_output: list[TextIO] = []  # standard output, while what is printed goes to stderr


def standard_output() -> TextIO:
    """Standard output for data, also inside of :func:`only_data_on_stdout`."""
    return _data_output[-1] if _data_output else sys.stdout


@contextmanager
def only_data_on_stdout() -> Iterator[None]:
    """
    What is printed meanwhile goes to stderr, whether Python code, a library or a started process prints it: a line of a
    plugin would be read as data. Data is written to :func:`standard_output`. Only one thread may use it at a time.
    """
    if _data_output or sys.stdout is None or sys.stderr is None:
        yield
        return
    printed = sys.stdout
    printed.flush()
    moved = _moved(printed)
    _data_output.append(moved or printed)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = printed
        _data_output.pop()
        if moved is not None:
            _move_back(moved, printed)


def _moved(stream: TextIO) -> TextIO | None:
    """
    The stream at a descriptor of its own, and its former descriptor, which libraries and started processes write to, at
    stderr. None for a stream without a descriptor.
    """
    try:
        former, errors = stream.fileno(), sys.stderr.fileno()
        descriptor = os.dup(former)
    except OSError:
        return None
    os.dup2(errors, former)
    return os.fdopen(descriptor, "w", encoding=stream.encoding, errors=stream.errors, newline="")


def _move_back(moved: TextIO, stream: TextIO) -> None:
    """Let the stream have its descriptor again."""
    try:
        moved.flush()
    except OSError:
        os.dup2(moved.fileno(), stream.fileno())
        discard_output(moved)  # else it fails again when it is closed
        raise
    else:
        os.dup2(moved.fileno(), stream.fileno())
    finally:
        moved.close()


def is_closed(stream: IO[Any] | None) -> bool:
    """
    Whether a stream of the process was closed before it started (``>&-``), so that nothing can be written to it. False
    for a stream without a file descriptor.
    """
    if stream is None:
        return True
    try:
        descriptor = stream.fileno()
    except OSError:
        return False
    try:
        os.write(descriptor, b"")
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def discard_output(stream: IO[Any]) -> None:
    """
    Discard all output to a stream whose reader is gone, buffered output included, which would fail again at exit. No
    effect on a stream without a file descriptor.
    """
    try:
        descriptor = stream.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def write_whole(path: Path, text: str, *, mode: int | None = None) -> None:
    """
    Write a text file whole or not at all. It is on the disk when this returns. Behind a symbolic link, the file that it
    names is written; a device or a pipe is written to, and not replaced. Raises OSError.

    ``mode``: the access rights; None: those of the file that is replaced, else those of any new file.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode is None and path.exists():
            mode = path.stat().st_mode & 0o777
        if mode is not None:
            draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system can open a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
