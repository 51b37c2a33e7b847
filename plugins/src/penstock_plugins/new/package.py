"""
The files of a new connector, from a sample and a few choices. The texts are the templates beside this module.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from attrs import field, frozen
from penstock import UsageError, snake

from penstock_plugins.new.infer import Guess, Guesses, guessed, literal
from penstock_plugins.new.sample import MOST_KEPT, Sample, is_granting, is_personal

LOGINS = ("none", "bearer", "header", "param", "basic", "oauth_client", "oauth_refresh")
PAGINGS = ("none", "page_number", "offset", "cursor", "link")

_OF_NUMBER = ("page", "pageNumber", "page_number", "pageNo", "p")
_OF_OFFSET = ("offset", "skip", "startIndex", "start")
_OF_CURSOR = ("cursor", "after", "pageToken", "page_token", "nextToken", "next_token", "next")
_OF_SIZE = ("limit", "per_page", "perPage", "pageSize", "page_size", "size", "count", "first", "max_results")
_OF_DAYS = re.compile(r"\d{4}-\d\d-\d\d")

# Names that the generated modules import or define.
_RESERVED = {
    *(
        "Connector",
        "Envelope",
        "Json",
        "Decimal",
        "Limits",
        "Refusal",
        "ReportFile",
        "Request",
        "Sandbox",
        "SandboxBase",
    ),
    *("SandboxError", "SandboxResponse", "Secret", "SourceSettings", "Stream", "CONNECTOR", "SAMPLE", "SIZE", "HEAD"),
    *(
        "RECORDS",
        "ACCOUNTS",
        "SANDBOX",
        "TOKEN",
        "TOKEN_PATH",
        "KEY",
        "USER",
        "PASSWORD",
        "CLIENT",
        "SECRET",
        "REFRESH",
    ),
}


@frozen(kw_only=True)
class Choices:
    """
    What the author states: the connector's ``name``, where the provider answers, how it logs in and pages, and whether
    the stream is a ``report`` (records of days) or a ``listing``. ``query``: of the sample's URL.
    """

    name: str
    base_url: str
    path: str
    stream: str
    login: str
    paging: str
    kind: Literal["report", "listing"]
    login_name: str = ""  # of the header or parameter with the key
    token_url: str = "/oauth/token"  # noqa: S105
    account: str | None = None
    key: tuple[str, ...] = ()
    day: str | None = None
    query: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> str:
        """The folder of the distribution, which is the name of its package."""
        return f"connector_{self.name}"


@frozen(kw_only=True)
class Made:
    """The files of a connector by path, and the lines with a guess that is to be reviewed."""

    files: Mapping[str, str]

    @property
    def reviews(self) -> list[str]:
        """``path:line  text`` of each guess."""
        return [
            f"{path}:{number}  {line.strip()}"
            for path, text in self.files.items()
            for number, line in enumerate(text.splitlines(), 1)
            if "# review" in line
        ]


def made(choices: Choices, sample: Sample) -> Made:
    """All files of the connector. Raises UsageError for choices that do not go together."""
    _check(choices, sample)
    record = guessed(sample, choices.stream, report=choices.kind == "report", key=choices.key, day=choices.day)
    if choices.day and record.day is not None and (record.day.nullable or record.day.type not in ("date", "datetime")):
        raise UsageError(f"--day {choices.day}: it must be a day or a time that every record of the sample has")
    texts = _Texts(choices=choices, sample=sample, record=record)
    package = f"src/{choices.folder}"
    values = texts.values()
    return Made(
        files={
            "pyproject.toml": _filled("pyproject.toml", values),
            "README.md": _filled("README.md", values),
            f"{package}/__init__.py": _filled("init.py", values),
            f"{package}/records.py": _filled("records.py", values),
            f"{package}/source.py": _filled("source.py", values),
            f"{package}/sandbox.py": _filled("sandbox.py", values),
            f"{package}/{texts.sample_file}": sample.text,
            f"tests/test_{choices.name}.py": _filled("test.py", values),
        }
    )


def _check(choices: Choices, sample: Sample) -> None:
    if choices.paging == "cursor" and not sample.items:
        raise UsageError(
            "--paging cursor: the sample has no member beside its records that could hold the cursor; choose link, for "
            "a Link header, or page_number or offset"
        )


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text("utf-8")


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = Template(_template(f"{name}.txt")).substitute(values)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


@frozen(kw_only=True)
class _Texts:
    """The values of the templates."""

    choices: Choices
    sample: Sample
    record: Guesses
    parts: Mapping[str, Any] = field(factory=lambda: tomllib.loads(_template("parts.toml")))

    @property
    def sample_file(self) -> str:
        return f"sample.{self.sample.format}"

    @property
    def title(self) -> str:
        return self.choices.name.replace("_", " ").title()

    @property
    def is_report(self) -> bool:
        return self.choices.kind == "report"

    @property
    def is_graphql(self) -> bool:
        return self.choices.path.endswith("/graphql") and self.sample.items.startswith("data.")

    @property
    def has_token(self) -> bool:
        return self.choices.login.startswith("oauth")

    def values(self) -> dict[str, str]:
        choices, stream = self.choices, self.choices.stream
        words = stream.replace("_", " ")
        name = _class_name(choices.name, _RESERVED)
        common = {
            "name": choices.name,
            "NAME": choices.name.upper(),
            "title": self.title,
            "Class": name,
            "package": choices.folder,
            "distribution": choices.folder.replace("_", "-"),
            "stream": stream,
            "STREAM": stream.upper() + ("_STREAM" if stream.upper() in _RESERVED else ""),
            "stream_words": words,
            "Stream_words": words[:1].upper() + words[1:],
            "record_class": _class_name(_singular(stream), {*_RESERVED, name}),
            "base_url": literal(choices.base_url),
            "path": literal(choices.path),
            "sample_file": self.sample_file,
        }
        return common | self._of_record() | self._of_source(common) | self._of_sandbox(common) | self._of_test(common)

    def _part(self, table: str, name: str, key: str, **values: str) -> str:
        """One text of ``parts.toml``, filled in; without the line breaks around it."""
        text: str = self.parts[table][name][key]
        known = {
            "title": self.title,
            "NAME": self.choices.name.upper(),
            "login_name": literal(self.choices.login_name),
            "token_url": self._token_url,
        }
        return Template(text).substitute(known | values).strip("\n")

    # --- records ----------------------------------------------------------------------------------------------------

    def _of_record(self) -> dict[str, str]:
        record, choices = self.record, self.choices
        lines = [one.line() for one in record.columns]
        if not record.key:
            lines.insert(0, f"row_key: str = row_key({', '.join(map(literal, record.hashed))})  # review: no key found")
        text = "\n".join(lines)
        key = record.key or ("row_key",)
        options = {
            "members": "camel" if record.camel else None,
            "kind": "report" if self.is_report else "snapshot",
            "key": key[0] if len(key) == 1 else key,
            "account": choices.account,
            "day": self.day_column,
        }
        standard = [
            f"from {module} import {', '.join(found)}"
            for module, names in (("datetime", ("date", "datetime")), ("decimal", ("Decimal",)))
            if (found := [one for one in names if re.search(rf": {one}\b", text)])
        ]
        own = [one for one in ("column", "money", "personal", "row_key", "secret") if re.search(rf"= {one}\(", text)]
        own = ["Json"] * (": Json" in text) + own[:2] + ["record"] + own[2:]
        imports = [*standard, "", f"from penstock import {', '.join(sorted(own, key=_import_order))}"]
        count = len(self.sample.records)
        return {
            "record_imports": "\n".join(imports).strip(),
            "record_options": ", ".join(f"{name}={literal(value)}" for name, value in options.items() if value),
            "columns": "\n".join(f"    {line}" for line in lines),
            "count": f"{count} record{'' if count == 1 else 's'}",
        }

    @property
    def day_column(self) -> str | None:
        """The column of the stream's day: the record's own day, else one that penstock adds."""
        if not self.is_report:
            return None
        day, names = self.record.day, {one.name for one in self.record.columns}
        if day is not None and day.type == "date":
            return day.name
        return next(one for one in ("report_date", "partition_day", "partition_date") if one not in names)

    # --- source -----------------------------------------------------------------------------------------------------

    @property
    def _token_url(self) -> str:
        if urlsplit(self.choices.token_url).scheme:
            return f'settings.login_url.rstrip("/") + {literal(urlsplit(self.choices.token_url).path)}'
        return f"settings.url({literal(self.choices.token_url)})"

    def _params(self) -> tuple[dict[str, str], dict[str, str]]:
        """The parameters of the request as templates, and those of paging in the sample's URL."""
        known: dict[str, str] = {}
        paging: dict[str, str] = {}
        days: list[str] = []
        for name, value in self.choices.query:
            if name in (*_OF_NUMBER, *_OF_OFFSET, *_OF_CURSOR, *_OF_SIZE):
                paging[name] = value
            elif self.is_report and _OF_DAYS.fullmatch(value):
                days.append(name)
                known[name] = "{since}" if len(days) == 1 else "{until}"
            elif self.choices.account and snake(name) in (self.choices.account, self.choices.account[:-3]):
                known[name] = "{account}"
            elif (
                not (is_granting(name) or is_personal(name) or "@" in value)
                and name != self.choices.login_name
                and "{" not in value
            ):
                known[name] = value
        if self.is_report and not days:
            known = {"since": "{since}", "until": "{until}", **known}
        if self.choices.account and "{account}" not in known.values():
            known[self.choices.account] = "{account}"
        return known, paging

    def _of_paging(self) -> dict[str, str]:
        """The values of a paging's templates."""
        _, seen = self._params()
        names = {"page_number": _OF_NUMBER, "offset": _OF_OFFSET, "cursor": _OF_CURSOR}.get(self.choices.paging, ())
        usual = "after" if self.is_graphql else names[0] if names else ""
        param = next((one for one in names if one in seen), usual)
        size = next((one for one in _OF_SIZE if one in seen), None)
        options = "" if size is None else f", size_param={literal(size)}, size={_size(seen[size])}"
        if self._more:
            options += f", more={literal(self._more)}"
        if self.is_graphql:
            options += ', place="body"'
            param = f"variables.{param}"
        member = self.sample.cursor if self.choices.paging == "cursor" else self.sample.link
        return {"param": literal(param), "size": options, "member": literal(member or self._beside("next"))}

    def _beside(self, name: str) -> str:
        """The path of a member next to the records."""
        outer = self.sample.items.rpartition(".")[0]
        return f"{outer}.{name}" if outer else name

    @property
    def _paging(self) -> str:
        """The paging's name in ``parts.toml``: a link is a member of the answer, or its header."""
        in_header = self.choices.paging == "link" and self.sample.link is None
        return "header" if in_header else self.choices.paging

    @property
    def _more(self) -> str | None:
        counted = self.sample.total or self.sample.pages
        return self.sample.more if self._paging in ("page_number", "offset", "cursor", "link") and not counted else None

    def _envelope(self) -> str:
        sample = self.sample
        if sample.format == "csv":
            options = {
                "header": sample.header,
                "delimiter": None if sample.delimiter == "," else sample.delimiter,
                "encoding": sample.encoding,
                "totals": sample.totals,
            }
            return _call("ReportFile", options)
        if not sample.items:
            return ""
        member = {"cursor": sample.cursor or self._beside("next"), "link": sample.link}.get(self._paging)
        head = tuple(path for path in (member, self._more) if path)
        return _call("Envelope", {"items": sample.items, "total": sample.total, "pages": sample.pages, "head": head})

    def _of_source(self, common: Mapping[str, str]) -> dict[str, str]:
        choices, login = self.choices, self.choices.login
        names = {"Connector", "Limits", "SourceSettings", "Stream", "setting"}
        settings = [self._part("login", login, "settings")] if login != "none" else []
        names |= set(self.parts["login"][login]["names"].split())
        elsewhere = self.has_token and bool(urlsplit(choices.token_url).scheme)
        if elsewhere:
            parts = urlsplit(choices.token_url)
            origin = literal(f"{parts.scheme}://{parts.netloc}")
            settings.append(f'    login_url: str = setting({origin}, help="where {self.title} grants tokens")')
        if choices.account:
            settings.append(
                f'    {choices.account}s: tuple[str, ...] = setting(help="the accounts to read")  # review: the help'
            )
        params, _ = self._params()
        lines = []
        inner = ", ".join(f"{literal(name)}: {literal(value)}" for name, value in params.items())
        if self.is_graphql:
            lines.append(f'json={{"query": QUERY, "variables": {{{inner}}}}},')
        elif params:
            unsure = self.is_report and not any(_OF_DAYS.fullmatch(value) for _, value in choices.query)
            lines.append(f"params={{{inner}}},{'  # review: the names of the days' if unsure else ''}")
        if envelope := self._envelope():
            if len(envelope) > 100:
                envelope = (
                    envelope.replace("(", "(\n        ", 1).replace(", head=", ",\n        head=")[:-1] + ",\n    )"
                )
            lines.append(f"envelope={envelope},")
            names.add(envelope.partition("(")[0])
        if choices.paging != "none":
            names.add("named")
            paginator = self._part("paging", self._paging, "paginator", **self._of_paging())
            lines += ["# review: the options", f"paginator={paginator},"]
        if self.is_graphql:
            names.add("graphql_judge")
        if self.is_report:
            lines.append("open_for=3,  # review: for how many days the provider may change a day")
        connector = []
        if login != "none":
            names |= {"AuthenticationError", "Refusal"}
            connector.append(f"authenticator={self._part('login', login, 'authenticator')},")
            renew = ", renew=True" if self.has_token else ""
            advice = literal(self._part("login", login, "advice"))
            connector.append(f"statuses={{401: Refusal({advice}, AuthenticationError{renew})}},")
            connector.append('reason=("message", "error"),  # review: where an error states its reason')
        if elsewhere:
            connector.append('origins=("login_url",),')
        if self.is_graphql:
            connector.append("judge=graphql_judge,")
        if not self.is_report and not choices.account and not self.is_graphql:
            names.add("Request")
            given = f", params={literal(tuple(params.items()))}" if params else ""
            connector.append("check=lambda settings, slice_: Request(")
            connector += [f"    url=settings.url({common['path']}){given}", "),"]
        return {
            "names": _listed(names),
            "settings": "\n".join(settings),
            "query": self._query() if self.is_graphql else "",
            "stream_lines": "".join(f"    {line}\n" for line in lines),
            "connector_lines": "".join(f"    {line}\n" for line in connector),
            "config": "\n".join(self._config()),
        }

    def _query(self) -> str:
        """A query that selects what the sample has."""
        params, _ = self._params()
        names = [
            *params,
            *([self._of_paging()["param"].strip('"').partition(".")[2]] if self._paging == "cursor" else []),
        ]
        declared = ", ".join(f"${name}: String" for name in names)
        given = ", ".join(f"{name}: ${name}" for name in names)
        root, *_ = self.sample.items.removeprefix("data.").split(".")
        selected = _selection(json.loads(self.sample.text)["data"][root], "    ")
        return (
            "# review: arguments and types; the fields are those of the sample\n"
            f'QUERY = """\nquery ({declared}) {{\n  {root}({given}) {{\n{selected}\n  }}\n}}\n"""\n\n'
        )

    def _config(self) -> list[str]:
        lines = [] if self.choices.login == "none" else [self._part("login", self.choices.login, "config")]
        if self.choices.account:
            lines.append(f'{self.choices.account}s = ["..."]')
        return lines

    # --- sandbox ----------------------------------------------------------------------------------------------------

    def _of_sandbox(self, common: Mapping[str, str]) -> dict[str, str]:
        choices, sample, login = self.choices, self.sample, self.choices.login
        paged = choices.paging != "none"
        day = self.record.day if self.is_report else None
        params, _ = self._params()
        text = f'files(__package__).joinpath("{self.sample_file}").read_text("utf-8")'
        standard = {"from importlib.resources import files"}
        names = {"Sandbox", "SandboxBase"} | ({"SandboxError"} if login != "none" or choices.account else set())
        constants = [self._part("login", login, "constants")] if login != "none" else []
        if sample.format == "csv":
            standard |= {"import csv", "import io"}
            names.add("SandboxResponse")
            rows = f"list(csv.reader({text}.splitlines(True), delimiter={literal(sample.delimiter)}))"
            expression = f"SAMPLE[{sample.head}:]"
            constants.insert(0, f"HEAD = SAMPLE[:{sample.head}]")
        else:
            standard |= {"import json", "from decimal import Decimal"}
            names.add("json_response")
            rows = f"json.loads({text}, parse_float=Decimal)"
            members = "".join(f"[{literal(one)}]" for one in sample.items.split(".")) if sample.items else ""
            expression = f"SAMPLE{members}" if members or sample.is_array else "[SAMPLE]"
        if paged:
            constants.append(f"SIZE = {self._size_of_page(day)}  # records of a page")
        page = "        page = records"
        if paged:
            start = self._part("paging", self._paging, "start", **self._of_paging())
            page = f"        start = {start}\n        page = records[start : start + SIZE]"
        answer = self._answer(paged)
        helpers: list[str] = []
        if "put(" in answer:
            helpers.append(_PUT)
        if "urlencode(" in answer:
            standard.add("from urllib.parse import urlencode")
        if "deepcopy(" in answer:
            standard.add("from copy import deepcopy")
        method, argument = "", ""
        if self.is_report:
            since = next(name for name, value in params.items() if value == "{since}")
            argument = f"date.fromisoformat(request.params[{literal(since)}])"
        if self.is_report and day is not None:
            place = literal(day.member) if sample.format == "json" else str(list(sample.members).index(day.member))
            moved = (
                f"{{**one, {place}: moved_to(day, one[{place}])}}"
                if sample.format == "json"
                else f"[*one[:{place}], moved_to(day, one[{place}]), *one[{int(place) + 1}:]]"
            )
            method = _RECORDS_OF_DAY.replace("PLACE", place).replace("MOVED", moved)
            helpers.append(_moving(day))
        if self.is_report:
            standard.add(f"from datetime import {', '.join(sorted({'date', *_datetime_names(helpers)}))}")
        call = "RECORDS" if not method else f"self.records({argument})"
        account_check = ""
        if choices.account:
            constants.append('ACCOUNTS = ("demo-1", "demo-2")')
            param = literal(next(name for name, value in params.items() if value == "{account}"))
            account_check = (
                f"        if request.params.get({param}) not in ACCOUNTS:\n"
                '            raise SandboxError(404, "unknown account")\n'
            )
        admit = self._part("login", login, "admit")
        if admit:
            admit = f"    def admit(self, request):\n{admit}\n\n"
        route = self._part("login", login, "route")
        method_name = "report" if self.is_report else "listing"
        verb = "POST" if self.is_graphql else "GET"
        routes = [f"{literal(f'{verb} {choices.path}')}: {method_name}"]
        if route:
            routes.append('f"POST {TOKEN_PATH}": token')
            constants.append(f"TOKEN_PATH = {literal(urlsplit(choices.token_url).path)}")
            standard.add("from urllib.parse import parse_qsl" + (", urlencode" if "urlencode(" in answer else ""))
            standard.discard("from urllib.parse import urlencode")
            names.add("json_response")
        if "b64encode(" in admit:
            standard.add("from base64 import b64encode")
        settings = [self._part("login", login, "sandbox")] if login != "none" else []
        if self.has_token and urlsplit(choices.token_url).scheme:
            settings.append('"login_url": "{base_url}"')
        settings += [f'"{choices.account}s": list(ACCOUNTS)'] if choices.account else []
        settings.append('"requests_per_second": 200.0')
        if self.is_graphql:
            names.add("json_response")
        imports = sorted(standard, key=lambda line: (line.startswith("from"), line))
        own = [f"from penstock import {_listed(names)}"]
        if self.is_graphql:  # the values that other providers take as parameters
            own.append("from penstock.sandbox import json_body")
        made = {
            "sandbox_what": "on each day" if self.is_report else "in pages" if paged else "all at once",
            "sandbox_imports": "\n".join([*imports, "", *own]),
            "sample_expression": rows,
            "records_expression": expression,
            "constants": "\n".join([*constants, ""]),
            "admit": admit,
            "method": method_name,
            "account_check": account_check,
            "records_call": call,
            "page": page,
            "answer": answer + "\n",
            "records_method": f"{method}\n\n" if method else "",
            "route": f"{route}\n\n" if route else "",
            "routes": ", ".join(routes),
            "helpers": "\n\n\n".join(["", *helpers, ""]) if helpers else "",
            "sandbox_settings": "".join(f"        {one},\n" for one in ", ".join(settings).split(", ")),
        }
        if self.is_graphql:
            for name in ("account_check", "records_call", "page"):
                made[name] = (
                    made[name].replace("request.params", 'json_body(request)["variables"]').replace('"variables.', '"')
                )
        return made

    def _size_of_page(self, day: Guess | None) -> int:
        """A third of the records, so that the sandbox has several pages."""
        records = self.sample.records[:MOST_KEPT]
        if day is not None:
            days = [str(one.get(day.member))[:10] for one in records]
            return -(-max(map(days.count, days)) // 3)
        return -(-len(records) // 3)

    def _answer(self, paged: bool) -> str:
        """The sandbox's lines that make the body of a page."""
        sample = self.sample
        mark = self._part("paging", self._paging, "mark", **self._of_paging()) if paged else ""
        if sample.format == "csv":
            encode = literal(sample.encoding or "utf-8")
            lines = [
                'headers = {"Content-Type": "text/csv"}',
                "text = io.StringIO()",
                f"csv.writer(text, delimiter={literal(sample.delimiter)}).writerows([*HEAD, *page])",
            ]
            last = f"return SandboxResponse(headers=headers, body=text.getvalue().encode({encode}))"
        else:
            if sample.items:
                lines = ["answer = deepcopy(SAMPLE)", f"put(answer, {literal(sample.items)}, page)"]
            else:
                lines = ["answer = page" if sample.is_array else "answer = page[0]"]
            if sample.total:
                lines.append(f"put(answer, {literal(sample.total)}, len(records))")
            if sample.pages:
                pages = "-(-len(records) // SIZE)" if paged else "1"
                lines.append(f"put(answer, {literal(sample.pages)}, {pages})")
            if sample.more:
                more = "start + SIZE < len(records)" if paged else "False"
                lines.append(f"put(answer, {literal(sample.more)}, {more})")
            headers = "headers=headers" if "headers[" in mark else ""
            lines += ["headers = {}"] if headers else []
            last = f"return json_response(answer{', ' + headers if headers else ''})"
        return "\n".join([*(f"        {line}" for line in lines), *([mark] if mark else []), f"        {last}"])

    # --- test -------------------------------------------------------------------------------------------------------

    def _of_test(self, common: Mapping[str, str]) -> dict[str, str]:
        if self.choices.login == "none":
            return {"test_imports": "", "own_import": "", "refusal_test": ""}
        stream = common["STREAM"]
        return {
            "own_import": f"\nfrom {self.choices.folder}.source import {', '.join(sorted(['CONNECTOR', stream]))}\n",
            "test_imports": _TEST_IMPORTS,
            "refusal_test": _REFUSAL_TEST.replace("STREAM", stream),
        }


# --- pieces ---------------------------------------------------------------------------------------------------------

_PUT = '''
def put(value, path, new):
    """Set the member at a dotted path."""
    *outer, last = path.split(".")
    for name in outer:
        value = value[name]
    value[last] = new
'''.strip("\n")

_RECORDS_OF_DAY = '''
    def records(self, day):
        """The records of one of the sample's days, moved to ``day``."""
        days = sorted({day_of(one[PLACE]) for one in RECORDS})
        chosen = days[day.toordinal() % len(days)]
        of_day = [one for one in RECORDS if day_of(one[PLACE]) == chosen]
        return [MOVED for one in of_day]
'''.strip("\n")

_TEST_IMPORTS = """
from penstock import AuthenticationError
from penstock.testing import a_response, verdict_on
""".strip("\n")

_REFUSAL_TEST = '''

def test_a_refused_credential_ends_the_run():
    """
    A status of 401 is a refusal of the credentials, so that the run ends with 3.
    """
    verdict = verdict_on(a_response({"error": "no"}, status=401), CONNECTOR, STREAM)

    assert isinstance(verdict.error, AuthenticationError)
'''

_MOVING = '''
def day_of(value):
    """The day of a value."""
    return DAY_OF


def moved_to(day, value):
    """The value on another day."""
    return MOVED_TO
'''.strip("\n")


def _selection(value: Any, indent: str) -> str:
    """The fields of a value as GraphQL selects them; of an array those of all its elements."""
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for one in value:
            merged |= {name: inner for name, inner in one.items() if inner or name not in merged}
        value = merged
    lines = []
    for name, inner in value.items():
        nested = inner if isinstance(inner, dict) else inner if inner and isinstance(inner, list) else None
        if nested and (isinstance(nested, dict) or isinstance(nested[0], dict)):
            lines.append(f"{indent}{name} {{\n{_selection(nested, indent + '  ')}\n{indent}}}")
        else:
            lines.append(f"{indent}{name}")
    return "\n".join(lines)


def _moving(day: Guess) -> str:
    """The functions that read and change the day of a record."""
    form = day.format
    if form in ("epoch_s", "epoch_ms"):
        unit = 1 if form == "epoch_s" else 1000
        scaled = "value" if unit == 1 else "value / 1000"
        midnight = "int(datetime.combine(day, time(), UTC).timestamp())"
        day_of = f"datetime.fromtimestamp({scaled}, UTC).date()"
        moved = f"{midnight} * {unit} + value % {86400 * unit}" if unit > 1 else f"{midnight} + value % 86400"
    elif form:
        day_of = f"datetime.strptime(value, {literal(form)}).date()"
        moved = f"datetime.combine(day, datetime.strptime(value, {literal(form)}).time()).strftime({literal(form)})"
    else:
        day_of, moved = "value[:10]", 'f"{day}{value[10:]}"'
    return _MOVING.replace("DAY_OF", day_of).replace("MOVED_TO", moved)


def _datetime_names(helpers: list[str]) -> set[str]:
    text = "\n".join(helpers)
    return {name for name in ("UTC", "datetime", "time") if re.search(rf"(?<![.\w]){name}\b[.(,)]", text)}


def _call(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={literal(value)}' for key, value in options.items() if value)})"


def _listed(names: set[str]) -> str:
    """Imported names on one line, or in parentheses."""
    ordered = sorted(names, key=_import_order)
    line = ", ".join(ordered)
    return line if len(line) < 95 else "(\n" + "".join(f"    {one},\n" for one in ordered) + ")"


def _import_order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _class_name(name: str, taken: set[str]) -> str:
    made = "".join(word.capitalize() for word in name.split("_"))
    return f"{made}Record" if made in taken else made


def _size(text: str) -> int:
    return int(text) if text.isdecimal() and int(text) > 0 else 100


def query_of(url: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Origin (without a login), path and parameters of a sample's URL."""
    parts = urlsplit(url)
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        parts.path or "/",
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
    )
