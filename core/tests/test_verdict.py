"""
The judge: the verdict on a response by its status alone, and by the judges of a connector.
"""

import gzip
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from penstock._fetch.call import Call
from penstock._fetch.verdict import by_status, judge_response
from penstock.envelope import Envelope
from penstock.errors import (
    AuthenticationError,
    BrokenBodyError,
    ForbiddenError,
    NotReadyError,
    RefusedError,
    ServerError,
    ThrottledError,
    WrongFormatError,
)
from penstock.model import Answer, Request, Response
from penstock.redact import Secret
from penstock.testing import a_response
from penstock.verdicts import Accept, Refuse, Retry, Skip, Verdict

REQUEST = Request(url="http://localhost/report", params=(("day", "2026-03-01"),))
LISTED = Envelope(items="data", head=("status",))


def output(response: Response, **more: Any) -> tuple[Verdict, Answer]:
    judges = more.pop("judges", ())
    return judge_response("shop", Call(REQUEST, more.pop("decoder", LISTED), **more), response, judges)


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_success_is_accepted(status: int):
    """
    Every 2xx is accepted where the body is not read.
    """
    assert by_status("shop", REQUEST, a_response(status=status)) == Accept()


@pytest.mark.parametrize(
    ("content_range", "taken"),
    [("bytes 0-99/100", True), ("bytes 0-98/100", False), ("bytes 1-99/100", False), ("bytes 0-99/*", False)],
)
def test_a_part_without_a_range_request_is_no_answer(content_range: str, taken: bool):
    """
    A server that sends a part of a file under 206 would lose the rows of the rest.
    """
    verdict = by_status("shop", REQUEST, a_response(status=206, headers=(("content-range", content_range),)))

    assert isinstance(verdict, Accept if taken else Retry)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, *range(520, 525)])
def test_a_transient_error_status_is_retried(status: int):
    """
    A response that may be better later is requested again; 429 pauses the whole source.
    """
    verdict = by_status("shop", REQUEST, a_response(status=status))

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, ThrottledError if status == 429 else ServerError)
    assert verdict.throttle is (status == 429)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, AuthenticationError),
        *[(status, RefusedError) for status in (301, 302, 400, 404, 418, 501, 505)],
    ],
)
def test_a_refusal_is_final(status: int, error: type[Exception]):
    """
    Refused credentials, refused requests and redirects that were not followed are not retried.
    """
    verdict = by_status("shop", REQUEST, a_response(status=status))

    assert isinstance(verdict, Refuse)
    assert type(verdict.error) is error


def test_a_401_renews_the_token():
    """
    A 401 may mean that a token expired: a new one is requested, where a login grants it. A download has no token.
    """
    signed = by_status("shop", REQUEST, a_response(status=401))
    bare = by_status("shop", evolve(REQUEST, credentials=False), a_response(status=401))

    assert isinstance(signed, Retry)
    assert (type(signed.error), signed.renew) == (AuthenticationError, True)
    assert isinstance(bare, Refuse)
    assert type(bare.error) is RefusedError


def test_a_refusal_quotes_the_answer_without_secrets():
    """
    The message names provider, status and the text of the body, but no secret in it.
    """
    secret = Secret("a-token-that-is-repeated")
    body = {"error": f"unknown field, token {secret.reveal()}"}

    refused = by_status("shop", REQUEST, a_response(body, status=400))
    unauthorized = by_status("shop", REQUEST, a_response(body, status=403))

    assert isinstance(refused, Refuse)
    assert isinstance(unauthorized, Refuse)
    text = str(refused.error)
    assert all(word in text for word in ("shop", "400", "unknown field", "***"))
    assert secret.reveal() not in text
    assert "unknown field, token ***" in str(unauthorized.error)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"data": [{"id": 1', b'{"data": ["\xff"]}'],
    ids=["empty", "html", "cut", "no utf-8"],
)
def test_a_body_without_its_envelope_is_requested_again(body: bytes):
    """
    A 200 whose body is not what was declared is no answer, however it came about.
    """
    verdict, answer = output(a_response(body))

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, BrokenBodyError)
    assert answer.items == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"null", "a single value, not an array"),
        (b'{"message": "ok"}', "the body has message, but not an array in 'data'"),
        (b'{"data": 7}', "not an array"),
        (gzip.compress(b'{"data": []}'), "the body is packed with gzip"),
    ],
    ids=["null", "another envelope", "no list", "gzip"],
)
def test_a_whole_body_of_another_format_is_final(body: bytes, words: str):
    """
    Well-formed JSON without the declared path, and a gzip file in its place, stay so; the message names what is there.
    """
    verdict, answer = output(a_response(body))

    assert isinstance(verdict, Refuse)
    assert isinstance(verdict.error, WrongFormatError)
    assert words in str(verdict.error)
    assert answer.items == ()


def test_an_answer_that_is_not_ready_is_requested_again():
    """
    202 to a read is never an empty day; a submission is accepted by it, and a poll is the poller's business.
    """
    verdict, _ = output(a_response({"data": []}, status=202))

    assert isinstance(verdict, Retry)
    assert isinstance(verdict.error, NotReadyError)
    assert output(a_response(b"", status=202), lenient=True)[0] == Accept()
    assert output(a_response(status=202), decoder=None)[0] == Accept()


def test_no_content_is_no_records():
    """
    204 states it; a 200 without a body does not.
    """
    assert output(a_response(b"", status=204)) == (Accept(), Answer())
    assert isinstance(output(a_response(b"", status=200))[0], Retry)


