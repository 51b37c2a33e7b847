"""
The sender: it sends rows to a provider, each at most once unless the former attempt cannot have been processed.

Every attempt is recorded in the outbox (:mod:`penstock._write.outbox`): ``sending`` before the request is sent, its
outcome afterwards. An attempt is repeated only if it was not sent (no connection), if a gateway refused it (429, an
expired token), or if the action is declared ``repeatable``.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._fetch.retry import Again, Attempts, Budget, CorrectClock, Park, Renew, Wait, parked
from penstock._plugins.registry import place_in_plugin
from penstock._util.clock import Clock
from penstock._write.answers import alike, decided, one_line
from penstock._write.outbox import OutboxJob
from penstock._write.parameters import typed, validated
from penstock._write.requests import Row, WriteRequest, packed
from penstock._write.rows import InputRow, Rows
from penstock.actions import Action
from penstock.errors import PenstockError, PluginError, StoppedError, TransportError, UsageError
from penstock.events import OnEvent, ignore
from penstock.model import Receipt, Request, Response
from penstock.protocols import Grant, Refuse, Retry
from penstock.redact import Secret, mask, mask_json
from penstock.run_report import RunReport

# Rows prepared at once. Rows that can share a request are searched among these.
BLOCK = 500

# So many consecutive unknown outcomes are an outage. The job ends, since sending on would only add more of them.
MOST_UNKNOWN = 100


@frozen(kw_only=True)
class JobResult:
    """The result of a job: rows by status, the rows not sent, and the error that ended it early, if one did."""

    counts: Mapping[str, int]
    not_sent: int
    error: PenstockError | None = None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code or 1
        return 0 if set(self.counts) <= {"done"} else 1

    @property
    def summary(self) -> str:
        parts = [f"{count} {status}" for status, count in self.counts.items() if count]
        parts += [f"{self.not_sent} not sent"] if self.not_sent else []
        return ", ".join(parts) or "no rows"


def prepared(action: Action, settings: Any, input_row: InputRow, defaults: Mapping[str, Any]) -> Row | Receipt:
    """
    The row ready to be sent, or refused with all of its problems. ``defaults`` are typed, and so are the values of a
    row that is ``typed``.
    """
    if input_row.problem:
        return Receipt(row=input_row.number, status="refused", reason=input_row.problem)
    if input_row.typed:
        return Row(number=input_row.number, values=input_row.values)
    try:
        values = validated(action, settings, {**defaults, **typed(action, input_row.values, text=input_row.text)})
    except ValueError as error:
        return Receipt(row=input_row.number, status="refused", reason=str(error))
    return Row(number=input_row.number, values=values)


def url_length(client: SourceClient) -> Callable[[Request], int]:
    """Characters of a request's URL as sent, with what the authenticator puts there."""

    def length(request: Request) -> int:
        return len(client.exchange.authenticator.sign(request, datetime.now(UTC), None).full_url)

    return length


def blocks(rows: Iterable[InputRow]) -> Iterator[list[InputRow]]:
    iterator = iter(rows)
    while block := list(islice(iterator, BLOCK)):
        yield block


def dry_run(
    source: ConfiguredSource, action: Action, rows: Rows, defaults: Mapping[str, Any], *, clock: Clock
) -> Iterator[Mapping[str, Any] | Receipt]:
    """
    The requests that would be sent, as JSON-like values with secrets masked; a receipt for each row that would be
    refused.

    Nothing is sent, not even a login, so that a token shows as ``***`` too.
    """
    client = SourceClient(source, clock=clock, budget=Budget(clock), report=RunReport(run_id="dry run"))
    try:
        authenticator = client.exchange.authenticator
        grant = Grant(Secret("token-of-the-dry-run")) if authenticator.grant_request() is not None else None
        for block in blocks(rows):
            ready = [prepared(action, source.settings, input_row, defaults) for input_row in block]
            yield from (receipt for receipt in ready if isinstance(receipt, Receipt))
            these = [row for row in ready if isinstance(row, Row)]
            for write in packed(action, source.settings, these, length=url_length(client)):
                if isinstance(write, Receipt):
                    yield write
                    continue
                signed = authenticator.sign(write.request, clock.now(), grant)
                yield {
                    "rows": list(write.numbers),
                    "request": str(signed),
                    "headers": {name: mask(value) for name, value in signed.headers},
                    "body": None if signed.body is None else mask(signed.body.decode()),
                }
    finally:
        client.close()


