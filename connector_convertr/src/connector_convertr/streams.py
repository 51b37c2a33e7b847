"""
The streams: four collections, the single objects behind them, and the parts cut from their records.
"""

from datetime import UTC, datetime
from functools import partial

from attrs import frozen
from penstock import Derived, Envelope, Page, Parent, Request, Skip, Slice, Stream
from penstock_plugins.paging import PageNumber

from connector_convertr import records
from connector_convertr.config import ConvertrSettings
from connector_convertr.filters import parameters
from connector_convertr.source import ITEMS, LAG, LOOKBACK, NEXT, PAGE_SIZE, TOTALS, judge_detail

ENVELOPE = Envelope(items=ITEMS, total=TOTALS, head=NEXT)


# --- paging ---------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Pages(PageNumber):
    """
    Pages by number; those that state no total are read twice, the second time in the opposite order of ids.

    A record that leaves the list during the read moves those behind it up by one, so that one of them is on no page
    that was read. A total shows this, a bare array does not. The second reading has the missed records; its other
    records are dropped as repeated. It goes on behind the number of pages of the first reading while it brings new
    records: an empty page may have ended that one too early. A link to a next page means that there is one, also after
    a short page, and where the total is reached.
    """

    def next(self, page: Page) -> Request | None:
        number = self._number(page.request)
        before = self._before(page)
        if before:
            return page.request.with_param(self.param, str(number + 1)) if number < before or page.fresh else None
        following = super().next(page) or self.beyond(page)
        if following is not None or page.index == 0 or page.answer.total is not None:
            return following
        opposite = "asc" if page.request.param(_ORDER) == "desc" else "desc"
        return page.request.with_param(_ORDER, opposite).with_param(self.param, "1")

    def beyond(self, last: Page) -> Request | None:
        return self._after(last) if any(map(last.answer.head.get, NEXT)) else None

    def repeats(self, page: Page) -> bool:
        return self._before(page) > 0

    def _before(self, page: Page) -> int:
        """On a page of the second reading, the number of pages of the first; else 0."""
        return page.index + 1 - self._number(page.request)


_ORDER = "order[id]"

# Links to other pages repeat the whole query, including a token in it: they are not followed.
PAGES = Pages(param="page", size_param="itemsPerPage", size=PAGE_SIZE, short_page_ends=True)


# --- requests -------------------------------------------------------------------------------------------------------


COLLECTION = "/api/v4/{collection}"
SINGLE = "/api/v4/{collection}/{id}"


def listing(collection: str, settings: ConvertrSettings, slice_: Slice) -> Request:
    """A collection: the leads of a window of time, all of any other."""
    filters = tuple(parameters(settings.filters.get(collection, {})))
    # Pages are only stable in an order that has no ties.
    ordered = () if any(name == _ORDER for name, _ in filters) else ((_ORDER, "asc"),)
    return Request(
        url=settings.url(COLLECTION, collection=_path_name(collection)),
        params=(*_window(settings, slice_), *filters, *ordered),
        columns={"updated_day": slice_.since} if slice_.days else {},
        masked=frozenset({"email"}),
    )


def single(collection: str, settings: ConvertrSettings, slice_: Slice) -> Request:
    """One object of a collection, by its id, which an answer with another object has not."""
    return Request(
        url=settings.url(SINGLE, collection=_path_name(collection), id=slice_.parent["id"]),
        columns={"id": slice_.parent["id"]},
    )


def _path_name(collection: str) -> str:
    return collection.replace("_", "-")


def _window(settings: ConvertrSettings, slice_: Slice) -> tuple[tuple[str, str], ...]:
    """``after`` includes its moment, ``strictly_before`` does not: windows have neither gaps nor overlaps."""
    if slice_.start is None or slice_.end is None:
        return ()
    field = settings.cursor_field
    return (f"{field}[after]", _moment(slice_.start)), (f"{field}[strictly_before]", _moment(slice_.end))


def _moment(at: datetime) -> str:
    """With seconds and offset: the server takes a bare date for its midnight."""
    return at.astimezone(UTC).replace(microsecond=0).isoformat()


# --- streams --------------------------------------------------------------------------------------------------------


def _collection(name: str, summary: str, record: type) -> Stream:
    return Stream(
        name=name,
        summary=summary,
        record=record,
        kind="snapshot",
        key="id",
        requests=partial(listing, name),
        envelope=ENVELOPE,
        paginator=PAGES,
    )


def _detail(of: str, record: type) -> Stream:
    return Stream(
        name=of.removesuffix("s"),
        summary=f"Each row of {of} read by its id: one request per row",
        record=record,
        kind="snapshot",
        key="id",
        parent=Parent(stream=of, columns=("id",)),
        requests=partial(single, of),
        envelope=Envelope(single=True),
        judge=judge_detail,
        statuses={404: Skip("Convertr has no such object any more")},
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
        requests=partial(listing, "leads"),
        envelope=ENVELOPE,
        paginator=PAGES,
        lag=LAG,
        lookback=LOOKBACK,
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
    _collection("campaigns", "Campaigns with contract, settings and totals", records.Campaign),
    _collection(
        "campaign_publishers", "Publishers' contract versions on campaigns, with totals", records.CampaignPublisher
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
    _collection(
        "campaign_processr_jobs", "Jobs (checks, integrations) set up on campaigns", records.CampaignProcessrJob
    ),
    _detail("leads", records.LeadDetail),
    _detail("campaigns", records.CampaignDetail),
    _detail("campaign_publishers", records.CampaignPublisherDetail),
    _detail("campaign_processr_jobs", records.CampaignProcessrJobDetail),
)