@pytest.mark.parametrize(
    ("stated", "taken"),
    [({"of": "2026-03-01"}, True), ({}, True), ({"of": None}, True), ({"of": "2026-02-28"}, False), ({"of": 0}, False)],
    ids=["the same", "absent", "null", "another day", "a number"],
)
def test_an_answer_that_repeats_another_request_is_no_answer(stated: Mapping[str, Any], taken: bool):
    """
    Without records, such a member is all that shows which request is answered: else a day would be emptied.
    """
    envelope = evolve(LISTED, echoes={"of": "day", "page": "page"})

    verdict, _ = output(a_response({"data": [], "page": 7, **stated}), decoder=envelope)

    if taken:
        assert verdict == Accept()
    else:
        assert isinstance(verdict, Retry)
        assert type(verdict.error) is BrokenBodyError
        assert f"states of '{stated['of']}'" in str(verdict.error)


@pytest.mark.parametrize("renew", [False, True])
def test_a_forbidden_request_is_its_accounts_failure(renew: bool):
    """
    A 403 fails its account only, whichever judge refused it: the credentials may be valid for another account. A 401
    does not.
    """

    def judge(response: Response, answer: Answer | None) -> Verdict:
        error = AuthenticationError(f"refused with {response.status}")
        return Retry(error, renew=True) if renew else Refuse(error)

    forbidden, unauthorized = (output(a_response({}, status=status), judges=(judge,))[0] for status in (403, 401))

    assert isinstance(forbidden, (Refuse, Retry))
    assert isinstance(unauthorized, (Refuse, Retry))
    assert (type(forbidden.error), str(forbidden.error)) == (ForbiddenError, "refused with 403")
    assert type(unauthorized.error) is AuthenticationError


def test_a_403_of_an_account_is_about_that_account():
    """
    The message of a 403 for an account does not advise to check the credentials of the source; a connector's own advice
    is kept.
    """
    plain = output(a_response({}, status=403), account="17")[0]
    advised = output(
        a_response({}, status=403),
        account="17",
        judges=(lambda response, answer: Refuse(AuthenticationError("Check it.")),),
    )[0]

    assert isinstance(plain, Refuse)
    assert isinstance(advised, Refuse)
    assert str(plain.error).endswith(
        "HTTP 403: {}; the credentials may not read the account 17. Check that it is one of theirs, and their rights."
    )
    assert (
        str(advised.error) == "Check it. If other accounts are accepted, the credentials may not read the account 17."
    )


@pytest.mark.parametrize("status", [401, 403, 429, 400, 503])
def test_an_error_page_shows_its_first_words(status: int):
    """
    A message quotes the first words of an error page, without markup, scripts and styles.
    """
    page = (
        b"<!DOCTYPE html><html><head><title>Access denied</title><style>p { color: red }</style>"
        b"<script>var a = '<p>';</script></head><body><p>Your plan has no&nbsp;API access</p></body></html>"
    )

    verdict = by_status("shop", REQUEST, a_response(page, status=status))

    assert isinstance(verdict, (Refuse, Retry))
    assert "Access denied Your plan has no API access" in str(verdict.error)
    assert "color" not in str(verdict.error)


def test_a_lenient_call_takes_any_body():
    """
    Submissions and polls are judged by their status; the body is the poller's business.
    """
    assert output(a_response(b"<html>"), lenient=True)[0] == Accept()


def test_an_error_in_the_body_is_judged_by_the_connector():
    """
    The connector's judge is called first, with what was read of the body, also where the body has not the declared
    envelope.
    """
    seen: list[Mapping[str, Any] | None] = []

    def judge(response: Response, answer: Answer | None) -> Verdict | None:
        seen.append(answer.head if answer is not None else None)
        return Refuse(RefusedError("no such day"))

    verdict, _ = output(a_response({"status": 0}), judges=(judge,))

    assert isinstance(verdict, Refuse)
    assert [dict(head or {}) for head in seen] == [{"status": 0}]


def test_the_first_judge_that_returns_a_verdict_decides():
    """
    A stream's judge is called before its connector's; one that returns None leaves the verdict to the next.
    """
    first, second = Skip("gone"), Refuse(RefusedError("no"))

    verdict, _ = output(a_response(status=404), judges=(lambda r, a: None, lambda r, a: first, lambda r, a: second))

    assert verdict == first


def test_a_judge_may_replace_the_answer():
    """
    The answer of an accepting judge replaces one that the envelope could not read.
    """
    better = Answer(total=0)

    assert output(a_response(b"none"), judges=(lambda r, a: Accept(better),)) == (Accept(better), better)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "of_judge",
    [
        Retry(AuthenticationError("HTTP 401", "Check api_key."), renew=True),
        Refuse(AuthenticationError("HTTP 401", "Check api_key.")),
    ],
)
def test_a_refused_download_refuses_no_credentials(status: int, of_judge: Any) -> None:
    """
    A connector's judge or table of statuses is for requests with credentials. Where none were sent, the refusal is
    final, and must not end all that uses them, with the advice to check them.
    """
    request = Request(url="http://localhost/file", credentials=False)

    verdict, _ = judge_response("shop", Call(request, None), a_response(status=status), (lambda r, a: of_judge,))

    assert isinstance(verdict, Refuse)
    assert type(verdict.error) is RefusedError
    assert "HTTP 401. A download, which is requested without credentials, was refused" in str(verdict.error)


def test_a_download_needs_no_new_token():
    """
    Where no token was sent, a refusal is no reason to log in again, and the poller decides whether the link expired.
    """
    refusal = Retry(RefusedError("expired link"), renew=True)

    signed, download = (
        judge_response(
            "shop", Call(evolve(REQUEST, credentials=credentials), None), a_response(status=403), [lambda r, a: refusal]
        )[0]
        for credentials in (True, False)
    )

    assert signed == refusal
    assert download == Refuse(refusal.error)
