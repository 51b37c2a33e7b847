"""
The streams of Joveo: 14 collections and reports, 10 single-object reads, and 2 that Joveo marks as work in progress.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from attrs import evolve, frozen
from penstock import (
    Answer,
    BrokenBodyError,
    Envelope,
    Items,
    OpenFor,
    Parent,
    ProviderError,
    ReportFile,
    Request,
    Response,
    Slice,
    Stream,
    columns_of,
    fill_json,
)

from connector_joveo import records
from connector_joveo.config import JoveoSettings, day_column, has_date_level, stats_columns
from connector_joveo.reports import JoveoReport
from connector_joveo.source import FLAGS, JOB_PAGES, PAGES, joveo_request, statuses

RETENTION_DAYS = 60
OPEN = OpenFor(40, month_day=8)  # a month is frozen by the 8th of the next; Joveo's advice is 40 days

LISTED = Envelope(items=("data", ""), head=FLAGS)
_JOBS = Envelope(items=("data", ""), head=("summary", *FLAGS))
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
SINGLE = Envelope(head=FLAGS)


# --- bodies ---------------------------------------------------------------------------------------------------------


@frozen
class ListedJobs:
    """
    A page of jobs, with ``summary`` as the number of all.

    This meaning is inferred. A number that is not above the page's own count may be that count, and is not used as the
    total (an empty page after the last one ends the listing). Any other text is ignored.
    """

    def __call__(self, response: Response) -> Answer:
        answer = _JOBS(response)
        summary = str(answer.head.get("summary"))
        here = sum(len(_ELEMENTS.decode(items.raw)) if items.format == "array" else 1 for items in answer.items)
        counts = re.fullmatch("[0-9]{1,18}", summary) is not None and int(summary) > here
        return evolve(answer, total=int(summary)) if counts else answer


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
        fields = response.members()
        if fields is None:
            raise BrokenBodyError(f"the custom idx fields are no JSON object; the body begins: {response.text(100)}")
        head = {name: fields[name] for name in FLAGS if name in fields}
        odd = [name for name, value in fields.items() if value is not None and not isinstance(value, str)]
        if odd:
            return Answer(head=head, problem=f"the custom idx fields {', '.join(odd[:5])} are no texts")
        entries = [{"source_field": name, "idx_field": value} for name, value in fields.items()]
        return Answer(items=(Items(raw=msgspec.json.encode(entries)),), head=head)


# --- requests -------------------------------------------------------------------------------------------------------


def _links_with_path(parent: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The parent row itself. If a value that names it in a path is empty, its rows cannot be requested: an error."""
    if empty := [name for name, value in parent.items() if value in (None, "")]:
        named = ", ".join(f"{name} {value}" for name, value in parent.items() if name not in empty)
        raise ProviderError(
            f"the parent row{f' with {named}' if named else ''} has no {empty[0]}, without which its rows have no path",
            "Nothing was replaced. Report it to Joveo; if the member has another name, the API changed.",
        )
    return (parent,)


def _requests(
    operation: str, record: type, path: Mapping[str, str] | None, *, by_publisher: bool, detail: bool
) -> Callable[[JoveoSettings, Slice], Iterable[Request]]:
    """
    One request, or one for each parent row, by ``path``, or for each publisher. Parameters of the path that the record
    adds are stamped on it. A ``detail`` has the values of its parent row: an answer with others is another object.
    """
    added = {column.name for column in columns_of(record) if column.added}
    own = {name: column for name, column in (path or {}).items() if detail and column not in added}

    def requests(settings: JoveoSettings, slice_: Slice) -> Iterable[Request]:
        rows: Iterable[Mapping[str, Any]] = [{}]
        if path is not None:
            rows = [{name: parent[column] for name, column in path.items()} for parent in slice_.parents]
        elif by_publisher:
            rows = [{"publisher_id": publisher} for publisher in dict.fromkeys(settings.publisher_ids)]
        for row in rows:
            request = joveo_request(settings, operation, client=slice_.account, **row)
            stamped = {own.get(name, name): row[name] for name in row if name in added or name in own}
            yield evolve(request, columns={**request.columns, **stamped})

    return requests


def _by_id(settings: JoveoSettings, slice_: Slice) -> Request:
    ids = [parent["job_id"] for parent in slice_.parents]
    request = joveo_request(settings, "jobs_by_id", client=slice_.account, body=ids)
    request = evolve(request, columns={**request.columns, "job_id": frozenset(ids)})
    return request.with_param("client_id", str(slice_.account))


