"""
How cost grows: with the partitions of a run, with the history in the ledger, and with the processes of a run.

Each measurement is a whole process (start-up included, the provider not), and so is the floor beside it. One line each:
what, size, CPU seconds, wall seconds, peak MiB. Sizes are options; the defaults take a minute or two:

    python benchmarks/scale.py                                        all of it, small
    python benchmarks/scale.py --parts run --partitions 1000 10000 40000
    python benchmarks/scale.py --parts history --ledger-rows 1000000
    python benchmarks/scale.py --parts workers --workers 1 2 --rows 5000
"""

import argparse
import json
import os
import resource
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

HERE = Path(__file__).parent
FIRST = date(2020, 1, 1)
ACCOUNTS = 1000


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--parts", nargs="+", default=["run", "history", "workers"])
    words.add_argument("--partitions", nargs="+", type=int, default=[500, 2000])
    words.add_argument("--ledger-rows", nargs="+", type=int, default=[10_000, 100_000])
    words.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    words.add_argument("--rows", type=int, default=5000, help="of each partition, for the workers")
    words.add_argument("--days", type=int, default=20, help="of 8 accounts, for the workers")
    words.add_argument("--child", help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.child:
        child(**json.loads(given.child))
        return
    print(f"{'what':42} {'size':>10} {'CPU s':>8} {'wall s':>8} {'MiB':>6}")
    for part in given.parts:
        {"run": run_sizes, "history": history_sizes, "workers": worker_numbers}[part](given)


# --- what is measured -------------------------------------------------------------------------------------------------


def run_sizes(given: argparse.Namespace) -> None:
    """A first run of many small partitions, a second one that finds all of them final, and the floor of the disk."""
    for count in given.partitions:
        accounts = min(ACCOUNTS, count)
        with provider() as base_url, folder(base_url, accounts=accounts, rows=20) as place:
            window = {"since": FIRST, "until": FIRST + timedelta(days=count // accounts - 1)}
            measured("first run, JSON lines", count, "run", place, to=f"jsonl:{place}/out", **window)
            measured("the same again, all final", count, "run", place, to=f"jsonl:{place}/out", **window)
            measured("floor: a request, a file with fsync, a row each", count, "floor", place, base_url=base_url)


def history_sizes(given: argparse.Namespace) -> None:
    """A ledger with a long history, and commands that concern a little of it."""
    for rows in given.ledger_rows:
        with provider() as base_url, folder(base_url, accounts=ACCOUNTS, rows=20) as place:
            days = rows // ACCOUNTS
            filled(place, days)
            last = FIRST + timedelta(days=days - 1)
            to = f"jsonl:{place}/out"
            measured("plan of the last day", rows, "plan", place, to=to, since=last, until=last)
            measured("status", rows, "status", place, to=to)
            ten = [f"a{number:05}" for number in range(10)]
            next_day = last + timedelta(days=1)
            measured("run of ten partitions", rows, "run", place, to=to, since=next_day, until=next_day, accounts=ten)
            measured("forget of a day", rows, "forget", place, to=to, since=last, until=last)


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
            )
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
def folder(base_url: str, *, accounts: int, rows: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="penstock-scale-") as name:
        place = Path(name)
        (place / "penstock.toml").write_text(
            f'[source.scale]\nbase_url = "{base_url}"\naccounts_count = {accounts}\nrows = {rows}\nstart = {FIRST}\n'
        )
        yield place


def measured(what: str, size: int, call: str, place: Path, **options: Any) -> float:
    """Call a method of the project in a process of its own, and print its cost. Returns wall seconds."""
    order = json.dumps({"call": call, "place": str(place), "options": options}, default=str)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, "--child", order], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    failed = f"  exit {os.waitstatus_to_exitcode(status)}" if status else ""
    cpu, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{what:42} {size:>10} {cpu:>8.2f} {wall:>8.2f} {mib:>6.0f}{failed}", flush=True)
    process.returncode = 0
    return wall


def child(call: str, place: str, options: dict[str, Any]) -> None:
    if call == "floor":
        floor(Path(place), **options)
        return
    import penstock_plugins
    import scale_provider
    from penstock import Project

    project = Project(Path(place) / "penstock.toml", plugins=[scale_provider, penstock_plugins])
    for name in ("since", "until"):
        if name in options:
            options[name] = date.fromisoformat(options[name])
    arguments = ("scale", "rows") if call == "forget" else ("scale",)
    method: Callable[..., Any] = getattr(project, call)
    result = method(*arguments, **options)
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = {"self": own.ru_utime + own.ru_stime, "children": children.ru_utime + children.ru_stime}
    (Path(place) / "used.json").write_text(json.dumps(seconds))
    sys.exit(getattr(result, "exit_code", 0))


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
        "select count(distinct account), count(distinct day) from partitions"
    )
    accounts, days = found.fetchone()
    return int(accounts), int(days)


def filled(place: Path, days: int) -> None:
    """A ledger in which every account's days are final, without rows."""
    from penstock_plugins.files.jsonl import JsonLines
    from penstock_plugins.files.sink import FileSink

    target = FileSink(directory=place / "out", codec=JsonLines()).open("scale", "fill")
    target.close()
    ledger = sqlite3.connect(place / "out" / ".penstock" / "ledger.sqlite", isolation_level=None)
    ledger.execute("begin")
    for day in range(days):
        shown = (FIRST + timedelta(days=day)).isoformat()
        ledger.executemany(
            "insert into partitions (source, stream, partition, state, run_id, read_at, open_until, fingerprint, rows, "
            "rejected, repeated, truncated, attempts, version, sums, derived_rows, files) values ('scale', 'rows', ?, "
            "'delivered', 'fill', '2025-01-01T00:00:00.000000+00:00', '2024-01-01T00:00:00.000000+00:00', ?, 0, 0, 0, "
            "0, 0, 1, '{}', '{}', '[]')",
            [(f'{{"account":"a{account:05}","day":"{shown}"}}', fingerprint()) for account in range(ACCOUNTS)],
        )
    ledger.execute("commit")
    ledger.close()


def fingerprint(found: Sequence[str] = ()) -> str:
    """That of the stream with the settings of :func:`folder`, none of which affect the data."""
    import scale_provider
    from penstock._plan.planner import fingerprint as of

    if not _fingerprints:
        settings = scale_provider.ScaleSettings(base_url="http://127.0.0.1:1")
        _fingerprints.append(of(settings, next(iter(scale_provider.penstock_record_streams("scale")))))
    return _fingerprints[0]


_fingerprints: list[str] = []

if __name__ == "__main__":
    main()
