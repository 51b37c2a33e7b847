"""
The writes to Joveo: thirty operations as data, in the order of the provider's page.

Methods, paths and their parameters come from the table of endpoints, so that the setting ``endpoints`` corrects them
too. Members are those the page shows; where it hides some (folded objects, unopened variants) the parameter ``body``
takes any.

Source: operations 2, 4, 6, 9-11, 14-17, 19, 22-26, 30-34, 37, 38, 40, 41, 43, 45, 53, 57, 58.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from penstock import (
    Action,
    Field,
    FieldType,
    Receipt,
    Response,
    Retry,
    ServerError,
    Values,
    Verdict,
    camel,
    placeholders,
)

from connector_joveo.endpoints import CLIENT_HEADER, ENDPOINTS, endpoint
from connector_joveo.source import CANDIDATES_PER_REQUEST, judge, statuses

_PARAMETERS = {"job_reference": "the refNumber of a job"}


def _body(type_: FieldType, *names: str, required: bool = False, description: str = "") -> tuple[Field, ...]:
    return tuple(
        Field(name=name, member=camel(name), type=type_, required=required, description=description) for name in names
    )


_DAY = "mm/dd/yyyy"

_JOB_BODY = (
    *_body("text", "title", "company", "description", "category", "url"),
    Field(name="alternate_url", member="alternateURL"),
    *_body("text", "city", "state", "country", "zip"),
    *_body("text", "published_date", description="ISO 8601"),
    *_body("text", "end_at_date", description="ISO 8601; the job is deleted after it"),
    *_body("text", "job_type", description="such as FULL_TIME"),
    *_body("object", "additional_fields", "publisher_fields", "job_setting"),
    *_body("list", "placement_settings"),
)
_CONFIG_BODY = (
    *_body("number", "cost"),
    *_body("text", "end_date", description="in the form of date_format, such as 2026-08-03T05:13:00.000Z"),
    *_body("integer", "available_count", "rotate_freq_in_days", "job_duration", "min_job_duration_in_days"),
)


# --- checks before sending ------------------------------------------------------------------------------------------


def _check_changes(names: Sequence[str], settings: Any, values: Values) -> None:
    if "body" not in values and not any(name in values for name in names):
        raise ValueError(f"nothing to change: give at least one of {', '.join(names)}")


def _check_days(settings: Any, values: Values) -> None:
    for name in ("start_date", "end_date"):
        if name in values and not _is_day(values[name]):
            raise ValueError(f"{name}: found {values[name]!r}, expected {_DAY} such as 01/31/2026")


def _is_day(text: str) -> bool:
    """Whether this is a day, month first. Of 31/01/2026, Joveo would make another day or none."""
    try:
        datetime.strptime(text, "%m/%d/%Y")  # noqa: DTZ007  a day has no zone
    except ValueError:
        return False
    return re.fullmatch(r"\d\d/\d\d/\d{4}", text, re.ASCII) is not None


# --- the table ------------------------------------------------------------------------------------------------------


_FLAGS = {"result", "success", "failure", "statusCode"}


def _outcome(member: str, response: Response, rows: Sequence[Values]) -> Sequence[Receipt] | Verdict | None:
    """
    A good status without ``member``, which holds the outcome, is the status of a gateway before it: the outcome of the
    write is unknown. Where it is ``result``, 202 and 204 may come without it, and a refusal may be in another member.
    """
    verdict = judge(response, None)
    if verdict is not None or not 200 <= response.status < 300:
        return verdict
    body = response.json(exact=True)
    if isinstance(body, dict) and body.get(member) is not None:
        return None
    stated = response.status in (202, 204) or (isinstance(body, dict) and not _FLAGS.isdisjoint(body))
    if member == "result" and stated:
        return None
    seen = response.text(120) or "an empty body"
    return Retry(ServerError(f"Joveo answered HTTP {response.status} without {member}: {seen}"))


# To set a state or to remove something twice is the same as once.
_IDEMPOTENT = frozenset({"update", "delete", "pause", "enable"})


def _action(name: str, summary: str, *body: Field, outcome: str = "result", **more: Any) -> Action:
    """
    An action at its endpoint, with the fields of its path or header. ``outcome``: the member that holds the outcome.
    """
    method, path = ENDPOINTS[name]
    addressed = [
        Field(name=placeholder, place="path", required=True, description=_PARAMETERS.get(placeholder, ""))
        for placeholder in placeholders(path)
    ]
    if header := CLIENT_HEADER.get(name):
        client = "a client of the agency"
        addressed.append(Field(name="client_id", member=header, place="header", required=True, description=client))
    verb = name.partition("_")[0]
    if verb == "update" and not header:
        more["prepare"] = partial(_check_changes, [field.name for field in body])
    by_client = any(field.name == "client_id" for field in addressed)
    return Action(
        name=name,
        summary=summary,
        method=method,
        path=path,
        endpoint=lambda settings: endpoint(settings.endpoints, name),
        fields=(*addressed, *body),
        judge=partial(_outcome, outcome),
        statuses=statuses(name, "client_id" if by_client else ""),
        repeatable=verb in _IDEMPOTENT and more.get("rows_per_request", 1) == 1,
        destroys=verb == "delete",
        **more,
    )


ACTIONS = (
    _action(
        "create_client",
        "create a client",
        *_body("text", "company_name", required=True),
        *_body("text", "exported_name", description="used in the names of files for publishers"),
        *_body("integer", "apply_conv_window"),
        *_body("text", "time_zone", description="such as UTC-10:00"),
        *_body("text", "start_date", "end_date", description=_DAY),
        *_body("object", "caps"),
        *_body("text", "client_type", description="such as DirectEmployer"),
        *_body("text", "advertiser_name"),
        prepare=_check_days,
    ),
    _action(
        "update_client", "change a client's budget or applies", *_body("object", "budget", "applies"), open_body=True
    ),
    _action("delete_client", "delete a client"),
    _action("pause_client", "pause a client"),
    _action("enable_client", "enable a client"),
    _action(
        "create_job",
        "add a job",
        *_body("text", "ref_number", required=True, description="unique among the client's jobs"),
        *_JOB_BODY,
    ),
    _action("delete_job", "delete a job"),
    _action("update_job", "change a job, if it is valid", *_JOB_BODY),
    _action("pause_job", "pause a job, if it is valid"),
    _action("enable_job", "enable a job, if it is valid"),
    _action(
        "create_campaign",
        "create a campaign",
        *_body("text", "name", required=True),
        *_body("text", "start_date", "end_date", description=_DAY),
        Field(name="caps", member="Caps", type="object", description="with a capital C, as the page has it here"),
        prepare=_check_days,
    ),
    _action("delete_campaign", "delete a campaign"),
    _action("update_campaign", "change a campaign's caps", *_body("object", "caps")),
    _action("pause_campaign", "pause a campaign"),
    _action("enable_campaign", "enable a campaign"),
    _action(
        "create_job_group",
        "create a job group",
        *_body("text", "name", required=True),
        *_body("text", "start_date", "end_date", description=_DAY),
        *_body("number", "cpc_bid", "cpa_bid", description="in major units, exact"),
        *_body("object", "filters", "caps"),
        *_body("list", "placements"),
        prepare=_check_days,
    ),
    _action("delete_job_group", "delete a job group"),
    _action(
        "update_job_group",
        "change a job group",
        *_body("text", "name"),
        *_body("number", "cpa_bid"),
        *_body("object", "filters"),
    ),
    _action("pause_job_group", "pause a job group"),
    _action("enable_job_group", "enable a job group"),
    _action(
        "create_feed",
        "create a feed of jobs",
        *_body("text", "xml_feed_url", required=True),
        *_body("object", "schema_mappings"),
    ),
    _action("delete_feed", "delete a feed"),
    _action(
        "update_feed",
        "change a feed",
        *_body("text", "xml_feed_url"),
        *_body("object", "schema_mapping_publisher", description="the feed's node that lists the publishers"),
        open_body=True,
    ),
    _action(
        "add_posting_jobs",
        "post jobs with a posting config",
        Field(
            name="body",
            place="whole_body",
            type="list",
            required=True,
            aliases=("job_references",),
            description='references of the jobs, such as ["a-1", "a-2"]',
        ),
    ),
    _action(
        "create_posting_config",
        "create a posting config at a publisher",
        *_CONFIG_BODY,
        *_body("text", "start_date"),
        *_body("text", "date_format", description="such as yyyy-MM-dd'T'HH:mm:ssZ"),
    ),
    _action("update_posting_config", "change a posting config", *_CONFIG_BODY),
    _action("delete_posting_config", "delete a posting config"),
    _action(
        "apply_job_rules",
        "apply rules to many jobs at once",
        not_built="Joveo marks it as work in progress; it may pause many jobs at once",
    ),
    _action(
        "update_candidate_status",
        "report the new stage of job applications",
        *_body("text", "job_application_id", required=True, description="the id that was given to Joveo's pixels"),
        *_body("text", "candidate_status", required=True, description="the new stage"),
        *_body("text", "timestamp", description="when the stage was reached, ISO 8601 UTC"),
        outcome="success",
        rows_per_request=CANDIDATES_PER_REQUEST,
        open_body=True,
    ),
    _action(
        "send_s2s_event",
        "send a conversion, server to server",
        *_body("text", "click_id", required=True, description="jClickId of the landing URL"),
        Field(name="a", required=True, choices=("1", "2", "3"), description="1 view, 2 apply started, 3 applied"),
        *_body("text", "candidate_id"),
        *_body("text", "job_application_id", description="unique for each application"),
        outcome="statusCode",
        open_body=True,
    ),
)
