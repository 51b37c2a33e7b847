"""Signing: anew for each attempt, one login for many threads, and the provider's clock where ours is refused."""

import threading
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest
from attrs import evolve, field, frozen
from penstock._fetch.auth import RENEWED_AT_SHARE, Signer
from penstock.model import Request, Response
from penstock.protocols import Grant, Unsigned
from penstock.redact import Secret, mask
from penstock.testing import FakeClock, a_response
from waits import eventually

REQUEST = Request(url="http://localhost/report")


@frozen(eq=False)
class Tickets(Unsigned):
    """Signs with the moment; logs in when it has a lifetime."""

    life_s: float | None = None
    logs_in: bool = False
    grants: list[Grant] = field(factory=list)
    signed: list[datetime] = field(factory=list)

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        self.signed.append(now)
        return request.with_param("token", grant.token.reveal() if grant else "none")

    def grant_request(self) -> Request | None:
        return Request(method="POST", url="http://localhost/login") if self.logs_in else None

    def read_grant(self, response: Response) -> Grant:
        self.grants.append(Grant(Secret(f"token {len(self.grants) + 1}"), self.life_s))
        return self.grants[-1]

    def explain(self, request: Request, now: datetime) -> str:
        return f"{request.url} at {now:%H:%M}"


def signing(tickets: Tickets, clock: FakeClock | None = None) -> Signer:
    return Signer(tickets, lambda request: a_response(), clock or FakeClock())


def test_each_attempt_is_signed_with_its_own_time():
    """
    The same request sent twice carries two signatures.
    """
    clock, tickets = FakeClock(), Tickets()
    signer = signing(tickets, clock)

    first = signer.sign(REQUEST)
    clock.advance(90)
    second = signer.sign(REQUEST)

    assert tickets.signed[1] - tickets.signed[0] == timedelta(seconds=90)
    assert [signed.request.params for signed in (first, second)] == [(("token", "none"),)] * 2


def test_a_download_carries_no_credentials():
    """
    A request without credentials goes out as it is, and nothing is granted for it.
    """
    tickets = Tickets(logs_in=True)
    signed = signing(tickets).sign(Request(url="http://localhost/file", credentials=False))

    assert (tickets.signed, tickets.grants, signed.request.params) == ([], [], ())


def test_a_grant_is_kept_while_it_lives():
    """
    One login serves many requests; before its end a new one is made.
    """
    clock, tickets = FakeClock(), Tickets(logs_in=True, life_s=100.0)
    signer, tokens = signing(tickets, clock), []

    for seconds in (0, 10, 100 * RENEWED_AT_SHARE - 11, 2):
        clock.advance(seconds)
        tokens.append(signer.sign(REQUEST).request.param("token"))

    assert tokens == ["token 1", "token 1", "token 1", "token 2"]


def test_a_token_without_an_end_is_never_renewed_by_time():
    """
    Where the provider states no life, the token is used until it is refused.
    """
    clock, tickets = FakeClock(), Tickets(logs_in=True)
    signer = signing(tickets, clock)

    signer.sign(REQUEST)
    clock.advance(10**7)
    signer.sign(REQUEST)

    assert len(tickets.grants) == 1


def test_a_refused_token_is_renewed_by_one_thread():
    """
    Eight threads whose token was refused at once bring one login, not eight.
    """
    tickets, threads = Tickets(logs_in=True), list[threading.Thread]()
    came: list[int] = []

    def slow_login(request: Request) -> Response:
        eventually(lambda: len(came) == len(threads))
        return a_response()

    def work() -> None:
        came.append(1)
        signer.grant(used)

    signer = Signer(tickets, slow_login, FakeClock())
    used = signer.grant()
    threads += [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(tickets.grants) == 2
    assert signer.grant() is not used


@pytest.mark.parametrize(
    ("ahead_s", "differs"), [(0, False), (59, False), (-59, False), (61, True), (-3600, True)], ids=str
)
def test_the_providers_clock_is_taken_over(ahead_s: int, differs: bool):
    """
    A Date more than a minute from ours corrects what the next attempt is signed with; a smaller one is no reason.
    """
    clock, tickets = FakeClock(), Tickets()
    signer = signing(tickets, clock)
    theirs = format_datetime(clock.now() + timedelta(seconds=ahead_s), usegmt=True)
    refused = a_response(status=401, headers=(("date", theirs),), received_at=clock.now())

    assert signer.correct_clock(refused, signer.skew) is differs
    signer.sign(REQUEST)
    assert (tickets.signed[0] - clock.now() == timedelta(seconds=ahead_s)) is (differs or ahead_s == 0)


@pytest.mark.parametrize(
    "date",
    ["", "yesterday", "Mon, 99 Foo 2026 12:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0 Jan 9999999999 0:0 GMT"],
    ids=["none", "words", "broken", "the end of time", "beyond it"],
)
def test_a_broken_date_corrects_nothing(date: str):
    """
    Without a date that can be read, the refusal stands.
    """
    signer = signing(Tickets())

    assert signer.correct_clock(a_response(status=401, headers=(("date", date),)), timedelta(0)) is False


def test_the_signed_text_can_be_shown():
    """
    The explanation is of the corrected time.
    """
    clock = FakeClock()
    signer = signing(Tickets(), clock)
    theirs = format_datetime(clock.now() + timedelta(hours=2), usegmt=True)
    signer.correct_clock(a_response(headers=(("date", theirs),), received_at=clock.now()), timedelta(0))

    assert signer.explain(REQUEST) == "http://localhost/report at 14:00"


def test_a_signature_that_comes_back_is_masked():
    """
    An error that quotes the provider does not show a value that the authenticator declares masked and puts on a
    request.
    """

    class Signs(Unsigned):
        def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
            signed = request.with_param("signature", f"{now:%H%M%S%f}-0123456789abcdef")
            return evolve(signed, masked=("signature", "account"))

    signer = Signer(authenticator=Signs(), send_login=lambda request: a_response(), clock=FakeClock())
    signed = signer.sign(REQUEST.with_param("account", "account-of-2026-and-more"))

    signature = signed.request.param("signature")
    assert mask(f"no: {signature}, account-of-2026-and-more") == "no: ***, account-of-2026-and-more"