def _filters(settings: JoveoSettings, slice_: Slice) -> Any:
    """``stats_filters`` for the days of a slice, both included."""
    return fill_json(settings.stats_filters, {"start": slice_.since, "end": slice_.until})


def _stats(settings: JoveoSettings, slice_: Slice) -> Request:
    body = {"filters": _filters(settings, slice_), "aggregationLevel": settings.aggregation_level}
    request = joveo_request(settings, "stats", client=slice_.account, body=body)
    if has_date_level(settings):
        return request
    # The rows are of the requested day; one that states another is rejected, and with all of them the report.
    return evolve(request, columns={**request.columns, "date": slice_.since})


def _ips(settings: JoveoSettings, slice_: Slice) -> Request:
    # No callBackUrl: Joveo would send the addresses to it; the report is polled instead.
    body = {"filterBy": _filters(settings, slice_)}
    return joveo_request(settings, "ip_report", client=slice_.account, body=body)


def _publisher_report(settings: JoveoSettings, slice_: Slice) -> Iterable[Request]:
    family, period = str(slice_.account), settings.publisher_period
    for client in settings.client_ids or (None,):
        body = {
            "reportName": f"penstock {period}",
            "period": period,
            **({} if client is None else {"clientId": client}),
            "publisherFamilyId": family,
            "curLocale": "USD",
        }
        request = joveo_request(settings, "publisher_report", client=client, body=body, publisher_family_id=family)
        yield evolve(request, columns={**request.columns, "publisher_family_id": family, "period": period})


# --- the table ------------------------------------------------------------------------------------------------------


def _stream(
    name: str,
    summary: str,
    record: type,
    *,
    by_publisher: bool = False,
    detail: bool = False,
    of: str = "",
    path: Mapping[str, str] | None = None,
    **more: Any,
) -> Stream:
    """
    A stream of each client, read whole each time, unless ``more`` states otherwise.

    ``of``: one request for each row of this stream; ``path``: parameter of the path -> column of that row.
    ``by_publisher``: one request for each publisher of the settings. ``detail``: one record per request.
    """
    defaults: dict[str, Any] = {
        "kind": "snapshot",
        "key": "id",
        "account": "client_id",
        "accounts_from": ("clients", "id"),
        "envelope": LISTED,
        "statuses": statuses(name, "client_ids"),
    }
    if path is not None:
        defaults["parent"] = Parent(stream=of, columns=tuple(path.values()), links=_links_with_path)
    defaults["requests"] = _requests(name, record, path, by_publisher=by_publisher, detail=detail)
    return Stream(name=name, summary=summary, record=record, **{**defaults, **more})


def _detail(name: str, summary: str, record: type, **more: Any) -> Stream:
    """One object per request; off by default, since each costs a request that the listing does not."""
    own = {
        "envelope": evolve(SINGLE, single=True),
        "statuses": statuses(name, "client_ids", detail=True),
        "on_by_default": False,
        "detail": True,
    }
    return _stream(name, summary, record, **{**own, **more})


def _report(name: str) -> dict[str, Any]:
    return {
        "key": "row_key",
        "poller": lambda settings: JoveoReport(settings=settings, operation=name),
        "envelope": SINGLE,
        "downloads": ReportFile(unmarked_totals=True),  # the form of a report is not documented
    }


_BY_DAY: dict[str, Any] = {
    "kind": "report",
    "day": "report_date",
    "earliest": lambda today: today - timedelta(days=RETENTION_DAYS),
    "open_for": OPEN,
}

_CONFIG = {"publisher_id": "placement", "config_id": "id"}

