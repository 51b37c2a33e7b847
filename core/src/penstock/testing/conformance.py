"""
The requirements for every connector, tested against its own sandbox: one call in one test of a connector.

::

    def test_it_keeps_what_every_connector_must(tmp_path):
        conforms("acme", tmp_path, truth=lambda acme, stream, account_id, report_date: ...)

The sandbox is served on this machine, and the runner reads it into memory. No other host gets a request.
"""

import atexit
import inspect
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import msgspec
from attrs import define, evolve, field, frozen

from penstock._config import Config
from penstock._config.source import ConfiguredSource
from penstock._config.trial import problems_of
from penstock._fetch.call import Call, Outcome
from penstock._fetch.client import Tape
from penstock._plan.plan import Job
from penstock._plan.selection import chosen_streams
from penstock._plugins.messages import describe_error, place_in_plugin
from penstock._plugins.registry import Registry
from penstock._read.components import components_of
from penstock._run.check import check
from penstock._run.context import new_run
from penstock._run.runner import run
from penstock._util.run_report import RunReport
from penstock.connector import Stream, settings_at
from penstock.envelope import Envelope
from penstock.errors import AuthenticationError, ConfigError, PenstockError, PluginError, UsageError
from penstock.events import Event, OnEvent, ignore
from penstock.model import Items, Page, Request, origin_of
from penstock.names import did_you_mean
from penstock.protocols import Accept, Paginator, SinglePage
from penstock.redact import Secret
from penstock.sandbox.app import SandboxApp
from penstock.sandbox.changes import status
from penstock.sandbox.faults import FAULTS, faults_named, with_faults
from penstock.sandbox.server import Server, serve
from penstock.sinks import EXTRA, Sink
from penstock.testing.clock import ShiftedClock
from penstock.testing.memory import MemorySink

Row = dict[str, Any]
Key = tuple[str, tuple[str, ...]]  # stream, the partition's values
Rows = dict[Key, list[Row]]

TODAY = date(2026, 3, 20)

# Bounds small enough that a fault shows at once. A stated wait longer than throttle_wait_s would park the source.
QUICK: Mapping[str, Any] = {
    "requests_per_second": 2000.0,
    "concurrency": 4,
    "timeout_s": 3.0,
    "retry_first_s": 0.01,
    "retry_max_s": 0.05,
    "throttle_wait_s": 2.0,
    "poll_first_s": 0.01,
    "poll_max_s": 0.02,
    "poll_deadline_s": 30.0,
    "max_body_mib": 2,
    "max_pages": 500,
}

LONGEST_RUN_S = 120.0  # the longest that one run may take

# Faults that pass: one of each kind. ``expired`` comes on top where a login grants the token.
PASSING = "throttled,unavailable,server_error,reset,reset_in_body,cut,cut_json,html_as_json,empty,corrupt_gzip"

WRONG = "a-wrong-credential-0815"
LETTERS_SHOWN = 12  # letters of it: a whole secret is masked by the core, a part that a connector cuts out is not


def noon_of(today: date = TODAY, *, pace: float = 1.0) -> ShiftedClock:
    """A clock that runs from noon (UTC) of a day that is always the same; its sleeps are shorter by ``pace``."""
    return ShiftedClock(datetime.combine(today, time(12), UTC), pace=pace)


CHECKS: Mapping[str, str] = {
    "declarations": "a stream, an action or a setting cannot work (`penstock connectors` reports the same)",
    "exit code": "the first run ends with another exit code than 0, also where it does not end in time",
    "nothing to read": "the sandbox has no record of a stream, so that nothing was tried",
    "rejected": "a record is rejected, or a value is not read",
    "repeated": "a record comes twice",
    "unknown members": "a record has a member that the record class lacks",
    "key": "two rows of a partition have the same key",
    "truth": "a row is not one of `truth`'s, an amount of it is an inexact float, or there is no truth to compare with",
    "paths": "no answer has a member that the envelope or the paginator names (`total`, `pages`, `more`, `member`)",
    "origin": "a request goes to another place than `base_url`, or comes from the connector itself",
    "second page": "a paginator saw no second page with records, so that paging was not tried",
    "moved record": "a record of the first page that comes again on a shorter last one is delivered twice",
    "stopped": "a run that was stopped leaves other rows than those of the first run in a partition",
    "resumed": "the run after a stopped one does not end with the rows of the first run",
    "final": "days that were read after they closed are requested again",
    "faults": "a fault that passes (`faults=`) costs a row, or the exit code 0; a token that runs out is one of them",
    "wrong secret": "a run with a wrong secret ends otherwise than with 3 (or a ConfigError), or delivers something",
    "check of a wrong secret": "the check accepts it, or raises neither AuthenticationError nor ConfigError",
    "secret shown": "the start of a wrong secret is in a message or in the report",
    "check": "the check fails with the right secrets, or sends, beside a login, anything but a GET (GraphQL: a POST)",
    "login": "the login goes to another place than `base_url`",
}
"""What :func:`conforms` tries, by name, and when it fails."""


