"""
A stream of a new connector: its choices, and what it adds to the modules of records and of the source.
"""

import json
import keyword
import re
from typing import Any, Literal

from attrs import evolve, frozen
from penstock import UsageError, placeholders, snake

from penstock_plugins.scaffold.code import IMPORTABLE, call, literal
from penstock_plugins.scaffold.guess import Guess, Guesses, singular_of
from penstock_plugins.scaffold.infer import guess_columns
from penstock_plugins.scaffold.personal import is_granting, is_personal
from penstock_plugins.scaffold.sample import Sample

PAGINGS = ("none", "page_number", "offset", "cursor", "link")
KINDS = ("report", "snapshot", "on_demand")

_OF_NUMBER = ("page", "pageNumber", "page_number", "pageNo", "p")
_OF_OFFSET = ("offset", "skip", "startIndex", "start")
_OF_CURSOR = ("cursor", "after", "pageToken", "page_token", "nextToken", "next_token", "next")
_OF_SIZE = ("limit", "per_page", "perPage", "pageSize", "page_size", "size", "count", "first", "max_results")
_OF_DAYS = re.compile(r"\d{4}-\d\d-\d\d")
_OF_CHANGES = re.compile(r"(^|_)(updated|modified|changed)(_|$)")
_GENERIC_KEYS = ("id", "uuid", "guid", "key", "code")  # keys of every API: a column is named STREAM_id instead


def is_of_graphql(sample: Sample) -> bool:
    """Whether it is the response to a query of GraphQL, by the form in which such connections are paged."""
    return sample.items.startswith("data.") and (sample.cursor or "").endswith("pageInfo.endCursor")


def usual_kind(sample: Sample, stream: str) -> str:
    """The kind that a sample suggests: amounts and counts of a day or a time are a report."""
    record = guess_columns(sample, stream, report=True)
    is_summed = any(
        column.options.get("additive", column.call == "money") and column.type in ("int", "Decimal")
        for column in record.columns
    )
    return "report" if record.day is not None and is_summed else "snapshot"


def usual_paging(sample: Sample) -> str:
    """The paging that a sample suggests; empty where it suggests none."""
    if sample.link is not None:
        return "link"
    if sample.cursor is not None:
        return "cursor"
    if sample.pages is not None:
        return "page_number"
    return "none" if sample.format == "csv" else ""


@frozen(kw_only=True)
class StreamChoices:
    """
    What the author states of a stream: its name, the path of its request, how it pages, its sample, and whether it has
    records of days (``report``), of now (``snapshot``), or is a report that is submitted, polled and downloaded
    (``on_demand``). ``query``: the parameters of the sample's URL.
    """

    name: str
    path: str
    kind: Literal["report", "snapshot", "on_demand"]
    paging: str
    sample: Sample
    query: tuple[tuple[str, str], ...] = ()
    key: tuple[str, ...] = ()
    day: str | None = None

    @property
    def singular(self) -> str:
        """The name of one of its records."""
        name = singular_of(self.name)
        is_free = not keyword.iskeyword(name) and name not in (*IMPORTABLE, "day", "raw", "self")
        return name if is_free else f"{name}_record"


@frozen(kw_only=True)
class ParentLink:
    """
    The value of a parent's row in the request of its child: ``column`` of the parent and its ``member``, and the
    ``name`` that it has in the child. ``child_member``: the child's member that repeats it; None: the column is added.
    """

    stream: StreamChoices
    column: str
    member: str
    name: str
    child_member: str | None