STREAMS: tuple[Stream, ...] = (
    _stream(
        "clients",
        "the clients of the agency",
        records.Client,
        account=None,
        accounts_from=None,
        paginator=PAGES,
        statuses=statuses("clients"),
    ),
    _stream(
        "jobs",
        "jobs of a client; Joveo lists at most 10,000",
        records.Job,
        key="ref_number",
        envelope=ListedJobs(),
        paginator=JOB_PAGES,
    ),
    _stream("campaigns", "campaigns of a client", records.Campaign, paginator=PAGES),
    _stream("job_groups", "job groups of a client, over all campaigns", records.JobGroup, paginator=PAGES),
    _stream(
        "campaign_job_groups",
        "the same job groups with their campaign, one listing per campaign",
        records.CampaignJobGroup,
        key=("campaign_id", "id"),
        of="campaigns",
        path={"campaign_id": "id"},
        paginator=PAGES,
        on_by_default=False,
    ),
    _stream("feeds", "job feeds of a client, deleted ones included", records.Feed, paginator=PAGES),
    _stream("posting_configs", "posting configs of a client", records.PostingConfig, paginator=PAGES),
    _stream(
        "publisher_posting_configs",
        "posting configs of a client, as listed per publisher",
        records.PublisherPostingConfig,
        key=("publisher_id", "id"),
        by_publisher=True,
        envelope=ListedOrSingle(),
        required_settings=("publisher_ids",),
    ),
    _stream(
        "publisher_posted_jobs",
        "jobs of a client that are posted over a publisher",
        records.PostedJob,
        key=("publisher_id", "job_id"),
        by_publisher=True,
        paginator=PAGES,
        required_settings=("publisher_ids",),
    ),
    _stream(
        "posting_config_jobs",
        "the jobs of each posting config",
        records.ConfigJob,
        key=("config_id", "id"),
        of="posting_configs",
        path=_CONFIG,
        envelope=ListedOrSingle(),
    ),
    _stream(
        "client_metadata",
        "campaigns of a client with their job groups, in short",
        records.ClientMetadata,
        envelope=Envelope(items="campaigns", head=FLAGS),
    ),
    _stream(
        "stats",
        "spend, clicks, applies, hires per day and level; restated until the 8th of the next month",
        records.StatsRow,
        requests=_stats,
        days_per_request=lambda settings: RETENTION_DAYS if has_date_level(settings) else 1,
        day_of=day_column,
        extra_columns=stats_columns,
        required_settings=("stats_filters", "aggregation_level"),
        **_report("stats"),
        **_BY_DAY,
    ),
    _stream(
        "ip_report",
        "clicks by address (personal data); its form is undocumented, perhaps unfinished at Joveo",
        records.IpRow,
        requests=_ips,
        required_settings=("stats_filters",),
        on_by_default=False,
        **_report("ip_report"),
        **_BY_DAY,
    ),
    _stream(
        "publisher_report",
        "a publisher partner's results in publisher_period",
        records.PublisherReportRow,
        requests=_publisher_report,
        account="publisher_family_id",
        accounts=lambda settings: (settings.publisher_family_id,) if settings.publisher_family_id else (),
        accounts_from=None,
        required_settings=("publisher_family_id",),
        statuses=statuses("publisher_report", "publisher_family_id"),
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
    _detail("job_details", "one job", records.Job, key="ref_number", of="jobs", path={"job_reference": "ref_number"}),
    _stream(
        "jobs_by_id",
        "jobs by Joveo's id, a hundred per request",
        records.Job,
        key="job_id",
        requests=_by_id,
        parent=Parent(stream="jobs", columns=("job_id",), links=_links_with_path, per_request=100),
        on_by_default=False,
    ),
    _detail("campaign_details", "one campaign", records.Campaign, of="campaigns", path={"campaign_id": "id"}),
    _detail(
        "job_group_details",
        "one job group",
        records.CampaignJobGroup,
        key=("campaign_id", "id"),
        of="campaign_job_groups",
        path={"campaign_id": "campaign_id", "jobgroup_id": "id"},
    ),
    _detail("feed_details", "one feed", records.Feed, of="feeds", path={"feed_id": "id"}),
    _detail("posting_config_details", "one posting config", records.PostingConfig, of="posting_configs", path=_CONFIG),
    _detail(
        "posting_config_job_details",
        "one job of a posting config",
        records.ConfigJob,
        key=("config_id", "id"),
        of="posting_config_jobs",
        path={"publisher_id": "publisher_id", "config_id": "config_id", "job_reference": "ref_number"},
    ),
    _stream(
        "stats_live",
        "stats pushed while a connection stays open",
        records.StatsRow,
        key=(),
        on_by_default=False,
        not_built='Joveo marks operation 51, "Stream a status report", as work in progress',
        **_BY_DAY,
    ),
    _stream(
        "stats_report",
        "the stats report as a file",
        records.StatsRow,
        key=(),
        on_by_default=False,
        not_built='Joveo marks operation 54, "Generate the stats report", as work in progress; use stats',
        **_BY_DAY,
    ),
)
