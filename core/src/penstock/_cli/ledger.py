"""
``status``, ``runs``, ``changes``, ``forget`` and ``rejected``: the content of the ledgers of targets.
"""

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from penstock._cli.complete import one_stream, pipelines_and_sources, sources
from penstock._cli.options import ACCOUNTS, TO
from penstock._cli.output import ago, paged, print_csv, print_json, print_table, print_text
from penstock._cli.session import Session, as_json_or_csv, command
from penstock._cli.stderr import harmless
from penstock._cli.types import DAY, DURATION
from penstock._util.clock import Clock
from penstock._util.text import listed, without_place
from penstock.errors import UsageError
from penstock.names import counted
from penstock.redact import mask

if TYPE_CHECKING:
    from penstock.project.results import AccountStatus, Change, Problem, Result, RunInfo, SourceStatus, Total

# Counts of an account, what is wrong first.
COUNTS = ("failed", "missing", "rejected", "unread_values", "truncated", "open", "final")

WRONG, FINE = 0, 2  # the first and the last rank
_STYLES = ("red", "yellow", "")
FOLDED_STREAMS = 3  # so many streams without days, of one rank, are one line of status

NAMED = 10  # personal columns in a question
REASON_SHOWN = 80  # characters of a run's reason in a list
SHOWN_RAW = 1000  # characters of a rejected record

# The columns of CSV, also where there is no row.
ACCOUNT = ("target", "source", "stream", "account")
PROBLEM = (*ACCOUNT, "kind", "count", "first_day", "last_day", "last_read", "reason")
TOTAL = (*ACCOUNT, "period", "rows")
RUN = (
    *("run_id", "target", "source", "started_at", "seconds", "exit_code"),
    *("records", "rejected", "requests", "failed", "why"),
)
CHANGE = ("source", "stream", "account", "day", "what", "before", "after")
DIFFERENCE = ("target", "source", "stream", "partition", "what", "repair")
REJECTED = ("target", "source", "stream", "partition", "path", "reason", "raw")
COUNTED = ("count", "target", "source", "stream", "path", "reason")


def printed(session: Session, result: "Result", json_: bool) -> bool:
    """Print the notices of a result and, as JSON, all of it; whether that was requested."""
    session.notices(result.notices)
    if json_:
        from penstock.project.results import as_dict

        print_json(as_dict(result))
    return json_


# --- status ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@TO
@ACCOUNTS
@click.option("--problems", is_flag=True, help="Only what needs attention, with its reason.")
@click.option("--max-age", type=DURATION, metavar="TIME", help="Exit 1 if an account was not read for so long: 26h.")
@click.option("--totals", is_flag=True, help="Rows and sums per account and month, to compare with an invoice.")
@click.option("--daily", is_flag=True, help="With --totals: per day.")
@click.option("--since", type=DAY, metavar="DAY", help="With --totals: the first day.")
@click.option("--until", type=DAY, metavar="DAY", help="With --totals: the last day.")
@as_json_or_csv
def status(
    session: Session,
    name: str | None,
    to: str | None,
    accounts: tuple[str, ...] | None,
    problems: bool,
    max_age: float | None,
    totals: bool,
    daily: bool,
    since: str | None,
    until: str | None,
    json_: bool,
    csv_: bool,
) -> int:
    """
    What was delivered: a line per source and stream, or per account with -v, and the last runs.

    `missing` are days between the first and the last one that were never delivered. `penstock plan` shows what a run
    would fetch.
    """
    if totals:
        window = {"since": since, "until": until, "daily": daily}
        return _totals(session, name, json_=json_, csv_=csv_, to=to, accounts=accounts, **window)
    if daily or since or until:
        raise UsageError("--daily, --since and --until belong to --totals")
    result = session.project.status(name, to=to, accounts=accounts, max_age_s=max_age)
    if accounts and not any(one.sources or one.error for one in result.targets):
        raise UsageError(f"--accounts: no account here matches {', '.join(accounts)}; penstock status -v lists them")
    now = Clock().now()
    if printed(session, result, json_):
        pass
    elif csv_ and problems:
        print_csv(
            [
                {"target": target.target, **asdict(one, recurse=False)}
                for target in result.targets
                for one in target.problems
            ],
            PROBLEM,
        )
    elif csv_:
        print_csv(
            [
                {"target": target.target, "source": source.source, **asdict(one, recurse=False)}
                for target in result.targets
                for source in target.sources
                for one in source.streams
            ],
            ACCOUNT,
        )
    elif problems:
        _print_problems({target.target: target.problems for target in result.targets if target.problems}, now)
    else:
        for number, target in enumerate(result.targets):
            if number:
                print()
            print(f"target {target.target}")
            if not target.sources:
                print("  nothing was delivered yet" if target.error is None else "  cannot be read")
            else:
                print()
                _print_sources(target.sources, now, verbose=session.verbose)
    overdue = [one for target in result.targets for one in target.problems if one.kind == "overdue"]
    if overdue:
        places = ", ".join(_overdue(one, now) for one in overdue[:5])
        more = f" and {len(overdue) - 5} more (penstock status --problems --max-age ...)" if len(overdue) > 5 else ""
        session.say(f"error: {counted(len(overdue), 'account')} not read for longer than allowed: {places}{more}")
    return result.exit_code


