"""
The provider Target Circle: its token, the meaning of its responses, the polling of its reports.

Two responses quote a token: the text of a 401, and the member ``token`` of every report and of the offers. So no
message here quotes such a body.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from attrs import evolve, frozen
from penstock import (
    Answer,
    AuthenticationError,
    Authenticator,
    BrokenBodyError,
    Connector,
    Envelope,
    ForeignOriginError,
    Limits,
    OpenFor,
    Ready,
    Refusal,
    ReportError,
    ReportState,
    Request,
    Response,
    Retry,
    Slice,
    StatusRule,
    Verdict,
    named,
    origin_of,
)
from penstock_plugins.polling import Polled
from penstock_plugins.tokens import HeaderTokens

from connector_targetcircle.config import TargetCircleSettings

# --- assumptions: the document does not state these -----------------------------------------------------------------

# The most rows that ``limit`` takes is stated; whether it counts the rows of a page or of the whole report is not (it
# "defaults to 100", and a page "holds 10 rows"). A report of one full page is therefore read again in halves.
LIMIT = 1000
PAGES = named("page_number", param="page", size=LIMIT, full_page_is_cut=True)

# No limit of requests and no interval of polls is stated. These are polite.
LIMITS = Limits(requests_per_second=5.0, concurrency=4)
POLLS: dict[str, Any] = {"poll_first_s": 2.0, "poll_max_s": 30.0, "poll_deadline_s": 600.0}

# No date of a change exists. Transactions are approved, declined and paid for weeks; clicks are only added, and some
# arrive a day late.
TRANSACTIONS_OPEN = OpenFor(90)
CLICKS_OPEN = OpenFor(1)

# Which form of an ad inventory the codes take is not stated, nor how another form is refused.
WRONG_INVENTORY = (400, 404, 422)

# --- responses ------------------------------------------------------------------------------------------------------

_TOKEN_REFUSED = Refusal(
    "The token was refused; the text is not shown, since it repeats the token. Check api_token; a token belongs to one "
    "publisher account.",
    AuthenticationError,
    quoted=False,
)

# Source: publisher API, error codes.
STATUSES: Mapping[int, StatusRule] = {
    401: _TOKEN_REFUSED,
    403: _TOKEN_REFUSED,
    404: Refusal(
        "Unless a report expired, the account is probably on another generation of the API, with paths below /api/v1, "
        "which this connector does not support; if only the paths moved, set path_prefix."
    ),
}

REPORT = Envelope(items="data", pages="pagesNumber", head=("status",))
"""``{data: [...], token, status, pagesNumber}``. Source: publisher API, the three reports."""


@frozen
class ReportPage:
    """A page of a report. While the report is not ready, its page count is 0, whatever the answer states."""

    def __call__(self, response: Response) -> Answer:
        answer = REPORT(response)
        return answer if is_ready(answer) else evolve(answer, pages=0)


def is_ready(answer: Answer) -> bool:
    """Whether a report is finished, by the same comparison as the poller's, which is without case."""
    return str(answer.head.get("status")).lower() == "ready"


def judge_body(response: Response, answer: Answer | None) -> Verdict | None:
    """A good status with a broken body is requested again; its text, which may hold a token, is not quoted."""
    if 200 <= response.status < 300 and answer is None:
        return Retry(
            BrokenBodyError(
                f"Target Circle answered HTTP {response.status} with {len(response.body)} bytes that are not the "
                "documented JSON (cut, or not from the provider; not shown, since it may hold a token)."
            )
        )
    return None


def judge_report(response: Response, answer: Answer | None) -> Verdict | None:
    """
    A page of a ready report that contradicts itself is requested again.

    An unready report is not judged: the document shows one whose links promise ten pages. The response to a submission
    has no body to judge.
    """
    if response.status == 202 or report_address(response) is not None:
        return None
    if answer is None or answer.problem is not None or not is_ready(answer):
        return judge_body(response, answer)
    contradiction = contradiction_in(answer, last_page(response))
    if not contradiction:
        return None
    return Retry(
        BrokenBodyError(f"Target Circle {contradiction}. Rows could be missing, so the report was not delivered.")
    )


