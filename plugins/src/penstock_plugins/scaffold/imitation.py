"""
The sandbox of a new connector: a module that serves the samples, and states the rows that they must become.
"""

import re
from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Any

from penstock_plugins.scaffold.code import literal, snippet, snippets, used_names
from penstock_plugins.scaffold.guess import Guess
from penstock_plugins.scaffold.sample import MAX_SERVED
from penstock_plugins.scaffold.stream import StreamTexts

_ENGLISH = "1,234.5"


def stream_values(stream: StreamTexts) -> dict[str, str]:
    """The constants, routes and methods of a stream."""
    choices, sample = stream.choices, stream.choices.sample
    format_values = _format_values(stream)
    body = snippet("format", sample.format, "body", **format_values)
    page, arguments, check = _page(stream), _arguments(stream), _account_check(stream)
    params = "request.params"
    if stream.is_graphql or stream.on_demand:
        params = 'json_body(request)["variables"]' if stream.is_graphql else "json_body(request)"
    lines = [check, *(f"        {argument}" for argument in arguments), *([] if stream.on_demand else [page, body])]
    reads = "params" in used_names(dedent("\n".join(lines)))
    packed = {"gzip": "gzip.compress(body, mtime=0)", "zip": f'zipped("{choices.name}.{sample.format}", body)'}
    is_file = sample.format == "csv" or stream.on_demand
    records = f"{choices.name.upper()}_RECORDS"
    values = {
        "stream": choices.name,
        "verb": "POST" if stream.is_graphql else "GET",
        "path": literal(stream.path)[1:-1],
        "argument": f", {stream.link.name}" if stream.link is not None else "",
        "params": f"        params = {params}\n" if reads else "",
        "checks": check,
        "records": f"self.{choices.name}_of({', '.join(arguments)})" if arguments else records,
        "page": page,
        "body": f"{_headers(stream)}\n{body}",
        "packed": packed.get(sample.packing, "body") if is_file else "body",
    }
    handler = "on_demand" if stream.on_demand else "single"
    return {
        "constants": snippet("format", sample.format, "constants", **format_values),
        "route": snippet("handler", handler, "route", **values),
        "code": "\n\n".join(filter(None, [snippet("handler", handler, "code", **values), _records_method(stream)])),
    }


def _format_values(stream: StreamTexts) -> dict[str, str]:
    """The values of the templates of the sample's format."""
    choices, sample = stream.choices, stream.choices.sample
    answer = f"{choices.name.upper()}_ANSWER"
    members = "".join(f"[{literal(name)}]" for name in sample.items.split(".")) if sample.items else ""
    return {
        "STREAM": choices.name.upper(),
        "file": f"{choices.name}.{sample.format}",
        "records": _records_expression(stream, f"{answer}{members}" if members or sample.is_array else f"[{answer}]"),
        "head": str(sample.head),
        "delimiter": literal(sample.delimiter),
        "encoding": literal(sample.written_in),
        "answer": "\n".join(f"        {line}" for line in _answer(stream)),
        "mark": snippet("paging", stream.paging_name, "mark", **stream.paging()),
    }


def _page(stream: StreamTexts) -> str:
    """The line that takes the records of one page."""
    if stream.choices.paging == "none":
        return "        page = records"
    start = snippet("paging", stream.paging_name, "start", **stream.paging())
    return f"        start = {start}\n        page = records[start : start + SIZE]"


def _arguments(stream: StreamTexts) -> list[str]:
    """What the method with the records of a request is called with: account, day, the row of the parent."""
    params, link, arguments = stream.params(), stream.link, []
    if stream.account:
        arguments.append(f"params[{_param_of(params, '{account}')}]")
    if _moves_records(stream):
        arguments.append(f"date.fromisoformat(params[{_param_of(params, '{since}')}])")
    if link is not None:
        parents = f"{link.stream.name.upper()}_RECORDS"
        arguments.append(f"found({parents}, {literal(link.member)}, {link.name})")
    return arguments


def _account_check(stream: StreamTexts) -> str:
    """The lines that refuse an account that the sandbox does not have."""
    if not stream.account:
        return ""
    param = _param_of(stream.params(), "{account}")
    return f'        if params.get({param}) not in ACCOUNTS:\n            raise SandboxError(404, "unknown account")\n'


