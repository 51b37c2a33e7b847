"""The configuration keys of a Joveo source."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal, NamedTuple, get_args

import attrs
from penstock import (
    Column,
    ColumnType,
    Secret,
    SourceSettings,
    columns_of,
    json_placeholders,
    placeholder_formats,
    setting,
    snake,
)

from connector_joveo.endpoints import override
from connector_joveo.records import StatsRow

LEVELS = ("primaryLevel", "secondaryLevel", "tertiaryLevel")

_A_DAY = date(2003, 12, 31)
_DATE_FORMAT = re.compile(
    r"(?:[^%]|%[%aAbBdDeFGHIjmMpSTuUVwWyYzZ]|%-[dejm])+"
)  # directives of strftime; other characters stand for themselves


def _template(settings: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, Any]) -> None:
    if value and {name for _, name, _ in json_placeholders(value)} != {"start", "end"}:
        raise ValueError(
            "expected the filters of the report with {start} and {end} where the first and last day go, "
            'such as { startDate = "{start}", endDate = "{end:%m/%d/%Y}" }'
        )
    for _, format_ in placeholder_formats(value):
        if "%" not in format_ or not _DATE_FORMAT.fullmatch(format_):
            raise ValueError(f"{format_!r} is not a date format; expected one such as %m/%d/%Y")


def _ids(settings: Any, attribute: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    if any(not text.strip() for text in value):
        raise ValueError("one of them is empty")


def _levels(settings: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, str]) -> None:
    if unknown := [name for name in value if name not in LEVELS]:
        raise ValueError(f"found {', '.join(map(repr, unknown))}; expected only {', '.join(LEVELS)}")
    if value and "primaryLevel" not in value:
        raise ValueError("primaryLevel is missing")
    if len(set(value.values())) < len(value):
        raise ValueError("Joveo refuses two equal levels")


def _columns(settings: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, str]) -> None:
    own = {column.name: column for column in columns_of(StatsRow)}
    seen: dict[str, str] = {}
    for declared in _stats_members(value):
        member, type_, format_ = declared
        if type_ not in get_args(ColumnType) or (format_ and type_ != "date"):
            raise ValueError(f"{member}: found {value[member]!r}, expected one of {', '.join(get_args(ColumnType))}")
        if format_ and not _tells_a_day(format_):
            raise ValueError(f"{member}: {format_!r} does not give day, month and year; expected one such as %m/%d/%Y")
        name = declared.column
        if seen.setdefault(name, member) != member:
            raise ValueError(f"{seen[name]} and {member} would both be the column {name}")
        if name in own and own[name].type != type_:
            raise ValueError(f"{member}: the column {name} is declared already, as {own[name].type}")


def _tells_a_day(format_: str) -> bool:
    try:
        # A format without a year is not tried: Python is about to refuse one.
        return "%y" in format_.lower() and datetime.strptime(_A_DAY.strftime(format_), format_).date() == _A_DAY  # noqa: DTZ007
    except ValueError:
        return False


def _operations(settings: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, Any]) -> None:
    for operation, configured in value.items():
        override(operation, configured)


@attrs.frozen(kw_only=True)
class JoveoSettings(SourceSettings):
    """
    Joveo names neither its hosts nor its paths in public: ``base_url`` comes from your contact there, and
    ``endpoints`` corrects the paths that are assumed.
    """

    api_key: Secret = setting(help="the value of x-api-key")
    api_client_id: Secret = setting(help="the client_id of the API access, for the token; no client of the agency")
    client_ids: tuple[str, ...] = setting((), help="clients to read; default: all that the API lists", validator=_ids)
    publisher_ids: tuple[str, ...] = setting(
        (), help="publishers of the streams publisher_*, which the API cannot list", validator=_ids
    )
    publisher_family_id: str | None = setting(None, help="of a publisher partner, for publisher_report")
    publisher_period: Literal["LAST_30_DAYS", "LAST_MONTH", "THIS_MONTH"] = setting(
        "LAST_30_DAYS", help="what publisher_report covers"
    )
    stats_filters: dict[str, Any] = setting(
        {},
        help="filters of stats and ip_report; {start} and {end} in a text are the first and last day, {start:%m/%d/%Y} "
        "in another format",
        affects_data=True,
        validator=_template,
    )
    aggregation_level: dict[str, str] = setting(
        {},
        help="primaryLevel, secondaryLevel, tertiaryLevel of stats; with one that names DATE or DAY a report covers "
        "up to 60 days, else each day is a report of its own",
        affects_data=True,
        validator=_levels,
    )
    stats_columns: dict[str, str] = setting(
        {},
        help="further members of the stats report -> text, integer, decimal, boolean, date, datetime or json; "
        '"date %m/%d/%Y" where days come in another format than 2026-01-31',
        affects_data=True,
        validator=_columns,
    )
    endpoints: dict[str, Any] = setting(
        {}, help='operation -> { method = "...", path = "..." }, in place of the assumed one', validator=_operations
    )


def has_date_level(settings: JoveoSettings) -> bool:
    """Whether the stats report has a row per day, so that one report may cover many days."""
    return any(re.search("DATE|DAY", level.upper()) for level in settings.aggregation_level.values())


def day_column(settings: JoveoSettings) -> str | None:
    """The column of a stats row that holds its day: the first date of ``stats_columns``, else ``date``."""
    if not has_date_level(settings):
        return None
    declared = _stats_members(settings.stats_columns)
    return next((member.column for member in declared if member.type == "date"), "date")


def stats_columns(settings: JoveoSettings) -> tuple[Column, ...]:
    """The columns that the configuration adds to those of ``stats``, and those whose member or format it states."""
    own = {column.name: column for column in columns_of(StatsRow)}
    return tuple(
        attrs.evolve(own[name], member=member.member, format=member.format)
        if (name := member.column) in own
        else Column(name=name, type=member.type, member=member.member, format=member.format)  # type: ignore[arg-type]  # checked
        for member in _stats_members(settings.stats_columns)
    )


class _StatsMember(NamedTuple):
    """One of ``stats_columns``: a member of the report, with the type and the format of its column."""

    member: str
    type: str
    format: str

    @property
    def column(self) -> str:
        """However the member is written. ``report_date`` is the partition's: it is read as ``date``."""
        name = snake(self.member)
        return "date" if name == "report_date" else name


def _stats_members(columns: Mapping[str, str]) -> list[_StatsMember]:
    return [_StatsMember(member, *text.partition(" ")[::2]) for member, text in columns.items()]
