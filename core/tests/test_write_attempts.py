"""
The attempts of a write: what the outbox has of its row after each step, and what is sent again.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve, field, frozen
from penstock._fetch.auth import Signer
from penstock._fetch.limits import MAX_SILENT_REQUESTS, RateLimit
from penstock._write.outbox import UNRECORDED, Outbox
from penstock._write.outbox_decision import JobKey
from penstock._write.rows import InputRow
from penstock._write.sender import Sender
from penstock.actions import Action, Field
from penstock.connector import Connector
from penstock.errors import (
    AuthenticationError,
    BrokenBodyError,
    ParkedError,
    PenstockError,
    PluginError,
    StoppedError,
    TransportError,
)
from penstock.model import Receipt, Request, Response
from penstock.protocols import Grant, Unsigned
from penstock.redact import Secret
from penstock.settings import SourceSettings
from penstock.testing import FakeClock, a_response
from penstock.verdicts import Refusal, Retry
from policies import a_policy
from retry_loops import a_retry_loop

NOW = datetime(2026, 3, 10, 8, tzinfo=UTC)
KEY = JobKey(source="acme", action="send", digest="d1", what="events.jsonl")
SEND = Action(name="send", summary="send", method="POST", path="/events", fields=(Field(name="id"),))
PAUSE = evolve(SEND, repeatable=True)
DELETE = evolve(PAUSE, destroys=True)
CONNECTOR = Connector(name="acme", summary="", settings=SourceSettings)
CAPTURED, REFUSED, EXPIRED = a_response({}), a_response(status=400), a_response(status=401)

Answer = Response | Exception | Callable[[], Response]


def header(request: Request, name: str) -> str:
    return dict(request.headers)[name]


def lost(text: str = "reset", *, sent: bool = True) -> TransportError:
    return TransportError(text).at(sent=sent)


@frozen
class Rows:
    """Rows with ids, ready to be sent."""

    count: int
    header: bytes = b""

    def __iter__(self) -> Iterator[InputRow]:
        for number in range(self.count):
            yield InputRow(number=number, values={"id": str(number)}, typed=True)


@frozen(eq=False)
class Login(Unsigned):
    """An authenticator whose login grants T1, T2, ...; ``grants``: what reading a response raises first."""

    failures: list[PenstockError] = field(factory=list)
    granted: list[str] = field(factory=list)
    life_s: float | None = None

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        headers = () if grant is None else (("token", grant.token.reveal()),)
        return request.with_headers(*headers, ("at", now.isoformat()))

    def grant_request(self) -> Request | None:
        return Request(method="POST", url="https://acme.example/login")

    def read_grant(self, response: Response) -> Grant:
        if self.failures:
            raise self.failures.pop(0)
        self.granted.append(f"token-of-the-test-{len(self.granted) + 1}")
        return Grant(Secret(self.granted[-1]), self.life_s)


class Job:
    """A job of ``rows`` rows, sent with scripted answers."""

    def __init__(self, folder: Path, answers: list[Answer], *, action: Action = SEND, rows: int = 1, **more: Any):
        self.clock = FakeClock(NOW)
        self.answers, self.action, self.rows = answers, action, rows
        self.outbox = Outbox(folder)
        self.sent: list[Request] = []
        self.events: list[Any] = []
        authenticator = more.pop("authenticator", Unsigned())
        self.signer = Signer(authenticator, more.pop("login", lambda request: a_response({})), self.clock)
        self.rate_limit = RateLimit(self.clock, more.pop("requests_per_second", None))
        self.retry_loop = a_retry_loop(
            self._exchange,
            self.clock,
            signer=self.signer,
            policy=a_policy(retries=2),
            rate_limit=self.rate_limit,
            source="acme",
        )
        connector = evolve(CONNECTOR, **more)
        self.client: Any = SimpleNamespace(
            source=SimpleNamespace(
                name="acme", connector=connector, settings=SourceSettings(base_url="https://acme.example")
            ),
            clock=self.clock,
            log=SimpleNamespace(emit=self.events.append),
            send=self.retry_loop.run,
            signer=lambda: self.signer,
        )

    def send(self, **how: Any) -> list[str]:
        """Send the job; the status of each receipt."""
        job = self.outbox.open(KEY, NOW, **how)
        self.sender = Sender(client=self.client, action=self.action, job=job, rows=Rows(self.rows), defaults={})
        try:
            self.receipts = list(self.sender.send())
        finally:
            job.close()
        return [receipt.status for receipt in self.receipts]

    def _exchange(self, request: Request) -> Response:
        self.sent.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


# --- what is sent again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "answers", "status", "sent"),
    [
        (SEND, [lost(sent=False), CAPTURED], "done", 2),
        (SEND, [lost(), CAPTURED], "unknown", 1),
        (SEND, [a_response(status=503), CAPTURED], "unknown", 1),
        (SEND, [a_response(status=429), CAPTURED], "done", 2),
        (PAUSE, [lost(), CAPTURED], "done", 2),
        (PAUSE, [a_response(status=503), CAPTURED], "done", 2),
        (PAUSE, [lost(), lost(), lost(), CAPTURED], "unknown", 3),
        (PAUSE, [lost(), lost(sent=False), lost(sent=False), CAPTURED], "unknown", 3),
        (PAUSE, [lost(), REFUSED], "refused", 2),
        (DELETE, [lost(), a_response(status=404)], "done", 2),
        (DELETE, [a_response(status=404)], "refused", 1),
        (SEND, [a_response(status=303, headers=(("location", "/elsewhere"),))], "unknown", 1),
        (SEND, [a_response(status=307, headers=(("location", "/elsewhere"),))], "refused", 1),
    ],
)
def test_a_row_is_sent_again_only_where_that_cannot_double_it(
    action: Action, answers: list[Answer], status: str, sent: int, tmp_path: Path
) -> None:
    """
    A redirect of a write is not followed: it may follow one that was carried out.
    """
    job = Job(tmp_path, list(answers), action=action)

    assert (job.send(), len(job.sent)) == ([status], sent)


def test_an_unknown_outcome_has_the_reason_of_its_own_attempt(tmp_path: Path) -> None:
    """
    The reason is not that of a later attempt, which the provider turned away.
    """
    tomorrow = a_response(status=429, headers=(("retry-after", "86400"),))
    job = Job(tmp_path, [lost("acme.example sent nothing for 60 s"), tomorrow], action=PAUSE)

    assert job.send() == ["unknown"]
    assert "sent nothing for 60 s" in job.receipts[0].reason


def test_a_token_that_ran_out_is_renewed_for_the_same_row(tmp_path: Path) -> None:
    """
    A 401 states that nothing was captured, whatever the provider did: the row is sent once more, and no third time.
    """
    job = Job(tmp_path, [EXPIRED, CAPTURED, EXPIRED, EXPIRED], authenticator=Login(), rows=3)

    assert job.send() == ["done", "refused", "refused"]
    assert [header(request, "token")[-1] for request in job.sent] == ["1", "2", "2", "3"]
    assert isinstance(job.sender.error, AuthenticationError)
    assert (job.sender.counts, job.sender.not_sent) == ({"done": 1}, 2)
    assert [(event["event"], event["renewed"]) for event in job.events] == [("retry", True)] * 2


def test_a_refusal_that_another_token_does_not_change_is_of_its_rows(tmp_path: Path) -> None:
    """
    The rows behind it are sent.
    """
    statuses = {409: Refusal("Not yours.", renew=True)}
    answers: list[Answer] = [a_response(status=409), a_response(status=409), CAPTURED]
    job = Job(tmp_path, answers, authenticator=Login(), rows=2, statuses=statuses)

    assert job.send() == ["refused", "done"]


def test_a_row_is_not_sent_where_its_login_fails(tmp_path: Path) -> None:
    """
    A row is not sent where its login fails, also where the token ends while the row waits for its turn, and the login
    after that is lost.
    """
    login = Login(life_s=10.0)
    logins: list[Answer] = [a_response({})]

    def log_in(request: Request) -> Response:
        if not logins:
            raise lost("the login was lost")
        logins.pop()
        return a_response({})

    job = Job(tmp_path, [CAPTURED], authenticator=login, login=log_in, rows=2, requests_per_second=0.1)

    assert job.send() == ["done", "refused"]
    assert job.receipts[1].reason.startswith("not sent, --resume sends it")
    assert job.sender.not_sent == 1


def test_a_login_that_states_nothing_is_made_again_for_a_write(tmp_path: Path) -> None:
    """
    The login is repeated as for a read: nothing of the row was sent.
    """
    job = Job(tmp_path, [CAPTURED], authenticator=Login(failures=[BrokenBodyError("no JSON")]))

    assert job.send() == ["done"]


def test_the_clock_is_corrected_once_for_each_row(tmp_path: Path) -> None:
    """
    A provider whose clock jumps back refuses the second row as well; its time is taken over again, and then it stands.
    """

    def skewed(by_s: float) -> Callable[[], Response]:
        def answer() -> Response:
            date = format_datetime(job.clock.now() + timedelta(seconds=by_s), usegmt=True)
            return a_response(status=401, headers=(("date", date),), received_at=job.clock.now())

        return answer

    error = AuthenticationError("the time is wrong")

    def judge(response: Response, answer: object) -> Any:
        return Retry(error, correct_clock=True) if response.status == 401 else None

    answers: list[Answer] = [skewed(3600), CAPTURED, skewed(-3600), CAPTURED, skewed(0), skewed(7200)]
    job = Job(tmp_path, answers, authenticator=Login(), rows=3, judge=judge)

    assert job.send() == ["done", "done", "refused"]
    assert [round((datetime.fromisoformat(header(request, "at")) - NOW).total_seconds()) for request in job.sent] == [
        0,
        3600,
        3600,
        -3600,
        -3600,
        0,
    ]
    assert job.sender.error is not None


def test_an_outage_costs_a_job_of_repeatable_rows_little(tmp_path: Path) -> None:
    """
    After requests in a row without a response each further one is tried once, until one succeeds.
    """
    answers: list[Answer] = [lost() for _ in range(3 * MAX_SILENT_REQUESTS + 1)]
    job = Job(tmp_path, [*answers, a_response(status=503), CAPTURED], action=PAUSE, rows=MAX_SILENT_REQUESTS + 2)

    assert job.send() == ["unknown"] * (MAX_SILENT_REQUESTS + 1) + ["done"]


def test_a_long_wait_ends_the_job_before_the_row(tmp_path: Path) -> None:
    """
    The row was not sent; a later command goes on with it.
    """
    tomorrow = a_response(status=429, headers=(("retry-after", "86400"),))
    job = Job(tmp_path, [CAPTURED, tomorrow, CAPTURED], rows=2)

    assert job.send() == ["done", "refused"]
    assert isinstance(job.sender.error, ParkedError)
    assert job.send(resume=True) == ["done", "done"]


# --- a stop in every step --------------------------------------------------------------------------------------------


STEPS: dict[str, tuple[Action, list[str], int]] = {
    # the step in which the stop comes: the action, the receipts of a command that resumes, requests for the row by then
    "login": (SEND, ["done", "done"], 1),
    "turn": (SEND, ["done", "done"], 1),
    "response": (SEND, ["done", "done"], 1),
    "lost on the way": (SEND, ["unknown", "done"], 1),
    "not sent": (SEND, ["done", "done"], 2),
    "pause": (SEND, ["done", "done"], 2),
    "pause after a lost attempt": (PAUSE, ["unknown", "done"], 1),
    "renewal": (SEND, ["done", "done"], 2),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_stop_leaves_each_row_known_or_unknown(step: str, tmp_path: Path) -> None:
    """
    A row that may have arrived is not sent by a command that resumes; any other one is.
    """
    action, resumed, requests = STEPS[step]

    def stopped(error: Exception | None = None, response: Response = CAPTURED) -> Callable[[], Response]:
        def answer() -> Response:
            job.clock.stop.set()
            if error is not None:
                raise error
            return response

        return answer

    def log_in(request: Request) -> Response:
        if step == "login" and not job.clock.stop.is_set():
            job.clock.stop.set()
            raise StoppedError("stopped while a request was under way")
        return a_response({})

    first: dict[str, list[Answer]] = {
        "response": [stopped()],
        "lost on the way": [stopped(lost())],
        "not sent": [stopped(lost(sent=False))],
        "pause": [stopped(response=a_response(status=429))],
        "pause after a lost attempt": [stopped(lost())],
        "renewal": [stopped(response=EXPIRED)],
    }
    job = Job(tmp_path, first.get(step, []), action=action, rows=2, authenticator=Login(), login=log_in)
    if step == "turn":
        job.rate_limit.pause_here(5.0)
        stop = stopped(StoppedError("stopped while waiting"))
        job.clock.sleep = lambda seconds: stop()  # type: ignore[method-assign, assignment, return-value]

    before = job.send()

    assert isinstance(job.sender.error, StoppedError)
    assert before == {"response": ["done"], "lost on the way": ["unknown"]}.get(step, [])
    again = Job(tmp_path, [CAPTURED] * 2, action=action, rows=2, authenticator=Login())
    assert again.send(resume=True) == resumed
    of_row = [request for request in (*job.sent, *again.sent) if request.body == b'{"id":"0"}']
    assert len(of_row) == requests


# --- what an author may get wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returned",
    [
        [],
        [Receipt(row=0, status="done")],
        [Receipt(row=0, status="done"), Receipt(row=0, status="done")],
        [Receipt(row=0, status="done"), Receipt(row=2, status="done")],
        ["done", "done"],
        True,
    ],
    ids=["none", "too few", "one twice", "of another row", "texts", "a flag"],
)
def test_receipts_that_are_not_of_each_row_end_the_job(returned: Any, tmp_path: Path) -> None:
    """
    No row is left without a receipt: those of the request are unknown, and nothing more is sent.
    """
    action = evolve(SEND, rows_per_request=2, judge=lambda response, rows: returned)
    job = Job(tmp_path, [CAPTURED, CAPTURED], action=action, rows=4)

    assert job.send() == ["unknown", "unknown", "refused", "refused"]
    assert isinstance(job.sender.error, PluginError)
    assert job.receipts[0].reason == UNRECORDED
    assert "write return None, a verdict, or one Receipt for each of the 2 rows" in str(job.sender.error)
    assert len(job.sent) == 1
