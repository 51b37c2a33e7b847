"""
One action job: its rows (from the command line, a file, standard input or a query), sent or shown by a dry run.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import msgspec
from attrs import define, field, frozen

from penstock._config import ConfiguredSink
from penstock._config.source import ConfiguredSource
from penstock._util.clock import Clock
from penstock._write.outbox import CALL, STDIN, JobKey, Outbox
from penstock._write.parameters import typed, validated
from penstock._write.requests import destination
from penstock._write.rows import RowFile, Rows, SingleRow
from penstock._write.sender import Sender, dry_run
from penstock.actions import Action
from penstock.errors import UsageError
from penstock.model import Receipt


@frozen
class Query:
    """The rows that a sink returns for a query."""

    sink: ConfiguredSink
    text: str


Input = Path | BinaryIO | Query | None
"""The origin of an action's rows: a file, standard input, or a sink; None: the parameters are the one row."""


@define(eq=False, kw_only=True)
class ActionJob:
    """
    An action's rows, and the parameters that all of them share. :meth:`close` removes its temporary copies.

    ``parameters``: text by name, as on the command line. Raises UsageError for parameters that cannot be sent.
    """

    source: ConfiguredSource
    action: Action
    parameters: Mapping[str, Any]
    input: Input
    clock: Clock = field(factory=Clock)
    key: JobKey = field(init=False)
    _defaults: Mapping[str, Any] = field(init=False)
    _rows: Rows | None = field(default=None, init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False)

    def __attrs_post_init__(self) -> None:
        action, settings = self.action, self.source.settings
        try:
            shared = typed(action, self.parameters, text=True)
            shared = validated(action, settings, shared) if self.input is None else shared
        except ValueError as error:
            help_ = f"`penstock act {self.source.name} {action.name} --help` lists the parameters"
            stop = "" if str(error).endswith(("?", ".")) else "."
            raise UsageError(f"{action.name}: {error}{stop} {help_}") from None
        self._defaults = {} if self.input is None else shared
        digest, what = self._identified(shared)
        self.key = JobKey(
            source=self.source.name,
            action=action.name,
            digest=_digest(json.dumps([digest, sorted(shared.items())], default=str)),
            what=what,
            destination=destination(action, settings),
        )

    def _identified(self, shared: Mapping[str, Any]) -> tuple[str, str]:
        """A digest of the input, and its name in messages."""
        match self.input:
            case None:
                self._rows = SingleRow(shared)
                return "parameters", CALL
            case Query(sink, text):
                if sink.kind.query is None:
                    raise UsageError(
                        f"--query: the sink {sink.shown} ({sink.kind.name}) cannot be queried; use --from FILE"
                    )
                return _digest(f"{sink.shown}\0{text}"), f"this query of {sink.shown}"
            case Path() as path:
                file = RowFile.at(path)
            case stream:
                copy = self._folder() / "stdin"
                with copy.open("wb") as out:
                    shutil.copyfileobj(stream, out)
                file = RowFile.at(copy, STDIN)
        self._rows = file
        return file.digest, file.name

    def check_allowed(self, *, confirmed: bool) -> None:
        """Raises UsageError if nothing may be sent. ``confirmed``: a destructive action is confirmed."""
        if not self.source.settings.allow_writes:
            raise UsageError(
                f"writes to {self.source.name} are off: nothing was sent. Set allow_writes = true under "
                f"[source.{self.source.name}]; --dry-run shows the request without it"
            )
        if self.action.destroys and not confirmed:
            raise UsageError(
                f"{self.action.name} destroys something at the provider: nothing was sent. Add --yes to do it"
            )

    def dry_run(self) -> Iterator[Mapping[str, Any] | Receipt]:
        """The requests that would be sent, secrets masked, and a receipt for each row that would be refused."""
        return dry_run(
            self.source, self.action, self._read(self._folder(), fresh=True), self._defaults, clock=self.clock
        )

    def open(self, outbox: Outbox, *, resume: bool, retry_unknown: bool, confirmed: bool) -> Sender:
        """What sends the job, its place in the outbox locked; see :meth:`Outbox.open`."""
        job = outbox.open(self.key, self.clock.now(), resume=resume, retry_unknown=retry_unknown, confirmed=confirmed)
        self._stack.callback(job.close)
        return Sender(
            source=self.source,
            action=self.action,
            job=job,
            rows=self._read(outbox.folder, fresh=job.fresh),
            defaults=self._defaults,
            clock=self.clock,
        )

    def close(self) -> None:
        self._stack.close()

    def _folder(self) -> Path:
        """A directory that is removed with the job."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))

    def _read(self, place: Path, *, fresh: bool) -> Rows:
        """
        The rows. Those of a query are copied to ``place``. A resumed job (not ``fresh``) uses the existing copy, so
        that it has the rows with which it began. A finished job leaves no copy.
        """
        if self._rows is not None:
            return self._rows
        assert isinstance(self.input, Query)
        sink = self.input.sink
        assert sink.kind.query is not None
        digest, _ = self._identified({})
        copy = place / f"query-{self.source.name}-{self.action.name}-{digest[:16]}.jsonl"
        if fresh or not copy.exists():
            encode = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode
            draft = copy.with_suffix(".part")
            try:
                with written(draft, "--query", private=True) as out:
                    for row in sink.kind.query(sink.settings, self.input.text):
                        out.write(encode(dict(row)).decode() + "\n")
                draft.replace(copy)
            finally:
                draft.unlink(missing_ok=True)
        return RowFile.at(copy, f"a query of {sink.shown}", temporary=True)


@contextmanager
def written(path: Path, option: str, *, private: bool = False) -> Iterator[TextIO]:
    """A file to write text to; ``private``: its owner's alone. UsageError names the option."""
    try:
        with path.open("w", encoding="utf-8") as file:
            if private:
                path.chmod(0o600)
            yield file
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
