"""
``status``: what was delivered, what needs attention, and the totals of an invoice.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from penstock._cli.complete import pipelines_and_sources
from penstock._cli.options import ACCOUNTS, TO
from penstock._cli.output import ago, print_csv, print_table, print_text
from penstock._cli.runs import run_row
from penstock._cli.session import Session, as_json_or_csv, command
from penstock._cli.types import DAY, DURATION
from penstock._util.clock import Clock
from penstock._util.text import listed, without_place
from penstock.errors import UsageError
from penstock.names import counted

if TYPE_CHECKING:
    from penstock.project.results import AccountStatus, Problem, SourceStatus, Total

# Counts of an account, what is wrong first.
COUNTS = ("failed", "missing", "rejected", "unread_values", "truncated", "open", "final")

WRONG, FINE = 0, 2  # the first and the last rank
_STYLES = ("red", "yellow", "")
FOLDED_STREAMS = 3  # so many streams without days, of one rank, are one line of status

# The columns of CSV, also where there is no row.
ACCOUNT = ("target", "source", "stream", "account")
PROBLEM = (*ACCOUNT, "kind", "count", "first_day", "last_day", "last_read", "reason")
TOTAL = (*ACCOUNT, "period", "rows")


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
    if session.printed(result, json_):
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
        print_table([named, "started", "took", "exit", "records"], list(map(run_row, source.runs)))
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
    if session.printed(result, json_):
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
