"""
The streams of Joveo: 14 collections and reports, 10 single-object reads, and 2 that Joveo calls work in progress.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from attrs import evolve, frozen
from penstock.declare import OpenFor, Parent, Stream
from penstock.envelope import Envelope, ReportFile
from penstock.errors import BrokenBodyError
from penstock.model import Answer, Ask, Items, Request, Response
from penstock.parts import named

from connector_joveo import records
from connector_joveo.config import JoveoSettings, day_column, fill, has_date_level, stats_columns
from connector_joveo.reports import JoveoReport
from connector_joveo.source import FLAGS, JoveoJudge, joveo_request

RETENTION_DAYS = 60
OPEN = OpenFor(40, month_day=8)  # a month is frozen by the 8th of the next; Joveo's advice is 40 days

# Where pages start is told for jobs only; the general text contradicts it. So is how many records a page may hold, and
# nobody says that ``summary`` counts all pages.
PAGES = named("page_number", size_param="limit", size=100, first_page=0, uncertain=True, size_unsure=True)
JOB_PAGES = named(
    "page_number", size_param="limit", size=1000, first_page=1, ceiling=10_000, size_unsure=True, total_unsure=True
)

LISTED = Envelope(items=("data", ""), also=FLAGS)
SINGLE = Envelope(also=FLAGS)


# --- bodies ---------------------------------------------------------------------------------------------------------


@frozen
class ListedOrSingle:
    """``{"data": [...]}``, an array, or, as the page prints it for these operations, one object."""

    def __call__(self, response: Response) -> Answer:
        answer = LISTED(response)
        return SINGLE(response) if answer.problem is not None and "success" not in answer.head else answer


@frozen
class CustomIdxFields:
    """The map source field -> idx field as one item per entry, in its order."""

    def __call__(self, response: Response) -> Answer:
        try:
            fields = msgspec.json.decode(response.body)
        except (ValueError, RecursionError) as error:
            raise BrokenBodyError(f"the custom idx fields are no JSON: {error}") from None
        if not isinstance(fields, dict):
            raise BrokenBodyError(f"the custom idx fields are no JSON object; the body begins: {response.text(100)}")
        head = {name: fields[name] for name in FLAGS if name in fields}
        odd = [name for name, value in fields.items() if value is not None and not isinstance(value, str)]
        if odd:
            return Answer(head=head, problem=f"the custom idx fields {', '.join(odd[:5])} are no texts")
        entries = [{"source_field": name, "idx_field": value} for name, value in fields.items()]
        return Answer(items=(Items(raw=msgspec.json.encode(entries)),), head=head)


# --- requests -------------------------------------------------------------------------------------------------------


def _clients(settings: JoveoSettings) -> tuple[str, ...] | None:
    return settings.client_ids or None


def _of_client(operation: str, *stamps: str, **from_parent: str) -> Callable[[JoveoSettings, Ask], Iterable[Request]]:
    """
    One request for the client, or for each parent row; ``from_parent``: path parameter = column of the parent.

    ``stamps``: the path parameters that the records do not hold themselves.
    """

    def requests(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
        for parent in ask.parents if from_parent else ({},):
            values = {name: parent[column] for name, column in from_parent.items()}
            request = joveo_request(settings, operation, client=ask.account, **values)
            yield evolve(request, columns={**request.columns, **{name: values[name] for name in stamps}})

    return requests


def _per_publisher(operation: str) -> Callable[[JoveoSettings, Ask], Iterable[Request]]:
    def requests(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
        for publisher in dict.fromkeys(settings.publisher_ids):
            request = joveo_request(settings, operation, client=ask.account, publisher_id=publisher)
            yield evolve(request, columns={**request.columns, "publisher_id": publisher})

    return requests


def _all_clients(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    yield joveo_request(settings, "clients")


def _by_id(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    request = joveo_request(settings, "jobs_by_id", client=ask.account)
    ids = [parent["job_id"] for parent in ask.parents]
    yield _with_body(request, ids).with_param("client_id", str(ask.account))


def _metadata(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    yield joveo_request(settings, "client_metadata", client=ask.account).with_headers(("x-client-id", str(ask.account)))


def _stats(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    body = {
        "filters": fill(settings.stats_filters, ask.since, ask.until),
        "aggregationLevel": settings.aggregation_level,
    }
    request = _with_body(joveo_request(settings, "stats", client=ask.account), body)
    yield request.with_headers(("x-client-id", str(ask.account)))


def _ips(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    # No callBackUrl: Joveo would send the addresses to it; the report is polled for instead.
    body = {"filterBy": fill(settings.stats_filters, ask.since, ask.until)}
    request = _with_body(joveo_request(settings, "ip_report", client=ask.account), body)
    yield request.with_headers(("x-client-id", str(ask.account)))


def _publisher_report(settings: JoveoSettings, ask: Ask) -> Iterable[Request]:
    family, period = str(ask.account), settings.publisher_period
    for client in settings.client_ids or (None,):
        body = {
            "reportName": f"penstock {period}",
            "period": period,
            **({} if client is None else {"clientId": client}),
            "publisherFamilyId": family,
            "curLocale": "USD",
        }
        request = joveo_request(settings, "publisher_report", client=client, publisher_family_id=family)
        stamped = {**request.columns, "publisher_family_id": family, "period": period}
        yield evolve(_with_body(request, body), columns=stamped)


def _with_body(request: Request, value: Any) -> Request:
    made = Request.json(request.method, request.url, value, columns=request.columns)
    return evolve(made, headers=(*request.headers, *made.headers))


# --- the table ------------------------------------------------------------------------------------------------------


def _snapshot(name: str, summary: str, record: type, **more: Any) -> Stream:
    """A stream of each client, read whole each time."""
    given: dict[str, Any] = {
        "key": "id",
        "requests": _of_client(name),
        "account": "client_id",
        "accounts": _clients,
        "accounts_from": ("clients", "id"),
        "envelope": LISTED,
        "judge": JoveoJudge(operation=name, chosen_by="client_ids"),
    }
    return Stream(name=name, summary=summary, record=record, kind="snapshot", **{**given, **more})


def _detail(name: str, summary: str, record: type, **more: Any) -> Stream:
    """One object per request; off by default, since each costs a request that the listing does not."""
    judge = JoveoJudge(operation=name, chosen_by="client_ids", detail=True)
    return _snapshot(name, summary, record, **{"envelope": SINGLE, "judge": judge, "on_by_default": False, **more})


def _with(*columns: str) -> Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]:
    """The parent row itself, unless one of the columns that name it in a path is empty: then it cannot be asked for."""
    return lambda row: [row] if all(row[column] not in (None, "") for column in columns) else []


def _report(name: str, **more: Any) -> dict[str, Any]:
    return {
        "key": "row_key",
        "poller": lambda settings: JoveoReport(settings=settings, operation=name),
        "envelope": SINGLE,
        "downloads": ReportFile(),
        **more,
    }


_BY_DAY: dict[str, Any] = {
    "kind": "report",
    "account": "client_id",
    "accounts": _clients,
    "accounts_from": ("clients", "id"),
    "day": "report_date",
    "earliest": lambda today: today - timedelta(days=RETENTION_DAYS),
    "open_for": OPEN,
}

_CONFIG_ROW = ("id", "placement")

STREAMS: tuple[Stream, ...] = (
    Stream(
        name="clients",
        summary="the clients of the agency",
        record=records.Client,
        kind="snapshot",
        key="id",
        requests=_all_clients,
        envelope=LISTED,
        paginator=PAGES,
        judge=JoveoJudge(operation="clients"),
    ),
    _snapshot(
        "jobs",
        "jobs of a client; Joveo lists at most 10,000",
        records.Job,
        key="ref_number",
        envelope=Envelope(items=("data", ""), total="summary", also=FLAGS),
        paginator=JOB_PAGES,
    ),
    _snapshot("campaigns", "campaigns of a client", records.Campaign, paginator=PAGES),
    _snapshot("job_groups", "job groups of a client, over all campaigns", records.JobGroup, paginator=PAGES),
    _snapshot(
        "campaign_job_groups",
        "the same job groups with their campaign, one listing per campaign",
        records.CampaignJobGroup,
        key=("campaign_id", "id"),
        requests=_of_client("campaign_job_groups", "campaign_id", campaign_id="id"),
        parent=Parent(stream="campaigns", columns=("id",)),
        paginator=PAGES,
        on_by_default=False,
    ),
    _snapshot("feeds", "job feeds of a client, deleted ones included", records.Feed, paginator=PAGES),
    _snapshot("posting_configs", "posting configs of a client", records.PostingConfig, paginator=PAGES),
    _snapshot(
        "publisher_posting_configs",
        "posting configs of a client, as listed per publisher",
        records.PublisherPostingConfig,
        key=("publisher_id", "id"),
        requests=_per_publisher("publisher_posting_configs"),
        envelope=ListedOrSingle(),
        needs=("publisher_ids",),
    ),
    _snapshot(
        "publisher_posted_jobs",
        "jobs of a client that are posted over a publisher",
        records.PostedJob,
        key=("publisher_id", "job_id"),
        requests=_per_publisher("publisher_posted_jobs"),
        paginator=PAGES,
        needs=("publisher_ids",),
    ),
    _snapshot(
        "posting_config_jobs",
        "the jobs of each posting config",
        records.ConfigJob,
        key=("config_id", "id"),
        requests=_of_client(
            "posting_config_jobs", "publisher_id", "config_id", publisher_id="placement", config_id="id"
        ),
        parent=Parent(stream="posting_configs", columns=_CONFIG_ROW, links=_with(*_CONFIG_ROW)),
        envelope=ListedOrSingle(),
    ),
    _snapshot(
        "client_metadata",
        "campaigns of a client with their job groups, in short",
        records.ClientMetadata,
        requests=_metadata,
        envelope=Envelope(items="campaigns", also=FLAGS),
    ),
    Stream(
        name="stats",
        summary="spend, clicks, applies, hires per day and level; restated until the 8th of the next month",
        record=records.StatsRow,
        requests=_stats,
        days_per_request=lambda settings: RETENTION_DAYS if has_date_level(settings) else 1,
        day_of=day_column,
        more_columns=stats_columns,
        needs=("stats_filters", "aggregation_level"),
        judge=JoveoJudge(operation="stats", chosen_by="client_ids"),
        **_report("stats"),
        **_BY_DAY,
    ),
    Stream(
        name="ip_report",
        summary="clicks by address (personal data); its form is undocumented, perhaps unfinished at Joveo",
        record=records.IpRow,
        requests=_ips,
        needs=("stats_filters",),
        on_by_default=False,
        judge=JoveoJudge(operation="ip_report", chosen_by="client_ids"),
        **_report("ip_report"),
        **_BY_DAY,
    ),
    Stream(
        name="publisher_report",
        summary="what a publisher partner delivered in publisher_period",
        record=records.PublisherReportRow,
        kind="snapshot",
        requests=_publisher_report,
        account="publisher_family_id",
        accounts=lambda settings: (settings.publisher_family_id,) if settings.publisher_family_id else (),
        needs=("publisher_family_id",),
        judge=JoveoJudge(operation="publisher_report", chosen_by="publisher_family_id"),
        **_report("publisher_report"),
    ),
    _detail("client_details", "one client", records.Client),
    _detail("client_status", "whether a client is active", records.ClientStatus, key="client_id"),
    _detail(
        "client_custom_idx_fields",
        "which feed field fills which custom index field",
        records.CustomIdxField,
        key="source_field",
        envelope=CustomIdxFields(),
    ),
    _detail(
        "job_details",
        "one job",
        records.Job,
        key="ref_number",
        requests=_of_client("job_details", job_reference="ref_number"),
        parent=Parent(stream="jobs", columns=("ref_number",), links=_with("ref_number")),
    ),
    _detail(
        "jobs_by_id",
        "jobs by Joveo's id, a hundred per request",
        records.Job,
        key="job_id",
        requests=_by_id,
        parent=Parent(stream="jobs", columns=("job_id",), links=_with("job_id"), per_request=100),
        envelope=LISTED,
        judge=JoveoJudge(operation="jobs_by_id", chosen_by="client_ids"),
    ),
    _detail(
        "campaign_details",
        "one campaign",
        records.Campaign,
        requests=_of_client("campaign_details", campaign_id="id"),
        parent=Parent(stream="campaigns", columns=("id",)),
    ),
    _detail(
        "job_group_details",
        "one job group",
        records.CampaignJobGroup,
        key=("campaign_id", "id"),
        requests=_of_client("job_group_details", "campaign_id", campaign_id="campaign_id", jobgroup_id="id"),
        parent=Parent(stream="campaign_job_groups", columns=("campaign_id", "id")),
    ),
    _detail(
        "feed_details",
        "one feed",
        records.Feed,
        requests=_of_client("feed_details", feed_id="id"),
        parent=Parent(stream="feeds", columns=("id",)),
    ),
    _detail(
        "posting_config_details",
        "one posting config",
        records.PostingConfig,
        requests=_of_client("posting_config_details", publisher_id="placement", config_id="id"),
        parent=Parent(stream="posting_configs", columns=_CONFIG_ROW, links=_with(*_CONFIG_ROW)),
    ),
    _detail(
        "posting_config_job_details",
        "one job of a posting config",
        records.ConfigJob,
        key=("config_id", "id"),
        requests=_of_client(
            "posting_config_job_details",
            "publisher_id",
            "config_id",
            publisher_id="publisher_id",
            config_id="config_id",
            job_reference="ref_number",
        ),
        parent=Parent(
            stream="posting_config_jobs",
            columns=("publisher_id", "config_id", "ref_number"),
            links=_with("ref_number"),
        ),
    ),
    Stream(
        name="stats_live",
        summary="stats pushed while a connection stays open",
        record=records.StatsRow,
        on_by_default=False,
        not_built='Joveo marks operation 51, "Stream a status report", as work in progress',
        **_BY_DAY,
    ),
    Stream(
        name="stats_report",
        summary="the stats report as a file",
        record=records.StatsRow,
        on_by_default=False,
        not_built='Joveo marks operation 54, "Generate the stats report", as work in progress; use stats',
        **_BY_DAY,
    ),
)