def contradiction_in(answer: Answer, last: int) -> str:
    """
    What a page of a ready report states that would cost rows; "" if nothing. ``last``: the last page by its links, 0
    without any; links that name fewer pages are ignored.
    """
    if answer.failure:
        return f"states that a report is ready, and {answer.failure}"
    if answer.pages is None:
        return "states that a report is ready, but not its number of pages (pagesNumber)"
    if answer.pages == 0 and any(bytes(memoryview(items.raw)[:64]).strip() != b"[]" for items in answer.items):
        return "contradicts itself: pagesNumber is 0, and there are rows"
    if last > max(answer.pages, 1):
        return f"contradicts itself: pagesNumber is {answer.pages}, but the link to the last page names {last}"
    return ""


def report_address(response: Response) -> str | None:
    """The address of a submitted report in ``Location``; None without one, and where ``Location`` holds page links."""
    location = response.header("location")
    return None if not location or location.startswith("<") else location


def last_page(response: Response) -> int:
    """The page of ``rel="last"`` in ``Link`` or in ``Location``, where this provider puts links; 0 without one."""
    links = f"{response.header('link')}, {response.header('location')}"
    last = re.search(r"<[^>]*[?&]page=(\d{1,9})\b[^>]*>\s*;\s*rel=\"?last\b", links)
    return int(last[1]) if last else 0


_FRACTION = re.compile(rb'"(?:saved|clickDate)"\s*:\s*"[^"]*:\d\d[.,]0*[1-9]')


# --- reports --------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Reports(Polled):
    """
    The ``Location`` of the 202 for a submission is the address of the report, for polls and for its pages.

    The handle is the path of that address; the paginator sets its ``page``. A finished report is kept "for some time";
    then its address is refused with 404 or 410 (assumed). Source: publisher API, steps A and B of a report.

    A time with a fraction of a second shows that rows may lie behind the last second of a period.
    """

    ready: tuple[str, ...] = ("ready",)
    waiting: tuple[str, ...] = ("in_progress",)
    failed: tuple[str, ...] = ("failed",)

    base_url: str
    period_end: str = "second"

    def state(self, response: Response, age_s: float) -> ReportState:
        state = super().state(response, age_s)
        if isinstance(state, Ready) and self.period_end == "second" and _FRACTION.search(response.body):
            raise ReportError(
                "Target Circle's times have fractions of a second, unlike those of its document, so rows between the "
                'last second of a period and midnight would be missing. Set period_end = "midnight".'
            )
        return state

    def handle(self, response: Response) -> str:
        location = report_address(response)
        if location is None:
            raise ReportError(
                f"Target Circle accepted the report (HTTP {response.status}) but named no address for it in Location. "
                "Try again; if this persists, the account may be on another generation of the API."
            )
        address = urljoin(self.base_url, location)
        if origin_of(address) != origin_of(self.base_url):
            raise ForeignOriginError(
                f"Target Circle named a report on {origin_of(address)}, not on {origin_of(self.base_url)}; the token "
                "is not sent there. If the API moved, set base_url."
            )
        return urlsplit(address).path

    def poll(self, submitted: Request, handle: str) -> Request:
        return Request.link(submitted.url, handle).with_param("page", "1")


# --- the connector --------------------------------------------------------------------------------------------------


def authenticator(settings: TargetCircleSettings) -> Authenticator:
    return HeaderTokens(headers={"X-Api-Token": settings.api_token})


def check(settings: TargetCircleSettings, slice_: Slice) -> Request:
    """One offer: no report is made for it."""
    return Request(url=settings.url("/offers"), params=(("limit", "1"),))


CONNECTOR = Connector(
    name="targetcircle",
    title="Target Circle",
    summary="Target Circle, publisher side: transactions, clicks, trades, offers, ads and codes",
    settings=TargetCircleSettings,
    authenticator=authenticator,
    statuses=STATUSES,
    limits=LIMITS,
    check=check,
    streams="connector_targetcircle.streams:STREAMS",
    actions="connector_targetcircle.actions:ACTIONS",
    sandbox="connector_targetcircle.sandbox:SANDBOX",
)
