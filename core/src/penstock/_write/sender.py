"""
The sender: it sends rows to a provider, each at most once unless the former attempt cannot have been processed.

Every attempt is recorded in the outbox (:mod:`penstock._write.outbox`): ``sending`` before the request is sent, its
outcome afterwards. An attempt is repeated only if it was not sent (no connection), if a gateway refused it (429, an
expired token), or if the action is declared ``repeatable``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from penstock._fetch.client import SourceClient
from penstock._fetch.retry import FailedAttempt, Operation
from penstock._plugins.plugin_errors import FAILURES, defect
from penstock._write.outbox import OutboxJob
from penstock._write.outcomes import one_line, outcome_of, same_receipts
from penstock._write.parameters import typed, validated
from penstock._write.requests import Row, WriteRequest, pack_rows
from penstock._write.rows import InputRow, Rows, cannot_write
from penstock.actions import Action
from penstock.errors import PenstockError, StoppedError, TransportError, UsageError
from penstock.model import Receipt, Request, Response
from penstock.verdicts import Accept, Refuse, Retry, Verdict

BLOCK = 500  # rows prepared at once; only rows of one block can share a request

# So many consecutive unknown outcomes are an outage. The job ends, since sending on would only add more of them.
MAX_UNKNOWN_IN_A_ROW = 100


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

    return lambda request: len(client.signer().preview(request).full_url)


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
    error: PenstockError | None = field(default=None, init=False)
    """What ended the job early."""
    counts: dict[str, int] = field(factory=dict, init=False)
    """The rows whose receipts were yielded, by status, without those that were not sent."""
    not_sent: int = field(default=0, init=False)
    _unknown: int = field(default=0, init=False)  # in a row
    _reported: int = field(default=0, init=False)  # rows whose receipts were yielded

    def send(self) -> Iterator[Receipt]:
        """
        Send every row that is not settled in the outbox yet.

        Yields the receipt of every row in order, as soon as the row and all before it are settled. The receipt of a row
        that was not sent because the job ended early is refused; in the outbox it stays unsent.
        """
        settings, length, count = self.client.source.settings, url_length(self.client), 0
        for block in blocks(self.rows):
            count += len(block)
            if self.error is None:
                settled = self.job.settled(block[0].number, block[-1].number)
                unsent = [input_row for input_row in block if input_row.number not in settled]
                ready = [prepare_row(self.action, settings, input_row, self.defaults) for input_row in unsent]
                rows = [row for row in ready if isinstance(row, Row)]
                writes = list(pack_rows(self.action, settings, rows, length=length))
                self.job.settle([receipt for receipt in (*ready, *writes) if isinstance(receipt, Receipt)])
                yield from self._new_receipts()
                for write in (write for write in writes if isinstance(write, WriteRequest)):
                    self._send_and_settle(write)
                    yield from self._new_receipts()
            if isinstance(self.error, StoppedError):
                break
            yield from self._receipts_of_unsent(block)
        if self.error is None:
            self.job.finish(count, self.client.clock.now())

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
        Write the refused rows, byte for byte as in the input, without those that were not sent. Raises SinkError.
        """
        try:
            with path.open("wb") as file:
                file.write(self.rows.header)
                for input_row in self.rows:
                    receipt = self.job.receipt(input_row.number)
                    if receipt is not None and receipt.status == "refused":
                        file.write(input_row.raw)
        except OSError as error:
            raise cannot_write("--refused", path, error) from None

    # --- receipts ---------------------------------------------------------------------------------------------------

    def _new_receipts(self) -> Iterator[Receipt]:
        for receipt in self.job.receipts(self._reported):
            yield self._count(receipt)

    def _receipts_of_unsent(self, block: Sequence[InputRow]) -> Iterator[Receipt]:
        """After an early end: the known outcomes of the block's rows, and that the others were not sent."""
        for input_row in block:
            if input_row.number < self._reported:
                continue
            receipt = self.job.receipt(input_row.number)
            if receipt is not None:
                yield self._count(receipt)
                continue
            self.not_sent += 1
            self._reported = input_row.number + 1
            why = one_line(self.error) if self.error is not None else "it was not reached"
            yield Receipt(row=input_row.number, status="refused", reason=f"not sent, --resume sends it: {why}")

    def _count(self, receipt: Receipt) -> Receipt:
        self._reported = receipt.row + 1
        self.counts[receipt.status] = self.counts.get(receipt.status, 0) + 1
        return receipt

    # --- one request ------------------------------------------------------------------------------------------------

    def _send_and_settle(self, write: WriteRequest) -> None:
        """Send one request. An error that ends the job is stored, not raised."""
        if self.error is not None:
            return
        try:
            operation = WriteOperation(write, self.client, self.action, self.job)
            self._settle(write, self.client.send(operation))
        except PenstockError as error:
            self._end(error)
        except FAILURES as error:
            self._end(defect(error, self.client.source.connector.name, "What was under way counts as unknown."))

    def _end(self, error: PenstockError) -> None:
        self.error = self.error or error

    def _settle(self, write: WriteRequest, receipts: Sequence[Receipt]) -> None:
        """``receipts``: by the row's place in the request."""
        self.job.settle(evolve(receipt, row=write.rows[receipt.row].number) for receipt in receipts)
        self._unknown = self._unknown + 1 if receipts[0].status == "unknown" else 0
        if self._unknown >= MAX_UNKNOWN_IN_A_ROW:
            self._end(
                TransportError(
                    f"{self.client.source.name}: the outcome of {MAX_UNKNOWN_IN_A_ROW} requests in a row is unknown. "
                    f"The provider is probably out of order (last: {receipts[0].reason}). The other rows were not sent."
                )
            )