def _overdue(one: "Problem", now: datetime) -> str:
    """``talroo.clicks of 2113 (never read)``, or of a source that was never read ``talroo (never read)``"""
    stream = f".{one.stream}" if one.stream else ""
    account = f" of {', '.join(one.account.values())}" if one.account else ""
    read = f"last read {ago(one.last_read, now)}" if one.last_read else "never read"
    return f"{one.source}{stream}{account} ({read})"


def _print_sources(sources: "Sequence[SourceStatus]", now: datetime, *, verbose: bool) -> None:
    """A table of the streams of all sources, what is wrong first; then the last runs."""
    groups: dict[tuple[str, ...], list[AccountStatus]] = {}
    for source in sources:
        folded = {} if verbose else _folded(source)
        for one in source.streams:
            rank = folded.get(one.stream)
            key = (str(rank),) if rank is not None else (one.stream, *(one.account.values() if verbose else ()))
            groups.setdefault((source.source, *key), []).append(one)
    rows = sorted(groups.items(), key=lambda item: _rank(item[1]))
    print_table(
        ["stream", "account" if verbose else "accounts", "rows", "last read", "partitions"],
        [_status_row(source, group, now, verbose=verbose) for (source, *_), group in rows],
        [_STYLES[_rank(group)] for _, group in rows],
    )
    for source in sources:
        errors: dict[str, dict[str, None]] = {}
        for one in source.streams:
            if one.error and one.configured is not False:
                errors.setdefault(without_place(one.error), {})[one.stream] = None
        for text, streams in errors.items():
            place = (
                f".{next(iter(streams))}: last error" if len(streams) == 1 else f": last error of {listed([*streams])}"
            )
            print_text(f"{source.source}{place}: {text}")
        for stream, count in source.changed.items():
            print_text(
                f"{source.source}.{stream}: {counted(count, 'partition')} of which something could not be read will be "
                "read again, since the record class or the connector's version changed"
            )
    _print_last_runs(sources, now, verbose=verbose)


def _print_last_runs(sources: "Sequence[SourceStatus]", now: datetime, *, verbose: bool) -> None:
    """The last runs of one source. Of several, unless ``verbose``: those that ended badly, and the requests."""
    ran = [source for source in sources if source.runs]
    if ran:
        print()
    if len(ran) > 1 and not verbose:
        for source in ran:
            last = source.runs[0]
            if last.exit_code not in (0, 5):
                ended = "has not finished" if last.exit_code is None else f"ended with {last.exit_code}"
                good = f"last good run {ago(source.last_good, now)}" if source.last_good else "no good run yet"
                print_text(f"{source.source}: the run of {ago(last.started_at, now)} {ended}, {good}")
        by_source = ", ".join(f"{source.source} {_requests(source)}" for source in ran)
        requests = counted(sum(source.requests_this_month for source in ran), "request")
        print_text(f"{requests} this month ({by_source})")
        return
    for number, source in enumerate(ran):
        if number:
            print()
        named = f"last runs of {source.source}" if len(ran) > 1 else "last runs"
        print_table([named, "started", "took", "exit", "records"], list(map(_run_row, source.runs)))
        good = f"last good run {ago(source.last_good, now)}" if source.last_good else "no good run yet"
        noun = "request" if source.requests_this_month == 1 else "requests"
        print(f"{good}, {_requests(source)} {noun} this month")