class Finding(str):
    """What is wrong, and by which of ``CHECKS``."""

    check: str

    def __new__(cls, check: str, text: str) -> "Finding":
        made = super().__new__(cls, text)
        assert check in CHECKS, check
        made.check = check
        return made


# --- a connector and its imitation ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Subject:
    """
    A connector, and how its imitation is made and read: ``streams`` (none: all that are on by default) of the ``days``
    before ``today``, with ``settings`` as TOML would hold them.
    """

    name: str
    make: Callable[[str, date], Any]
    settings: Mapping[str, Any]
    streams: tuple[str, ...] = ()
    days: int = 3
    today: date = TODAY
    registry: Registry = field(factory=Registry, repr=False)
    state: Path | None = None  # for tokens that change with every grant, see source_of

    def window(self, today: date | None = None) -> list[date]:
        """The days that are read: those before today, which is not over."""
        return [(today or self.today) - timedelta(days=back) for back in range(self.days, 0, -1)]

    def source(self, base_url: str, **more: Any) -> ConfiguredSource:
        """The source as the configuration would make it of these values."""
        values = settings_at(base_url, {**self.settings, **QUICK, **more})
        return source_of(self.name, values, self.registry, self.state)

    def run(
        self,
        base_url: str,
        sink: Sink,
        *,
        days: list[date] | None = None,
        streams: Sequence[str] | None = None,
        clock: ShiftedClock | None = None,
        on_event: OnEvent = ignore,
        watch: Callable[[ConfiguredSource, Stream], Stream] | None = None,
        tape: Tape | None = None,
        **settings: Any,
    ) -> RunReport:
        """
        Read the streams (default: the subject's) of these days (default: all of the window) in this process. ``watch``
        changes the streams, ``tape`` records or replays the calls, and ``settings`` are those of the source.
        """
        days, clock = days or self.window(), clock or noon_of(self.today)
        # A clock that runs faster passes its deadline while a busy machine has hardly begun.
        deadline_s = QUICK["poll_deadline_s"] * clock.pace
        source = self.source(base_url, **{"poll_deadline_s": deadline_s, **settings})
        if watch is not None:
            source = evolve(source, streams=tuple(watch(source, stream) for stream in source.streams))
        chosen = chosen_streams(source, self.streams if streams is None else streams)
        job = Job(source=source, streams=chosen, sink=sink, since=days[0], until=days[-1])
        context = new_run([job], clock=clock, on_event=on_event, tape=tape, deadline_s=LONGEST_RUN_S * clock.pace)
        return run(context)

    @contextmanager
    def served(self) -> Iterator[tuple[Server, Any]]:
        """A new imitation on a server of its own. An exception in the imitation fails the test."""
        with serve() as server:
            try:
                server.app = app = self.make(server.base_url, self.today)
            except Exception as error:
                what = f"the sandbox cannot be made: {describe_error(error)}{place_in_plugin(error)}"
                raise AssertionError(f"{what}; make= is a class or function of (base_url, today)") from error
            yield server, app
            raised = [f"{describe_error(error)}{place_in_plugin(error)}" for error in server.errors]
            assert not raised, f"the sandbox raised {raised[0]}"


def source_of(
    connector: str, values: Mapping[str, Any], registry: Registry | None = None, state: Path | None = None
) -> ConfiguredSource:
    """
    A source as the configuration would make it of these values. ``registry``: default: what is installed. ``state``:
    for tokens that change with every grant; default: a directory that is removed when the process ends.
    """
    registry = registry or Registry()
    checked = Config().with_values(connector, dict(values), "test").source(connector, registry)
    return ConfiguredSource.of(registry, connector, checked.settings, folder=state or Path(_scratch().name))


@cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    folder = tempfile.TemporaryDirectory(prefix="penstock-kit-")
    atexit.register(folder.cleanup)  # else its removal at the end of the process is a ResourceWarning
    return folder


# --- rows -----------------------------------------------------------------------------------------------------------


def delivered_to(sink: MemorySink) -> Rows:
    """What was delivered, by stream and partition."""
    return {
        (stream, tuple(value for _, value in partition.values)): rows
        for stream, partitions in sink.rows.items()
        for partition, rows in partitions.items()
    }