@frozen(kw_only=True)
class StreamTexts:
    """A stream and its record class, as texts of the modules. ``account``: the column of accounts, if there are any."""

    choices: StreamChoices
    record: Guesses
    record_class: str
    account: str | None = None
    login_name: str = ""
    link: ParentLink | None = None

    @classmethod
    def of(
        cls,
        choices: StreamChoices,
        parent: "StreamTexts | None",
        *,
        record_class: str,
        account: str | None,
        login_name: str,
    ) -> "StreamTexts":
        """Raises UsageError for choices that do not go together."""
        _check_sample(choices)
        is_report = choices.kind != "snapshot"
        record = guess_columns(choices.sample, choices.name, report=is_report, key=choices.key, day=choices.day)
        day = record.day
        if choices.day and day is not None and (day.nullable or day.type not in ("date", "datetime")):
            raise UsageError(f"--day {choices.day}: it must be a day or a time that every record of the sample has")
        link = _link(choices, record, parent)
        if link is not None:
            record = _of_child(record, link)
        if not record.key and not record.hashed:
            raise UsageError(
                "the sample has no member with a text, a number or a day, and nothing else identifies a record; save "
                "an answer whose records have some"
            )
        if account is not None:
            record = evolve(
                record,
                columns=tuple(_account(column) if column.name == account else column for column in record.columns),
            )
        return cls(
            choices=choices,
            record=record,
            record_class=record_class,
            account=account,
            login_name=login_name,
            link=link,
        )

    @property
    def is_report(self) -> bool:
        return self.choices.kind != "snapshot"

    @property
    def on_demand(self) -> bool:
        return self.choices.kind == "on_demand"

    @property
    def is_graphql(self) -> bool:
        return self.choices.path.endswith("/graphql") and self.choices.sample.items.startswith("data.")

    @property
    def path(self) -> str:
        """The path of its request, in which a value of the parent has the name that it has in this stream."""
        link = self.link
        return self.choices.path.replace(f"{{{link.column}}}", f"{{{link.name}}}") if link else self.choices.path

    @property
    def constant(self) -> str:
        """The name of the stream's value in source.py."""
        upper = self.choices.name.upper()
        return f"{upper}_STREAM" if upper in ("CONNECTOR", "QUERY") else upper

    # --- records ----------------------------------------------------------------------------------------------------

    @property
    def day_column(self) -> str | None:
        """The column of the stream's day: the record's own day, else one that penstock adds."""
        if not self.is_report:
            return None
        day, names = self.record.day, {column.name for column in self.record.columns}
        if day is not None and day.type == "date":
            return day.name
        return next(name for name in ("report_date", "partition_day", "partition_date") if name not in names)

    def record_lines(self) -> str:
        """The record class."""
        record = self.record
        lines = [column.line() for column in record.columns]
        if self.link is not None and self.link.child_member is None:
            lines.insert(0, f"{self.link.name}: str = added()")
        if not record.key:
            lines.insert(0, f"row_key: str = row_key({', '.join(map(literal, record.hashed))})  # review: no key found")
        key = record.key or ("row_key",)
        declared = call(
            "record",
            members="camel" if record.camel and not all(column.within for column in record.columns) else None,
            kind="report" if self.is_report else "snapshot",
            key=key[0] if len(key) == 1 else key,
            account=self.account,
            day=self.day_column,
        )
        words = self.choices.name.replace("_", " ")
        note = "# review: the document and its date"
        unsure = [f"# review: whether the key needs {self.link.name}"] if self.link is not None else []
        if changed := next((column.name for column in record.columns if _OF_CHANGES.search(column.name)), None):
            unsure += (
                [f'# review: kind="changes" where the provider filters by {changed}'] if not self.is_report else []
            )
        return "\n".join(
            [
                *unsure,
                f"@{declared}",
                f"class {self.record_class}:",
                f'    """One record of {words}. Source: a sample answer."""  {note}',
                "",
                *(f"    {line}" for line in lines),
            ]
        )

    # --- source -----------------------------------------------------------------------------------------------------

    def params(self) -> dict[str, str]:
        """The parameters of the request as templates."""
        params: dict[str, str] = {}
        days: list[str] = []
        for name, value in self.choices.query:
            if name in (*_OF_NUMBER, *_OF_OFFSET, *_OF_CURSOR, *_OF_SIZE):
                continue
            if self.is_report and _OF_DAYS.fullmatch(value):
                days.append(name)
                params[name] = "{since}" if len(days) == 1 else "{until}"
            elif self.account and snake(name) in (self.account, self.account[:-3]):
                params[name] = "{account}"
            elif (
                not (is_granting(name) or is_personal(name) or "@" in value)
                and name != self.login_name
                and "{" not in value
            ):
                params[name] = value
        if self.is_report and not days:
            params = {"since": "{since}", "until": "{until}", **params}
        if self.account and "{account}" not in params.values():
            params[self.account] = "{account}"
        return params

    @property
    def paging_param(self) -> str:
        """The name of the page's number, offset or cursor in a request; empty for links."""
        names = {"page_number": _OF_NUMBER, "offset": _OF_OFFSET, "cursor": _OF_CURSOR}.get(self.choices.paging, ())
        usual = "" if not names else "after" if self.is_graphql else names[0]
        return next((name for name in names if name in dict(self.choices.query)), usual)

    @property
    def next_member(self) -> str:
        """The path of the cursor, or of the link, to the next page."""
        sample = self.choices.sample
        return (sample.cursor if self.choices.paging == "cursor" else sample.link) or self._beside("next")

    def paging(self) -> dict[str, str]:
        """The values of the paging's templates."""
        return {"asked_param": literal(self.paging_param), "member": literal(self.next_member)}

    def _paginator(self) -> str:
        query, param = dict(self.choices.query), self.paging_param
        size = next((name for name in _OF_SIZE if name in query), None)
        return call(
            "named",
            self.choices.paging,
            indent=4,
            param=f"variables.{param}" if param and self.is_graphql else param,
            member=self.next_member if self.paging_name in ("cursor", "link") else None,
            size_param=size,
            size=size and _size(query[size]),
            more=self._more,
            place="body" if self.is_graphql else None,
        )

    @property
    def paging_name(self) -> str:
        """The paging's name in ``snippets.toml``: a link is a member of the answer, or its header."""
        in_header = self.choices.paging == "link" and self.choices.sample.link is None
        return "header" if in_header else self.choices.paging

    def _beside(self, name: str) -> str:
        """The path of a member next to the records."""
        outer = self.choices.sample.items.rpartition(".")[0]
        return f"{outer}.{name}" if outer else name

    @property
    def _more(self) -> str | None:
        sample = self.choices.sample
        counted = sample.total or sample.pages
        return sample.more if self.paging_name in ("page_number", "offset", "cursor", "link") and not counted else None

    def _envelope(self) -> str:
        sample = self.choices.sample
        if sample.format == "csv":
            return call(
                "ReportFile",
                indent=4,
                header=sample.header,
                delimiter=None if sample.delimiter == "," else sample.delimiter,
                encoding=sample.encoding,
                totals=sample.totals,
            )
        if self.on_demand:
            return call("ReportFile", items=(sample.items,) if sample.items else None)
        if not sample.items:
            return ""
        member = self.next_member if self.paging_name in ("cursor", "link") else None
        head = tuple(path for path in (member, self._more) if path)
        return call("Envelope", indent=4, items=sample.items, total=sample.total, pages=sample.pages, head=head)

    def source_lines(self) -> list[str]:
        """The arguments of ``Stream``, one a line, behind name, summary and record."""
        lines = [self._parent_line()] if self.link is not None else []
        lines += [f"path={literal(self.path)},", *self._request_lines(), *self._response_lines()]
        if self.is_report:
            lines.append("open_for=3,  # review: for how many days the provider may change a day")
            if self.record.day is not None and self.record.day.type == "datetime":
                lines.append(f'day_of="{self.record.day.name}",  # review: the time by which the provider divides days')
        return lines

    def _parent_line(self) -> str:
        assert self.link is not None
        name, column = self.link.name, self.link.column
        links = "" if name == column else f', links=lambda row: [{{"{name}": row["{column}"]}}]'
        return f'parent=Parent(stream="{self.link.stream.name}", columns=("{column}",){links}),'

    def _request_lines(self) -> list[str]:
        params = self.params()
        inner = ", ".join(f"{literal(name)}: {literal(value)}" for name, value in params.items())
        if self.is_graphql:
            return [f'json={{"query": QUERY, "variables": {{{inner}}}}},']
        if self.on_demand:
            return [
                f"json={{{inner}}},  # review: what the submission contains",
                "# review: where its answers have the id, the state and the link; the words of the state",
                'poller=named("polled", id_at="id", state_at="status", download_at="url"),',
            ]
        unsure = self.is_report and not any(_OF_DAYS.fullmatch(value) for _, value in self.choices.query)
        return [f"params={{{inner}}},{'  # review: the names of the days' if unsure else ''}"] if params else []

    def _response_lines(self) -> list[str]:
        envelope = self._envelope()
        lines = [f"{'downloads' if self.on_demand else 'envelope'}={envelope},"] if envelope else []
        if self.choices.paging != "none":
            lines += ["# review: the options", f"paginator={self._paginator()},"]
        return lines

    def query(self) -> str:
        """The GraphQL query that selects what the sample has."""
        sample = self.choices.sample
        names = [*self.params(), *([self.paging_param] if self.paging_name == "cursor" else [])]
        declared = ", ".join(f"${name}: String" for name in names)
        arguments = ", ".join(f"{name}: ${name}" for name in names)
        *outer, field = sample.items.removeprefix("data.").removesuffix(".nodes").removesuffix(".edges").split(".")
        value, opened, closed, indent = json.loads(sample.text)["data"], "", "", "  "
        for name in outer:
            value, opened, closed, indent = (
                value[name], f"{opened}{indent}{name} {{\n", f"{indent}}}\n{closed}", f"{indent}  "
            )  # fmt: skip
        selected = _selection(value[field], f"{indent}  ")
        return (
            "# review: arguments and types; the fields are those of the sample\n"
            f'QUERY = """\nquery ({declared}) {{\n{opened}{indent}{field}({arguments}) {{\n{selected}\n{indent}}}\n'
            f'{closed}}}\n"""\n\n'
        )


