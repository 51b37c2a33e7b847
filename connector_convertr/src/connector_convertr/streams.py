"""
The streams: four collections, the single objects behind them, and the parts cut from their records.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from penstock.declare import Derived, Parent, Stream
from penstock.envelope import Envelope
from penstock.model import Ask, Request
from penstock.parts import named

from connector_convertr import records
from connector_convertr.config import ConvertrSettings
from connector_convertr.filters import parameters
from connector_convertr.source import ACCEPT, judge_detail

# The framework's newer versions drop the prefix; without JSON-LD the body is the array itself, and says no total.
ENVELOPE = Envelope(items=("hydra:member", "member", ""), total=("hydra:totalItems", "totalItems"))

# 100 is the largest page, and fewer may come unsaid. Links to other pages repeat the whole query, a token in it
# included: they are not followed.
PAGES = named("page_number", param="page", size_param="itemsPerPage", size=100, size_unsure=True)

# A lead that is updated while its window is read would shift the pages behind it, so windows end in the past; what
# was still being written then is found by the next window, which reaches back.
LAG = timedelta(minutes=5)
OVERLAP = timedelta(minutes=10)

Requests = Callable[[ConvertrSettings, Ask], Iterable[Request]]


def _collection(stream: str, path: str, window: Callable[[ConvertrSettings, Ask], Mapping[str, str]]) -> Requests:
    def requests(settings: ConvertrSettings, ask: Ask) -> Iterable[Request]:
        params = {**window(settings, ask)}
        filters = tuple(parameters(settings.filters, stream))
        # Pages are only stable in an order that has no ties.
        ordered = () if any(name == "order[id]" for name, _ in filters) else (("order[id]", "asc"),)
        yield Request(
            url=f"{settings.base_url}/api/v4/{path}",
            params=(*params.items(), *filters, *ordered),
            headers=(ACCEPT,),
            columns={"updated_day": ask.since} if stream == "leads" else {},
            masked=frozenset({"email"}),
        )

    return requests


def _everything(settings: ConvertrSettings, ask: Ask) -> Mapping[str, str]:
    return {}


def _window(settings: ConvertrSettings, ask: Ask) -> Mapping[str, str]:
    """``after`` includes its moment, ``strictly_before`` does not: windows meet without gap or double."""
    if ask.start is None or ask.end is None:
        raise ValueError("leads are asked for by a window of time")
    field = settings.cursor_field
    return {f"{field}[after]": _moment(ask.start), f"{field}[strictly_before]": _moment(ask.end)}


def _moment(at: datetime) -> str:
    """With seconds and offset: the server takes a bare date for its midnight."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat()


def _single(path: str) -> Requests:
    def requests(settings: ConvertrSettings, ask: Ask) -> Iterable[Request]:
        yield Request(url=f"{settings.base_url}/api/v4/{path}/{ask.parent['id']}", headers=(ACCEPT,))

    return requests


def _snapshot(name: str, summary: str, record: type, path: str) -> Stream:
    return Stream(
        name=name,
        summary=summary,
        record=record,
        kind="snapshot",
        key="id",
        requests=_collection(name, path, _everything),
        envelope=ENVELOPE,
        paginator=PAGES,
    )


def _detail(name: str, of: str, record: type, path: str) -> Stream:
    return Stream(
        name=name,
        summary=f"Each row of {of} read by its id: one request per row",
        record=record,
        kind="snapshot",
        key="id",
        parent=Parent(stream=of, columns=("id",)),
        requests=_single(path),
        judge=judge_detail,
        on_by_default=False,
    )


STREAMS = (
    Stream(
        name="leads",
        summary="Leads with their validity and payouts, as they change",
        record=records.Lead,
        kind="changes",
        key="id",
        day="updated_day",
        requests=_collection("leads", "leads", _window),
        envelope=ENVELOPE,
        paginator=PAGES,
        overlap=OVERLAP,
        lag=LAG,
    ),
    Stream(
        name="lead_data",
        summary="The free form fields of leads",
        record=records.LeadData,
        kind="changes",
        key=("lead_id", "at_id"),
        day="updated_day",
        derived=Derived(stream="leads", column="lead_data", stamps={"lead_id": "id"}),
    ),
    _snapshot("campaigns", "Campaigns with contract, settings and totals", records.Campaign, "campaigns"),
    _snapshot(
        "campaign_publishers",
        "Publishers' contract versions on campaigns, with totals",
        records.CampaignPublisher,
        "campaign-publishers",
    ),
    Stream(
        name="campaign_publisher_bands",
        summary="The payout bands of publishers' contracts",
        record=records.CampaignPublisherBand,
        kind="snapshot",
        key=("campaign_publisher_id", "at_id"),
        derived=Derived(
            stream="campaign_publishers", column="campaign_publisher_bands", stamps={"campaign_publisher_id": "id"}
        ),
    ),
    _snapshot(
        "campaign_processr_jobs",
        "Jobs (checks, integrations) set up on campaigns",
        records.CampaignProcessrJob,
        "campaign-processr-jobs",
    ),
    _detail("lead", "leads", records.LeadDetail, "leads"),
    _detail("campaign", "campaigns", records.CampaignDetail, "campaigns"),
    _detail("campaign_publisher", "campaign_publishers", records.CampaignPublisherDetail, "campaign-publishers"),
    _detail(
        "campaign_processr_job",
        "campaign_processr_jobs",
        records.CampaignProcessrJobDetail,
        "campaign-processr-jobs",
    ),
)