def plain(value: Any) -> Any:
    """A value to compare: amounts and numbers as their digits, times as moments."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return _moment(value.isoformat())
    if isinstance(value, str):
        return _moment(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value]


def _moment(text: str) -> str:
    if len(text) < 19 or text[10:11] != "T":
        return text
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (when.astimezone(UTC) if when.tzinfo is not None else when).isoformat()


def bag(rows: Iterable[Mapping[str, Any]], without: Iterable[str] = (EXTRA,)) -> Counter[str]:
    """Rows as a multiset: neither their order nor columns without a value count, nor those named in ``without``."""
    unseen = frozenset(without)
    return Counter(
        json.dumps(
            {name: plain(value) for name, value in row.items() if value is not None and name not in unseen},
            sort_keys=True,
        )
        for row in rows
    )


# --- requirements ---------------------------------------------------------------------------------------------------

Truth = Callable[..., Iterable[Mapping[str, Any]] | None]
"""
``truth(app, stream, **partition)``: the rows that the imitation knows of a partition (``account_id="17",
report_date="2026-03-17"``), by column or by the provider's member name, numbers and times as they were sent.
"""

UNKNOWN = "unknown"
"""In place of a truth: states that the imitation cannot tell its rows, so that only counts are compared."""


class NotConforming(AssertionError):
    """The requirements that a connector does not meet: ``problems``."""

    def __init__(self, connector: str, problems: Sequence[Finding]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{connector} does not keep what every connector must:\n{listed}")


def conforms(
    connector: str,
    folder: Path,
    *,
    truth: Truth | Literal["unknown"] | None = None,
    make: Callable[[str, date], SandboxApp] | None = None,
    settings: Mapping[str, Any] | None = None,
    streams: Sequence[str] = (),
    faults: str = PASSING,
    expired: int = 401,
    plugins: Iterable[object] | None = None,
) -> None:
    """
    Test all requirements for a connector (``CHECKS``). Raises NotConforming with those that it does not meet.

    ``folder`` is an empty directory. Default: the sandbox that the connector offers, read with its settings, all
    streams that are on by default, and the plugins that are installed. ``truth``: default: the sandbox's own method
    ``truth(stream, **partition)``; without one it must be given, if only as ``UNKNOWN``. ``faults`` are names of those
    that pass, and ``expired`` is the status with which the provider refuses a token that ran out, where a login grants
    it.
    """
    __tracebackhide__ = True  # pytest shows the problems, not this function
    registry = Registry(plugins)
    wrong = _declared_wrong(registry, connector)
    if not wrong and registry.streams(connector):
        offered = registry.sandboxes().get(connector)
        made_by = make or (offered.make if offered is not None else None)
        if made_by is None:
            text = "it offers no sandbox; write Connector(sandbox=...), or give conforms make= and settings="
            raise NotConforming(connector, [Finding("declarations", text)])
        subject = Subject(
            name=connector,
            make=made_by,
            settings={**(offered.settings if offered is not None else {}), **(settings or {})},
            streams=tuple(streams),
            registry=registry,
            state=folder / "state",
        )
        stated = None if isinstance(truth, str) else truth or _own_truth
        try:
            wrong = _problems_with(subject, folder, stated, faults, expired)
        except (ConfigError, PluginError, UsageError) as error:  # before any request
            wrong = [Finding("declarations", str(error))]
    if wrong:
        raise NotConforming(connector, wrong)


def _declared_wrong(registry: Registry, connector: str) -> list[Finding]:
    broken = registry.broken()
    try:
        own = registry.origin(connector)
    except PluginError as error:  # it is broken itself, or some plugin that should offer it
        found = [plugin.reason for plugin in broken if plugin.reason not in str(error)] + [str(error)]
    else:
        found = [plugin.reason for plugin in broken if plugin.plugin == own] or problems_of(registry, connector)
    return [Finding("declarations", text) for text in found]


def _problems_with(subject: Subject, folder: Path, truth: Truth | None, faults: str, expired: int) -> list[Finding]:
    baseline, wrong = first_run(subject, folder / "first", truth)
    if not wrong:
        wrong += paging(subject, folder / "paging", baseline)
        wrong += stopped_and_resumed(subject, folder / "stopped", baseline)
        wrong += nothing_final_again(subject, folder / "final")
        wrong += faults_that_pass(subject, folder / "faults", baseline, faults, expired)
        wrong += wrong_credentials(subject, folder / "wrong")
        wrong += one_reading_check(subject)
    return wrong


def _own_truth(app: Any, stream: str, **partition: str) -> Iterable[Mapping[str, Any]] | None:
    """What the sandbox's own method states; None without one."""
    own: Truth | None = getattr(app, "truth", None)
    return _stated(own, (stream,), partition) if own is not None else None