def _requests(source: "SourceStatus") -> str:
    allowed = source.requests_per_month
    return f"{source.requests_this_month}{'' if allowed is None else f' of {allowed:,}'}"


def _folded(source: "SourceStatus") -> dict[str, int]:
    """
    The streams without days that share a line, with their rank: those of which nothing is wrong, and those that failed
    (the last errors name them), where these are many.
    """
    streams: dict[str, list[AccountStatus]] = {}
    for one in source.streams:
        streams.setdefault(one.stream, []).append(one)
    ranks = {name: _rank(group) for name, group in streams.items() if not any(one.first_day for one in group)}
    many = {rank for rank in (WRONG, FINE) if list(ranks.values()).count(rank) >= FOLDED_STREAMS}
    return {name: rank for name, rank in ranks.items() if rank in many}


def _rank(group: "Sequence[AccountStatus]") -> int:
    """What is wrong with accounts of a stream, the worst first."""
    read = [one for one in group if one.configured is not False]
    if any(one.failed or one.missing or one.overdue for one in read):
        return WRONG
    return 1 if any(one.rejected or one.unread_values or one.truncated for one in read) else FINE


def _status_row(source: str, group: "Sequence[AccountStatus]", now: datetime, *, verbose: bool) -> list[Any]:
    """One line for accounts of one stream."""
    counts = {name: sum(getattr(one, name) for one in group) for name in COUNTS}
    states = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    days = [(one.first_day, one.last_day) for one in group if one.first_day and one.last_day]
    if days:
        states.append(_span([day for several in days for day in several]).removeprefix(", "))
    left = {tuple(one.account.items()) for one in group if one.configured is False}
    if left:
        where = "listed by the provider" if all(one.listed for one in group) else "in the configuration"
        what = f"{counted(len(left), 'account')} " if any(left) else ""
        states.append(f"{what}not {where} any more")
    read = max((one.last_read for one in group if one.last_read), default=None)
    streams = {one.stream for one in group}
    accounts = len({tuple(one.account.items()) for one in group if one.account})
    return [
        f"{source}.{group[0].stream}" if len(streams) == 1 else f"{source}: {len(streams)} snapshots",
        _account_text(group[0]) if verbose else accounts or None,
        sum(one.rows for one in group),
        ago(read, now) if read else "never",
        ", ".join(states),
    ]


def _print_problems(problems: "Mapping[str, Sequence[Problem]]", now: datetime) -> None:
    """By target, a line for the problems of one source that have one reason."""
    if not problems:
        print("nothing needs attention")
    for number, (target, those) in enumerate(problems.items()):
        if len(problems) > 1:
            print(f"{chr(10) if number else ''}target {target}")
        groups: dict[tuple[str, ...], list[Problem]] = {}
        for one in those:
            groups.setdefault((one.source, one.kind, one.reason), []).append(one)
        for several in groups.values():
            print_text(_problem_text(several, now))


def _problem_text(several: "Sequence[Problem]", now: datetime) -> str:
    first = several[0]
    accounts = list(dict.fromkeys(", ".join(one.account.values()) for one in several if one.account))
    streams = list(dict.fromkeys(one.stream for one in several if one.stream))
    where = f" in {listed(streams)}" if len(streams) > 1 else ""
    where += f" of {listed(accounts)}" if accounts else ""
    days = [day for one in several for day in (one.first_day, one.last_day) if day is not None]
    read = max((one.last_read for one in several if one.last_read), default=None)
    since = f"last read {ago(read, now)}" if read else "never read"
    count = f"{sum(one.count for one in several)} " if first.stream else ""
    place = f"{first.source}.{first.stream}" if len(streams) == 1 else first.source
    return f"{place}: {count}{first.kind}{where}{_span(days)}, {since}: {first.reason}"


def _span(days: "Sequence[date]") -> str:
    if not days:
        return ""
    return f", {min(days)}" if min(days) == max(days) else f", {min(days)} to {max(days)}"


