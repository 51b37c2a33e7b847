"""
Joveo as a whole: its credentials, what its answers mean, how often it may be asked.
"""

from typing import Any

from attrs import frozen
from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    Connector,
    Limits,
    Refuse,
    RefusedError,
    Request,
    Response,
    Retry,
    ServerError,
    Skip,
    Slice,
    Verdict,
    clip,
)

from connector_joveo.config import JoveoSettings
from connector_joveo.endpoints import CLIENT_HEADER, endpoint, filled

# Members by which a body says that it is a failure, under whatever status, and those that say why.
FLAGS = ("success", "result", "statusCode", "message", "errorMessage", "error", "body")


def joveo_request(
    settings: JoveoSettings, operation: str, *, client: str | None = None, body: Any = None, **path: Any
) -> Request:
    """
    The request of an operation; ``client`` goes where the operation takes it and is stamped as ``client_id``.
    """
    method, template = endpoint(settings.endpoints, operation)
    url = settings.base_url.rstrip("/") + filled(template, {"client_id": client, **path})
    stamped = {} if client is None else {"client_id": client}
    headers = ((CLIENT_HEADER[operation], client),) if client is not None and operation in CLIENT_HEADER else ()
    if body is None:
        return Request(method=method, url=url, headers=headers, columns=stamped)
    return Request.json(method, url, body, headers=headers, columns=stamped)


def authenticator(settings: JoveoSettings) -> Authenticator:
    """
    ``x-api-key`` on every call and, bare, the token of a day in ``x-authorization-key``.

    Source: operation 1 and the section on authentication; that no ``Bearer`` goes before the token is inferred.
    """
    from penstock_plugins.tokens import GrantedToken

    method, path = endpoint(settings.endpoints, "token")
    login = Request.json(method, settings.base_url.rstrip("/") + path, {"client_id": settings.api_client_id.reveal()})
    return GrantedToken(
        provider="Joveo",
        login=login,
        header="x-authorization-key",
        fixed={"x-api-key": settings.api_key},
        advice="check api_key and api_client_id, and that base_url is the environment they were issued for",
    )


@frozen(kw_only=True)
class JoveoJudge:
    """
    What an answer to ``operation`` means.

    401: the API key is wrong. 403: the token ran out (it does not say so with 401), or the keys have no right to this
    client; one new token tells which. ``chosen_by``: the setting that names whose data these are, so that a refusal
    concerns them and not the source. 404: nothing there, which ends a ``detail`` quietly and a listing loudly, for a
    wrong path looks the same.

    Source: the table of status codes; that a body may say ``success``, ``result`` or ``statusCode`` otherwise than
    its status: operations 53, 57 to 59.
    """

    operation: str
    chosen_by: str = ""
    detail: bool = False

    def __call__(self, response: Response, answer: Answer | None) -> Verdict | None:
        status = response.status
        if 200 <= status < 300:
            return self._in_body(response, answer)
        said = f"HTTP {status}: {text}" if (text := reason_of(response, answer)) else f"HTTP {status}"
        if status == 401:
            return Refuse(
                AuthenticationError(
                    f"Joveo refused the API key at {self.operation} ({said}); check api_key, and that base_url is the "
                    "environment it was issued for."
                )
            )
        if status == 403:
            return Retry(self._forbidden(said), renew=True)
        if status == 404 and self.detail:
            return Skip(f"Joveo has no such {self.operation} (HTTP 404)")
        if status == 404:
            return Refuse(
                RefusedError(
                    f"Joveo knows nothing at the path of {self.operation} ({said}). Either what it names is gone, or "
                    f"Joveo serves it elsewhere: its paths are not public, correct it under endpoints.{self.operation}."
                )
            )
        return None

    def _forbidden(self, said: str) -> AuthenticationError | RefusedError:
        # Told before a new token is tried as well as after.
        seen = f"Joveo refused {self.operation} ({said}): the token ran out or, if a new one does not help,"
        if not self.chosen_by:
            return AuthenticationError(
                f"{seen} these keys have no right to it. Slice Joveo for the right, and check that base_url is right."
            )
        return RefusedError(
            f"{seen} these keys have no right to what was asked for, or its id is wrong. Check {self.chosen_by}, or "
            "ask Joveo for the right."
        )

    def _in_body(self, response: Response, answer: Answer | None) -> Verdict | None:
        head = said_in(response, answer)
        code = head.get("statusCode")
        bad_code = isinstance(code, int) and not isinstance(code, bool) and code != 200
        if head.get("success") is not False and head.get("result") is not False and not bad_code:
            return None
        no = [name for name in ("success", "result") if head.get(name) is False]
        flag = f"{no[0]} false" if no else f"statusCode {code}"
        text = f"Joveo answered {self.operation} with HTTP {response.status}, but says {flag}"
        text = f"{text}: {reason}" if (reason := reason_of(response, answer)) else text
        if isinstance(code, int) and code >= 500:
            return Retry(ServerError(f"{text}; it may be better later."))
        return Refuse(RefusedError(f"{text}."))


def said_in(response: Response, answer: Answer | None) -> dict[str, Any]:
    """The members of the body that may say how it went; of a body that no envelope read, if it is a small object."""
    if answer is not None and answer.head:
        return dict(answer.head)
    if len(response.body) > 65536 or not response.body.lstrip().startswith(b"{"):
        return {}
    body = response.members() or {}
    return {name: body[name] for name in FLAGS if name in body}


def reason_of(response: Response, answer: Answer | None) -> str:
    """What the answer says, in its own words, as short text."""
    head = said_in(response, answer)
    words = next((head[name] for name in ("message", "errorMessage", "error", "body") if head.get(name)), None)
    return clip(" ".join(str(words).split()), 200) if words is not None else response.text(120)


def check(settings: JoveoSettings, slice_: Slice) -> Request:
    """One client of the list: every key can do that, and it takes both credentials."""
    return joveo_request(settings, "clients").with_param("page", "1").with_param("limit", "1")


CONNECTOR = Connector(
    name="joveo",
    title="Joveo",
    summary="clients, campaigns, jobs, postings and stats of the Joveo programmatic job-ad platform",
    settings=JoveoSettings,
    authenticator=authenticator,
    judge=JoveoJudge(operation="a request"),
    limits=Limits(requests_per_second=2.0, concurrency=4),  # Joveo states no limit; this is polite
    check=check,
    streams="connector_joveo.streams:STREAMS",
    actions="connector_joveo.actions:ACTIONS",
    sandbox="connector_joveo.sandbox:SANDBOX",
)
