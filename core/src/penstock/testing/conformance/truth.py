"""
The rows of a run, compared with those that the imitation holds.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from penstock.connector import Stream
from penstock.sinks import EXTRA
from penstock.testing.conformance.findings import Finding
from penstock.testing.conformance.rows import Key, Row, Rows, bag, plain

Truth = Callable[..., Iterable[Mapping[str, Any]] | None]
"""
``truth(app, stream, **partition)``: the rows that the imitation knows of a partition (``account_id="17",
report_date="2026-03-17"``), by column or by the provider's member name, numbers and times as they were sent.
"""

UNKNOWN = "unknown"
"""In place of a truth: states that the imitation cannot tell its rows, so that only counts are compared."""


def sandbox_truth(app: Any, stream: str, **partition: str) -> Iterable[Mapping[str, Any]] | None:
    """What the sandbox's own method states; None without one."""
    method: Truth | None = getattr(app, "truth", None)
    return rows_of_truth(method, (stream,), partition) if method is not None else None


def rows_of_truth(
    truth: Truth, values: tuple[Any, ...], partition: Mapping[str, str]
) -> Iterable[Mapping[str, Any]] | None:
    """What a truth states of a partition. AssertionError if it does not take what it is called with."""
    takes = inspect.signature(truth)
    try:
        takes.bind(*values, **partition)
    except TypeError:
        names = ", ".join([*("sandbox", "stream")[-len(values) :], *partition])
        raise AssertionError(f"truth takes {takes}; write truth({names}) for this stream, or **partition") from None
    return truth(*values, **partition)


def check_truths(
    rows: Rows, streams: Mapping[str, Stream], true_rows: Callable[[Key], Iterable[Mapping[str, Any]] | None]
) -> Iterator[Finding]:
    """
    Rows that differ from the true ones, one finding a stream; and streams of which no row was compared. ``true_rows``:
    of a partition; None where they are unknown.
    """
    unknown: set[str] = set()
    untrue: dict[str, list[Finding]] = {}
    for key, partition_rows in rows.items():
        true = true_rows(key)
        if true is None:
            unknown.add(key[0])
        else:
            untrue.setdefault(key[0], []).extend(_check_truth(streams[key[0]], key, partition_rows, true))
    for problems in untrue.values():
        more = f"; so are {len(problems) - 1} more partitions" if len(problems) > 1 else ""
        yield from (Finding("truth", f"{problem}{more}") for problem in sorted(problems)[:1])
    for name in sorted(unknown):
        text = (
            f"{name}: no row was compared with what the sandbox holds. Give the sandbox a method "
            "truth(stream, **partition) that returns the true rows, or conforms a truth=..., if only UNKNOWN"
        )
        yield Finding("truth", text)


def _check_truth(stream: Stream, key: Key, rows: Sequence[Row], true: Iterable[Mapping[str, Any]]) -> list[Finding]:
    by_member = {column.member: column.name for column in stream.columns if column.member is not None}
    expected = [{by_member.get(name, name): value for name, value in row.items()} for row in true]
    stated = {name for row in expected for name in row}
    problem = _inexact_amount(expected) or _unproven_amount(stream, expected, stated)
    problem = problem or _other_rows(stream, expected, rows, _not_compared(stream, stated))
    return [Finding("truth", f"{stream.name} {key[1]}: {problem}")] if problem else []


def _not_compared(stream: Stream, stated: Collection[str]) -> tuple[str, ...]:
    """The truth may lack columns that penstock adds, but for derived amounts. All other columns must be equal."""
    added = [column.name for column in stream.columns if column.added and column.name not in stated]
    partition = set(stream.partition_columns).difference(stated)
    secret = [column.name for column in stream.columns if column.secret]
    return (EXTRA, *added, *partition, *secret)


def _inexact_amount(expected: Iterable[Row]) -> str:
    inexact = [f"{name} is {value!r}" for row in expected for name, value in row.items() if _inexact(value)]
    if not inexact:
        return ""
    return (
        f"{inexact[0]}, a float that lost digits; let the sandbox compute amounts as Decimal, which json_response "
        "writes as sent"
    )


def _unproven_amount(stream: Stream, expected: Sequence[Row], stated: Collection[str]) -> str:
    unproven = [column.name for column in stream.columns if column.derived_of and column.name not in stated]
    if not expected or not unproven:
        return ""
    return (
        f"the truth states no {unproven[0]}, and nothing else shows whether its scale is right; let truth state the "
        "amount that the provider's document names"
    )


def _other_rows(stream: Stream, expected: Sequence[Row], rows: Sequence[Row], without: Collection[str]) -> str:
    lost, invented = bag(expected, without) - bag(rows, without), bag(rows, without) - bag(expected, without)
    if not lost and not invented:
        return ""
    example = next(iter(lost or invented))
    text = f"{lost.total()} rows are missing and {invented.total()} should not be there, such as {example}"
    if lost and invented:
        text += f" in place of {next(iter(invented))}"
    return f"of {len(expected)} true rows {text}{_difference(stream, expected, rows, without)}"


def _inexact(value: Any) -> bool:
    """Whether this is a float with more digits than one that was written as a decimal keeps."""
    return isinstance(value, float) and len(Decimal(repr(value)).as_tuple().digits) > 15


def _difference(stream: Stream, expected: Sequence[Row], rows: Sequence[Row], without: Collection[str]) -> str:
    """The columns in which rows of one key differ; else what a difference of this kind is often due to."""
    by_key = {tuple(plain(row.get(name)) for name in stream.key): row for row in expected}
    for row in rows if stream.key else ():
        true = by_key.get(tuple(plain(row.get(name)) for name in stream.key))
        if true is None:
            continue
        names = dict.fromkeys(name for name in (*true, *row) if name not in without)
        differ = [name for name in names if plain(true.get(name)) != plain(row.get(name))]
        if lacking := [name for name in differ if name not in true]:
            return f". The truth has no {', '.join(lacking)}, and the row has"
        if differ:
            column = differ[0]
            return (
                f". {', '.join(differ)}: the truth has {plain(true[column])!r}, and the row {plain(row.get(column))!r}"
            )
    if len(rows) < len(expected):
        return ". Its request, its envelope or its paginator leaves them out"
    return ""
