"""
The first run: its exit code, its counts, its keys, its requests, and its rows against the truth.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock._plan.selection import chosen_streams
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from penstock.model import Request
from penstock.protocols import SinglePage
from penstock.sandbox.server import Server
from penstock.testing.conformance.findings import Finding, exit_findings
from penstock.testing.conformance.named_members import NamedMembers
from penstock.testing.conformance.rows import Key, Row, Rows, delivered_to
from penstock.testing.conformance.subject import Subject, grant_request, path_of
from penstock.testing.conformance.truth import Truth, check_truths, rows_of_truth
from penstock.testing.memory import MemorySink


def first_run(subject: Subject, folder: Path, truth: Truth | None = None) -> tuple[Rows, list[Finding]]:
    """The rows of a run without any fault, and their problems."""
    sink, paths = MemorySink(folder / "ledger.sqlite"), NamedMembers()
    with subject.served() as (server, app):
        report = subject.run(server.base_url, sink, recording=paths)
        rows, source = delivered_to(sink), subject.source(server.base_url)
        streams = {stream.name: stream for stream in source.streams}
        chosen = chosen_streams(source, subject.streams)
        wrong = [
            *_check_exit(report, streams),
            *_check_counts(report, streams, sink, subject.name),
            *_check_empty_streams(report, chosen, rows),
            *(
                finding
                for key, partition_rows in rows.items()
                for finding in _check_keys(streams[key[0]], key, partition_rows)
            ),
            *(finding for stream in streams.values() for finding in _check_keys_of_accounts(stream, rows)),
        ]
        if truth is not None:
            wrong += check_truths(rows, streams, lambda key: rows_of_truth(truth, (app, key[0]), _named(sink, key)))
        wrong += paths.findings(chosen)
        wrong += _check_requests(report, server, grant_request(source))
    return rows, wrong


def _check_exit(report: RunReport, streams: Mapping[str, Stream]) -> list[Finding]:
    """The exit code, where it is not 0; with advice where a child stream got a 404."""
    wrong = exit_findings("exit code", report, "the first run", 0)
    children = {name for name, stream in streams.items() if stream.parent is not None}
    if any(error["stream"] in children and "HTTP 404" in error["message"] for error in report.errors):
        advice = 'if a row of the parent may be gone, write statuses={404: Skip("...")} in the stream'
        return [Finding(finding.check, f"{finding}; {advice}") for finding in wrong]
    return wrong


def _check_counts(report: RunReport, streams: Mapping[str, Stream], sink: MemorySink, source: str) -> Iterator[Finding]:
    """Records that were rejected or came twice, values that were not read, and members without a column."""
    for (_, name), counts in report.streams.items():
        if counts.rejected or counts.unread_values:
            example = counts.unread_example or _first_rejected(sink, source, name)
            first = f", the first: {example}" if example else ""
            text = f"{counts.rejected} records rejected, {counts.unread_values} values not read{first}"
            yield Finding("rejected", f"{name}: {text}")
        if counts.replaced:
            example = f", such as {counts.replaced_example}" if counts.replaced_example else ""
            text = f"{counts.replaced} records have the key of another one with other values{example}; rows are lost"
            yield Finding("key", f"{name}: {text}, so declare a key that identifies a record")
        on_purpose = streams[name].inexact_bounds or _expects_repeated_pages(streams[name])
        if (repeated := counts.repeated - counts.replaced) and not on_purpose:
            yield Finding("repeated", f"{name}: {repeated} records came twice")
        if counts.unknown_members:
            members, first = ", ".join(sorted(counts.unknown_members)), min(counts.unknown_members)
            text = f"{name}: members that the record class lacks: {members}; declare them, such as {first}: str | None"
            yield Finding("unknown members", text)


def _expects_repeated_pages(stream: Stream) -> bool:
    """Whether the paginator has a method of its own for pages that come again."""
    return getattr(type(stream.paginator), "repeats", SinglePage.repeats) is not SinglePage.repeats


def _check_empty_streams(report: RunReport, chosen: Iterable[str], rows: Rows) -> Iterator[Finding]:
    """Streams that did not fail, and of which the sandbox has no record."""
    for name in chosen:
        failed = any(error["stream"] == name for error in report.errors)
        if not failed and not any(partition_rows for key, partition_rows in rows.items() if key[0] == name):
            text = f"{name}: the sandbox has no record of it, so that nothing was tried"
            yield Finding("nothing to read", text)


def _check_requests(report: RunReport, server: Server, login: Request | None) -> Iterator[Finding]:
    """Requests to other hosts than ``base_url``, and requests that penstock did not send."""
    sent = report.total("requests")
    if sent > len(server.requests):
        yield Finding("origin", f"{sent} requests were sent, and {len(server.requests)} came to base_url")
    came = [request for request in server.requests if login is None or request.path != path_of(login, server)]
    if len(came) > sent:
        text = f"{len(came)} requests came to base_url, and penstock sent {sent}"
        yield Finding("origin", f"{text}: a connector makes requests, and sends none itself")


def _named(sink: MemorySink, key: Key) -> dict[str, str]:
    """A partition's values by column."""
    partitions = sink.rows[key[0]]
    return next(each.as_dict() for each in partitions if tuple(value for _, value in each.values) == key[1])


def _check_keys_of_accounts(stream: Stream, rows: Rows) -> Iterator[Finding]:
    """Keys of a stream of changes that two accounts have: a table would have one row for both."""
    if stream.kind != "changes" or stream.account is None:
        return
    accounts: dict[tuple[Any, ...], str] = {}
    for key, partition_rows in rows.items():
        for row in partition_rows if key[0] == stream.name else ():
            values = tuple(map(row.get, stream.key))
            if accounts.setdefault(values, key[1][0]) != key[1][0]:
                text = f"{stream.name}: the key {values} is in the accounts {accounts[values]} and {key[1][0]}; changes"
                yield Finding("key", f"{text} are merged over all accounts, so add {stream.account} to the key")
                return


def _check_keys(stream: Stream, key: Key, rows: Sequence[Row]) -> list[Finding]:
    if not stream.key:
        return []
    several = [key for key, times in Counter(tuple(map(row.get, stream.key)) for row in rows).items() if times > 1]
    text = f"{stream.name} {key[1]}: {len(several)} keys are there twice, such as "
    return [Finding("key", f"{text}{several[0]}")] if several else []


def _first_rejected(sink: MemorySink, source: str, stream: str) -> str:
    """Path and reason of the first record of a stream that was rejected."""
    target = sink.open_readonly(source)
    if target is None or target.ledger is None:
        return ""
    try:
        return next((f"{record.path}: {record.reason}" for _, record in target.ledger.rejected(source, stream)), "")
    finally:
        target.close()