def _param_of(params: Mapping[str, str], value: str) -> str:
    """The parameter with this value, as a literal."""
    return literal(next(name for name, of_name in params.items() if of_name == value))


def _records_expression(stream: StreamTexts, records: str) -> str:
    """The expression of a sample's records, each with all its members."""
    within = stream.choices.sample.within
    return f"[raw | raw[{literal(within)}] for raw in {records}]" if within else records


def _headers(stream: StreamTexts) -> str:
    kind = "text/csv" if stream.choices.sample.format == "csv" else "application/json"
    if stream.choices.sample.packing and (stream.on_demand or stream.choices.sample.format == "csv"):
        kind = "application/octet-stream"
    return f'        headers = {{"Content-Type": "{kind}"}}'


def _answer(stream: StreamTexts) -> list[str]:
    """The sandbox's lines that make the JSON of a page."""
    sample, upper = stream.choices.sample, stream.choices.name.upper()
    is_paged = stream.choices.paging != "none"
    page = f"[wrapped(raw, {literal(sample.within)}) for raw in page]" if sample.within else "page"
    if not sample.items:
        lines = [f"answer = {page}" if sample.is_array else f"answer = {page}[0]"]
    else:
        lines = [f"answer = deepcopy({upper}_ANSWER)", f"put(answer, {literal(sample.items)}, {page})"]
    if sample.total:
        lines.append(f"put(answer, {literal(sample.total)}, len(records))")
    if sample.pages:
        lines.append(f"put(answer, {literal(sample.pages)}, {'-(-len(records) // SIZE)' if is_paged else '1'})")
    if sample.more:
        more = "start + SIZE < len(records)" if is_paged else "False"
        lines.append(f"put(answer, {literal(sample.more)}, {more})")
    if is_paged:
        next_page = snippet("paging", stream.paging_name, "mark", **stream.paging())
        lines += [line.removeprefix("        ") for line in next_page.splitlines()]
    return lines


def _moves_records(stream: StreamTexts) -> bool:
    """Whether the sandbox moves the records to the requested day."""
    return stream.is_report and stream.record.day is not None


def account_column(stream: StreamTexts) -> Guess | None:
    """The column of the records that states their account, where there is one."""
    return next((column for column in stream.record.columns if column.name == stream.account), None)


def is_numbered(stream: StreamTexts) -> bool:
    """Whether the records state their account as a number."""
    column = account_column(stream)
    return column is not None and any(
        isinstance(record.get(column.member), int) for record in stream.choices.sample.records
    )


def accounts(streams: Sequence[StreamTexts]) -> tuple[str, ...]:
    """The accounts of the sandbox."""
    return ("1", "2") if any(map(is_numbered, streams)) else ("demo-1", "demo-2")


def _records_method(stream: StreamTexts) -> str:
    """The method with the records of a day, or of a parent's row; empty where they are those of the sample."""
    choices, link, account = stream.choices, stream.link, account_column(stream)
    names = [
        *(["account"] if stream.account else []),
        *(["day"] if _moves_records(stream) else []),
        *([link.stream.singular] if link is not None else []),
    ]
    if not names:
        return ""
    records, lines = _records_of_day(stream, f"{choices.name.upper()}_RECORDS")
    if stream.account:
        lines.append(f"        records = {records}[: len({records}) - ACCOUNTS.index(account)]  # accounts differ")
        records = "records"
    changed = []
    if _moves_records(stream) and stream.record.day is not None:
        member = literal(stream.record.day.member)
        changed.append(f"{member}: moved_to(day, raw[{member}])")
    if stream.account and account is not None:
        changed.append(f"{literal(account.member)}: {'int(account)' if is_numbered(stream) else 'account'}")
    if link is not None and link.child_member is not None:
        changed.append(f"{literal(link.child_member)}: {link.stream.singular}[{literal(link.member)}]")
    changed_records = f"[{{**raw, {', '.join(changed)}}} for raw in {records}]" if changed else records
    head = f"    def {choices.name}_of(self, {', '.join(names)}):"
    return "\n".join([head, *lines, f"        return {changed_records}"])


