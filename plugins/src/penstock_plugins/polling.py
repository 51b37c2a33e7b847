"""
A poller for several providers: a report that is submitted, polled for its state, and then read.
"""

from typing import Any

from attrs import field, frozen
from penstock import (
    BrokenBodyError,
    Empty,
    Gone,
    Ready,
    ReportError,
    ReportState,
    Request,
    Response,
    Waiting,
    fill_path,
    placeholders,
)
from penstock.names import as_names

_GONE = (404, 410)


def _words(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(str.lower, as_names(value)))


@frozen(kw_only=True)
class Polled:
    """
    A report on demand, by paths of members (dotted) and the words of its state, which are compared without case.

    ``id_at``
        the path of the report's id in the response to the submission; None: its ``Location`` header, a link to the
        state.
    ``state_url``
        the URL of the request for its state, relative to that of the submission; ``{id}`` stands for the id, encoded as
        one segment. Default: the id below the submission's URL.
    ``state_at``, ``ready``, ``waiting``, ``failed``, ``empty``
        the path of the state in the response to a poll, and the words that mean: finished, in progress, failed (it is
        submitted again, once), finished without records. Another word counts as in progress, and is logged. With
        ``state_at=None`` any good response but one with status 202 is the report itself.
    ``download_at``
        the path of the link, or of an array of links, to the files of a finished report. They may be at any origin and
        are requested without credentials. A file that is refused (401, 403, 404, 410) is requested by a fresh link.
    ``rows_at``, ``rows_url``
        the path of the link to the rows at the provider itself; or their URL, relative to that of the poll, in which
        ``{name}`` stands for a member of the response to the poll. Both are requested with credentials. With none of
        the three, the response to the last poll has the rows.
    ``reason_at``
        the path at which a failed report states why.
    """

    id_at: str | None = "id"
    state_url: str | None = None
    state_at: str | None = "status"
    ready: tuple[str, ...] = field(default=("ready", "done", "completed", "success", "finished"), converter=_words)
    waiting: tuple[str, ...] = field(default=("pending", "queued", "running", "in_progress"), converter=_words)
    failed: tuple[str, ...] = field(default=("failed", "error", "cancelled", "expired"), converter=_words)
    empty: tuple[str, ...] = field(default=(), converter=_words)
    download_at: str | None = None
    rows_at: str | None = None
    rows_url: str | None = None
    reason_at: str | None = None

    def handle(self, response: Response) -> str:
        answer = response.json()
        value = response.header("location") if self.id_at is None else member_at(answer, self.id_at)
        if value not in (None, "") and not isinstance(value, (dict, list, bool)):
            return str(value)
        where = "Location header" if self.id_at is None else self.id_at
        # A response of another kind, such as a login page, may be better the next time.
        error = ReportError if self.id_at is not None and isinstance(answer, dict) else BrokenBodyError
        raise error(
            f"the provider accepted the report with HTTP {response.status}, and its response has no {where} that names "
            f"it; it begins: {response.text(120) or 'nothing'}. Correct id_at of the poller if the id is elsewhere"
        )

    def poll(self, submitted: Request, handle: str) -> Request:
        if self.id_at is None:
            return Request.link(submitted.url, handle)
        below = submitted.url.rstrip("/") + "/{id}"
        return Request.link(submitted.url, fill_path(self.state_url or below, {"id": handle}))

    def state(self, response: Response, age_s: float) -> ReportState:
        if response.status in _GONE:
            return Gone(f"the provider has no such report (HTTP {response.status})")
        answer = response.json()
        if self.state_at is not None:
            word = member_at(answer, self.state_at)
            if word is None or isinstance(word, (dict, list)):
                raise BrokenBodyError(
                    f"the response to a poll has no state at {self.state_at} (HTTP {response.status}); it begins: "
                    f"{response.text(120) or 'nothing'}"
                )
            state = str(word).lower()
            if state in self.failed:
                reason = member_at(answer, self.reason_at) if self.reason_at else None
                return Gone(f"the provider states {word!r}" + (f": {reason}" if reason else ""))
            if state in self.empty:
                return Empty()
            if state not in self.ready:
                return Waiting("" if state in self.waiting else str(word))
        return self._ready(answer)

    def expired(self, response: Response) -> bool:
        """A download, which has no credentials, is also answered with 401 or 403 once its link has expired."""
        return response.status in _GONE or (self.download_at is not None and response.status in (401, 403))

    def _ready(self, answer: Any) -> Ready:
        if self.download_at is not None:
            return Ready(downloads=tuple(Request(url=link) for link in _links(answer, self.download_at)))
        if self.rows_at is not None:
            return Ready(pages=tuple(Request.link("", link) for link in _links(answer, self.rows_at)))
        if self.rows_url is not None:
            values = {name: member_at(answer, name) for name in placeholders(self.rows_url)}
            if missing := [name for name, value in values.items() if value in (None, "")]:
                raise BrokenBodyError(f"the report is ready, and its state has no {', '.join(missing)} for its URL")
            return Ready(pages=(Request.link("", fill_path(self.rows_url, values)),))
        return Ready()


def _links(answer: Any, path: str) -> list[str]:
    """The link, or links, at a path; raises BrokenBodyError without one."""
    value = member_at(answer, path)
    links = value if isinstance(value, list) else [value]
    if not links or not all(isinstance(link, str) and link for link in links):
        raise BrokenBodyError(f"the report is ready, and {path} names no link to it")
    return links


def member_at(value: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
