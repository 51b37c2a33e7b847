"""The mock API's three listings: nested leads, moderately nested jobs, flat clicks by day."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal

from attrs import frozen
from penstock import (
    Connector,
    Envelope,
    Json,
    Limits,
    OpenFor,
    Request,
    Slice,
    SourceSettings,
    Stream,
    added,
    column,
    named,
    personal,
    record,
)


@record(members="camel")
class Lead:
    """
    A lead, nested parts kept as they are.

    ``@id`` and ``@type`` would be ``at_id`` and ``at_type`` elsewhere; the comparison looks for names that differ from
    the member's in signs only.
    """

    id: int
    id_: str = column(member="@id")
    type: str = column(member="@type")
    uuid: str
    status: str
    created_at: datetime
    updated_at: datetime
    processed: bool
    score: Decimal
    return_reason: str | None = None
    campaign: Json = None
    publisher: Json = None
    link: Json = None
    address: Json = None
    validation: Json = None
    fields: Json = None
    comment: str | None = column(member="_comment")


@record()
class Job:
    """A job."""

    id: int
    guid: str
    title: str
    company: Json = None
    location: Json = None
    salary: Json = None
    cpc: Decimal | None = column(unit="USD")
    remote: bool
    posted_at: datetime
    expires_at: datetime | None = None
    url: str
    tags: Json = None
    description: str


@record()
class Click:
    """A click, its price in units of the currency."""

    click_id: str
    bid_type: str
    price: Decimal = column(unit="USD", additive=True)
    time: datetime = column(zone="naive")
    job_reference: str
    ip: str | None = personal()
    url: str
    tlr_sid: str
    platform: str
    job_id: int
    campaign_id: int
    campaign_name: str
    report_date: date | None = added(description="the day requested")


@frozen(kw_only=True, eq=False, repr=False)
class BenchSettings(SourceSettings):
    """Nothing of its own: the mock API takes no credentials."""


def _leads(settings: BenchSettings, slice_: Slice) -> Iterable[Request]:
    return [Request(url=f"{settings.base_url}/hydra/leads")]


def _jobs(settings: BenchSettings, slice_: Slice) -> Iterable[Request]:
    return [Request(url=f"{settings.base_url}/jobs")]


def _clicks(settings: BenchSettings, slice_: Slice) -> Iterable[Request]:
    days = (("start", slice_.since.isoformat()), ("end", slice_.until.isoformat()))
    return [Request(url=f"{settings.base_url}/clicks", params=days)]


BENCH = Connector(
    name="bench", summary="the benchmark's mock API", settings=BenchSettings, limits=Limits(concurrency=8)
)

STREAMS = (
    Stream(
        name="leads",
        summary="leads, 100 a page",
        record=Lead,
        kind="snapshot",
        key="id",
        requests=_leads,
        envelope=Envelope(items="hydra:member", total="hydra:totalItems"),
        paginator=named("page_number", size_param="itemsPerPage", size=100),
    ),
    Stream(
        name="jobs",
        summary="jobs, 1000 a page",
        record=Job,
        kind="snapshot",
        key="id",
        requests=_jobs,
        envelope=Envelope(items="data", total="summary.total"),
        paginator=named("page_number", size_param="limit", size=1000),
    ),
    Stream(
        name="clicks",
        summary="clicks of a day in one answer",
        record=Click,
        kind="report",
        key="click_id",
        day="report_date",
        requests=_clicks,
        envelope=Envelope(items="clicks_report", keyed_by="report_date", optional=True),
        open_for=OpenFor(0),
    ),
    Stream(
        name="merged_clicks",
        summary="the same clicks, merged by key as if the provider listed what was updated",
        record=Click,
        kind="changes",
        key="click_id",
        day="updated_day",
        requests=_clicks,
        envelope=Envelope(items="clicks_report", keyed_by="report_date", optional=True),
        on_by_default=False,
    ),
)