def _stated(truth: Truth, values: tuple[Any, ...], partition: Mapping[str, str]) -> Iterable[Mapping[str, Any]] | None:
    """What a truth states of a partition. AssertionError if it does not take what it is called with."""
    takes = inspect.signature(truth)
    try:
        takes.bind(*values, **partition)
    except TypeError:
        names = ", ".join([*("sandbox", "stream")[-len(values) :], *partition])
        raise AssertionError(f"truth takes {takes}; write truth({names}) for this stream, or **partition") from None
    return truth(*values, **partition)


def first_run(subject: Subject, folder: Path, truth: Truth | None = None) -> tuple[Rows, list[Finding]]:
    """The rows of a run without any fault, and their problems."""
    sink, paths = MemorySink(folder / "ledger.sqlite"), _Paths()
    with subject.served() as (server, app):
        report = subject.run(server.base_url, sink, tape=paths)
        rows, source = delivered_to(sink), subject.source(server.base_url)
        streams = {stream.name: stream for stream in source.streams}
        chosen = chosen_streams(source, subject.streams)
        wrong = [
            *_check_exit(report, streams),
            *_check_counts(report, streams, sink, subject.name),
            *_check_empty_streams(report, chosen, rows),
            *(finding for key, found in rows.items() for finding in _check_keys(streams[key[0]], key, found)),
        ]
        if truth is not None:
            wrong += _check_truths(rows, streams, lambda key: _stated(truth, (app, key[0]), _named(sink, key)))
        wrong += paths.findings(chosen)
        wrong += _check_requests(report, server, _grant_request(source))
    return rows, wrong


def _check_exit(report: RunReport, streams: Mapping[str, Stream]) -> list[Finding]:
    """The exit code, where it is not 0; with advice where a child stream got a 404."""
    wrong = _wrong_exit("exit code", report, "the first run", 0)
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
            seen = f"{counts.rejected} records rejected, {counts.unread_values} values not read{first}"
            yield Finding("rejected", f"{name}: {seen}")
        on_purpose = streams[name].inexact_bounds or getattr(streams[name].paginator, "reads_twice", False)
        if counts.repeated and not on_purpose:
            yield Finding("repeated", f"{name}: {counts.repeated} records came twice")
        if counts.unknown_members:
            members, first = ", ".join(sorted(counts.unknown_members)), min(counts.unknown_members)
            text = f"{name}: members that the record class lacks: {members}; declare them, such as {first}: str | None"
            yield Finding("unknown members", text)


def _check_empty_streams(report: RunReport, chosen: Iterable[str], rows: Rows) -> Iterator[Finding]:
    """Streams that did not fail, and of which the sandbox has no record."""
    for name in chosen:
        failed = any(error["stream"] == name for error in report.errors)
        if not failed and not any(found for key, found in rows.items() if key[0] == name):
            text = f"{name}: the sandbox has no record of it, so that nothing was tried"
            yield Finding("nothing to read", text)


def _check_truths(
    rows: Rows, streams: Mapping[str, Stream], true_rows: Callable[[Key], Iterable[Mapping[str, Any]] | None]
) -> Iterator[Finding]:
    """
    Rows that differ from the true ones, one finding a stream; and streams of which no row was compared. ``true_rows``:
    of a partition; None where they are unknown.
    """
    unknown: set[str] = set()
    untrue: dict[str, list[Finding]] = {}
    for key, found in rows.items():
        true = true_rows(key)
        if true is None:
            unknown.add(key[0])
        else:
            untrue.setdefault(key[0], []).extend(_check_truth(streams[key[0]], key, found, true))
    for problems in untrue.values():
        more = f"; so are {len(problems) - 1} more partitions" if len(problems) > 1 else ""
        yield from (Finding("truth", f"{problem}{more}") for problem in sorted(problems)[:1])
    for name in sorted(unknown):
        text = (
            f"{name}: no row was compared with what the sandbox holds. Give the sandbox a method "
            "truth(stream, **partition) that returns the true rows, or conforms a truth=..., if only UNKNOWN"
        )
        yield Finding("truth", text)


def _check_requests(report: RunReport, server: Server, login: Request | None) -> Iterator[Finding]:
    """Requests to other hosts than ``base_url``, and requests that penstock did not send."""
    sent = report.total("requests")
    if sent > len(server.requests):
        yield Finding("origin", f"{sent} requests were sent, and {len(server.requests)} came to base_url")
    came = [request for request in server.requests if login is None or request.path != _path(login, server)]
    if len(came) > sent:
        seen = f"{len(came)} requests came to base_url, and penstock sent {sent}"
        yield Finding("origin", f"{seen}: a connector makes requests, and sends none itself")


def _named(sink: MemorySink, key: Key) -> dict[str, str]:
    """A partition's values by column."""
    partitions = sink.rows[key[0]]
    return next(each.as_dict() for each in partitions if tuple(value for _, value in each.values) == key[1])