def _records_of_day(stream: StreamTexts, records: str) -> tuple[str, list[str]]:
    """The name of the records of a day, and the lines that choose them: those of one account, and of one day."""
    day, lines = stream.record.day, []
    account = account_column(stream)
    if account is not None and account.name in stream.record.key:
        member = literal(account.member)
        lines = [
            f"        first = {records}[0][{member}]  # the key tells accounts apart",
            f"        records = [raw for raw in {records} if raw[{member}] == first]",
        ]
        records = "records"
    if not _moves_records(stream) or day is None:
        return records, ['        """The records of the sample, as this request finds them."""', *lines]
    if _is_served_whole(stream):
        return records, ['        """The records of the sample, moved to ``day``."""', *lines]
    member = literal(day.member)
    return "records", [
        '        """The records of one of the sample\'s days, moved to ``day``."""',
        *lines,
        f"        days = sorted({{day_of(raw[{member}]) for raw in {records}}})",
        "        chosen = days[day.toordinal() % len(days)]",
        f"        records = [raw for raw in {records} if day_of(raw[{member}]) == chosen]",
    ]


def size_of_page(streams: Sequence[StreamTexts]) -> int:
    """About a third of the records, so that each stream has several pages, and a shorter last one where that is so."""
    return min(_size(_largest_listing(stream)) for stream in streams if stream.choices.paging != "none")


def _served_records(stream: StreamTexts) -> Sequence[Mapping[str, Any]]:
    """The records of an account in the sandbox: if the account is in the key, those of one account of the sample."""
    records, account = stream.choices.sample.records[:MAX_SERVED], account_column(stream)
    if account is None or account.name not in stream.record.key:
        return records
    return [record for record in records if record.get(account.member) == records[0].get(account.member)]


def _largest_listing(stream: StreamTexts) -> int:
    """The number of records of a listing."""
    records = _served_records(stream)
    return _most_of_a_day(stream) if _moves_records(stream) and not _is_served_whole(stream) else len(records)


def _most_of_a_day(stream: StreamTexts) -> int:
    day = stream.record.day.member if stream.record.day is not None else ""
    days = [str(record.get(day))[:10] for record in _served_records(stream)]
    return max(map(days.count, days))


def _is_served_whole(stream: StreamTexts) -> bool:
    """Whether each day has all records: those of one day are too few for two pages, and their keys differ."""
    guesses, records = stream.record, _served_records(stream)
    if stream.choices.paging == "none" or not _moves_records(stream) or _most_of_a_day(stream) > 1:
        return False
    members = [guess.member for guess in map(guesses.column, guesses.key or guesses.hashed) if guess != guesses.day]
    keys = [tuple(str(record.get(member)) for member in members) for record in records]
    return len(set(keys)) == len(keys)


