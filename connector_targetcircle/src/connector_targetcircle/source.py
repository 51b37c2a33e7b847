"""
The provider as a whole: how to sign, what its answers mean, how its reports are waited for.

Two of its answers quote a token: the text of a 401, and the member ``token`` of every report and of the offers. So no
message here quotes such a body.
"""

import re
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
    Gone,
    Limits,
    Ready,
    Refuse,
    RefusedError,
    ReportError,
    ReportState,
    Request,
    Response,
    Retry,
    Skip,
    Slice,
    Verdict,
    Waiting,
    origin_of,
)

from connector_targetcircle.config import TargetCircleSettings

REPORT = Envelope(items="data", pages="pagesNumber", head=("status",))
"""``{data: [...], token, status, pagesNumber}``. Source: publisher API, the three reports."""


@frozen
class ReportPage:
    """A page of a report. One that is not ready (any more) has no pages, whatever it says: its rows are missing."""

    def __call__(self, response: Response) -> Answer:
        answer = REPORT(response)
        return answer if answer.head.get("status") == "READY" else evolve(answer, pages=0)


# --- judges ---------------------------------------------------------------------------------------------------------


def judge(response: Response, answer: Answer | None) -> Verdict | None:
    """What holds for every answer of this provider. Source: publisher API, error codes."""
    if response.status in (401, 403):
        return Refuse(
            AuthenticationError(
                f"Target Circle refused the token (HTTP {response.status}; its text is not shown, since it repeats "
                "the token). Check api_token; a token belongs to one publisher account."
            )
        )
    if response.status == 404:
        return Refuse(
            RefusedError(
                "Target Circle knows no such address (HTTP 404). Unless a report expired, the account is probably on "
                "another generation of the API, with paths below /api/v1, which this connector does not speak; if "
                "only the paths moved, set path_prefix."
            )
        )
    return None


def whole(response: Response, answer: Answer | None) -> Verdict | None:
    """A good status with a body that is none: asked for again, and its text, which may hold a token, not quoted."""
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
    Of a page: it says of how many, and the links must not name more pages than ``pagesNumber``, else rows would be
    missing.

    Only where the report is ready: the document shows an unready one whose links promise ten pages. Links that name
    fewer pages cost nothing and are ignored. A submission is answered without a body worth reading.
    """
    if response.status == 202 or not (response.header("location") or "<").startswith("<"):
        return None
    if answer is not None and answer.head.get("status") == "READY" and answer.problem is None:
        if answer.pages is None:
            return Retry(
                BrokenBodyError(
                    "Target Circle calls a report ready and does not say of how many pages (pagesNumber). Rows could "
                    "be missing, so the report was not taken."
                )
            )
        last = last_page(response)
        if last > max(answer.pages, 1):
            return Retry(
                BrokenBodyError(
                    f"Target Circle contradicts itself: pagesNumber is {answer.pages}, but the link to the last page "
                    f"names {last}. Rows could be missing, so the report was not taken."
                )
            )
    return whole(response, answer)


def judge_detail(response: Response, answer: Answer | None) -> Verdict | None:
    """Of a read by slug: trades name offers that are gone."""
    if response.status == 404:
        return Skip("Target Circle has no offer of this slug any more")
    return whole(response, answer)


def judge_codes(response: Response, answer: Answer | None) -> Verdict | None:
    """Of codes: which form of the inventory is wanted is documented nowhere, so a refusal says what to try."""
    if response.status in (400, 404, 422):
        return Refuse(
            RefusedError(
                f"Target Circle refused to list codes (HTTP {response.status}). It may want the ad inventory in "
                "another form: try another codes_inventory_field (id, name or slug)."
            )
        )
    return whole(response, answer)


def last_page(response: Response) -> int:
    """The page of ``rel="last"`` in ``Link`` or in ``Location``, where this provider puts links; 0 without one."""
    links = f"{response.header('link')}, {response.header('location')}"
    last = re.search(r"<[^>]*[?&]page=(\d{1,9})\b[^>]*>\s*;\s*rel=\"?last\b", links)
    return int(last[1]) if last else 0


# --- reports --------------------------------------------------------------------------------------------------------


@frozen
class Reports:
    """
    A report is submitted, named by the ``Location`` of the 202, and polled where its pages are.

    The handle is the path of that address; its ``page=1`` is the paginator's business. A finished report is kept "for
    some time"; then its address answers no more. Source: publisher API, steps A and B of a report.
    """

    base_url: str

    def handle(self, response: Response) -> str:
        location = response.header("location")
        if not location or location.startswith("<"):
            raise ReportError(
                f"Target Circle took the report (HTTP {response.status}) but named no address for it in Location. "
                "Try again; if it stays so, the account may be on another generation of the API."
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

    def state(self, response: Response, age_s: float) -> ReportState:
        if response.status in (404, 410):
            return Gone(f"Target Circle knows the report no more (HTTP {response.status})")
        status = REPORT(response).head.get("status")
        if status == "READY":
            return Ready()
        if status == "FAILED":
            return Gone("Target Circle says that the report failed")
        return Waiting("" if status == "IN_PROGRESS" else f"status {status!r}")

    def lost(self, response: Response) -> bool:
        return response.status in (404, 410)


# --- the connector --------------------------------------------------------------------------------------------------


def authenticator(settings: TargetCircleSettings) -> Authenticator:
    from penstock_plugins.tokens import HeaderTokens

    return HeaderTokens(headers={"X-Api-Token": settings.api_token})


def check(settings: TargetCircleSettings, slice_: Slice) -> Request:
    """One offer: no report is made for it."""
    return Request(url=settings.url("offers"), params=(("limit", "1"),))


CONNECTOR = Connector(
    name="targetcircle",
    title="Target Circle",
    summary="Target Circle, publisher side: transactions, clicks, trades, offers, ads and codes",
    settings=TargetCircleSettings,
    authenticator=authenticator,
    judge=judge,
    limits=Limits(requests_per_second=5.0, concurrency=4),  # none documented: a polite guess
    check=check,
    streams="connector_targetcircle.streams:STREAMS",
    actions="connector_targetcircle.actions:ACTIONS",
    sandbox="connector_targetcircle.sandbox:SANDBOX",
)