def _check_keys(stream: Stream, key: Key, rows: Sequence[Row]) -> list[Finding]:
    if not stream.key:
        return []
    several = [key for key, times in Counter(tuple(map(row.get, stream.key)) for row in rows).items() if times > 1]
    text = f"{stream.name} {key[1]}: {len(several)} keys are there twice, such as "
    return [Finding("key", f"{text}{several[0]}")] if several else []


def _check_truth(stream: Stream, key: Key, rows: Sequence[Row], true: Iterable[Mapping[str, Any]]) -> list[Finding]:
    by_member = {column.member: column.name for column in stream.columns if column.member is not None}
    expected = [{by_member.get(name, name): value for name, value in row.items()} for row in true]
    stated = {name for row in expected for name in row}
    # The truth may lack columns that penstock adds, but for derived amounts. All other columns must be equal.
    added = [column.name for column in stream.columns if column.added and column.name not in stated]
    partition = set(stream.partition_columns) - stated
    secret = [column.name for column in stream.columns if column.secret]
    without = (EXTRA, *added, *partition, *secret)
    lost, invented = bag(expected, without) - bag(rows, without), bag(rows, without) - bag(expected, without)
    what = f"{stream.name} {key[1]}"
    inexact = [f"{name} is {value!r}" for row in expected for name, value in row.items() if _inexact(value)]
    if inexact:
        write = (
            "a float that lost digits; let the sandbox compute amounts as Decimal, which json_response writes as sent"
        )
        return [Finding("truth", f"{what}: {inexact[0]}, {write}")]
    unproven = [column.name for column in stream.columns if column.derived_of and column.name not in stated]
    if expected and unproven:
        text = f"{what}: the truth states no {unproven[0]}, and nothing else shows whether its scale is right"
        return [Finding("truth", f"{text}; let truth state the amount that the provider's document names")]
    if not lost and not invented:
        return []
    example = next(iter(lost or invented))
    text = f"{lost.total()} rows are missing and {invented.total()} should not be there, such as {example}"
    if lost and invented:
        text += f" in place of {next(iter(invented))}"
    why = _difference(stream, expected, rows, without)
    return [Finding("truth", f"{what}: of {len(expected)} true rows {text}{why}")]


def _inexact(value: Any) -> bool:
    """Whether this is a float with more digits than one that was written as a decimal keeps."""
    return isinstance(value, float) and len(Decimal(repr(value)).as_tuple().digits) > 15


def _difference(stream: Stream, expected: Sequence[Row], rows: Sequence[Row], without: Collection[str]) -> str:
    """The columns in which rows of one key differ; else what a difference of this kind is often due to."""
    known = {tuple(plain(row.get(name)) for name in stream.key): row for row in expected}
    for row in rows if stream.key else ():
        true = known.get(tuple(plain(row.get(name)) for name in stream.key))
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


def _first_rejected(sink: MemorySink, source: str, stream: str) -> str:
    """Path and reason of the first record of a stream that was rejected."""
    target = sink.open_readonly(source)
    if target is None or target.ledger is None:
        return ""
    try:
        return next((f"{record.path}: {record.reason}" for _, record in target.ledger.rejected(source, stream)), "")
    finally:
        target.close()


def _wrong_exit(check: str, report: RunReport, what: str, code: int) -> list[Finding]:
    if report.exit_code == code:
        return []
    texts = "; ".join(dict.fromkeys(f"{error['error']}: {error['message']}" for error in report.errors[:3]))
    return [
        Finding(check, f"{what} ended with {report.exit_code} instead of {code}: {texts or 'no error was reported'}")
    ]


def differing(delivered: Rows, expected: Rows) -> list[Key]:
    """The differences: partitions that one of the two lacks, and partitions with other rows."""
    keys = expected.keys() | delivered.keys()
    return [key for key in keys if bag(delivered.get(key, ())) != bag(expected.get(key, ()))]


def _same(check: str, delivered: Rows, expected: Rows, what: str) -> list[Finding]:
    missing = sorted(expected.keys() - delivered.keys())
    other = sorted(key for key in differing(delivered, expected) if key not in missing)
    wrong = [f"{what}: {len(missing)} partitions were not delivered, such as {missing[0]}"] if missing else []
    wrong += [f"{what}: {len(other)} partitions have other rows, such as {other[0]}"] if other else []
    return [Finding(check, text) for text in wrong]