@define(eq=False)
class Sender:
    """
    Sends one job: one request after the other, since rows may depend on those before them.

    ``job``: its place in the outbox; ``defaults``: typed parameters that all rows share.
    """

    source: ConfiguredSource
    action: Action
    job: OutboxJob
    rows: Rows
    defaults: Mapping[str, Any]
    clock: Clock
    random_fraction: Callable[[], float] = random.random
    _client: SourceClient = field(init=False)
    _on_receipt: Callable[[Receipt], None] = field(init=False)
    _emit: OnEvent = field(init=False)
    _halted: PenstockError | None = field(default=None, init=False)
    _unknown: int = field(default=0, init=False)  # in a row
    _reported: int = field(default=0, init=False)  # rows whose receipts were handed on
    _counts: dict[str, int] = field(factory=dict, init=False)

    def run(self, on_receipt: Callable[[Receipt], None], emit: OnEvent = ignore) -> JobResult:
        """
        Send every row that is not settled in the outbox yet.

        ``on_receipt`` gets the receipt of every row in order, as soon as the row and all before it are settled.
        The receipt of a row that was not sent because the job ended early is refused; in the outbox it stays unsent.
        """
        self._on_receipt, self._emit = on_receipt, emit
        settings = self.source.settings
        self._client = SourceClient(
            self.source,
            clock=self.clock,
            budget=Budget(self.clock),
            report=RunReport(run_id="act"),
            emit=emit,
        )
        length = url_length(self._client)
        count = not_sent = 0
        try:
            for block in blocks(self.rows):
                count += len(block)
                if self._halted is None:
                    over = self.job.settled(block[0].number, block[-1].number)
                    fresh = [input_row for input_row in block if input_row.number not in over]
                    ready = [prepared(self.action, settings, input_row, self.defaults) for input_row in fresh]
                    these = [row for row in ready if isinstance(row, Row)]
                    writes = list(packed(self.action, settings, these, length=length))
                    refused = [receipt for receipt in (*ready, *writes) if isinstance(receipt, Receipt)]
                    self.job.settle(refused)
                    self._hand_on_settled()
                    for write in (write for write in writes if isinstance(write, WriteRequest)):
                        self._send_and_settle(write)
                        self._hand_on_settled()
                if isinstance(self._halted, StoppedError):
                    break
                not_sent += self._report_unsent(block)
        finally:
            self._client.close()
        if self._halted is None:
            self.job.finish(count, self.clock.now())
        return JobResult(counts=dict(self._counts), not_sent=not_sent, error=self._halted)

    # --- refused rows -----------------------------------------------------------------------------------------------

    def check_refused_file(self, path: Path) -> None:
        """The file of refused rows has the format of the input; another suffix would mislead its next reader."""
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--refused {path}: there is no directory {path.parent}")
        if self.rows.header and path.suffix.lower() != ".csv":
            raise UsageError(f"--refused {path}: the rows come from CSV, so name it .csv")
        if not self.rows.header and path.suffix.lower() in (".csv", ".gz"):
            raise UsageError(f"--refused {path}: the rows are written as JSON lines, so name it .jsonl")

    def write_refused(self, path: Path) -> None:
        """Write the refused rows, byte for byte as in the input, without those that were not sent."""
        try:
            with path.open("wb") as file:
                file.write(self.rows.header)
                for input_row in self.rows:
                    receipt = self.job.receipt(input_row.number)
                    if receipt is not None and receipt.status == "refused":
                        file.write(input_row.raw)
        except OSError as error:
            raise UsageError(f"--refused {path}: cannot be written: {error.strerror}") from None

    # --- receipts ---------------------------------------------------------------------------------------------------

    def _hand_on_settled(self) -> None:
        for receipt in self.job.receipts(self._reported):
            self._hand_on(receipt)
            self._counts[receipt.status] = self._counts.get(receipt.status, 0) + 1

    def _report_unsent(self, block: Sequence[InputRow]) -> int:
        """After an early end: report the known outcomes of the block's rows, and that the others were not sent."""
        unsent = 0
        for input_row in block:
            if input_row.number < self._reported:
                continue
            receipt = self.job.receipt(input_row.number)
            if receipt is None:
                unsent += 1
                why = one_line(self._halted) if self._halted is not None else "it was not reached"
                receipt = Receipt(row=input_row.number, status="refused", reason=f"not sent, --resume sends it: {why}")
            else:
                self._counts[receipt.status] = self._counts.get(receipt.status, 0) + 1
            self._hand_on(receipt)
        return unsent

    def _hand_on(self, receipt: Receipt) -> None:
        self._reported = receipt.row + 1
        self._on_receipt(receipt)

    # --- one request ------------------------------------------------------------------------------------------------

    def _send_and_settle(self, write: WriteRequest) -> None:
        """Send one request. An error that ends the job is stored, not raised."""
        if self._halted is not None:
            return
        try:
            self._settle(write, self._send(write))
        except PenstockError as error:
            self._halt(error)
        except Exception as error:
            self._halt(
                PluginError(
                    f"{type(error).__name__}: {error}{place_in_plugin(error)}. This is a defect of the connector "
                    f"{self.source.connector.name} or of penstock. What was under way counts as unknown."
                )
            )

    def _halt(self, error: PenstockError) -> None:
        self._halted = self._halted or error

    def _send(self, write: WriteRequest) -> Sequence[Receipt]:
        """Send one request until its outcome is known, or cannot be known. Receipts by the row's place in it."""
        exchange, rate_limit, policy = self._client.exchange, self._client.rate_limit, self._client.policy
        attempts, unsure = Attempts(policy=policy), False
        while True:
            if self.clock.stop.is_set():  # send no further row
                raise StoppedError("interrupted")
            rate_limit.wait_turn()
            exchange.grant()  # before the row: if the login fails, the row was not sent
            grant, skew = exchange.current, exchange.skew
            self.job.sending(write.numbers)
            response, outcome = self._attempt(write)
            match outcome:
                case Unsure(error):
                    unsure, verdict = True, Retry(error)
                    self.job.lost(write.numbers, one_line(error))
                case Retry() as verdict:
                    self.job.never_left(write.numbers)
                case PenstockError() as error:
                    self.job.never_left(write.numbers)
                    raise error
                case receipts:
                    if unsure and self.action.destroys and response is not None and response.status == 404:
                        reason = "it was gone when it was requested again after an unknown outcome"
                        return alike(write.rows, "done", reason)
                    return receipts
            step, attempts = attempts.after(
                verdict, response, grant=grant, proven=False, random_fraction=self.random_fraction()
            )
            match step:
                case Renew():
                    exchange.renew(grant)
                case CorrectClock() if response is not None and exchange.correct_clock(response, skew):
                    pass
                case Wait(seconds, cool_down_s):
                    rate_limit.cool_down(cool_down_s or 0.0)
                    self._emit(Again(error=verdict.error, pause_s=seconds).event(self.source.name, None, write.request))
                    self.clock.sleep(seconds)
                case Park(seconds) if response is not None and not unsure:
                    raise parked(verdict.error, seconds, policy, response)
                case _ if unsure:
                    return unknown(write, verdict.error)
                case _ if (verdict.renew or verdict.correct_clock) and verdict.error.exit_code != 3:
                    return alike(write.rows, "refused", one_line(verdict.error))
                case _:
                    raise verdict.error

    def _attempt(self, write: WriteRequest) -> "tuple[Response | None, AttemptOutcome]":
        """One attempt: the response, and what it means to the rows."""
        try:
            response = self._client.exchange(write.request)
        except PenstockError as error:
            return None, outcome_of_lost(write, error, repeatable=self.action.repeatable)
        outcome = decided(self.source.connector, self.action, response, write.values)
        if isinstance(outcome, Refuse):
            return response, outcome.error
        if self.action.repeatable and not isinstance(outcome, Retry) and outcome[0].status == "unknown":
            return response, Unsure(TransportError(outcome[0].reason))
        return response, outcome

    def _settle(self, write: WriteRequest, receipts: Sequence[Receipt]) -> None:
        """``receipts``: by the row's place in the request."""
        self.job.settle(evolve(receipt, row=write.rows[receipt.row].number) for receipt in receipts)
        self._unknown = self._unknown + 1 if receipts[0].status == "unknown" else 0
        if self._unknown >= MOST_UNKNOWN:
            self._halt(
                TransportError(
                    f"{self.source.name}: the outcome of {MOST_UNKNOWN} requests in a row is unknown, so the provider "
                    f"is probably out of order (last: {receipts[0].reason}). The other rows were not sent."
                )
            )


@frozen
class Unsure:
    """The request may have been carried out. It may be repeated, since the action is repeatable."""

    error: TransportError


AttemptOutcome = Sequence[Receipt] | Retry | Unsure | PenstockError
"""The outcome of an attempt: settled (known or unknown), nothing captured, perhaps captured, or the end of the job."""


def outcome_of_lost(write: WriteRequest, error: PenstockError, *, repeatable: bool) -> "AttemptOutcome":
    """The outcome of an attempt without a response."""
    if error.sent:
        return Unsure(error) if repeatable and isinstance(error, TransportError) else unknown(write, error)
    return Retry(error) if isinstance(error, TransportError) else error


def unknown(write: WriteRequest, error: PenstockError) -> Sequence[Receipt]:
    reason = f"sent, without an answer that states whether it arrived: {one_line(error)}"
    return alike(write.rows, "unknown", reason)


def printable(receipt: Receipt) -> dict[str, Any]:
    """A receipt as it is printed: row, status, reason, and the provider's answer where there is one."""
    line = {"row": receipt.row, "status": receipt.status, "reason": mask(receipt.reason)}
    return line if receipt.answer is None else {**line, "answer": mask_json(receipt.answer)}
