"""
The sender: it sends rows to a provider, each at most once unless the former attempt cannot have been processed.

Every attempt is recorded in the outbox (:mod:`penstock._write.outbox`): ``sending`` before the request is sent, its
outcome afterwards. An attempt is repeated only if it was not sent (no connection), if a gateway refused it (429, an
expired token), or if the action is declared ``repeatable``.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from penstock._fetch.client import SourceClient
from penstock._fetch.retry import FailedAttempt
from penstock._fetch.retry_policy import Attempts, NextStep, parked
from penstock._plugins.plugin_errors import defect
from penstock._write.outbox_job import OutboxJob
from penstock._write.outcomes import one_line, outcome_of, same_receipts
from penstock._write.parameters import typed, validated
from penstock._write.requests import Row, WriteRequest, pack_rows
from penstock._write.rows import InputRow, Rows
from penstock.actions import Action
from penstock.errors import PenstockError, StoppedError, TransportError, UsageError
from penstock.model import Receipt, Request, Response
from penstock.protocols import Refuse, Retry

BLOCK = 500  # rows prepared at once; only rows of one block can share a request

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
        counted = [f"{count} {status}" for status, count in self.counts.items() if count]
        counted += [f"{self.not_sent} not sent"] if self.not_sent else []
        return ", ".join(counted) or "no rows"


def prepare_row(action: Action, settings: Any, input_row: InputRow, defaults: Mapping[str, Any]) -> Row | Receipt:
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
        return len(client.exchange.authenticator.sign(request, client.exchange.now(), None).full_url)

    return length


def blocks(rows: Iterable[InputRow]) -> Iterator[list[InputRow]]:
    iterator = iter(rows)
    while block := list(islice(iterator, BLOCK)):
        yield block


@define(eq=False)
class Sender:
    """
    Sends one job: one request after the other, since rows may depend on those before them.

    ``job``: its place in the outbox; ``defaults``: typed parameters that all rows share.
    """

    client: SourceClient
    action: Action
    job: OutboxJob
    rows: Rows
    defaults: Mapping[str, Any]
    random_fraction: Callable[[], float] = random.random
    _halted: PenstockError | None = field(default=None, init=False)
    _unknown: int = field(default=0, init=False)  # in a row
    _reported: int = field(default=0, init=False)  # rows whose receipts were yielded
    _counts: dict[str, int] = field(factory=dict, init=False)
    _not_sent: int = field(default=0, init=False)

    def send(self) -> Iterator[Receipt]:
        """
        Send every row that is not settled in the outbox yet.

        Yields the receipt of every row in order, as soon as the row and all before it are settled. The receipt of a row
        that was not sent because the job ended early is refused; in the outbox it stays unsent.
        """
        settings, length, count = self.client.source.settings, url_length(self.client), 0
        for block in blocks(self.rows):
            count += len(block)
            if self._halted is None:
                settled = self.job.settled(block[0].number, block[-1].number)
                unsent = [input_row for input_row in block if input_row.number not in settled]
                ready = [prepare_row(self.action, settings, input_row, self.defaults) for input_row in unsent]
                rows = [row for row in ready if isinstance(row, Row)]
                writes = list(pack_rows(self.action, settings, rows, length=length))
                self.job.settle([receipt for receipt in (*ready, *writes) if isinstance(receipt, Receipt)])
                yield from self._settled()
                for write in (write for write in writes if isinstance(write, WriteRequest)):
                    self._send_and_settle(write)
                    yield from self._settled()
            if isinstance(self._halted, StoppedError):
                break
            yield from self._receipts_of_unsent(block)
        if self._halted is None:
            self.job.finish(count, self.client.clock.now())

    @property
    def result(self) -> JobResult:
        """The result, once every receipt was taken."""
        return JobResult(counts=dict(self._counts), not_sent=self._not_sent, error=self._halted)

    # --- refused rows -----------------------------------------------------------------------------------------------

    def check_refused_file(self, path: Path) -> None:
        """The file of refused rows has the format of the input; another suffix would mislead its next reader."""
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--refused {path}: there is no directory {path.parent}; make it, or name another file")
        if self.rows.header and path.suffix.lower() != ".csv":
            raise UsageError(f"--refused {path}: the rows come from CSV, so name it .csv")
        if not self.rows.header and path.suffix.lower() in (".csv", ".gz"):
            raise UsageError(f"--refused {path}: the rows are written as JSON lines, so name it .jsonl")

    def write_refused(self, path: Path) -> None:
        """
        Write the refused rows, byte for byte as in the input, without those that were not sent. Raises OSError.
        """
        with path.open("wb") as file:
            file.write(self.rows.header)
            for input_row in self.rows:
                receipt = self.job.receipt(input_row.number)
                if receipt is not None and receipt.status == "refused":
                    file.write(input_row.raw)

    # --- receipts ---------------------------------------------------------------------------------------------------

    def _settled(self) -> Iterator[Receipt]:
        for receipt in self.job.receipts(self._reported):
            yield self._counted(receipt)

    def _receipts_of_unsent(self, block: Sequence[InputRow]) -> Iterator[Receipt]:
        """After an early end: the known outcomes of the block's rows, and that the others were not sent."""
        for input_row in block:
            if input_row.number < self._reported:
                continue
            receipt = self.job.receipt(input_row.number)
            if receipt is not None:
                yield self._counted(receipt)
                continue
            self._not_sent += 1
            self._reported = input_row.number + 1
            why = one_line(self._halted) if self._halted is not None else "it was not reached"
            yield Receipt(row=input_row.number, status="refused", reason=f"not sent, --resume sends it: {why}")

    def _counted(self, receipt: Receipt) -> Receipt:
        self._reported = receipt.row + 1
        self._counts[receipt.status] = self._counts.get(receipt.status, 0) + 1
        return receipt

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
            self._halt(defect(error, self.client.source.connector.name, "What was under way counts as unknown."))

    def _halt(self, error: PenstockError) -> None:
        self._halted = self._halted or error

    def _send(self, write: WriteRequest) -> Sequence[Receipt]:
        """Send one request until its outcome is known, or cannot be known. Receipts by the row's place in it."""
        exchange = self.client.exchange
        attempts, unsure = Attempts(policy=self.client.policy), False
        while True:
            self._begin_attempt(write)
            grant, skew = exchange.current, exchange.skew
            response, outcome = self._attempt(write)
            if not isinstance(outcome, (Unsure, Retry, PenstockError)):
                return self._receipts(write, response, outcome, unsure=unsure)
            verdict = self._record_attempt(write, outcome)
            unsure = unsure or isinstance(outcome, Unsure)
            step, attempts = attempts.after(
                verdict,
                response,
                grant=grant,
                proven=False,
                random_fraction=self.random_fraction(),
            )
            match step:
                case NextStep("renew"):
                    exchange.renew(grant)
                case NextStep("correct_clock") if response is not None and exchange.correct_clock(response, skew):
                    pass
                case NextStep("wait"):
                    self._wait(write, step, verdict.error)
                case NextStep("park", seconds) if response is not None and not unsure:
                    raise parked(verdict.error, seconds, self.client.policy, response)
                case _ if unsure:
                    return unknown(write, verdict.error)
                case _ if (verdict.renew or verdict.correct_clock) and verdict.error.exit_code != 3:
                    return same_receipts(write.rows, "refused", one_line(verdict.error))
                case _:
                    raise verdict.error

    def _begin_attempt(self, write: WriteRequest) -> None:
        """Log in, wait for the turn, and record that the rows are being sent. StoppedError: no further row is sent."""
        if self.client.clock.stop.is_set():
            raise StoppedError("interrupted")
        self.client.exchange.grant()  # before the row: if the login fails, the row was not sent
        self.client.rate_limit.wait_turn()
        self.job.sending(write.numbers)

    def _record_attempt(self, write: WriteRequest, outcome: "Unsure | Retry | PenstockError") -> Retry:
        """Record in the outbox whether a failed attempt left, and return its verdict. Raises what ends the job."""
        if isinstance(outcome, Unsure):
            self.job.mark_unknown(write.numbers, one_line(outcome.error))
            return Retry(outcome.error)
        self.job.never_left(write.numbers)
        if isinstance(outcome, PenstockError):
            raise outcome
        return outcome

    def _receipts(
        self, write: WriteRequest, response: Response | None, receipts: Sequence[Receipt], *, unsure: bool
    ) -> Sequence[Receipt]:
        """The receipts of an attempt. A 404 after a deletion of unknown outcome (``unsure``) means that it was done."""
        if unsure and self.action.destroys and response is not None and response.status == 404:
            return same_receipts(write.rows, "done", "it was gone when it was requested again after an unknown outcome")
        return receipts

    def _wait(self, write: WriteRequest, wait: NextStep, error: PenstockError) -> None:
        """Pause before the next attempt, and the whole source if the provider throttles."""
        client = self.client
        client.rate_limit.cool_down(wait.cool_down_s or 0.0)
        client.emit(FailedAttempt(error=error, pause_s=wait.seconds).event(client.source.name, None, write.request))
        client.clock.sleep(wait.seconds)

    def _attempt(self, write: WriteRequest) -> "tuple[Response | None, AttemptOutcome]":
        """One attempt: the response, and what it means to the rows."""
        try:
            response = self.client.exchange(write.request)
        except PenstockError as error:
            return None, outcome_of_lost(write, error, repeatable=self.action.repeatable)
        outcome = outcome_of(self.client.source.connector, self.action, response, write.values)
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
                    f"{self.client.source.name}: the outcome of {MOST_UNKNOWN} requests in a row is unknown, so the "
                    f"provider is probably out of order (last: {receipts[0].reason}). The other rows were not sent."
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
    reason = f"sent, without a response that states whether it arrived: {one_line(error)}"
    return same_receipts(write.rows, "unknown", reason)
