"""
Reports that a provider makes on demand: submitted, or adopted from the run before; polled until they are ready.
"""

import json
from collections.abc import Callable, Generator

from attrs import define, evolve, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._fetch.scheduler import Call, Outcome, Pause, Step
from penstock._plan.planner import Fetch
from penstock._util.clock import Clock
from penstock.connector import SourceSettings, Stream
from penstock.errors import ProviderError, ReportError
from penstock.fault_points import fault_point
from penstock.model import Request, Response
from penstock.protocols import BodyDecoder, Empty, Gone, Poller, Ready, Refuse, Waiting
from penstock.sinks import Ledger, PendingReport

# Statuses with which a provider says that it does not know a report (any more); all others are the request's fault.
UNKNOWN = (404, 410)


class Standing(Exception):
    """An error that reading again does not mend, such as what a request brought after its last retry."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Lost(ProviderError):
    """A report expired while its pages were read; asking for its state again gives fresh links, or says it is gone."""

    def __init__(self, response: Response) -> None:
        # Not in the words of the refusal: they say what a wrong address would mean.
        seen = f"HTTP {response.status}"
        super().__init__(f"the report expired while it was read ({seen})")
        self.error = ReportError(
            f"the provider's report expired while it was read ({seen}), and again each time it was made "
            "anew. Run again when the provider answers faster, or with a shorter window."
        )


def arrived(outcome: Outcome | None) -> Outcome:
    """The outcome of a call that brought an answer, good or bad; raises Standing for one that brought none."""
    assert outcome is not None
    if outcome.error is not None:
        raise Standing(outcome.error)
    return outcome


def accepted(outcome: Outcome | None, lost: Callable[[Response], bool]) -> Outcome:
    """
    The outcome of a call whose answer is good.

    Raises Standing where no answer came. Where it was refused: Lost if ``lost`` says of it that the report expired,
    else the error of the refusal.
    """
    outcome = arrived(outcome)
    if isinstance(outcome.verdict, Refuse):
        if outcome.response is not None and lost(outcome.response):
            raise Lost(outcome.response)
        raise outcome.verdict.error
    return outcome


@frozen(kw_only=True)
class PollTimes:
    """When a report is asked for, in seconds: the pause before the first poll, the longest one, and the end of it."""

    first_s: float
    longest_s: float
    deadline_s: float  # a report of this age that is not ready has failed, and none is adopted any more


def poll_times(settings: SourceSettings, stream: Stream) -> PollTimes:
    """As the source is configured, else as the stream declares it."""

    def chosen(configured: float | None, declared: float) -> float:
        return declared if configured is None else configured

    return PollTimes(
        first_s=chosen(settings.poll_first_s, stream.poll_first_s),
        longest_s=chosen(settings.poll_max_s, stream.poll_max_s),
        deadline_s=chosen(settings.poll_deadline_s, stream.poll_deadline_s),
    )


@frozen(kw_only=True)
class Finished:
    """A report that is ready, and the poll whose answer says so."""

    report: PendingReport
    outcome: Outcome
    state: Ready | Empty


@define(eq=False)
class Reports:
    """
    The reports of one fetch, from their submission until their rows are delivered.

    The ledger holds each of them meanwhile, so that the next run adopts what this one could not finish.
    """

    source: ConfiguredSource
    fetch: Fetch
    poller: Poller
    read: BodyDecoder  # for the answer to a poll, which may hold the records
    ledger: Ledger | None
    clock: Clock
    on_note: Callable[[str], None]
    under_way: list[PendingReport] = field(factory=list, init=False)

    def finished(self, submission: Request) -> Generator[Step, Outcome | None, Finished]:
        """
        Adopt the report of this submission that is under way, or submit it, and wait until it is ready. One that is
        gone is submitted anew, once.

        Raises ReportError when it is gone again or not ready in time, and the provider's own refusal.
        """
        report = yield from self.begun(submission)
        outcome, state = yield from self._polled(submission, report)
        if isinstance(state, Gone):
            self._drop(report)
            self.on_note(f"{self.fetch}: {state.reason}; submitting the report anew")
            report = yield from self._submitted(submission)
            outcome, state = yield from self._polled(submission, report)
        if isinstance(state, Gone):
            self._drop(report)
            raise ReportError(f"{self.source.name}: the report for {self.fetch} failed twice: {state.reason}")
        return Finished(report=report, outcome=outcome, state=state)

    def lost(self, response: Response) -> bool:
        """Whether this refused answer to a page or download says that a report expired meanwhile."""
        return bool(self.under_way) and self.poller.lost(response)

    def delivered(self) -> None:
        """Their rows are committed: nobody needs to adopt them any more."""
        if self.ledger is not None:
            for report in self.under_way:
                self.ledger.drop(report)

    # --- submitted or adopted ---------------------------------------------------------------------------------------

    def begun(self, submission: Request) -> Generator[Step, Outcome | None, PendingReport]:
        """The report of this submission: one under way, be it of this run or of an earlier one, or a new one."""
        text = submission_text(submission)
        report = next((one for one in self.under_way if one.request == text), None) or self._adopted(text)
        return report or (yield from self._submitted(submission))

    def _submitted(self, submission: Request) -> Generator[Step, Outcome | None, PendingReport]:
        outcome = yield (Call(request=submission, read=None, stream=self.fetch.stream, lenient=True),)
        answer = accepted(outcome, lambda response: False).response  # no report is asked for here that could be lost
        assert answer is not None
        report = PendingReport(
            source=self.source.name,
            stream=self.fetch.stream.name,
            handle=self.poller.handle(answer),
            request=submission_text(submission),
            partitions=self.fetch.partitions,
            submitted_at=self.clock.now(),
            fingerprint=self.fetch.fingerprint,
        )
        if self.ledger is not None:
            self.ledger.submit(report)
            fault_point("report.submitted")
        self.under_way.append(report)
        return report

    def _adopted(self, text: str) -> PendingReport | None:
        """The report that an earlier run submitted with this very request, unless its time is over."""
        if self.ledger is None:
            return None
        for report in self.ledger.pending(self.source.name, self.fetch.stream.name):
            if report.request != text:
                continue
            if report.fingerprint == self.fetch.fingerprint and self._age_s(report) < self._times.deadline_s:
                self.under_way.append(report)
                return report
            self._drop(report)
        return None

    def _drop(self, report: PendingReport) -> None:
        if self.ledger is not None:
            self.ledger.drop(report)
        if report in self.under_way:
            self.under_way.remove(report)

    # --- polled -----------------------------------------------------------------------------------------------------

    def _polled(
        self, submission: Request, report: PendingReport
    ) -> Generator[Step, Outcome | None, tuple[Outcome, Ready | Empty | Gone]]:
        """Poll the report's state until it is not waiting any more; the pauses between grow by half."""
        times = self._times
        if (early_s := times.first_s - self._age_s(report)) > 0:
            yield Pause(min(early_s, times.first_s))  # by another clock, or one set back, it is of the future
        pause_s, noted = times.first_s, ""
        while True:
            outcome = arrived((yield (self._poll(submission, report),)))
            assert outcome.response is not None
            if isinstance(outcome.verdict, Refuse) and outcome.response.status not in UNKNOWN:
                raise outcome.verdict.error
            age_s = self._age_s(report)
            state = self.poller.state(outcome.response, age_s)
            if not isinstance(state, Waiting):
                return outcome, state
            if state.note and state.note != noted:
                noted = state.note
                self.on_note(f"{self.fetch}: the report's state is {state.note!r}; waiting on")
            if age_s >= times.deadline_s:
                self._drop(report)
                raise ReportError(
                    f"{self.source.name}: the report for {self.fetch} was not ready {age_s:.0f} s after it was "
                    f"submitted. It is submitted anew by the next run; poll_deadline_s allows more time."
                )
            pause_s = min(times.longest_s, pause_s * 1.5)
            yield Pause(min(pause_s, max(0.0, times.deadline_s - age_s)))

    def _poll(self, submission: Request, report: PendingReport) -> Call:
        poll = self.poller.poll(submission, report.handle)
        poll = evolve(poll, columns={**submission.columns, **poll.columns})
        return Call(request=poll, read=self.read, stream=self.fetch.stream, lenient=True, digest=True)

    @property
    def _times(self) -> PollTimes:
        return poll_times(self.source.settings, self.fetch.stream)

    def _age_s(self, report: PendingReport) -> float:
        return (self.clock.now() - report.submitted_at).total_seconds()


def submission_text(request: Request) -> str:
    """A submission as the ledger keeps it, without credentials: they are added when it is signed."""
    body = (request.body or b"").decode("utf-8", "replace")
    return json.dumps([request.method, request.url, request.params, request.headers, body], ensure_ascii=False)