@define(eq=False)
class _Pages:
    """What the paginators of a run saw: of each listing of a stream its first page, and its last one with records."""

    paged: set[str] = field(factory=set)  # streams with a second page that had records
    firsts: dict[Any, Page] = field(factory=dict)  # identity of a further request -> the first page of its listing
    lasts: dict[Any, Any] = field(factory=dict)  # identity of a first request -> that of the last page with records
    shared: set[Any] = field(factory=set)  # identities of requests that accounts make alike, each with its own token

    def remember(self, identity: Any, first: Page) -> None:
        """Note the first page of the listing to which a further request belongs."""
        known = self.firsts.setdefault(identity, first)
        if known.response.body != first.response.body:
            self.shared.add(identity)
        self.firsts[identity] = first

    def first_of(self, identity: Any) -> Page | None:
        """The first page of the listing of which this request is the last one with records."""
        first = self.firsts.get(identity) if identity not in self.shared else None
        return first if first is not None and self.lasts.get(first.request.identity) == identity else None


@define(eq=False)
class _Watched:
    """A paginator, and what it sees."""

    paginator: Paginator
    stream: str
    pages: _Pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self.paginator, name)

    def next(self, page: Page) -> Request | None:
        following = self.paginator.next(page)
        first = page if page.index == 0 else self.pages.firsts.get(page.request.identity)
        if first is not None and page.index and page.count:
            self.pages.paged.add(self.stream)
            self.pages.lasts[first.request.identity] = page.request.identity
        if first is not None and following is not None:
            self.pages.remember(following.identity, first)
        return following

    def rest(self, first: Page) -> Sequence[Request] | None:
        rest = self.paginator.rest(first)
        if rest and first.count:
            self.pages.paged.add(self.stream)
            self.pages.remember(rest[-1].identity, first)
            self.pages.lasts[first.request.identity] = rest[-1].identity
        return rest


class _Watching:
    """The part of a tape that one without a recording does not need."""

    until: None = None

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None: ...

    def finish(self) -> Sequence[str]:
        return ()


@define(eq=False)
class _Moved(_Watching):
    """A tape with which the first record of a listing comes again on its last page, as in one that moved meanwhile."""

    pages: _Pages
    streams: set[str] = field(factory=set)

    def exchange(
        self, source: ConfiguredSource, call: Call, send: Callable[[], Outcome], judge: Callable[..., Any]
    ) -> Outcome:
        outcome, first, stream = send(), self.pages.first_of(call.request.identity), call.stream
        if first is None or stream is None or stream.poller is not None:  # a report does not move while it is read
            return outcome
        former = next(iter(first.answer.items), None)
        items = tuple(outcome.answer.items)
        if former is None or former.format != "array" or not items:
            return outcome
        if any(column.hash_of for column in stream.columns if column.name in stream.key):
            return outcome  # equal records are several ones where the provider gives them no key
        elements = _elements(former)
        if sum(len(_elements(item)) for item in items if item.format == "array") >= len(elements):
            return outcome  # a page longer than the others is none of a listing that moved
        again = evolve(former, raw=b"[" + bytes(elements[0]) + b"]")
        self.streams.add(stream.name)
        return outcome._replace(answer=evolve(outcome.answer, items=(*items, again)))


def _elements(items: Items) -> list[msgspec.Raw]:
    return msgspec.json.decode(items.raw, type=list[msgspec.Raw])


def paging(subject: Subject, folder: Path, baseline: Rows) -> list[Finding]:
    """Every paginator sees a second page, and a record that moves from the first page to the last comes once."""
    pages = _Pages()
    declared: set[str] = set()

    def watch(source: ConfiguredSource, stream: Stream) -> Stream:
        paginator = components_of(source, stream, ()).paginator
        one_page = (SinglePage.next, SinglePage.rest)
        if (getattr(type(paginator), "next", None), getattr(type(paginator), "rest", None)) == one_page:
            return stream
        declared.add(stream.name)
        return evolve(stream, paginator=lambda settings: _Watched(paginator, stream.name, pages))

    with subject.served() as (server, _):
        subject.run(server.base_url, MemorySink(folder / "watched.sqlite"), watch=watch)
        chosen = chosen_streams(subject.source(server.base_url), subject.streams)
        server.app = subject.make(
            server.base_url, subject.today
        )  # it responds as it did at first, from the same address
        tape, sink = _Moved(pages), MemorySink(folder / "moved.sqlite")
        report = subject.run(server.base_url, sink, tape=tape)
    wrong = [
        Finding(
            "second page",
            f"{name}: its paginator saw no second page with records, so that paging was not tried. Let the sandbox "
            "send fewer records on a page than it has",
        )
        for name in sorted(declared.intersection(chosen) - pages.paged)
    ]
    differ = sorted(key for key in differing(delivered_to(sink), baseline) if key[0] in tape.streams)
    if differ:
        why = next((error["message"] for error in report.errors if error["stream"] == differ[0][0]), "the rows differ")
        wrong.append(
            Finding(
                "moved record",
                f"{differ[0][0]} {differ[0][1]}: a record of the first page that came again on the last one, as in a "
                f"listing that moved while it was read, was not delivered once ({why}). Name the columns that identify "
                "a record",
            )
        )
    return wrong