@define(eq=False, repr=False)
class WriteOperation(Operation[Sequence[Receipt]]):
    """
    One request of a job, sent until its outcome is known, or cannot be known. Receipts are by the row's place in it.

    ``uncertain``: why an earlier attempt may have been carried out; only one of a repeatable action is followed by
    another.
    """

    write: WriteRequest
    client: SourceClient
    action: Action
    job: OutboxJob
    request: Request = field(init=False)
    uncertain: PenstockError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.request = self.write.request

    def on_send(self) -> None:
        self.job.record_sending(self.write.numbers)

    def judge(self, response: Response) -> tuple[Verdict, Sequence[Receipt]]:
        outcome = outcome_of(self.client.source.connector, self.action, response, self.write.values)
        if isinstance(outcome, Refuse):
            self.job.record_not_sent(self.write.numbers)
            raise outcome.error
        if isinstance(outcome, Retry):
            self.job.record_not_sent(self.write.numbers)
            return outcome, ()
        if self.action.repeatable and outcome[0].status == "unknown":
            return self._repeat_uncertain(TransportError(outcome[0].reason)), ()
        if self.uncertain is not None and self.action.destroys and response.status == 404:
            reason = "it was gone when it was requested again after an unknown outcome"
            return Accept(), same_receipts(self.write.rows, "done", reason)
        return Accept(), outcome

    def on_no_response(self, error: PenstockError) -> Retry | Sequence[Receipt]:
        """Repeat what was not sent, and a repeatable action; else the outcome is unknown."""
        if error.sent:
            if self.action.repeatable and isinstance(error, TransportError):
                return self._repeat_uncertain(error)
            return unknown(self.write, error)
        self.job.record_not_sent(self.write.numbers)
        if isinstance(error, TransportError):
            return Retry(error)
        raise error

    def on_retry(self, failed: FailedAttempt) -> None:
        self.client.log.emit(failed.event(self.client.source.name, None, self.request))

    def on_give_up(self, verdict: Retry, error: PenstockError) -> Sequence[Receipt]:
        """An error of the credentials or of the way there ends the job; any other refusal is of these rows."""
        if self.uncertain is not None:
            return unknown(self.write, self.uncertain)
        if (verdict.renew or verdict.correct_clock) and error.exit_code != 3:
            return same_receipts(self.write.rows, "refused", one_line(error))
        raise error

    def _repeat_uncertain(self, error: TransportError) -> Retry:
        self.uncertain = error
        self.job.record_unknown(self.write.numbers, one_line(error))
        return Retry(error)


def unknown(write: WriteRequest, error: PenstockError) -> Sequence[Receipt]:
    reason = f"sent, without a response that states whether it arrived: {one_line(error)}"
    return same_receipts(write.rows, "unknown", reason)
