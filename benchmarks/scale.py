"""
How cost grows: with the partitions of a run, with its sources, with the history in the ledger, with the rows of a file
or a table, and with the processes of a run.

Each measurement is a whole process (start-up included, the provider not), and so is the floor beside it. One line each:
what, size, CPU seconds, wall seconds, peak MiB. At the end each cost is drawn against its size, as a multiple of
something of the same run: compare these, since seconds depend on what else the machine does. Sizes are options; the
defaults take a few minutes:

    python benchmarks/scale.py                                        all of it, small
    python benchmarks/scale.py --parts run --partitions 1000 10000 40000
    python benchmarks/scale.py --parts syncs --partitions 2000        calls of fsync (needs strace)
    python benchmarks/scale.py --parts sources --sources 1000         sources of ten partitions each
    python benchmarks/scale.py --parts history --ledger-rows 1000000
    python benchmarks/scale.py --parts changes --file-rows 1000000    10,000 rows into a file and a table
    python benchmarks/scale.py --parts report --rows 10000000         a packed CSV report
    python benchmarks/scale.py --parts workers --workers 1 2 --rows 5000

Days of a large Postgres table, read across accounts and replaced a hundred times, are in ``postgres_days.py``.
"""

import argparse
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from attrs import frozen

PARTS = {
    "run": "run_sizes",
    "syncs": "syncs",
    "sources": "source_numbers",
    "history": "history_sizes",
    "accounts": "account_numbers",
    "changes": "changes_sizes",
    "report": "report_sizes",
    "postgres": "small_partitions",
    "workers": "worker_numbers",
}
HERE = Path(__file__).parent
FIRST = date(2020, 1, 1)
ACCOUNTS = 1000


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    words.add_argument("--partitions", nargs="+", type=int, default=[500, 2000])
    words.add_argument("--sources", nargs="+", type=int, default=[10, 100], help="of ten partitions each")
    words.add_argument("--ledger-rows", nargs="+", type=int, default=[10_000, 100_000])
    words.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    words.add_argument("--accounts", nargs="+", type=int, default=[1000, 10_000], help="of a ledger of 100,000 rows")
    words.add_argument("--file-rows", nargs="+", type=int, default=[30_000, 300_000], help="of a file of changes")
    words.add_argument("--rows", type=int, default=5000, help="of each partition, for the workers; of a report")
    words.add_argument("--days", type=int, default=20, help="of 8 accounts, for the workers")
    words.add_argument("--child", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.child:
        child(**json.loads(given.child))
        return
    print(f"{'what':42} {'size':>10} {'CPU s':>8} {'wall s':>8} {'MiB':>6}")
    for part in given.parts:
        globals()[PARTS[part]](given)
    draw()


# --- what is measured -------------------------------------------------------------------------------------------------


def run_sizes(given: argparse.Namespace) -> None:
    """A first run of many small partitions, a second one that finds all of them final, and the floor of the disk."""
    for count in given.partitions:
        accounts = min(ACCOUNTS, count)
        with provider() as base_url, folder(base_url, accounts=accounts, rows=20) as place:
            window = {"since": FIRST, "until": FIRST + timedelta(days=count // accounts - 1)}
            to = f"jsonl:{place}/out"
            first = measured("first run, JSON lines", count, "run", place, to=to, **window)
            again = measured("the same again, all final", count, "run", place, to=to, **window)
            floor = measured(
                "floor: a request, a file with fsync, a row each", count, "floor", place, base_url=base_url
            )
            curve("first run / floor", count, first.cpu_s / floor.cpu_s)
            curve("all final / floor", count, again.cpu_s / floor.cpu_s)


def syncs(given: argparse.Namespace) -> None:
    """Calls that wait for the disk, of a first run and of the floor, for each partition."""
    for count in given.partitions if shutil.which("strace") else ():
        accounts = min(ACCOUNTS, count)
        with provider() as base_url, folder(base_url, accounts=accounts, rows=20) as place:
            window = {"since": FIRST, "until": FIRST + timedelta(days=count // accounts - 1)}
            to = f"jsonl:{place}/out"
            first = measured("first run, under strace", count, "run", place, counted=True, to=to, **window)
            floor = measured("floor, under strace", count, "floor", place, counted=True, base_url=base_url)
            print(
                f"{'syncs of a partition':42} {count:>10} {first.syncs / count:>8.2f}, floor {floor.syncs / count:.2f}"
            )
            curve("syncs / floor", count, first.syncs / floor.syncs)


def source_numbers(given: argparse.Namespace) -> None:
    """As the part ``run``, with ten partitions in each of many sources, that a pipeline reads; and by two processes."""
    for count in given.sources:
        names = [f"s{number:04}" for number in range(count)]
        with provider() as base_url, folder(base_url, accounts=10, rows=20, sources=names) as place:
            window = {"since": FIRST, "until": FIRST}
            first = measured("first run of many sources", count, "run", place, name="all", **window)
            again = measured("the same again, all final", count, "run", place, name="all", **window)
            floor = measured(
                "floor: a request, a file with fsync, a row each", count, "floor", place, base_url=base_url
            )
            more: dict[str, Any] = {"workers": 2, "full": True, **window}
            measured("by two processes, all read again", count, "run", place, name="all", **more)
            curve("first run of many sources / floor", count, first.cpu_s / floor.cpu_s)
            curve("many sources, all final / floor", count, again.cpu_s / floor.cpu_s)


def history_sizes(given: argparse.Namespace) -> None:
    """A ledger with a long history, and commands that concern a little of it."""
    for rows in given.ledger_rows:
        with provider() as base_url, folder(base_url, accounts=ACCOUNTS, rows=20) as place:
            days = rows // ACCOUNTS
            filled(place, days)
            last = FIRST + timedelta(days=days - 1)
            to = f"jsonl:{place}/out"
            ten = [f"a{number:05}" for number in range(10)]
            next_day = last + timedelta(days=1)
            costs = {
                "plan of the last day": measured(
                    "plan of the last day", rows, "plan", place, to=to, since=last, until=last
                ),
                "plan of all days": measured("plan of all days", rows, "plan", place, to=to, until=last),
                "status": measured("status", rows, "status", place, to=to),
                "run of ten partitions": measured(
                    "run of ten partitions", rows, "run", place, to=to, since=next_day, until=next_day, accounts=ten
                ),
                "verify of a day": measured("verify of a day", rows, "verify", place, to=to, since=last, until=last),
                "forget of a day": measured("forget of a day", rows, "forget", place, to=to, since=last, until=last),
            }
            start = measured("start: a layout", rows, "layouts", place)
            for what, cost in costs.items():
                curve(f"{what} / start", rows, cost.cpu_s / start.cpu_s)


def account_numbers(given: argparse.Namespace) -> None:
    """The same ledger of 100,000 rows, of more accounts with fewer days each."""
    for accounts in given.accounts:
        with provider() as base_url, folder(base_url, accounts=accounts, rows=20) as place:
            days = 100_000 // accounts
            filled(place, days, accounts)
            last = FIRST + timedelta(days=days - 1)
            to = f"jsonl:{place}/out"
            plan = measured("plan of the last day, by accounts", accounts, "plan", place, to=to, since=last, until=last)
            every = measured("plan of all days, by accounts", accounts, "plan", place, to=to, until=last)
            status = measured("status, by accounts", accounts, "status", place, to=to)
            start = measured("start: a layout", accounts, "layouts", place)
            for what, cost in (("plan of a day", plan), ("plan of all days", every), ("status", status)):
                curve(f"{what} by accounts / start", accounts, cost.cpu_s / start.cpu_s)


def changes_sizes(given: argparse.Namespace) -> None:
    """A day of 10,000 changed rows, into one file of so many rows and into such a table."""
    from postgres import server

    for rows in given.file_rows:
        with provider() as base_url, server().database() as dsn:
            for name, sink in (("a file", "jsonl:{place}/out"), ("Postgres", dsn)):
                with folder(base_url, accounts=1, rows=20, more=f"changed = {rows}\nmax_body_mib = 8192\n") as place:
                    options = {"to": sink.format(place=place), "streams": ["changes"]}
                    measured(f"changes into {name}, first", rows, "run", place, since=FIRST, until=FIRST, **options)
                    edited(place, f"changed = {rows}", "changed = 10000")
                    day = FIRST + timedelta(days=1)
                    cost = measured(f"10,000 changes into {name}", rows, "run", place, since=day, until=day, **options)
                    written = json.loads((place / "used.json").read_text())["written"] / 2**20
                    print(f"{'':42} {rows:>10} {written:>8.1f} MiB written by the run")
                    start = measured("start: a layout", rows, "layouts", place)
                    curve(f"10,000 changes into {name} / start", rows, cost.cpu_s / start.cpu_s)


def report_sizes(given: argparse.Namespace) -> None:
    """A packed CSV report, the same rows as JSON lines and as one body: memory over start-up, CPU without it."""
    for rows in (given.rows // 10, given.rows):
        bounds = "max_report_mib = 8192\nmax_body_mib = 8192\n"
        with provider() as base_url, folder(base_url, accounts=1, rows=rows, more=bounds) as place:
            start = measured("start: a layout", rows, "layouts", place)
            cpu_s: dict[str, float] = {}
            for stream, what in (
                ("report", "a packed CSV report"),
                ("lines", "a packed report of JSON lines"),
                ("body", "one JSON body"),
            ):
                options = {"to": f"csv:{place}/out", "streams": [stream], "since": FIRST, "until": FIRST}
                cost = measured(what, rows, "run", place, **options)
                cpu_s[stream] = cost.cpu_s - start.cpu_s
                print(f"{'':42} {rows:>10} {cost.mib - start.mib:>8.0f} MiB over start-up")
                curve(f"{what}: MiB over start-up / MiB of start-up", rows, (cost.mib - start.mib) / start.mib)
            curve("packed CSV report / JSON lines, CPU without start-up", rows, cpu_s["report"] / cpu_s["lines"])


def small_partitions(given: argparse.Namespace) -> None:
    """Statements of a small partition in Postgres, first and restated."""
    from postgres import server

    for count in given.partitions:
        accounts = min(ACCOUNTS, count)
        with provider() as base_url, server().database() as dsn, folder(base_url, accounts=accounts, rows=20) as place:
            window = {"since": FIRST, "until": FIRST + timedelta(days=count // accounts - 1)}
            for what, rows in (("first", 20), ("restated", 19)):
                edited(place, "rows = 20", f"rows = {rows}")
                measured(
                    f"small partitions to Postgres, {what}",
                    count,
                    "run",
                    place,
                    to=dsn,
                    full=True,
                    statements=True,
                    **window,
                )
                statements = json.loads((place / "used.json").read_text())["statements"] / count
                print(f"{'':42} {count:>10} {statements:>8.2f} statements of a partition")
                curve(f"Postgres, {what}: statements of a partition / 1", count, statements)


def worker_numbers(given: argparse.Namespace) -> None:
    """
    The same work, bound by CPU, by several numbers of processes. How many times as fast as with the first number: in
    wall time, and in CPU time of the coordinator plus one worker, which does not depend on what else the machine does.
    """
    first: tuple[float, float] | None = None
    for workers in given.workers:
        with provider() as base_url, folder(base_url, accounts=8, rows=given.rows) as place:
            window = {"since": FIRST, "until": FIRST + timedelta(days=given.days - 1)}
            to = f"jsonl:{place}/out"
            wall = measured(
                f"{8 * given.days} x {given.rows} rows", workers, "run", place, to=to, workers=workers, **window
            ).wall_s
            used = json.loads((place / "used.json").read_text())
            path = used["self"] + used["children"] / workers
            first = first or (wall, path)
            print(f"{'':42} {first[0] / wall:>10.2f} by wall time, {first[1] / path:.2f} by CPU of the longest path")


# --- how --------------------------------------------------------------------------------------------------------------


@contextmanager
def provider() -> Iterator[str]:
    command = [sys.executable, str(HERE / "scale_provider.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


@contextmanager
def folder(
    base_url: str, *, accounts: int, rows: int, more: str = "", sources: Sequence[str] = ("scale",)
) -> Iterator[Path]:
    """A directory with a configuration: sources of these names, and a pipeline of all."""
    with tempfile.TemporaryDirectory(prefix="penstock-scale-") as name:
        place = Path(name)
        (place / "penstock.toml").write_text(
            "".join(
                f'[source.{source}]\nconnector = "scale"\nbase_url = "{base_url}"\naccounts_count = {accounts}\n'
                f"rows = {rows}\nstart = {FIRST}\n{more}"
                for source in sources
            )
            + f'[pipeline.all]\nsource = {list(sources)}\nsink = "jsonl:{place}/out"\n'
        )
        yield place


def edited(place: Path, old: str, new: str) -> None:
    """Change the configuration of :func:`folder`."""
    file = place / "penstock.toml"
    file.write_text(re.sub(rf"^{old}$", new, file.read_text(), flags=re.MULTILINE))


@frozen
class Cost:
    cpu_s: float
    wall_s: float
    mib: float
    syncs: int


def measured(what: str, size: int, call: str, place: Path, *, counted: bool = False, **options: Any) -> Cost:
    """Call a method of the project in a process of its own, and print its cost. ``counted``: with its syncs."""
    order = json.dumps({"call": call, "place": str(place), "options": options}, default=str)
    trace = place / "syncs"
    strace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)] if counted else []
    began = time.monotonic()
    process = subprocess.Popen([*strace, sys.executable, __file__, "--child", order], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    failed = f"  exit {os.waitstatus_to_exitcode(status)}" if status else ""
    cpu, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{what:42} {size:>10} {cpu:>8.2f} {wall:>8.2f} {mib:>6.0f}{failed}", flush=True)
    process.returncode = 0
    calls = re.findall(r"\b(?:fsync|fdatasync)\(", trace.read_text()) if counted else ()
    return Cost(cpu, wall, mib, len(calls))


_curves: dict[str, list[tuple[int, float]]] = {}


def curve(what: str, size: int, ratio: float) -> None:
    """A point to draw. ``what`` names what it is a multiple of."""
    _curves.setdefault(what, []).append((size, ratio))


def draw() -> None:
    """Each curve as bars. A cost that follows the work has bars of one length, where the floor grows with it."""
    for what, points in _curves.items():
        print(f"\n{what}")
        widest = max(ratio for _, ratio in points)
        for size, ratio in points:
            print(f"{size:>12,} {ratio:>7.2f}  {'#' * max(1, round(40 * ratio / widest))}")


def child(call: str, place: str, options: dict[str, Any]) -> None:
    if call == "floor":
        floor(Path(place), **options)
        return
    import penstock_plugins
    import scale_provider
    from penstock import Project

    project = Project(Path(place) / "penstock.toml", plugins=[scale_provider, penstock_plugins])
    statements = counting() if options.pop("statements", False) else [0]
    for name in ("since", "until"):
        if name in options:
            options[name] = date.fromisoformat(options[name])
    arguments = {"forget": ("scale", "rows")}.get(call, (options.pop("name", "scale"),))
    if call in ("run", "plan"):
        options.setdefault("streams", ["rows"])
    method: Callable[..., Any] = getattr(project, call)
    result = method(*arguments, **options)
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used: dict[str, float] = {"self": own.ru_utime + own.ru_stime, "children": children.ru_utime + children.ru_stime}
    used["statements"] = statements[0]
    if (io := Path("/proc/self/io")).exists():
        used["written"] = int(re.findall(r"wchar: (\d+)", io.read_text())[0])
    (Path(place) / "used.json").write_text(json.dumps(used))
    sys.exit(getattr(result, "exit_code", 0))


def counting() -> list[int]:
    """Counts the statements that are sent to Postgres from now on."""
    from psycopg import Cursor

    count = [0]
    execute: Callable[..., Any] = Cursor.execute

    def counted(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        return execute(*arguments, **options)

    Cursor.execute = counted  # type: ignore[method-assign]
    return count


def floor(place: Path, base_url: str) -> None:
    """What the same partitions cost at least: a request, a file that is synced, a row that is committed."""
    import urllib3

    accounts, days = sized(place)
    pool = urllib3.PoolManager()
    ledger = sqlite3.connect(place / "floor.sqlite", isolation_level=None)
    ledger.execute("pragma journal_mode = wal")
    ledger.execute("pragma synchronous = full")
    ledger.execute("create table done (account text, day text, size int, crc int, primary key (account, day))")
    for account in range(accounts):
        (place / "floor" / f"{account}").mkdir(parents=True)
        for day in range(days):
            body = pool.request("GET", f"{base_url}/rows?account={account}&day={day}&rows=20").data
            lines = b"".join(json.dumps(row).encode() + b"\n" for row in json.loads(body)["rows"])
            with (place / "floor" / f"{account}" / f"{day}.jsonl").open("wb") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            ledger.execute("insert into done values (?, ?, ?, ?)", (account, day, len(lines), zlib.crc32(lines)))


def sized(place: Path) -> tuple[int, int]:
    """Accounts and days that the run before has delivered."""
    found = sqlite3.connect(place / "out" / ".penstock" / "ledger.sqlite").execute(
        "select count(distinct source || ' ' || account), count(distinct day) from partitions"
    )
    accounts, days = found.fetchone()
    return int(accounts), int(days)


def filled(place: Path, days: int, accounts: int = ACCOUNTS) -> None:
    """A ledger in which every account's days are final, without rows."""
    from penstock_plugins.files.jsonl import JsonLines
    from penstock_plugins.files.sink import FileSink

    target = FileSink(directory=place / "out", codec=JsonLines()).open("scale", "fill")
    target.close()
    ledger = sqlite3.connect(place / "out" / ".penstock" / "ledger.sqlite", isolation_level=None)
    ledger.execute("begin")
    names = [f"a{account:05}" for account in range(accounts)]
    for day in range(days):
        shown = (FIRST + timedelta(days=day)).isoformat()
        ledger.executemany(
            "insert into partitions (source, stream, partition, state, run_id, read_at, open_until, fingerprint, rows, "
            "rejected, repeated, truncated, attempts, version, sums, derived_rows, files) values ('scale', 'rows', ?, "
            "'delivered', 'fill', '2025-01-01T00:00:00.000000+00:00', '2024-01-01T00:00:00.000000+00:00', ?, 0, 0, 0, "
            "0, 0, 1, '{}', '{}', ?)",
            [
                (
                    f'{{"account":"{name}","day":"{shown}"}}',
                    fingerprint(),
                    f'[{{"path":"scale/rows/by_account={name}/by_day={shown}/data.jsonl"}}]',
                )
                for name in names
            ],
        )
    ledger.execute("commit")
    ledger.close()


def fingerprint(found: Sequence[str] = ()) -> str:
    """That of the stream with the settings of :func:`folder`, none of which affect the data."""
    import scale_provider
    from penstock._plan.finality import fingerprint as of

    if not _fingerprints:
        settings = scale_provider.ScaleSettings(base_url="http://127.0.0.1:1")
        _fingerprints.append(of(settings, next(iter(scale_provider.penstock_record_streams("scale")))))
    return _fingerprints[0]


_fingerprints: list[str] = []

if __name__ == "__main__":
    main()