@define(eq=False)
class _Paths(_Watching):
    """A tape that notes which of the members that envelopes and paginators name are in an answer."""

    named: dict[str, dict[str, tuple[str, ...]]] = field(factory=dict)  # stream -> option -> its paths
    found: set[tuple[str, str]] = field(factory=set)  # stream and option
    seen: dict[str, set[str]] = field(factory=dict)  # stream -> the paths of the members of its answers

    def exchange(
        self, source: ConfiguredSource, call: Call, send: Callable[[], Outcome], judge: Callable[..., Any]
    ) -> Outcome:
        outcome, stream, envelope = send(), call.stream, call.envelope
        good = isinstance(outcome.verdict, Accept) and outcome.response is not None and not outcome.answer.problem
        if not good or stream is None or not isinstance(envelope, Envelope):
            return outcome
        paginator = components_of(source, stream, ()).paginator
        options: dict[str, Any] = {"total": envelope.total, "pages": envelope.pages}
        members = ("more",) if getattr(paginator, "header", None) else ("more", "member")
        options |= {name: getattr(paginator, name, None) or () for name in members}
        paths = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in options.items()}
        self.named[stream.name] = {name: value for name, value in paths.items() if value}
        if self.named[stream.name]:
            seen = set(_member_paths((outcome.response and outcome.response.members()) or {}))
            self.seen.setdefault(stream.name, set()).update(seen)
            self.found |= {(stream.name, name) for name, value in paths.items() if not seen.isdisjoint(value)}
        return outcome

    def findings(self, streams: Iterable[str]) -> list[Finding]:
        """The options whose members no answer had."""
        return [
            Finding(
                "paths",
                f"{name}: no answer of the sandbox has the member {' or '.join(map(repr, paths))}, which {option}= "
                f"names, so that it was not tried.{did_you_mean(paths[0], self.seen[name])} Correct the "
                "path, or let the sandbox send the member",
            )
            for name in streams
            for option, paths in self.named.get(name, {}).items()
            if (name, option) not in self.found
        ]


