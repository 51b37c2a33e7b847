"""
Wrong credentials, and the check of right ones.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from penstock._project.check import check_credentials
from penstock.errors import AuthenticationError, ConfigError, PenstockError
from penstock.events import Event
from penstock.model import Request, origin_of
from penstock.redact import Secret
from penstock.sandbox.server import Server
from penstock.testing.conformance.findings import Finding, exit_findings
from penstock.testing.conformance.rows import delivered_to
from penstock.testing.conformance.subject import Subject, grant_request, noon_of, path_of
from penstock.testing.memory import MemorySink

WRONG = "a-wrong-credential-0815"
LETTERS_SHOWN = 12  # letters of it: a whole secret is masked by the core, a part that a connector cuts out is not


def wrong_credentials(subject: Subject, folder: Path) -> list[Finding]:
    """
    A wrong value of each secret ends a run with 3 and the check with an error, and is printed nowhere. A text that
    is no key of its form (a PEM) may also be refused by a ConfigError, before any request.
    """
    wrong: list[Finding] = []
    for name in secrets_of(subject):
        sink = MemorySink(folder / name / "ledger.sqlite")
        texts: list[str] = []
        with subject.served() as (server, _):
            wrong_secret: dict[str, Any] = {name: WRONG}
            report = subject.run(server.base_url, sink, on_event=partial(_append_event, texts), **wrong_secret)
            unusable = {error["error"] for error in report.errors} == {"ConfigError"}  # it is no key at all
            wrong_exit = [] if unusable else exit_findings("wrong secret", report, f"a run with a wrong {name}", 3)
            if report.exit_code == 0:
                text = f"a run with a wrong {name} ended with 0 instead of 3: the authenticator does not send it, or "
                wrong_exit = [
                    Finding("wrong secret", f"{text}the sandbox accepts it; let its admit(request) refuse it")
                ]
            wrong += wrong_exit
            source = subject.source(server.base_url, **{name: WRONG})
            if source.connector.check is not None:
                try:
                    texts.append(check_credentials(source, noon_of(subject.today)))
                    text = f"the check of a wrong {name} returned: {texts[-1]}"
                    wrong.append(Finding("check of a wrong secret", text))
                except (AuthenticationError, ConfigError) as error:
                    texts.append(str(error))
                except PenstockError as error:
                    text = f"the check of a wrong {name} raised {type(error).__name__}: {error}"
                    wrong.append(Finding("check of a wrong secret", text))
        output = "\n".join([*texts, json.dumps(report.as_dict(), default=str)])
        if WRONG[:LETTERS_SHOWN] in output:
            wrong.append(Finding("secret shown", f"with a wrong {name}, its start was shown: {WRONG[:3]}..."))
        if delivered_to(sink):
            wrong.append(Finding("wrong secret", f"with a wrong {name} something was delivered"))
    return wrong


def _append_event(texts: list[str], event: Event) -> None:
    texts.append(json.dumps(event, default=str))


def secrets_of(subject: Subject) -> list[str]:
    """The settings of the imitation that hold a secret."""
    source = subject.source("http://127.0.0.1:1")
    return [name for name in subject.settings if isinstance(getattr(source.settings, name, None), Secret)]


def one_reading_check(subject: Subject) -> list[Finding]:
    """
    ``penstock check`` sends one request that only reads (and a login), to the origin of base_url. A POST reads where a
    stream's rows are the response to one.
    """
    with subject.served() as (server, _):
        source = subject.source(server.base_url)
        login = grant_request(source)
        addresses = [] if login is None else [("the login", login)]
        if source.connector.check is None:
            return _strays(server, addresses)
        try:
            check_credentials(source, noon_of(subject.today))
        except PenstockError as error:
            return [Finding("check", f"the check of right credentials raised {type(error).__name__}: {error}")]
        sent = [request for request in server.requests if login is None or request.path != path_of(login, server)]
    wrong = _strays(server, addresses)
    queried = {("POST", stream.path) for stream in source.streams if stream.json is not None and stream.poller is None}
    if len(sent) != 1 or not (sent[0].method in ("GET", "HEAD") or (sent[0].method, sent[0].path) in queried):
        requests = ", ".join(f"{request.method} {request.path}" for request in sent) or "nothing"
        text = f"the check sent {requests}; expected one GET, since any other request may record something"
        wrong.append(Finding("check", text))
    return wrong


def _strays(server: Server, requests: Iterable[tuple[str, Request]]) -> list[Finding]:
    base = origin_of(server.base_url)
    texts = [
        f"{what} goes to {request.origin}, not to base_url" for what, request in requests if request.origin != base
    ]
    return [Finding("login", text) for text in texts]