def _totals(session: Session, name: str | None, *, json_: bool, csv_: bool, **options: Any) -> int:
    result = session.project.totals(name, **options)
    if printed(session, result, json_):
        return result.exit_code
    if csv_:
        dated = [one for one in result.totals if one.period]  # no period is invoiced by a list of what there is now
        print_csv([{**{name: getattr(one, name) for name in TOTAL}, **one.sums} for one in dated], TOTAL)
        return result.exit_code
    streams: dict[tuple[str, str, str], list[Total]] = {}
    for one in result.totals:
        streams.setdefault((one.target, one.source, one.stream), []).append(one)
    targets = {target for target, _, _ in streams}
    undated = [f"{source}.{stream}" for (_, source, stream), totals in streams.items() if not totals[0].period]
    for (target, source, stream), totals in streams.items():  # each stream has measures of its own
        if not totals[0].period:
            continue  # no period is invoiced by a list of what there is now
        sums = list(dict.fromkeys(column for one in totals for column in one.sums))
        accounts = [", ".join(one.account.values()) for one in totals]
        columns: dict[str, list[Any]] = {
            **({"account": accounts} if any(accounts) else {}),
            "period": [one.period for one in totals],
            "rows": [one.rows for one in totals],
            **{column: [one.sums.get(column) for one in totals] for column in sums},
        }
        print(f"{source}.{stream}" + (f" in {target}" if len(targets) > 1 else ""))
        print_table(list(columns), list(zip(*columns.values(), strict=True)))
        print()
    if not streams:
        print("nothing was delivered of these days and accounts")
    if undated:
        print_text(f"Not divided by days, so left out: {', '.join(dict.fromkeys(undated))}")
    return result.exit_code


def _account_text(one: "AccountStatus") -> str:
    return ", ".join(one.account.values()) + (f" ({one.timezone})" if one.timezone is not None else "")


def _run_row(run: "RunInfo") -> list[Any]:
    return [
        run.run_id,
        f"{run.started_at:%Y-%m-%d %H:%M:%S}",
        "" if run.seconds is None else f"{run.seconds:.0f} s",
        "not finished" if run.exit_code is None else run.exit_code,
        run.records,
    ]


# --- runs and changes -----------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE|RUN]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--limit", type=click.IntRange(1), default=20, metavar="N", help="Runs of each source.  [default: 20]")
@as_json_or_csv
def runs(session: Session, name: str | None, to: str | None, limit: int, json_: bool, csv_: bool) -> int:
    """
    The last runs, newest first, with their reasons; for a RUN, its report as JSON.
    """
    one_run = name if name is not None and re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", name) else None
    result = session.project.runs(None if one_run else name, to=to, limit=100_000 if one_run else limit)
    if printed(session, result, json_ and one_run is None):
        return result.exit_code
    if one_run is not None:
        reports = {run.source: run.report for run in result.runs if run.run_id == one_run}
        if not reports:
            raise UsageError(f"no run {one_run} is in a ledger; `penstock runs` lists those that are")
        print_json({"run_id": one_run, "sources": reports})
    elif csv_:
        print_csv(map(_run_cells, result.runs), RUN)
    elif result.runs:
        # A run's name begins with the time of its start.
        columns = ["run", "source", "target", "took", "exit", "records", "why"]
        rows = [
            [run.run_id, run.source, run.target, *_run_row(run)[2:4], run.records, _why(run, REASON_SHOWN)]
            for run in result.runs
        ]
        if len({run.target for run in result.runs}) == 1:
            for row in (columns, *rows):
                del row[2]
        print_table(columns, rows, ["red" if run.exit_code not in (0, 5) else "" for run in result.runs])
    else:
        print("no run yet")
    return result.exit_code


def _run_cells(run: "RunInfo") -> dict[str, Any]:
    return {**{name: getattr(run, name) for name in RUN if name != "why"}, "why": _why(run)}


