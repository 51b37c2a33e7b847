"""
The sink ``singer``: deliver to any Singer target.

Each group of partitions is one process of the target, which reads SCHEMA, RECORD and STATE and ends. The partitions are
delivered when it has ended with 0 and printed the state that was sent last; only then does the ledger have them. So a
target that dies, or never returns a state, delivered nothing, and a process of penstock that is killed in between sends
the partitions again: at least once.

A Singer target keeps no ledger: it is a SQLite file in a directory of its own, with two locks beside it. That of the
source ends with the process of penstock; the other is held by the target, too, which may outlive a process that is
killed: rows that it still writes could otherwise replace newer ones of the next run.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from hashlib import scrypt, sha256
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

from attrs import define, field, frozen
from penstock import (
    BaseSink,
    BaseTarget,
    Layout,
    LedgerEntry,
    LockHeldError,
    Partition,
    PenstockError,
    Secret,
    SinkError,
    TargetError,
    clip,
    fault_point,
    mask,
)
from penstock.ledger import SqliteLedger

from penstock_plugins.files.disk import file_errors, file_name, make_directories
from penstock_plugins.files.locks import acquire
from penstock_plugins.integrations.messages import RecordWriter, Texts, now_ms
from penstock_plugins.integrations.singer_kind import SingerTargetSettings
from penstock_plugins.integrations.singer_messages import SingerMessages, is_full_table

LEDGER = "ledger.sqlite"
GRACE_S = 10  # seconds that a target has to end after its run began to stop, or was killed
_PLACE = "singer target"
_SECRET = re.compile(r"(?i)pass|pwd|secret|token|^key$|(api|access|private)_?key|credential|dsn|connection_?str")
_STDERR_READ = 1 << 16  # bytes, masked before they are cut: half a secret is not found
_STDERR_SHOWN = 600  # characters of the end of what a target printed on stderr


@frozen
class SingerSink(BaseSink):
    settings: SingerTargetSettings

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> "SingerTarget":
        program = shlex.split(self.settings.command)[0]
        if shutil.which(program) is None:
            raise TargetError(
                f"the Singer target {program} is not installed here, or not on the PATH. Install it into an "
                "environment of its own, and name its program with the whole path"
            )
        directory = self.settings.ledger
        with file_errors(directory):
            make_directories(directory, mode=0o700)
        with ExitStack() as opened:
            locks = _Locks(
                opened.enter_context(
                    acquire(directory / f"{file_name(source)}.lock", f"{source} to {program}", run_id)
                ),
                opened.enter_context(_lock_of_targets(directory, source, program, run_id)),
            )
            ledger = SqliteLedger(directory / LEDGER)
            self._check_place(ledger)
            opened.pop_all()
        # Only the holder of the lock makes such folders, so these are of killed runs: configurations with secrets.
        folders = f"penstock-singer-{sha256(f'{directory.resolve()} {source}'.encode()).hexdigest()[:16]}-"
        for left in Path(tempfile.gettempdir()).glob(f"{folders}*"):
            shutil.rmtree(left, ignore_errors=True)
        return SingerTarget(self.settings, ledger, locks, run_id, folders)

    def open_readonly(self, source: str) -> "SingerTarget | None":
        path = self.settings.ledger / LEDGER
        if not path.exists() or not path.stat().st_size:
            return None
        return SingerTarget(self.settings, SqliteLedger(path, readonly=True), None, "", "")

    def _check_place(self, ledger: SqliteLedger) -> None:
        """Refuse a ledger that belongs to another place: its days would count as delivered there."""
        config = {key: value for key, value in self.settings.config.items() if key not in self.settings.may_change}
        place = _digest({"command": shlex.split(self.settings.command)[0], "config": config})
        if ledger.fact(_PLACE) not in (None, place):
            ledger.close()
            raise TargetError(
                f"{self.settings.ledger} is the ledger of {self.settings.command} with another configuration, and what "
                "was delivered there would count as delivered here. Name another directory as ledger. If a key of "
                "config does not say where the data is (a batch size, a password), name it in may_change and undo the "
                "change for one run"
            )
        ledger.set_fact(_PLACE, place)


class _Locks(NamedTuple):
    """``of_run``: ends with this process. ``of_targets``: ends with the last target that it started, too."""

    of_run: BinaryIO
    of_targets: BinaryIO


def _lock_of_targets(directory: Path, source: str, program: str, run_id: str) -> BinaryIO:
    """The lock that targets hold, too. Waits for a target of a killed run, whose input has ended with the run."""
    path = directory / f"{file_name(source)}.target.lock"
    try:
        return acquire(path, source, run_id, patience_s=GRACE_S)
    except LockHeldError as error:
        raise LockHeldError(
            f"the Singer target {program} of a run that was killed still runs, and may write rows of {source}. Wait "
            f"for it to end, or end it: it has {path} open",
            run_id=error.run_id,
        ) from error


def _digest(place: Any) -> str:
    """A digest that is slow to guess from: a password may be part of the place."""
    text = json.dumps(place, default=str, sort_keys=True).encode()
    return scrypt(text, salt=_PLACE.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()


def resolved(value: Any, environ: Mapping[str, str], *, is_secret: bool = False) -> Any:
    """
    A value of the configuration with the secrets that it refers to. Raises TargetError for one that is missing.

    A text that is written in the configuration is a secret if its key reads like that of one.
    """
    if isinstance(value, Mapping):
        if len(value) == 1 and isinstance(name := value.get("env"), str):
            if name not in environ:
                raise TargetError(
                    f"the configuration of the Singer target names the variable {name}, which is not set. Set "
                    "it, or correct the name"
                )
            return Secret(environ[name]).reveal()
        if len(value) == 1 and isinstance(name := value.get("file"), str):
            with file_errors(Path(name)):
                return Secret(Path(name).expanduser().read_text().rstrip("\n")).reveal()
        return {
            key: resolved(item, environ, is_secret=_SECRET.search(str(key)) is not None) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [resolved(item, environ, is_secret=is_secret) for item in value]
    return Secret(value).reveal() if is_secret and isinstance(value, str) and value else value


@define(eq=False, repr=False)
class SingerTarget(BaseTarget):
    deletes_rows: ClassVar[bool] = False

    settings: SingerTargetSettings
    ledger: SqliteLedger
    _locks: _Locks | None
    _run_id: str
    _folder_prefix: str  # what the names of its temporary folders begin with
    _sent: int = field(default=0, init=False)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _stopped: PenstockError | None = field(default=None, init=False)
    _interrupts: int = field(default=0, init=False)

    @property
    def texts(self) -> Texts:
        return Texts(self.settings.decimals_as_text, self.settings.nested_as_text)

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> RecordWriter:
        return RecordWriter(layouts, self.texts)

    def close(self) -> None:
        self.ledger.close()
        for lock in self._locks or ():
            lock.close()

    def interrupt(self, reason: PenstockError) -> None:
        """End a target that does not end by itself. Called every second, from another thread."""
        self._interrupts += 1
        process = self._process
        if process is not None and self._interrupts > GRACE_S:
            self._stopped = reason
            process.kill()

    def commit_group(self, commits: Sequence[tuple[RecordWriter, LedgerEntry]]) -> Sequence[LedgerEntry | Exception]:
        """Send all partitions to one process of the target. They are delivered, or fail, together."""
        try:
            if any(writer.rows for writer, _ in commits) or any(map(_replaces_all, commits)):
                self._send(commits)
                fault_point("singer.loaded")
            for _, entry in commits:
                self.ledger.deliver(entry)
        except PenstockError as error:
            return [error] * len(commits)
        finally:
            for writer, _ in commits:
                writer.abort()
        return [entry for _, entry in commits]

    # --- the process ------------------------------------------------------------------------------------------------

    def _send(self, commits: Sequence[tuple[RecordWriter, LedgerEntry]]) -> None:
        """Run the target with these partitions. Raises SinkError unless it ends well and returns the last state."""
        self._sent += 1
        token = f"{self._run_id}-{self._sent}"
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
            is_fed, code = self._run_target(self._messages(commits, token), printed, errors)
            if self._stopped is not None:
                raise self._stopped
            printed.seek(0)
            last_line = deque((line for line in printed if line.strip()), maxlen=1)
            state = last_line[0].decode("utf-8", "replace").strip() if last_line else ""
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _STDERR_READ))
            reason = mask(" ".join(errors.read().decode("utf-8", "replace").split()))[-_STDERR_SHOWN:]
        name = Path(shlex.split(self.settings.command)[0]).name
        if code or not is_fed:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            stated = f"It printed: ... {reason}" if reason else "It printed no reason"
            raise SinkError(f"the Singer target {name} {how} and took nothing over. {stated}")
        if token not in state:
            raise SinkError(
                f"the Singer target {name} ended with 0, but did not return the state that was sent last; it printed "
                f"{clip(state, 200) or 'none'}. Its rows count as not delivered, and are sent again"
            )

    def _run_target(self, messages: Iterator[bytes], printed: BinaryIO, errors: BinaryIO) -> tuple[bool, int]:
        """Run the target to its end: whether it read all messages, and its exit code (negative: of a signal)."""
        program = shlex.split(self.settings.command)
        with tempfile.TemporaryDirectory(prefix=self._folder_prefix) as folder:
            if self.settings.config:
                program += ["--config", str(_config_file(Path(folder), resolved(self.settings.config, os.environ)))]
            try:
                # In a process group of its own: Ctrl-C is for the run, which lets the target end what it began.
                process = subprocess.Popen(  # noqa: S603 (the user's own command)
                    program,
                    stdin=subprocess.PIPE,
                    stdout=printed,
                    stderr=errors,
                    process_group=0,
                    pass_fds=[self._locks.of_targets.fileno()] if self._locks else [],
                )
            except OSError as error:
                raise TargetError(f"the Singer target {program[0]} cannot be started: {error.strerror}") from error
            self._process = process
            fault_point("singer.started")
            try:
                return _feed(process, messages), process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
            finally:
                self._process = None

    def _messages(self, commits: Sequence[tuple[RecordWriter, LedgerEntry]], token: str) -> Iterator[bytes]:
        messages = SingerMessages(now_ms(), self.texts)
        layouts = {layout.stream: layout for writer, _ in commits for layout in writer.layouts}
        former = {stream: {"penstock": ""} for stream in layouts}
        yield messages.start(tuple(layouts.values()), former)
        for writer, entry in commits:
            yield from writer.records(messages, entry)
            if _replaces_all((writer, entry)):
                for layout in writer.layouts:
                    yield messages.activate(layout.stream)
        yield messages.state({stream: {"penstock": token} for stream in layouts})


def _replaces_all(commit: tuple[RecordWriter, LedgerEntry]) -> bool:
    """Whether the partition is a whole table, of which the target may delete everything else."""
    writer, entry = commit
    return is_full_table(writer.layouts[0]) and not entry.truncated


def _config_file(folder: Path, config: Any) -> Path:
    path = folder / "config.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump(config, file, default=str)
    return path


def _feed(process: "subprocess.Popen[bytes]", messages: Iterator[bytes]) -> bool:
    """Write all messages, and close. False if the target stopped reading before the end."""
    assert process.stdin is not None
    try:
        for content in messages:
            process.stdin.write(content)
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return False
    finally:
        with suppress(OSError):  # what is left in its buffer has no reader
            process.stdin.close()
    return True
