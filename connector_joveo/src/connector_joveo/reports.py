"""
Joveo's asynchronous reports: their ids, states and files.

Source: operations 49 and 50 (``stats``), 55 and 56 (``ip_report``), 59 and 60 (``publisher_report``). The page shows a
submission that answers ``NO_CONTENT`` and a poll that takes a task id; where that id is read from is assumed.
"""

import re
from typing import Any

from attrs import evolve, frozen
from penstock import BrokenBodyError, Empty, Gone, Ready, ReportError, ReportState, Request, Response, Waiting

from connector_joveo.config import JoveoSettings
from connector_joveo.source import (
    FAILED,
    ID_HEADERS,
    ID_MEMBERS,
    LINK_MEMBERS,
    UNDER_WAY,
    UNKNOWN_AT_FIRST_S,
    joveo_request,
)

DONE = "SUCCESS"
NOTHING = "NO_RECORDS_FOUND"

_TOKEN = re.compile(r"(?=[^\d]*\d)[A-Za-z0-9._~-]{1,200}")  # with a digit: no word such as NO_CONTENT or OK


@frozen(kw_only=True)
class JoveoReport:
    """A report of ``operation``, polled at ``<operation>_poll``; the handle is its id."""

    settings: JoveoSettings
    operation: str

    def handle(self, response: Response) -> str:
        """
        The id, from the first of: ``Location``, a header named like a task id, the JSON body, a body that is nothing
        but an id, a header named like a request id.
        """
        handle = (
            _from_location(response)
            or _from_header(response, ID_HEADERS[0])
            or _from_body(response)
            or _from_header(response, ID_HEADERS[1])
        )
        if handle is None:
            names = ", ".join(name for name, _ in response.headers) or "none"
            text = response.text(100)
            cut = text != "NO_CONTENT" and "NO_CONTENT".startswith(text)
            broken = text.startswith(("{", "[")) and response.json() is None
            if response.status == 200 and (cut or broken or text.startswith("<")):
                raise BrokenBodyError(
                    f"Joveo answered the submission of {self.operation} with {text!r}, no id of a report. If it does "
                    f"so in each run, check base_url and endpoints.{self.operation}."
                )
            raise ReportError(
                f"Joveo accepted the submission of {self.operation} (HTTP {response.status}) without an id of the "
                f"report: the headers were {names}, the body {text!r}. Report it to Joveo; without the id the report "
                "cannot be fetched."
            )
        return handle

    def poll(self, submitted: Request, handle: str) -> Request:
        # What stands between braces in the submission's path is in its columns: client_id, publisher_family_id.
        columns = dict(submitted.columns)
        client = columns.pop("client_id", None)
        return joveo_request(self.settings, f"{self.operation}_poll", client=client, report_id=handle, **columns)

    def state(self, response: Response, age_s: float) -> ReportState:
        if response.status == 404:
            early = age_s < UNKNOWN_AT_FIRST_S
            return Waiting("unknown so far (HTTP 404)") if early else Gone("Joveo has no such report (HTTP 404)")
        body = response.json()
        if not isinstance(body, dict):
            raise BrokenBodyError(
                f"Joveo answered the poll of {self.operation} with {response.text(100)!r}, no JSON object. If it "
                f"does so in each run, check base_url and endpoints.{self.operation}_poll."
            )
        status = re.sub(r"[ -]", "_", str(body.get("status", "")).strip().upper())
        links = _named_links(body)
        if status == NOTHING:
            if links:
                raise BrokenBodyError(f"Joveo states {NOTHING} and a location to download from.")
            return Empty()
        if status in FAILED:
            return Gone(f"Joveo states {status}")
        if status != DONE:
            return Waiting("" if status in UNDER_WAY else f"status {status or 'missing'}")
        if not links:
            # Only NO_RECORDS_FOUND means that there is nothing.
            return Gone("Joveo states SUCCESS without a location to download from")
        base = self.settings.base_url.rstrip("/") + "/"
        downloads = [_download(base, link) for link in links]
        return Ready(tuple({_file(download): download for download in downloads}.values()))

    def expired(self, response: Response) -> bool:
        """A download link that is refused has expired: a poll gives a fresh one. No credentials go there."""
        return response.status in (401, 403, 404, 410)


def _download(base: str, link: str) -> Request:
    request = Request.link(base, link, credentials=False)
    return evolve(request, masked={name for name, _ in request.params})  # such links are probably signed


# Parameters by which storage services sign a link (S3, CloudFront, Google; Azure's beside "sig"): they name no file.
_OF_SIGNATURE = re.compile(
    "(x-amz|x-goog)-.*|signature|expires|awsaccesskeyid|googleaccessid|policy|key-pair-id|sig", re.IGNORECASE
)
_OF_AZURE = re.compile("s[ep-v]|spr|sk[a-z]+", re.IGNORECASE)


def _file(download: Request) -> object:
    """What a link leads to, without its signature: one file that is listed twice may be signed twice."""
    azure = any(name.lower() == "sig" for name, _ in download.params)
    signing = [_OF_SIGNATURE, _OF_AZURE] if azure else [_OF_SIGNATURE]
    naming = [pair for pair in download.params if not any(names.fullmatch(pair[0]) for names in signing)]
    return download.url, tuple(naming)


def _named_links(named: dict[str, Any]) -> list[str]:
    """The links of the first member that has some: a second name is taken to be one of the same files."""
    return next(filter(None, (_links(named.get(name)) for name in LINK_MEMBERS)), [])


def _links(named: Any) -> list[str]:
    """A text, an array of texts, or objects that hold one."""
    if isinstance(named, str):
        return [named] if named.strip() else []
    if isinstance(named, dict):
        return _named_links(named)
    return [link for value in named for link in _links(value)] if isinstance(named, list) else []


def _from_location(response: Response) -> str | None:
    for name in ("location", "content-location"):
        path = (response.header(name) or "").partition("?")[0]
        parts = [part for part in path.split("/") if part]
        if parts and parts[-1] == "status":
            parts.pop()
        if parts and _TOKEN.fullmatch(parts[-1]):
            return parts[-1]
    return None


def _from_header(response: Response, name: str) -> str | None:
    fitting = (value.strip() for known, value in response.headers if re.search(name, known, re.IGNORECASE))
    return next((value for value in fitting if _TOKEN.fullmatch(value)), None)


def _from_body(response: Response) -> str | None:
    body = response.json()
    if isinstance(body, dict):
        inner = (body, body.get("data"), body.get("result"))
        values = (
            members[name] for members in inner if isinstance(members, dict) for name in ID_MEMBERS if name in members
        )
        texts = (str(value) for value in values if isinstance(value, (str, int)) and not isinstance(value, bool))
    else:
        texts = (str(text) for text in (body if isinstance(body, (str, int)) else response.text(),))
    return next((text.strip() for text in texts if _TOKEN.fullmatch(text.strip())), None)
