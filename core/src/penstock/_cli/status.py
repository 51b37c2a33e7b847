"""
``status``: what was delivered, what needs attention, and the totals of an invoice.
"""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import click

from penstock._cli.completion import pipelines_and_sources
from penstock._cli.options import ACCOUNTS, DAY, DURATION, TO
from penstock._cli.output import ago, print_csv, print_table, print_text
from penstock._cli.runs import run_row
from penstock._cli.session import Session, as_json_or_csv, command
from penstock._util.clock import Clock
from penstock._util.text import listed
from penstock.errors import UsageError
from penstock.names import counted
from penstock.results import AccountStatus, Problem, SourceStatus, TargetStatus, Total, by_reason

# Counts of an account, what is wrong first.
COUNTS = ("failed", "missing", "rejected", "unread_values", "truncated", "open", "final")

RANK_WRONG, RANK_IMPERFECT, RANK_FINE = 0, 1, 2  # of the lines of status, in their order
_STYLES = ("red", "yellow", "")  # by rank
COMBINED_STREAMS = 3  # so many streams without days, of one rank, are one line of status

TOTAL_COLUMNS = ("target", "source", "stream", "account", "period", "days", "open", "rows")


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
    would fetch. --csv is for --totals.
    """
    if totals:
        window = {"since": since, "until": until, "daily": daily}
        return _totals(session, name, json_=json_, csv_=csv_, to=to, accounts=accounts, **window)
    if daily or since or until or csv_:
        raise UsageError("--daily, --since, --until and --csv belong to --totals")
    result = session.project.status(name, to=to, accounts=accounts, max_age_s=max_age)
    if accounts and not any(target.sources or target.error for target in result.targets):
        raise UsageError(f"--accounts: no account here matches {', '.join(accounts)}; penstock status -v lists them")
    now = Clock().now()
    if session.print_if_json(result, json_):
        pass
    elif problems:
        print_problems(result.targets, now)
    else:
        _print_targets(result.targets, now, verbose=session.verbose)
    _complain_of_overdue(session, result.targets, now)
    return result.exit_code


def _complain_of_overdue(session: Session, targets: Sequence[TargetStatus], now: datetime) -> None:
    overdue = [
        f"{_overdue_text(problem, now)}{f' in {target.target}' if len(targets) > 1 else ''}"
        for target in targets
        for problem in target.problems
        if problem.kind == "overdue"
    ]
    if overdue:
        places = ", ".join(overdue[:5])
        more = f" and {len(overdue) - 5} more (penstock status --problems --max-age ...)" if len(overdue) > 5 else ""
        session.say(f"error: {counted(len(overdue), 'account')} not read for longer than allowed: {places}{more}")


def _print_targets(targets: Iterable[TargetStatus], now: datetime, *, verbose: bool) -> None:
    for number, target in enumerate(targets):
        if number:
            print()
        print(f"target {target.target}")
        if not target.keeps_ledger:
            print("  keeps no ledger")
        elif not target.sources:
            print("  nothing was delivered yet" if target.error is None else "  cannot be read")
        else:
            print()
            print_sources(target.sources, now, verbose=verbose)


def _overdue_text(problem: Problem, now: datetime) -> str:
    """``talroo.clicks of 2113 (never read)``, or of a source that was never read ``talroo (never read)``"""
    stream = f".{problem.stream}" if problem.stream else ""
    account = f" of {', '.join(problem.account.values())}" if problem.account else ""
    read = f"last read {ago(problem.last_read, now)}" if problem.last_read else "never read"
    return f"{problem.source}{stream}{account} ({read})"


def print_sources(sources: Sequence[SourceStatus], now: datetime, *, verbose: bool) -> None:
    """A table of the streams of all sources, what is wrong first; then the last runs."""
    groups: dict[tuple[str, ...], list[AccountStatus]] = {}
    for source in sources:
        combined = {} if verbose else _combined_streams(source)
        for account in source.streams:
            rank = combined.get(account.stream)
            key = (str(rank),) if rank is not None else (account.stream, *(account.account.values() if verbose else ()))
            groups.setdefault((source.source, *key), []).append(account)
    rows = sorted(groups.items(), key=lambda item: _rank(item[1]))
    if rows:
        print_table(
            ["stream", "account" if verbose else "accounts", "rows", "last read", "partitions"],
            [_status_row(source, group, now, verbose=verbose) for (source, *_), group in rows],
            [_STYLES[_rank(group)] for _, group in rows],
        )
    else:
        print_text(f"nothing of {listed([source.source for source in sources])} was delivered yet")
    for source in sources:
        errors: dict[str, dict[str, None]] = {}
        for account in source.streams:
            if account.error and account.configured is not False:
                errors.setdefault(account.error, {})[account.stream] = None
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


def _print_last_runs(sources: Sequence[SourceStatus], now: datetime, *, verbose: bool) -> None:
    """Print the last runs of one source; for several, unless ``verbose``, those that ended badly and the requests."""
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
        by_source = ", ".join(f"{source.source} {source.requests_this_month}" for source in ran)
        requests = counted(sum(source.requests_this_month for source in ran), "request")
        print_text(f"{requests} this month ({by_source})")
        return
    for number, source in enumerate(ran):
        if number:
            print()
        heading = f"last runs of {source.source}" if len(ran) > 1 else "last runs"
        print_table([heading, "started", "took", "exit", "records"], list(map(run_row, source.runs)))
        good = f"last good run {ago(source.last_good, now)}" if source.last_good else "no good run yet"
        print(f"{good}, {counted(source.requests_this_month, 'request')} this month")


def _combined_streams(source: SourceStatus) -> dict[str, int]:
    """
    The streams without days that share a line, with their rank: those of which nothing is wrong, and those that failed
    (the last errors name them), where these are many.
    """
    streams: dict[str, list[AccountStatus]] = {}
    for account in source.streams:
        streams.setdefault(account.stream, []).append(account)
    ranks = {name: _rank(group) for name, group in streams.items() if not any(account.first_day for account in group)}
    combined_ranks = {rank for rank in (RANK_WRONG, RANK_FINE) if list(ranks.values()).count(rank) >= COMBINED_STREAMS}
    return {name: rank for name, rank in ranks.items() if rank in combined_ranks}


def _rank(group: Sequence[AccountStatus]) -> int:
    """The rank of the line for these accounts of a stream."""
    read = [account for account in group if account.configured is not False]
    if any(account.failed or account.missing or account.overdue for account in read):
        return RANK_WRONG
    if any(account.rejected or account.unread_values or account.truncated for account in read):
        return RANK_IMPERFECT
    return RANK_FINE


def _status_row(source: str, group: Sequence[AccountStatus], now: datetime, *, verbose: bool) -> list[Any]:
    """One line for accounts of one stream."""
    counts = {name: sum(getattr(account, name) for account in group) for name in COUNTS}
    states = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    days = [(account.first_day, account.last_day) for account in group if account.first_day and account.last_day]
    if days:
        states.append(_span([day for several in days for day in several]).removeprefix(", "))
    departed = {tuple(account.account.items()) for account in group if account.configured is False}
    if departed:
        where = "listed by the provider" if all(account.listed for account in group) else "in the configuration"
        what = f"{counted(len(departed), 'account')} " if any(departed) else ""
        states.append(f"{what}not {where} any more")
    read = max((account.last_read for account in group if account.last_read), default=None)
    streams = {account.stream for account in group}
    accounts = len({tuple(account.account.items()) for account in group if account.account})
    return [
        f"{source}.{group[0].stream}" if len(streams) == 1 else f"{source}: {len(streams)} snapshots",
        _account_text(group[0]) if verbose else accounts or None,
        sum(account.rows for account in group),
        ago(read, now) if read else "never",
        ", ".join(states),
    ]


def print_problems(targets: Iterable[TargetStatus], now: datetime) -> None:
    """By target, a line for the problems of one source that have one reason."""
    with_problems = [target for target in targets if target.problems]
    if not with_problems:
        print("nothing needs attention")
    for number, target in enumerate(with_problems):
        if len(with_problems) > 1:
            print(f"{chr(10) if number else ''}target {target.target}")
        for same_reason in by_reason(target.problems):
            print_text(_problem_text(same_reason, now))


def _problem_text(same_reason: Sequence[Problem], now: datetime) -> str:
    first = same_reason[0]
    accounts = list(dict.fromkeys(", ".join(problem.account.values()) for problem in same_reason if problem.account))
    streams = list(dict.fromkeys(problem.stream for problem in same_reason if problem.stream))
    where = f" in {listed(streams)}" if len(streams) > 1 else ""
    where += f" of {listed(accounts)}" if accounts else ""
    days = [day for problem in same_reason for day in (problem.first_day, problem.last_day) if day is not None]
    read = max((problem.last_read for problem in same_reason if problem.last_read), default=None)
    since = f"last read {ago(read, now)}" if read else "never read"
    count = f"{sum(problem.count for problem in same_reason)} " if first.stream else ""
    place = f"{first.source}.{first.stream}" if len(streams) == 1 else first.source
    return f"{place}: {count}{first.kind}{where}{_span(days)}, {since}: {first.reason}"


def _span(days: Sequence[date]) -> str:
    if not days:
        return ""
    return f", {min(days)}" if min(days) == max(days) else f", {min(days)} to {max(days)}"


def _totals(session: Session, name: str | None, *, json_: bool, csv_: bool, **options: Any) -> int:
    result = session.project.totals(name, **options)
    if session.print_if_json(result, json_):
        pass
    elif csv_:
        dated = [total for total in result.totals if total.period]  # a list of what there is now invoices no period
        rows = [{**{name: getattr(total, name) for name in TOTAL_COLUMNS}, **total.sums} for total in dated]
        print_csv(rows, TOTAL_COLUMNS)
    else:
        _print_totals(result.totals, daily=options["daily"])
    return result.exit_code


def _print_totals(all_totals: Sequence[Total], *, daily: bool) -> None:
    if not all_totals:
        print("nothing was delivered of these days and accounts")
    # No period is invoiced by a list of what there is now.
    without_days = [f"{total.source}.{total.stream}" for total in all_totals if not total.period]
    targets = {total.target for total in all_totals}
    streams: dict[tuple[str, str, str], list[Total]] = {}
    for total in all_totals:
        if total.period:
            streams.setdefault((total.target, total.source, total.stream), []).append(total)
    for (target, source, stream), totals in streams.items():
        print(f"{source}.{stream}" + (f" in {target}" if len(targets) > 1 else ""))
        columns = _columns_of_totals(totals, daily=daily)
        print_table(list(columns), list(zip(*columns.values(), strict=True)))
        print()
    if without_days:
        print_text(f"Not divided by days, so left out: {', '.join(dict.fromkeys(without_days))}")


def _columns_of_totals(totals: Sequence[Total], *, daily: bool) -> dict[str, list[Any]]:
    """The table of one stream: each has measures of its own."""
    accounts = [", ".join(total.account.values()) for total in totals]
    sums = dict.fromkeys(column for total in totals for column in total.sums)
    return {
        **({"account": accounts} if any(accounts) else {}),
        "period": [total.period for total in totals],
        **({} if daily else {"days": list(map(_days_of_month, totals))}),
        "open": [total.open or None for total in totals],
        "rows": [total.rows for total in totals],
        **{column: [total.sums.get(column) for total in totals] for column in sums},
    }


def _days_of_month(total: Total) -> str:
    """``28 of 30``: how many days of the month were delivered."""
    year, month = map(int, total.period.split("-"))
    return f"{total.days} of {monthrange(year, month)[1]}"


def _account_text(account: AccountStatus) -> str:
    return ", ".join(account.account.values()) + (f" ({account.timezone})" if account.timezone is not None else "")