def _why(run: "RunInfo", longest: int | None = None) -> str:
    """The first reason of a run that was not good; ``longest``: shortened to so many characters."""
    parts = [f"{run.failed} failed"] if run.failed else []
    parts += [f"{run.rejected} set aside"] if run.rejected else []
    messages = [f"parked: {text}" for text in run.report.get("parked", {}).values()]
    messages += [without_place(error["message"]) for error in run.report.get("errors", [])]
    for text in messages[:1]:
        parts.append(text if longest is None else textwrap.shorten(text, longest, placeholder=" ..."))
    return ", ".join(parts)


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@click.option(
    "--since",
    type=DAY,
    metavar="DAY",
    default="yesterday",
    help="Restatements that were read since this day (UTC).  [default: yesterday]",
)
@TO
@as_json_or_csv
def changes(session: Session, name: str | None, since: str, to: str | None, csv_: bool, json_: bool) -> int:
    """
    What providers restated in days that had been delivered: rows and sums before and after, per day and account.

    With --csv one row per partition and measure.
    """
    result = session.project.changes(name, since=since, to=to)
    if printed(session, result, json_):
        return result.exit_code
    if csv_:
        print_csv([row for one in result.changes for row in _change_rows(one)], CHANGE)
    elif result.changes:
        with paged():
            _print_changes(result.changes)
    else:
        print(f"nothing was restated since {since}")
    return result.exit_code


def _change_rows(one: "Change") -> "Iterator[dict[str, Any]]":
    """A row for the number of rows, and one for each measure that differs."""
    for what, (before, after) in {"rows": (one.rows_before, one.rows_after), **one.sums}.items():
        yield {
            "source": one.source,
            "stream": one.stream,
            "account": ", ".join(one.account.values()),
            "day": one.day,
            "what": what,
            "before": before,
            "after": after,
        }


def _print_changes(changes: "Sequence[Change]") -> None:
    """What moved in each stream and month; below, per account and day, a table for each stream."""
    from penstock.project.delivered import moved_in_words

    months: dict[tuple[str, str], list[Change]] = {}
    for one in changes:
        month = f"{one.day:%Y-%m}" if one.day is not None else ""
        months.setdefault((f"{one.source}.{one.stream}", month), []).append(one)
    for (stream, month), those in months.items():
        own = [one for one in those if one.moved]
        parts = moved_in_words(own)
        same = len(those) - len(own)
        parts += [f"{counted(same, 'partition')} with other values, and the same rows and sums"] if same else []
        accounts = len({tuple(one.account.items()) for one in own})
        of = f" ({counted(len(own), 'partition')} of {counted(accounts, 'account')})" if own else ""
        print_text(f"{stream}{f' {month}' if month else ''}{of}: {', '.join(parts)}")
    streams: dict[str, list[Change]] = {}
    for one in changes:
        if one.moved:
            streams.setdefault(f"{one.source}.{one.stream}", []).append(one)
    for stream, those in streams.items():
        print(f"\n{stream}")
        columns: dict[str, list[Any]] = {
            "account": [", ".join(one.account.values()) for one in those],
            "day": [one.day for one in those],
            "restated": [_moves(one) for one in those],
        }
        filled = {name: cells for name, cells in columns.items() if any(cells)}
        print_table(list(filled), list(zip(*filled.values(), strict=True)))


def _moves(one: "Change") -> str:
    """``rows 6 -> 5, clicks 276 -> 173``: what moved in one partition."""
    rows = [row for row in _change_rows(one) if row["before"] != row["after"]]
    return ", ".join(f"{row['what']} {row['before']} -> {row['after']}" for row in rows)