def _check_sample(choices: StreamChoices) -> None:
    """Raises UsageError where the sample does not go together with the paging or the kind."""
    sample = choices.sample
    if choices.paging == "cursor" and not sample.items:
        raise UsageError(
            "--paging cursor: the sample has no member beside its records that could hold the cursor; choose link, "
            "for a Link header, or page_number or offset"
        )
    if choices.kind == "on_demand" and "." in sample.items:
        raise UsageError(
            f"--kind on_demand: the records of the sample are in {sample.items}, and a report file has them in a "
            'member of its own. Give a report file as the sample: CSV, a JSON array, or {"rows": [...]}'
        )


def _link(choices: StreamChoices, record: Guesses, parent: StreamTexts | None) -> ParentLink | None:
    """The value of the parent's row that the path names. UsageError where it names none."""
    if parent is None:
        return None
    columns = {column.name: column for column in parent.record.columns}
    names = placeholders(choices.path)
    if choices.path.endswith("/graphql"):
        raise UsageError(
            "--parent: penstock new writes no query for each row of a parent. Leave it out, and add "
            f'parent=Parent(stream="{parent.choices.name}", columns=("id",)) and a variable "{{id}}" by hand'
        )
    if len(names) != 1 or names[0] not in columns:
        raise UsageError(
            f"--path {choices.path}: with --parent it names one column of {parent.choices.name} in braces, such as "
            f"/{parent.choices.name}/{{{parent.record.key[0] if parent.record.key else 'id'}}}/{choices.name}. "
            f"There are {', '.join(columns)}"
        )
    column = columns[names[0]]
    name = f"{parent.choices.singular}_{column.name}" if column.name in _GENERIC_KEYS else column.name
    member = next((column.member for column in record.columns if column.name == name), None)
    return ParentLink(stream=parent.choices, column=column.name, member=column.member, name=name, child_member=member)


