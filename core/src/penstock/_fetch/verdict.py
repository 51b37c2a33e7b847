"""
Judge a response: decide whether it is good, before it is decoded.

It runs in the fetching thread, inside the retry, and reads the envelope only; so a body that is cut or malformed is
requested again like any other failure on the way.
"""

import re
from collections.abc import Mapping, Sequence

from attrs import define, evolve, field

from penstock._fetch.call import Call
from penstock.connector import Connector, Stream
from penstock.envelope import Envelope
from penstock.errors import (
    AuthenticationError,
    BoundExceededError,
    BrokenBodyError,
    ForbiddenError,
    NotReadyError,
    RefusedError,
    ServerError,
    ThrottledError,
    WrongFormatError,
    check_returned,
    sentences,
)
from penstock.model import Answer, Request, Response
from penstock.protocols import BodyDecoder, Judge
from penstock.redact import clip
from penstock.report_files import reads_files
from penstock.verdicts import VERDICTS, Accept, Refuse, Retry, Skip, StatusRule, Verdict

_ACCEPTED = Accept()

_OF_ACCOUNT = "the credentials may not read the account"
_DOWNLOAD_REFUSED = "A download, which is requested without credentials, was refused; its link may have expired."

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@define(eq=False, repr=False)
class SourceJudge:
    """Judges the responses of one source; an error has the request as its place."""

    connector: Connector
    _judges: dict[str | None, tuple[Judge, ...]] = field(factory=dict, init=False)  # by stream

    def __call__(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        connector, stream = self.connector, call.stream.name if call.stream is not None else None
        if (judges := self._judges.get(stream)) is None:
            judges = self._judges[stream] = judges_of(connector, call.stream)
        verdict, answer = judge_response(connector.title, call, response, judges, connector.reason)
        return _placed(verdict, call.request), answer

    def judge_login(self, call: Call, response: Response) -> tuple[Verdict, Answer]:
        """By its status alone; what refuses a login is not renewed by another one."""
        verdict, answer = judge_response(self.connector.title, call, response, judges=())
        if isinstance(verdict, Retry) and verdict.renew:
            verdict = Refuse(verdict.error)
        return _placed(verdict, call.request), answer


def _placed(verdict: Verdict, request: Request) -> Verdict:
    """The same verdict; an error has the request as its place."""
    return evolve(verdict, error=verdict.error.at(request=request)) if isinstance(verdict, (Retry, Refuse)) else verdict


def judge_response(
    provider: str, call: Call, response: Response, judges: Sequence[Judge], reason_paths: Sequence[str] = ()
) -> tuple[Verdict, Answer]:
    """
    The verdict on a response, and the answer in its body.

    The judges decide in order, then the HTTP status. 204 means: no records, but not of a report file or of a detail. A
    call whose accepted response is broken is repeated, one whose response is whole and of another format or shape is
    not; a lenient call accepts both, and the answer has the problem.
    """
    try:
        answer, problem = _decoded(call.decoder, response)
    except BoundExceededError as error:
        return Refuse(error), Answer()
    verdict = _judged(judges, response, answer) or _by_status_of_call(provider, call, response, reason_paths)
    if not isinstance(verdict, Accept):
        return _with_credentials_in_mind(verdict, call, response), answer or Answer()
    if verdict.answer is not None:
        return verdict, verdict.answer
    if problem is not None and call.lenient:
        return verdict, evolve(answer or Answer(), problem=str(problem))
    if broken := _error_in_accepted(provider, call, response, answer, problem):
        return Refuse(broken) if isinstance(broken, WrongFormatError) else Retry(broken), Answer()
    return verdict, answer or Answer()


def _judged(judges: Sequence[Judge], response: Response, answer: Answer | None) -> Verdict | None:
    """The verdict of the first judge that has one."""
    for judge in judges:
        verdict: Verdict | None = check_returned(judge, judge(response, answer), Verdict | None, VERDICTS)
        if verdict is not None:
            return verdict
    return None


def _by_status_of_call(provider: str, call: Call, response: Response, reason_paths: Sequence[str]) -> Verdict:
    """The verdict of the HTTP status. 202 to a call with a decoder means that there is no answer yet."""
    if response.status == 202 and call.decoder is not None and not call.lenient:
        return Retry(NotReadyError(f"{provider} answered with HTTP 202: the result is not ready yet"))
    return by_status(provider, call.request, response, reason_paths, call.account)


def _with_credentials_in_mind(verdict: Verdict, call: Call, response: Response) -> Verdict:
    """
    A 403 concerns the account whose credentials were sent. The refusal of a request without credentials refuses none,
    whatever a connector's judge or table of statuses makes of it, and renews no token.
    """
    if call.request.credentials or not isinstance(verdict, (Retry, Refuse)):
        return _narrowed_to_account(verdict, call.account) if response.status == 403 else verdict
    if isinstance(verdict.error, AuthenticationError):
        return Refuse(RefusedError(verdict.error.seen, _DOWNLOAD_REFUSED))
    return Refuse(verdict.error) if isinstance(verdict, Retry) and verdict.renew else verdict


def _error_in_accepted(
    provider: str, call: Call, response: Response, answer: Answer | None, problem: BrokenBodyError | None
) -> BrokenBodyError | None:
    """Why a response cannot be used, although judges and status accept it; None where it can."""
    defect = ""
    if problem is not None:
        defect = f", but {problem}"
    elif answer is not None and (other := echo_of_another_request(call.decoder, call.request, answer)):
        defect = f" and states {other}: the response to another request, of a cache perhaps. Nothing was replaced."
    elif answer is not None and answer.failure and _states_failure(call, answer):
        name = answer.failure.partition(" ")[0]
        records = "records" if _has_records(answer) else "no records"
        defect = (
            f" and {records}, and states {answer.failure}. Nothing was replaced. If that is no failure, the connector "
            f"must name {name} in the head of its envelope."
        )
    if not defect:
        return None
    error = WrongFormatError if isinstance(problem, WrongFormatError) else BrokenBodyError
    return error(f"{provider} answered with HTTP {response.status}{defect}")


def echo_of_another_request(decoder: BodyDecoder | None, request: Request, answer: Answer) -> str:
    """The member that repeats a parameter of the request and has another value, with this; "" without one."""
    if not isinstance(decoder, Envelope) or not decoder.echoes:
        return ""
    sent = dict(request.params)
    return next(
        (
            f"{path} {clip(str(answer.head[path]), 60)!r}"
            for path, parameter in decoder.echoes.items()
            if path in answer.head and parameter in sent
            if str(answer.head[path]).strip() not in ("None", sent[parameter])
        ),
        "",
    )


def _states_failure(call: Call, answer: Answer) -> bool:
    """
    Whether an answer with a ``failure`` has failed. ``errors`` beside the records of a listing are only noted: they may
    concern other records. The state of a report is left to its poller.
    """
    if call.lenient:
        return False
    noted = answer.failure.partition(" ")[0].lower() == "errors" and not reads_files(call.decoder)
    return not (noted and _has_records(answer))


def _has_records(answer: Answer) -> bool:
    """Whether there are items, of an answer whose body is JSON."""
    return any(not re.fullmatch(rb"\[\s*\]", bytes(memoryview(items.raw)[:64])) for items in answer.items)


def _decoded(decoder: BodyDecoder | None, response: Response) -> tuple[Answer | None, BrokenBodyError | None]:
    """The answer in a body, where the call has a decoder and it can be read, and what is wrong with the body."""
    if response.status == 204:
        if reads_files(decoder) or (isinstance(decoder, Envelope) and decoder.single):
            return None, BrokenBodyError("no content came (204), where a file or a record is due.")
        return Answer(), None
    if decoder is None:
        return None, None
    try:
        answer = check_returned(decoder, decoder(response), Answer, "Answer(items=...)")
    except BrokenBodyError as error:
        return None, error
    return answer, WrongFormatError(answer.problem) if answer.problem else None


def _narrowed_to_account(verdict: Verdict, account: str | None) -> Verdict:
    """The same verdict on a 403, for the request's account: others may be accepted with the same credentials."""
    if isinstance(verdict, (Retry, Refuse)) and type(verdict.error) is AuthenticationError:
        seen, advice = verdict.error.seen, verdict.error.advice
        if account is not None:
            advice = sentences(advice, f"If other accounts are accepted, {_OF_ACCOUNT} {account}.")
        return evolve(verdict, error=ForbiddenError(seen, advice))
    return verdict


def judges_of(connector: Connector, stream: Stream | None) -> tuple[Judge, ...]:
    """The judges of the responses to a stream's requests, in order: those of the stream, then of the connector."""
    tables = [(stream.judge, stream.statuses)] if stream is not None else []
    return tuple(
        judge
        for declared, table in (*tables, (connector.judge, connector.statuses))
        for judge in (declared, status_judge(connector.title, table, connector.reason) if table else None)
        if judge is not None
    )


def status_judge(
    provider: str, table: Mapping[int, StatusRule], reason_paths: Sequence[str], action: str | None = None
) -> Judge:
    """
    A judge by a table of statuses. Its messages contain the provider, the name of the action, the status, the
    provider's reason, and the advice.
    """
    answered = f"{provider} answered {action} with HTTP" if action is not None else f"{provider} answered with HTTP"

    def judge(response: Response, answer: Answer | None) -> Verdict | None:
        rule = table.get(response.status)
        if rule is None or isinstance(rule, Skip):
            return rule
        words = response.reason(reason_paths) if rule.quoted else ""
        return rule.verdict(f"{answered} {response.status}{f': {words}' if words else ''}")

    return judge


def by_status(
    provider: str, request: Request, response: Response, reason_paths: Sequence[str] = (), account: str | None = None
) -> Verdict:
    """
    The verdict by the HTTP status alone, if no judge has one. ``reason_paths``: of the reason in a body.
    """
    status = response.status
    partial = status == 206 and not _whole_range(response.header("content-range"))
    if 200 <= status < 300 and not partial:
        return _ACCEPTED
    answered = f"{provider} answered with HTTP {status}"
    if partial:
        return Retry(BrokenBodyError(f"{answered}: a part of the body, though the request names no range"))
    words = response.reason(reason_paths)
    seen = f"{answered}: {words}" if words else answered
    if status == 429:
        return Retry(ThrottledError(seen, "Lower requests_per_second."), throttle=True)
    if status in RETRIED_STATUSES:
        return Retry(ServerError(seen, "It may be better later."))
    if status in (401, 403) and not request.credentials:
        return Refuse(RefusedError(seen, _DOWNLOAD_REFUSED))
    if status == 403 and account is not None:
        advice = "Check that it is one of theirs, and their rights."
        return Refuse(ForbiddenError(f"{seen}; {_OF_ACCOUNT} {account}", advice))
    if status in (401, 403):
        refused = AuthenticationError(seen, "The credentials were refused: check those of this source.")
        # A token may have ended before its time. Where none was granted there is none to renew, and the error stands.
        return Retry(refused, renew=True) if status == 401 else Refuse(refused)
    advice = "The request was refused: check base_url and the other settings of this source."
    return Refuse(RefusedError(seen, advice))


def _whole_range(content_range: str | None) -> bool:
    """Whether a ``Content-Range`` (``bytes 0-99/100``) is of the whole body; also where there is none."""
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", (content_range or "").strip())
    if match is None:
        return content_range is None
    first, last, size = match.groups()
    return int(first) == 0 and size == str(int(last) + 1)