# --- forget ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("source", required=False, shell_complete=sources)
@click.argument("stream", required=False, shell_complete=one_stream)
@click.option("--target", metavar="SINK", help="Forget a target that is not used any more; what lies there stays.")
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day; needed for a stream that is divided by days.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included; needed for the same.")
@ACCOUNTS
@click.option("--rows", is_flag=True, help="Delete the delivered rows, too.")
@click.option("--personal", is_flag=True, help="Erase personal columns in delivered rows; read nothing again.")
@click.option("--yes", is_flag=True, help="Confirm a destructive action.")
def forget(
    session: Session,
    source: str | None,
    stream: str | None,
    target: str | None,
    to: str | None,
    rows: bool,
    personal: bool,
    yes: bool,
    **window: Any,
) -> int:
    """
    Let the next run read days again as if they had never been read. What was delivered stays until then.

    Without a STREAM, of all streams that were delivered.

    With --rows the delivered rows are deleted, too, also those of days that were forgotten before; --accounts without
    days deletes all rows of the accounts.

    With --personal, what `include_personal = false` leaves out today is erased in all rows of the STREAM, or of all
    streams.
    """
    if target is not None:
        if source or rows or personal or any(window.values()):
            raise UsageError("--target forgets a target as a whole; give nothing besides")
        session.project.forget_target(target)
        print(f"{target}: forgotten here. What lies there was not touched, and a run to it makes it known again")
        return 0
    if source is None:
        raise UsageError("name the source: penstock forget SOURCE [STREAM]")
    if personal:
        if rows or any(window.values()):
            raise UsageError("--personal erases columns in all rows; --rows, --accounts and days do not go with it")
        return _erase_personal(session, source, stream, to, yes=yes)
    project = session.project
    options = {"to": to, **window}
    if rows and not yes:
        counts = project.forget(source, stream, rows=True, dry_run=True, **options).targets
        streams = ", ".join(dict.fromkeys(f"{source}.{one.stream}" for one in counts)) or "no stream"
        several = len({one.stream for one in counts}) > 1
        places = ", ".join(
            f"{counted(one.partitions, 'partition')}{f' of {one.stream}' if several else ''} in {one.target}"
            for one in counts
        )
        _confirm(f"--rows deletes the rows of {streams}: {places}")
    result = project.forget(source, stream, rows=rows, **options)
    session.notices(result.notices)
    done = "deleted and forgotten" if rows else "forgotten"
    for one in result.targets:
        print(f"{one.target}: {counted(one.partitions, 'partition')} of {source}.{one.stream} {done}")
    return result.exit_code


