"""
One action job: its rows (from the command line, a file, standard input or a query), sent or shown by a dry run.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field, frozen

from penstock._config.config import ConfiguredSink
from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import RetryBudget
from penstock._plugins.plugin_errors import connector_errors, sink_errors
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock._write.outbox import Outbox
from penstock._write.outbox_decision import CALL, LIST, STDIN, JobKey
from penstock._write.parameters import typed, validated
from penstock._write.requests import Row, destination, pack_rows
from penstock._write.rows import RowFile, Rows, SingleRow, open_output, write_values
from penstock._write.sender import Sender, blocks, prepare_row, url_length
from penstock.actions import Action
from penstock.errors import UsageError, sentences
from penstock.events import OnEvent, ignore
from penstock.model import Receipt
from penstock.redact import Secret, mask


@frozen
class Query:
    """The rows that a sink returns for a query."""

    sink: ConfiguredSink
    text: str


@frozen
class GivenRows:
    """The rows that a Python program has."""

    rows: Iterable[Mapping[str, Any]]


Input = Path | BinaryIO | Query | GivenRows | None
"""The origin of an action's rows: a file, a binary stream, a sink, or values; None: the parameters are the one row."""


@define(eq=False, kw_only=True)
class ActionJob:
    """
    An action's rows, and the parameters that all of them share. ``stack``: of the caller; closing it ends the job, and
    removes its temporary copies.

    ``parameters``: by name; ``is_text``: as texts of the command line. Raises UsageError for parameters that cannot be
    sent.
    """

    source: ConfiguredSource
    action: Action
    parameters: Mapping[str, Any]
    is_text: bool
    input: Input
    clock: Clock
    stack: ExitStack
    key: JobKey = field(init=False)
    _defaults: Mapping[str, Any] = field(init=False)
    _rows: Rows | None = field(init=False)  # None: those of a query, which is not made yet
    _copy: Path | None = field(default=None, init=False)  # of the rows of a query

    def __attrs_post_init__(self) -> None:
        shared = self._shared_values()
        self._defaults = {} if self.input is None else shared
        self._rows = self._rows_of_input(shared)
        digest, what = self._identity()
        with connector_errors(self.source.connector.name):
            address = destination(self.action, self.source.settings)
        self.key = JobKey(
            source=self.source.name,
            action=self.action.name,
            digest=_digest(json.dumps([digest, sorted(shared.items())], default=str)),
            what=what,
            destination=address,
        )

    def _shared_values(self) -> dict[str, Any]:
        """The parameters, typed; those of a single row are complete. Raises UsageError."""
        action = self.action
        with connector_errors(self.source.connector.name):
            try:
                shared = typed(action, self.parameters, text=self.is_text)
                return shared if self.input is not None else validated(action, self.source.settings, shared)
            except ValueError as error:
                help_ = f"`penstock act {self.source.name} {action.name} --help` lists the parameters"
                raise UsageError(sentences(f"{action.name}: {error}", help_)) from None

    def _rows_of_input(self, shared: Mapping[str, Any]) -> Rows | None:
        """The rows, where they do not depend on the outbox. Raises UsageError where there can be none."""
        match self.input:
            case None:
                return SingleRow(shared)
            case Query(sink):
                if sink.kind.query is None:
                    raise UsageError(
                        f"--query: the sink {sink.name} ({sink.kind.name}) cannot be queried; use --from FILE"
                    )
                return None
            case Path() as path if path.is_fifo() or path.is_char_device():  # <(...), /dev/stdin: readable only once
                try:
                    with path.open("rb") as stream:
                        return self._copy_stream(stream, str(path))
                except OSError as error:
                    raise UsageError(f"--from {path}: cannot be read: {error.strerror}") from None
            case Path() as path:
                return RowFile.at(path)
            case GivenRows(rows):
                copy = self._scratch_folder() / "rows.jsonl"
                with copy.open("w", encoding="utf-8") as out:
                    write_values(out.write, rows)
                return RowFile.at(copy, LIST)
            case stream:
                return self._copy_stream(stream, STDIN)

    def _copy_stream(self, stream: BinaryIO, name: str) -> RowFile:
        """The rows of a stream, which can be read once only, from a temporary copy."""
        copy = self._scratch_folder() / "stdin"
        with copy.open("wb") as out:
            shutil.copyfileobj(stream, out)
        return RowFile.at(copy, name)

    def _identity(self) -> tuple[str, str]:
        """A digest of the input, and its name in messages."""
        if isinstance(self.input, Query):
            shown = self.input.sink.name
            return _digest(f"{shown}\0{self.input.text}"), f"this query of {shown}"
        return (self._rows.digest, self._rows.name) if isinstance(self._rows, RowFile) else ("parameters", CALL)

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
        """
        The requests that would be sent, as JSON-like values with secrets masked; a receipt for each row that would be
        refused.

        Nothing is sent, not even a login, so that a token shows as ``***`` too.
        """
        client = self._client(ignore)
        action, settings, token = self.action, self.source.settings, Secret("token-of-the-dry-run")
        for block in blocks(self._open_rows(self._scratch_folder(), is_new=True)):
            ready = [prepare_row(action, settings, input_row, self._defaults) for input_row in block]
            yield from (receipt for receipt in ready if isinstance(receipt, Receipt))
            rows = [row for row in ready if isinstance(row, Row)]
            for write in pack_rows(action, settings, rows, length=url_length(client)):
                if isinstance(write, Receipt):
                    yield write
                    continue
                signed = client.signer().preview(write.request, token)
                yield {
                    "rows": list(write.numbers),
                    "request": str(signed),
                    "headers": {name: mask(value) for name, value in signed.headers},
                    "body": None if signed.body is None else mask(signed.body.decode()),
                }

    def open(
        self, outbox: Outbox, *, resume: bool, retry_unknown: bool, confirmed: bool, emit: OnEvent = ignore
    ) -> Sender:
        """What sends the job, its place in the outbox locked; see :meth:`Outbox.open`. ``emit`` gets its events."""
        job = outbox.open(self.key, self.clock.now(), resume=resume, retry_unknown=retry_unknown, confirmed=confirmed)
        self.stack.callback(job.close)
        return Sender(
            client=self._client(emit),
            action=self.action,
            job=job,
            rows=self._open_rows(outbox.folder, is_new=job.is_new),
            defaults=self._defaults,
        )

    def forget_rows(self) -> None:
        """Remove the copy of a query's rows, after the outcome of every row is known."""
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)

    def _client(self, emit: OnEvent) -> SourceClient:
        log, retry_budget = RunLog.without_run(self.source.name, emit), RetryBudget(retries=math.inf)
        with connector_errors(self.source.connector.name):
            client = SourceClient(self.source, log, clock=self.clock, retry_budget=retry_budget)
        self.stack.callback(client.close)
        return client

    def _scratch_folder(self) -> Path:
        """A directory that is removed with the job's stack."""
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))

    def _open_rows(self, folder: Path, *, is_new: bool) -> Rows:
        """
        The rows. Those of a query are copied to ``folder``, under a name of this job. A resumed job uses
        that copy, so that it has the rows with which it began; UsageError if it is gone.
        """
        if self._rows is not None:
            return self._rows
        assert isinstance(self.input, Query)
        sink = self.input.sink
        self._copy = copy = folder / f"query-{self.source.name}-{self.action.name}-{self.key.digest[:16]}.jsonl"
        if not is_new and not copy.exists():
            raise UsageError(
                f"the rows of this query of {sink.name} are no longer in {folder}, and the query may return others "
                "now. Nothing was sent. Where every row of that job was settled, the command without --resume and "
                "--retry-unknown sends the rows of today as a new job; otherwise change the text of the query for that"
            )
        if is_new:
            draft = copy.with_suffix(".part")
            try:
                with open_output(draft, "--query", private=True) as write:
                    write_values(write, _rows_of_query(self.input))
                draft.replace(copy)
            finally:
                draft.unlink(missing_ok=True)
        return RowFile.at(copy, f"a query of {sink.name}")


def _rows_of_query(query: Query) -> Iterator[Mapping[str, Any]]:
    """The rows; a defect of the sink is a PluginError that names it."""
    kind, settings = query.sink.kind, query.sink.settings
    assert kind.query is not None
    with sink_errors(kind.name):
        yield from kind.query(settings, query.text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