def _account(column: Guess) -> Guess:
    """The column of the accounts, which are text and in every record."""
    options = {name: value for name, value in column.options.items() if name == "member"}
    return evolve(column, type="str", options=options, nullable=False)


def _of_child(record: Guesses, link: ParentLink) -> Guesses:
    """The record class of a child: the parent's value belongs to the key, or to what the key is a hash of."""
    if not record.key:
        return record if link.name in record.hashed else evolve(record, hashed=(link.name, *record.hashed))
    key = record.key if link.name in record.key else (link.name, *record.key)
    columns = tuple(evolve(column, nullable=False) if column.name == link.name else column for column in record.columns)
    return evolve(record, key=key, columns=columns)


def _selection(value: Any, indent: str) -> str:
    """The fields of a value as GraphQL selects them; an array has those of all its elements."""
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for item in value:
            merged |= {name: inner for name, inner in item.items() if inner or name not in merged}
        value = merged
    lines = []
    for name, inner in value.items():
        nested = inner if isinstance(inner, dict) else inner if inner and isinstance(inner, list) else None
        if nested and (isinstance(nested, dict) or isinstance(nested[0], dict)):
            lines.append(f"{indent}{name} {{\n{_selection(nested, indent + '  ')}\n{indent}}}")
        else:
            lines.append(f"{indent}{name}")
    return "\n".join(lines)


def _size(text: str) -> int:
    return int(text) if text.isdecimal() and int(text) > 0 else 100