def _confirm(what: str) -> None:
    """Ask for confirmation. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(f"{what}. Add --yes to confirm that")
    click.confirm(f"{what}. Continue?", abort=True, err=True)


def _erase_personal(session: Session, source: str, stream: str | None, to: str | None, *, yes: bool) -> int:
    project = session.project
    if not yes:
        found = [one for one in project.erase_personal(source, stream, to=to, dry_run=True).targets if one.partitions]
        names = list(dict.fromkeys(name for one in found for name in one.columns))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        columns = ", ".join(names[:NAMED]) + more
        places = ", ".join(
            f"{counted(one.partitions, 'partition')} of {source}.{one.stream} in {one.target}" for one in found
        )
        _confirm(f"--personal erases for good what is personal in {columns or 'no column'}: {places or 'nothing'}")
    result = project.erase_personal(source, stream, to=to)
    session.notices(result.notices)
    for one in result.targets:
        print(
            f"{one.target}: personal data erased in {counted(one.rows, 'row')} of {source}.{one.stream} "
            f"({counted(one.partitions, 'partition')})"
        )
    return result.exit_code


# --- verify ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included.")
@ACCOUNTS
@click.option("--repair", is_flag=True, help="Let the next run read again what differs.")
@as_json_or_csv
def verify(
    session: Session,
    name: str | None,
    to: str | None,
    since: str | None,
    until: str | None,
    accounts: tuple[str, ...] | None,
    repair: bool,
    json_: bool,
    csv_: bool,
) -> int:
    """
    Compare what the targets hold with their ledgers: rows and sums of a database, size and checksum of files.

    Exits with 1 where anything differs. Days that the provider does not serve any more, and those deleted by forget
    --rows, are shown, and never marked by --repair.
    """
    result = session.project.verify(name, to=to, since=since, until=until, accounts=accounts, repair=repair)
    if printed(session, result, json_):
        return result.exit_code
    if csv_:
        print_csv([asdict(one, recurse=False) for one in result.differences], DIFFERENCE)
        return result.exit_code
    for one in result.differences:
        where = ", ".join(f"{column}={value}" for column, value in one.partition.items())
        print(harmless(mask(f"{one.source}.{one.stream}[{where}] {one.what}")))
        if one.repair == "marked":
            print("  the next run reads it again")
        elif one.repair == "uncounted":
            print("  of no delivery in the ledger: forgotten, or written by something else")
        elif one.repair != "possible":
            print(harmless(f"  not to be read again: {one.repair}"))
    for gone in result.deleted:
        where = ", ".join(f"{column}={value}" for column, value in gone.partition.items())
        what = f"{counted(gone.rows, 'row')} deleted by forget --rows at {gone.deleted_at:%Y-%m-%d %H:%M} UTC"
        print(harmless(mask(f"{gone.source}.{gone.stream}[{where}] {what}: not compared")))
    uncounted = sum(one.repair == "uncounted" for one in result.differences)
    differing = len(result.differences) - uncounted
    if not result.partitions and not result.differences:
        print("nothing was compared: no delivered partition is of these days and accounts")
        return result.exit_code
    differ = f"{counted(differing, 'partition')} of {result.partitions} compared"
    more = f", and {counted(uncounted, 'partition')} with what it does not count" if uncounted else ""
    print(f"{differ} {'differs' if differing == 1 else 'differ'} from the ledger{more}")
    if uncounted:
        print("a run that reads such a partition replaces what is there; penstock forget --rows deletes it")
    if any(one.repair == "possible" for one in result.differences):
        print(
            "penstock verify --repair lets the next run read again what the provider still serves, also what somebody "
            "deleted on purpose: penstock forget takes its days out of the ledger first"
        )
    return result.exit_code


# --- rejected -------------------------------------------------------------------------------------------------------


@command()
@click.argument("what", type=click.Choice(["list", "show"]), metavar="list|show", required=False)
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False, shell_complete=pipelines_and_sources)
@TO
@click.option("--stream", help="Only of this stream.")
@as_json_or_csv
def rejected(
    session: Session, what: str | None, name: str | None, to: str | None, stream: str | None, json_: bool, csv_: bool
) -> None:
    """
    Records that could not be delivered as they came: `list` counts them by reason, `show` prints them.

    A long record is cut; with --json or --csv it is whole.
    """
    if what is None:
        raise UsageError(
            "list or show is missing: `penstock rejected list` counts them by reason, "
            "`penstock rejected show` prints them"
        )
    result = session.project.rejected(name, to=to, stream=stream)
    if printed(session, result, json_ and what == "show"):
        return
    if what == "show" and csv_:
        print_csv([asdict(one, recurse=False) for one in result.rejected], REJECTED)
        return
    if what == "show":
        for one in result.rejected:
            part = ", ".join(f"{column}={value}" for column, value in one.partition.items())
            print(harmless(f"{one.source}.{one.stream}[{part}] {one.path}: {one.reason}"))
            print(harmless(f"  {cut(_plain(one.raw))}"))
        if not result.rejected:
            print("no record is set aside")
        return
    # Without the element's index in its page and without its value: of each kind of reason, the first one is shown.
    firsts: dict[tuple[str, ...], str] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for one in result.rejected:
        place = (one.target, one.source, one.stream, re.sub(r"\[\d+\]", "[]", one.path))
        counts[(*place, firsts.setdefault((*place, kind_of(one.reason)), one.reason))] += 1
    names = ("target", "source", "stream", "path", "reason")
    if json_:
        print_json({"rejected": [{**dict(zip(names, key, strict=True)), "count": counts[key]} for key in counts]})
        return
    if csv_:
        rows = [{"count": count, **dict(zip(names, key, strict=True))} for key, count in counts.most_common()]
        print_csv(rows, COUNTED)
        return
    if counts:
        print_table(
            ["count", "source", "stream", "path", "reason", "target"],
            [[count, *key[1:], key[0]] for key, count in counts.most_common()],
        )
    else:
        print("no record is set aside")


_VALUE = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*") (?=is |has |may )""", re.DOTALL)


def kind_of(reason: str) -> str:
    """A reason without the value that it begins with: ``'n/a' is no number`` is of the kind ``is no number``."""
    found = _VALUE.match(reason)
    return reason[found.end() :] if found is not None else reason


def cut(text: str) -> str:
    """The start of a record, for display."""
    return text if len(text) <= SHOWN_RAW else f"{text[:SHOWN_RAW]}… ({len(text):,} characters; --json shows all)"


def _plain(raw: str) -> str:
    """A record on one line, without escapes for letters, and with the provider's digits in numbers."""
    from penstock._decode.page import EXACT_JSON, PLAIN

    try:
        return mask(EXACT_JSON.encode(PLAIN.decode(raw)).decode())
    except ValueError:
        return mask(raw)
