"""
Reports on demand: submitted, or adopted from an earlier run, and polled until they are ready.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from attrs import define, evolve, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Answered, Call, Pause, Steps, answered
from penstock._plan.finality import MAX_HOST_SKEW, same_settings
from penstock._plan.plan import PlannedSlice
from penstock._read.listing import broken_page, call_of
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import BrokenBodyError, BrokenPageError, InconsistentReadError, ReportError, check_returned
from penstock.fault_points import fault_point
from penstock.ledger_interface import Ledger, PendingReport
from penstock.model import Request, Response
from penstock.protocols import STATES, BodyDecoder, Empty, Gone, Poller, Ready, ReportState, Waiting
from penstock.redact import clip
from penstock.settings import SourceSettings
from penstock.verdicts import Refuse

# Statuses of a poll that mean: the report is unknown, or not kept any more. Any other refusal fails the read.
NO_SUCH_REPORT = (404, 410)

MAX_BROKEN_POLLS = 3  # consecutive responses to polls that state nothing, after which the slice is read again

PAUSE_S = 0.1  # between the first two polls, where the first one was to be made at once


class ReportExpiredError(InconsistentReadError):
    """
    A report expired while its pages were read. The next read requests its state again, which gives fresh links, or
    states that it is gone.
    """

    def __init__(self, response: Response) -> None:
        # The refusal's own message is about a wrong address, which would mislead.
        self._seen = f"HTTP {response.status}"
        super().__init__(f"the report expired while it was read ({self._seen})")

    def when_repeated(self, reads: int) -> ReportError:
        return ReportError(
            f"the provider's report expired while it was read ({self._seen}). It was read {reads} times, after its "
            "state was requested again each time. Nothing was replaced; the next run tries again. If it persists, "
            "choose a shorter window; if even a short one is refused, ask the provider why."
        )


def check_rows(result: Answered) -> None:
    """
    Check the response to a poll that should hold the rows of a report. Raises BrokenPageError where the decoder cannot
    read it, or where it states a failure: a poll is accepted whatever its body is, since only its last response has
    rows.
    """
    answer = result.answer
    if problem := answer.problem or (answer.failure and f"it states {answer.failure}"):
        raise BrokenPageError(
            f"the response states that the report is ready, and should have its rows, but {problem}"
        ).at(request=result.call.request)


class PollTimes(NamedTuple):
    """Times of polling, in seconds."""

    first_s: float  # before the first poll
    longest_s: float  # between two polls
    deadline_s: float  # a report of this age that is not ready has failed


def poll_times(settings: SourceSettings, stream: Stream) -> PollTimes:
    """From the settings of the source, else from the declaration of the stream."""

    def chosen(name: str) -> float:
        configured: float | None = getattr(settings, name)
        return float(getattr(stream, name)) if configured is None else configured

    return PollTimes(chosen("poll_first_s"), chosen("poll_max_s"), chosen("poll_deadline_s"))


@define(eq=False, repr=False)
class ReportClaims:
    """
    The reports of a source that are under way in this run, by the request for their state: each is the report of one
    submission. If a provider named one report for two, rows of one would be delivered as those of the other.
    """

    _reports: dict[object, PendingReport] = field(factory=dict, init=False)  # by the identity of the poll
    _polls: dict[str, object] = field(factory=dict, init=False)  # by submission
    _shared: set[object] = field(factory=set, init=False)

    def claim(self, poll: Request, report: PendingReport) -> PendingReport | None:
        """Record a report. Returns the report of another submission that has the same poll, if there is one."""
        recorded = self._reports.setdefault(poll.identity, report)
        if recorded.request == report.request:
            self._polls[report.request] = poll.identity
            return None
        self._shared.add(poll.identity)
        return recorded

    def is_shared(self, poll: Request) -> bool:
        """Whether the responses to several submissions name the report of this poll."""
        return poll.identity in self._shared

    def release(self, report: PendingReport) -> None:
        """Forget a report that was delivered or dropped."""
        self._reports.pop(self._polls.pop(report.request, None), None)


@define(eq=False, repr=False)
class ReportsOnDemand:
    """
    The reports of one planned slice, from their submission until their rows are delivered.

    The ledger keeps each of them until then, so that the next run adopts those that this run did not finish.
    """

    source: ConfiguredSource
    planned: PlannedSlice
    poller: Poller
    decoder: BodyDecoder  # for the response to a poll, which may hold the records
    ledger: Ledger | None
    clock: Clock
    adoptable: dict[str, PendingReport]  # reports of earlier runs, by request; an adopted one is removed
    claims: ReportClaims  # of the source
    log: RunLog
    under_way: list[PendingReport] = field(factory=list, init=False)
    _ready: list[PendingReport] = field(factory=list, init=False)  # of this read

    def wait_until_ready(self, submission: Request) -> Steps[tuple[Answered, Ready | Empty]]:
        """
        Wait until the report of this submission is ready: the result of its last poll, and its state. It is submitted
        again, once, if it is gone, or if it was adopted after its deadline and is still not ready.

        Raises ReportError if it is gone again or not ready in time, and the provider's refusal.
        """
        source, stream = self.source.name, self.planned.stream.name
        self.log.emit({"event": "report_waiting", "source": source, "stream": stream})
        try:
            return (yield from self._submit_and_poll(submission))
        finally:
            self.log.emit({"event": "report_ready", "source": source, "stream": stream})

    def _submit_and_poll(self, submission: Request) -> Steps[tuple[Answered, Ready | Empty]]:
        report = yield from self._adopt_or_submit(submission)
        late = self._age_s(report) >= self._times.deadline_s
        result, state = yield from self._poll_until_settled(submission, report)
        if isinstance(state, Gone) or (late and isinstance(state, Waiting)):
            self._drop(report)
            reason = state.reason if isinstance(state, Gone) else "the report of an earlier run is still not ready"
            self.log.note(f"{self.planned}: {reason}; submitting the report anew")
            report = yield from self._submit(submission)
            result, state = yield from self._poll_until_settled(submission, report)
        ready = self._check_settled(submission, report, result, state)
        self._ready.append(report)
        return result, ready

    def _check_settled(
        self, submission: Request, report: PendingReport, result: Answered, state: ReportState
    ) -> Ready | Empty:
        """
        The state of a report after its last poll, with a note if it is an old one. Raises ReportError if it is not
        ready or gone, or that of another submission, too.
        """
        if isinstance(state, Waiting):
            raise ReportError(
                f"the report was not ready {self._age_s(report):.0f} s after it "
                f"was submitted{_last_state(state, result)}. The next run polls it once more before it submits it "
                "anew; poll_deadline_s allows more time."
            )
        if isinstance(state, Gone):
            self._drop(report)
            raise ReportError(
                f"the report failed twice: {state.reason}. Nothing was replaced; the next run submits it anew."
            )
        if self.claims.is_shared(self._poll_call(submission, report).request):
            self._drop(report)
            raise self._ambiguous(report)
        if self._age_s(report) >= self._times.deadline_s:
            stream = self.planned.stream.name
            self.log.note_once(
                (stream, "old report"),
                f"{stream}: the rows of a report are those of {report.submitted_at:%Y-%m-%d %H:%M} UTC, when it was "
                "submitted; the next run reads open days, and snapshots, again",
            )
        return state

    def restart(self) -> None:
        """Begin a new read: it uses the reports of the former one, if it submits the same requests."""
        self._ready.clear()
        self.adoptable.update({report.request: report for report in self.under_way})
        self.under_way.clear()

    def check_expired(self, result: Answered) -> None:
        """Raises ReportExpiredError where a page or download is refused since its report has expired."""
        if self.under_way and isinstance(result.verdict, Refuse) and self.poller.expired(result.response):
            raise ReportExpiredError(result.response)

    def drop_ready(self) -> None:
        """
        Drop the reports that were ready: the file is not whole, or its rows do not add up, and the next run would read
        the same again. It submits them anew.
        """
        for report in self._ready:
            self._drop(report)
        self._ready.clear()

    def drop_delivered(self) -> None:
        """Drop the reports from the ledger after their rows were committed."""
        for report in self.under_way:
            self.claims.release(report)
            if self.ledger is not None:
                self.ledger.drop(report)

    @property
    def submitted_at(self) -> datetime:
        """When the first of the reports that were ready was submitted."""
        return min(report.submitted_at for report in self._ready)

    # --- submitted or adopted -----------------------------------------------------------------------------------------

    def submit_all(self, submissions: Sequence[Request]) -> Steps[None]:
        """Submit all of them before waiting for the first, so that the provider makes them in parallel."""
        for submission in submissions:
            yield from self._adopt_or_submit(submission)

    def _adopt_or_submit(self, submission: Request) -> Steps[PendingReport]:
        """The report of this submission: a pending one of this run or of an earlier run, or a new one."""
        text = submission_text(submission)
        report = next((pending for pending in self.under_way if pending.request == text), None) or self._adopt(text)
        if report is not None:
            self._claim(submission, report)
        return report or (yield from self._submit(submission))

    def _submit(self, submission: Request) -> Steps[PendingReport]:
        call = call_of(self.planned, submission, None, lenient=True)
        result = answered((yield (call._replace(submits=True),)))
        if isinstance(result.verdict, Refuse):
            raise result.verdict.error
        try:
            handle = check_returned(self.poller.handle, self.poller.handle(result.response), str, "the id as a text")
        except BrokenBodyError as error:
            raise broken_page(error) from None
        report = PendingReport(
            source=self.source.name,
            stream=self.planned.stream.name,
            handle=handle,
            request=submission_text(submission),
            partitions=self.planned.partitions,
            # The provider may have made it of the rows that it had before its response.
            submitted_at=result.sent_at or self.clock.now(),
            fingerprint=self.planned.fingerprint,
        )
        self._claim(submission, report)
        if self.ledger is not None:
            self.ledger.submit(report)
            fault_point("report.submitted")
        self.under_way.append(report)
        return report

    def _claim(self, submission: Request, report: PendingReport) -> None:
        """Raises ReportError where this is the report of another submission; the next run adopts neither."""
        claimed = self.claims.claim(self._poll_call(submission, report).request, report)
        if claimed is not None:
            for pending in (claimed, report):
                if self.ledger is not None:
                    self.ledger.drop(pending)
            raise self._ambiguous(report)

    def _ambiguous(self, report: PendingReport) -> ReportError:
        return ReportError(
            f"the provider returned one report id ({clip(report.handle, 60)}) for this request and for another one; "
            "nothing was delivered of either. If its response has an id that differs, correct handle() of the poller; "
            "otherwise report it to the provider."
        )

    def _adopt(self, text: str) -> PendingReport | None:
        """The report that an earlier run submitted with the same request and settings."""
        report = self.adoptable.pop(text, None)
        if report is None:
            return None
        if not same_settings(report.fingerprint, self.planned.fingerprint) or self._is_outdated(report):
            self._drop(report)
            return None
        self.under_way.append(report)
        return report

    def _is_outdated(self, report: PendingReport) -> bool:
        """
        Whether newer rows were delivered than this report has; or, if it is past its deadline, its own, by a run that
        was killed before it dropped the report. A report of the future is of a wrong clock: its age is not known.
        """
        if report.submitted_at > self.clock.now() + MAX_HOST_SKEW:  # by a clock that was ahead
            return True
        former = map(self.planned.entries.get, self.planned.partitions)
        read = [entry.read_at for entry in former if entry is not None and entry.read_at is not None]
        if any(read_at > report.submitted_at for read_at in read):
            return True
        delivered_itself = len(read) == len(self.planned.partitions) and set(read) == {report.submitted_at}
        return delivered_itself and self._age_s(report) >= self._times.deadline_s

    def _drop(self, report: PendingReport) -> None:
        self.claims.release(report)
        if self.ledger is not None:
            self.ledger.drop(report)
        if report in self.under_way:
            self.under_way.remove(report)

    # --- polled -------------------------------------------------------------------------------------------------------

    def _poll_until_settled(self, submission: Request, report: PendingReport) -> Steps[tuple[Answered, ReportState]]:
        """Poll the report's state until it is not waiting any more. Each pause is 1.5 times the last."""
        times = self._times
        if (early_s := times.first_s - self._age_s(report)) > 0:
            yield Pause(min(early_s, times.first_s))  # the submission can be in the future if the clocks differ
        pause_s, noted_state, broken_polls = times.first_s or PAUSE_S, "", 0
        began_s = self.clock.monotonic()  # a wall clock that is set back would move the deadline away
        while True:
            result = answered((yield (self._poll_call(submission, report),)))
            if isinstance(result.verdict, Refuse) and result.response.status not in NO_SUCH_REPORT:
                raise result.verdict.error
            age_s = max(self._age_s(report), self.clock.monotonic() - began_s)
            state: ReportState = Waiting()
            try:
                state = self._state_of(result.response, age_s)
                broken_polls = 0
            except BrokenBodyError as error:  # the response is broken, such as a login page; the report is not
                broken_polls += 1
                if broken_polls > MAX_BROKEN_POLLS:
                    raise broken_page(error).at(request=result.call.request) from None
            if not isinstance(state, Waiting):
                return result, state
            if state.note and state.note != noted_state:
                noted_state = state.note
                self.log.note(f"{self.planned}: the report's state is {state.note!r}; still waiting")
            if age_s >= times.deadline_s:
                return result, state
            pause_s = min(times.longest_s, pause_s * 1.5)
            yield Pause(min(pause_s, max(0.0, times.deadline_s - age_s)))

    def _state_of(self, response: Response, age_s: float) -> ReportState:
        """The state of a report by the response to a poll. Raises BrokenBodyError where it states none."""
        if response.status == 202:
            return Waiting()
        state: ReportState = check_returned(self.poller.state, self.poller.state(response, age_s), ReportState, STATES)
        return state

    def _poll_call(self, submission: Request, report: PendingReport) -> Call:
        poll = self.poller.poll(submission, report.handle)
        check_returned(self.poller.poll, poll, Request, "Request(url=...)")
        poll = evolve(poll, columns={**submission.columns, **poll.columns})
        return call_of(self.planned, poll, self.decoder, lenient=True, digest=True)

    @property
    def _times(self) -> PollTimes:
        return poll_times(self.source.settings, self.planned.stream)

    def _age_s(self, report: PendingReport) -> float:
        return (self.clock.now() - report.submitted_at).total_seconds()


def _last_state(state: Waiting, result: Answered) -> str:
    """What the last poll showed, for a message."""
    if state.note:
        return f"; its state is {state.note!r}, which the poller does not know"
    body = result.response.text(100)
    return f"; the last poll was answered with {body}" if body else ""


def submission_text(request: Request) -> str:
    """A submission as the ledger keeps it, without credentials, which are added when it is signed."""
    body = (request.body or b"").decode("utf-8", "replace")
    return json.dumps([request.method, request.url, request.params, request.headers, body], ensure_ascii=False)