def _member_paths(members: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """The dotted paths of all members, nested ones too; an array is one member."""
    for name, value in members.items():
        yield f"{outer}{name}"
        if isinstance(value, Mapping):
            yield from _member_paths(value, f"{outer}{name}.")


def stopped_and_resumed(subject: Subject, folder: Path, baseline: Rows) -> list[Finding]:
    """A run that is stopped after its first partition leaves whole partitions; the next one finishes it."""
    sink, clock = MemorySink(folder / "ledger.sqlite"), noon_of(subject.today)

    def stop(event: Event) -> None:
        if event["event"] == "partition_delivered":
            clock.stop.set()

    with subject.served() as (server, _):
        subject.run(server.base_url, sink, on_event=stop, clock=clock)
        held = delivered_to(sink)
        whole = {key: rows for key, rows in baseline.items() if key in held}
        wrong = _same("stopped", held, whole, "after a stopped run")
        report = subject.run(server.base_url, sink)
    wrong_exit = _wrong_exit("resumed", report, "the run after a stopped one", 0)
    return wrong + wrong_exit + _same("resumed", delivered_to(sink), baseline, "resumed")


def nothing_final_again(subject: Subject, folder: Path) -> list[Finding]:
    """Days that were read after they closed are requested no more."""
    sink = MemorySink(folder / "ledger.sqlite")
    with subject.served() as (server, _):
        source = subject.source(server.base_url)
        chosen = chosen_streams(source, subject.streams)
        dated = [name for name in chosen if source.stream(name).kind != "snapshot"]
        if not dated:
            return []
        first, second = (subject.run(server.base_url, sink, streams=dated, open_for="0 days") for _ in range(2))
    wrong = _wrong_exit("final", first, "a run of closed days", 0)
    wrong += _wrong_exit("final", second, "the run after one of closed days", 0)
    for name in dated:
        again = second.stream(subject.name, name)
        if again.requests or again.delivered:
            text = f"{name}: {again.delivered} final partitions were read again, with {again.requests} requests"
            wrong.append(Finding("final", text))
    return wrong


def faults_that_pass(
    subject: Subject, folder: Path, baseline: Rows, names: str = PASSING, expired: int = 401
) -> list[Finding]:
    """With each of these faults, which affect every request once, a run delivers the same rows as without."""
    wrong: list[Finding] = []
    chosen = list(faults_named(names))
    with subject.served() as (server, _):
        granting = _grant_request(subject.source(server.base_url)) is not None
        chosen += [evolve(FAULTS["expired"], change=status(expired, "{}"))] if granting else []
        for fault in chosen:
            sink = MemorySink(folder / fault.name / "ledger.sqlite")
            server.app = with_faults(subject.make(server.base_url, subject.today), [fault], seed=1)
            report = subject.run(server.base_url, sink, clock=noon_of(subject.today, pace=50))
            what = f"behind the fault {fault.name} ({fault.summary})"
            wrong_exit = _wrong_exit("faults", report, f"a run {what}", 0)
            wrong += wrong_exit or _same("faults", delivered_to(sink), baseline, what)
    return wrong


def wrong_credentials(subject: Subject, folder: Path) -> list[Finding]:
    """
    A wrong value of each secret ends a run with 3 and the check with an error, and is printed nowhere. A text that
    is no key of its form (a PEM) may also be refused by a ConfigError, before any request.
    """
    wrong: list[Finding] = []
    for name in secrets_of(subject):
        sink = MemorySink(folder / name / "ledger.sqlite")
        texts: list[str] = []
        with subject.served() as (server, _):
            hear = partial(_hear, texts)
            given: dict[str, Any] = {name: WRONG}
            report = subject.run(server.base_url, sink, on_event=hear, **given)
            unusable = {error["error"] for error in report.errors} == {"ConfigError"}  # it is no key at all
            wrong_exit = [] if unusable else _wrong_exit("wrong secret", report, f"a run with a wrong {name}", 3)
            if report.exit_code == 0:
                text = f"a run with a wrong {name} ended with 0 instead of 3: the authenticator does not send it, or "
                wrong_exit = [
                    Finding("wrong secret", f"{text}the sandbox accepts it; let its admit(request) refuse it")
                ]
            wrong += wrong_exit
            source = subject.source(server.base_url, **{name: WRONG})
            if source.connector.check is not None:
                try:
                    texts.append(check(source, noon_of(subject.today)))
                    text = f"the check of a wrong {name} returned: {texts[-1]}"
                    wrong.append(Finding("check of a wrong secret", text))
                except (AuthenticationError, ConfigError) as error:
                    texts.append(str(error))
                except PenstockError as error:
                    text = f"the check of a wrong {name} raised {type(error).__name__}: {error}"
                    wrong.append(Finding("check of a wrong secret", text))
        output = "\n".join([*texts, json.dumps(report.as_dict(), default=str)])
        if WRONG[:LETTERS_SHOWN] in output:
            wrong.append(Finding("secret shown", f"with a wrong {name}, its start was shown: {WRONG[:3]}..."))
        if delivered_to(sink):
            wrong.append(Finding("wrong secret", f"with a wrong {name} something was delivered"))
    return wrong


def _hear(texts: list[str], event: Event) -> None:
    texts.append(json.dumps(event, default=str))


def secrets_of(subject: Subject) -> list[str]:
    """The settings of the imitation that hold a secret."""
    source = subject.source("http://127.0.0.1:1")
    return [name for name in subject.settings if isinstance(getattr(source.settings, name, None), Secret)]


def one_reading_check(subject: Subject) -> list[Finding]:
    """
    ``penstock check`` sends one request that only reads (and a login), to the origin of base_url. A POST reads where a
    stream's rows are the response to one.
    """
    with subject.served() as (server, _):
        source = subject.source(server.base_url)
        login = _grant_request(source)
        addresses = [] if login is None else [("the login", login)]
        if source.connector.check is None:
            return _strays(server, addresses)
        try:
            check(source, noon_of(subject.today))
        except PenstockError as error:
            return [Finding("check", f"the check of right credentials raised {type(error).__name__}: {error}")]
        sent = [request for request in server.requests if login is None or request.path != _path(login, server)]
    wrong = _strays(server, addresses)
    queried = {("POST", stream.path) for stream in source.streams if stream.json is not None and stream.poller is None}
    if len(sent) != 1 or not (sent[0].method in ("GET", "HEAD") or (sent[0].method, sent[0].path) in queried):
        seen = ", ".join(f"{request.method} {request.path}" for request in sent) or "nothing"
        text = f"the check sent {seen}; expected one GET, since any other request may record something"
        wrong.append(Finding("check", text))
    return wrong


def _strays(server: Server, requests: Iterable[tuple[str, Request]]) -> list[Finding]:
    own = origin_of(server.base_url)
    found = [f"{what} goes to {request.origin}, not to base_url" for what, request in requests if request.origin != own]
    return [Finding("login", text) for text in found]


def _path(request: Request, server: Server) -> str:
    return request.url.removeprefix(server.base_url).partition("?")[0]


def _grant_request(source: ConfiguredSource) -> Request | None:
    return source.authenticator(None).grant_request()