def _size(records: int) -> int:
    third = -(-records // 3)
    return next((size for size in range(third, records) if records % size), third)


# --- the rows that the records must become --------------------------------------------------------------------------


def truth(streams: Sequence[StreamTexts]) -> str:
    """The method ``truth`` of the sandbox."""
    lines = [
        "    def truth(self, stream, **partition):",
        '        """The rows of a partition, by column, from the sample and without the connector."""',
    ]
    if streams[0].account:
        lines.append(f'        account = partition["{streams[0].account}"]')
    for stream in streams:
        lines += _rows_of_stream(stream, is_last=stream is streams[-1])
    return "\n".join(lines)


def _rows_of_stream(stream: StreamTexts, *, is_last: bool) -> list[str]:
    choices, link = stream.choices, stream.link
    row = f"{choices.singular}_row(raw)"
    arguments = [*(["account"] if stream.account else []), *(["day"] if _moves_records(stream) else [])]
    loop = ""
    if link is not None:
        parent = link.stream.singular
        arguments.append(parent)
        parents = f"self.{link.stream.name}_of(account)" if stream.account else f"{link.stream.name.upper()}_RECORDS"
        loop = f"for {parent} in {parents}"
        if link.child_member is None:
            row += f' | {{"{link.name}": {parent}[{literal(link.member)}]}}'
    records = f"self.{choices.name}_of({', '.join(arguments)})" if arguments else f"{choices.name.upper()}_RECORDS"
    lines = [f"return [{row} for raw in {records}]"]
    if loop:
        lines = ["return [", *(f"    {line}" for line in (row, loop, f"for raw in {records}")), "]"]
    if "day" in arguments:
        lines.insert(0, f'day = date.fromisoformat(partition["{stream.day_column}"])')
    if is_last:
        return [f"        {line}" for line in lines]
    return [f'        if stream == "{choices.name}":', *(f"            {line}" for line in lines)]


def row_function(stream: StreamTexts) -> str:
    """The function that makes the row of a record."""
    is_csv = stream.choices.sample.format == "csv"
    lines = [line for column in stream.record.columns for line in _row_lines(column, is_csv=is_csv)]
    inner = "\n".join(f"        {line}" for line in lines)
    return (
        f"def {stream.choices.singular}_row(raw):\n"
        f'    """The columns of a record; numbers as their digits."""\n'
        f"    return {{\n{inner}\n    }}"
    )


def _row_lines(column: Guess, *, is_csv: bool) -> list[str]:
    if column.call == "secret":
        return []
    if column.call == "money":
        amount, currency = _money_paths(column)
        if "." in amount:
            return [
                f'"{column.name}": {_nested(amount)},',
                f'"{column.name}_currency": {_nested(currency)},',
            ]
        # The amount is a member of the record, and so is its currency, which has a column of its own.
    value = f"raw[{literal(column.member)}]"
    blanks = tuple(column.options.get("null", ()))
    optional = column.nullable or bool(blanks)
    typed = _value(column, value)
    if not optional:
        return [f'"{column.name}": {typed},']
    got = f"raw.get({literal(column.member)})"
    if is_csv or blanks:
        nothing = literal(("", *blanks)) if is_csv else literal((None, *blanks))
        return [f'"{column.name}": None if {got} in {nothing} else {typed},']
    return [f'"{column.name}": {got},' if typed == value else f'"{column.name}": {typed} if {got} else None,']


def _money_paths(column: Guess) -> tuple[str, str]:
    """The dotted paths of an amount and of its currency."""
    currency = column.options.get("currency")
    if currency is None:
        return f"{column.path}.value", f"{column.path}.currency"
    return column.path, str(currency)


def _nested(path: str) -> str:
    outer, _, last = path.rpartition(".")
    return f"(raw.get({literal(outer)}) or {{}}).get({literal(last)})" if outer else f"raw.get({literal(last)})"


def _value(column: Guess, value: str) -> str:
    """The expression of a value that is there."""
    format_ = column.format
    if column.type in ("date", "datetime"):
        if format_ in ("epoch_s", "epoch_ms"):
            return f"datetime.fromtimestamp({value}{'' if format_ == 'epoch_s' else ' / 1000'}, UTC)"
        if format_:
            parsed = f"datetime.strptime({value}, {literal(format_)})"
            return f"{parsed}.date()" if column.type == "date" else parsed
        return value if column.type == "date" else f"datetime.fromisoformat({value})"
    if column.type == "bool":
        return f'str({value}).lower() == "true"'
    if spelled := column.options.get("number"):
        plain = value if spelled == _ENGLISH else f'{value}.replace(".", "").replace(",", ".")'
        return f"number({plain})"
    return value


# --- functions beside the class -------------------------------------------------------------------------------------


def moving(stream: StreamTexts) -> str:
    """The functions that read and change the day of a record; empty where the sandbox moves no record."""
    if not _moves_records(stream) or stream.record.day is None:
        return ""
    form = stream.record.day.format
    kind = form if form in ("epoch_s", "epoch_ms") else "format" if form else "iso"
    return snippet("moving", kind, "code", format=literal(form))


def helpers(text: str) -> list[str]:
    """The functions that a module calls, see ``helper`` in ``snippets.toml``."""
    names = used_names(text)
    return [
        code.strip("\n") for name, code in snippets()["helper"].items() if name in names and not _defines(text, name)
    ]


def _defines(text: str, name: str) -> bool:
    return re.search(rf"^def {name}\(", text, re.MULTILINE) is not None
