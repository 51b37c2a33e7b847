"""
The table of docs/performance.md: penstock against a loop written by hand (floor.py), both as whole processes.

Runs are interleaved and medians are shown: CPU seconds (user and system, of the process), wall seconds, and peak
memory; each run's records are counted in its target. ``make bench`` prepares the environment and runs this; by hand,
with the Python of an environment that holds penstock-core, penstock-plugins[postgres], connector-bench and orjson::

    VENV/bin/python benchmarks/table.py [--rounds 5] [--only REGEX] [--small VENV]
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from attrs import frozen
from sizes import FIRST_DAY

HERE = Path(__file__).parent
PYTHON = Path(sys.executable)
DAYS = 10
SIZES = {"leads": 20_000, "jobs": 100_000, "clicks": 200_000}


@frozen
class Sample:
    cpu_s: float
    wall_s: float
    peak_mib: float


@frozen(kw_only=True)
class Work:
    """A line of the table. ``stream`` is the floor's word, ``ours`` the connector's."""

    name: str
    stream: str
    to: str  # jsonl, csv or postgresql
    goal: str
    ours: str = ""
    latency_ms: int = 0
    judged_by: str = "CPU"


WORKS = (
    Work(name="200,000 clicks to JSON lines", stream="clicks", to="jsonl", goal="0.8"),
    Work(name="200,000 clicks to CSV", stream="clicks", to="csv", goal="1.25"),
    Work(name="200,000 clicks to Postgres, days replaced", stream="clicks", to="postgresql", goal="1.1"),
    Work(
        name="200,000 clicks to Postgres, merged by key",
        stream="clicks",
        ours="merged_clicks",
        to="postgresql",
        goal="1.2",
    ),
    Work(name="100,000 jobs to JSON lines", stream="jobs", to="jsonl", goal="1.4"),
    Work(name="20,000 leads to JSON lines", stream="leads", to="jsonl", goal="1.6"),
    Work(
        name="20,000 leads, 20 ms a request, 8 at a time",
        stream="leads",
        to="jsonl",
        goal="1.25",
        latency_ms=20,
        judged_by="wall",
    ),
    Work(
        name="20,000 leads, 50 ms a request, 8 at a time",
        stream="leads",
        to="jsonl",
        goal="1.25",
        latency_ms=50,
        judged_by="wall",
    ),
)


# --- running --------------------------------------------------------------------------------------------------------


def measured(command: Sequence[str], folder: Path) -> Sample:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    began, peak = time.monotonic(), 0
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    while True:
        try:
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
        except OSError:
            pass
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.002)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    return Sample(used.ru_utime + used.ru_stime, wall_s, peak / 1024)


@contextmanager
def provider(*words: str) -> Iterator[str]:
    server = subprocess.Popen([PYTHON, HERE / "provider.py", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.kill()
        server.wait()


def penstock(url: str, stream: str, to: str, days: int = DAYS) -> list[str]:
    words = [str(PYTHON.with_name("penstock")), "-q", "run", "bench", "--set", f"source.bench.base_url={url}"]
    if "clicks" in stream:
        words += ["--since", str(FIRST_DAY), "--until", str(FIRST_DAY + timedelta(days=days - 1))]
    return [*words, "--streams", stream, "--to", to]


def floor(url: str, work: Work, to: str) -> list[str]:
    words = [str(PYTHON), str(HERE / "floor.py"), work.stream, to, url, "--days", str(DAYS)]
    words += ["--threads", "8"] if work.latency_ms else []
    return [*words, "--merge"] if work.ours else words


def count_in(folder: Path, suffix: str) -> int:
    lines = heads = 0
    for path in folder.rglob(f"*.{suffix}"):
        with path.open("rb") as file:
            lines += sum(1 for _ in file)
        heads += suffix == "csv"
    return lines - heads


def one_round(work: Work, url: str, dsn: str | None) -> tuple[Sample, Sample]:
    """The floor's and ours, on fresh targets, both counted."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    (folder / "floor").mkdir()
    stream = work.ours or work.stream
    try:
        if work.to != "postgresql":
            os.sync()
            theirs = measured(floor(url, work, f"{work.to}:{folder / 'floor' / f'o.{work.to}'}"), folder)
            ours = measured(penstock(url, stream, f"{work.to}:{folder / 'ours'}"), folder)
            counts = [count_in(folder / name, work.to) for name in ("floor", "ours")]
        else:
            import psycopg

            assert dsn is not None
            with psycopg.connect(dsn, autocommit=True) as session:
                for schema in ("floor", "bench", "penstock"):
                    session.execute(f"drop schema if exists {schema} cascade")
                theirs = measured(floor(url, work, dsn), folder)
                ours = measured(penstock(url, stream, dsn), folder)
                tables = ("floor.clicks", f"bench.{stream}")
                counts = [session.execute(f"select count(*) from {table}").fetchone()[0] for table in tables]  # type: ignore[index]
        if counts != [SIZES[work.stream]] * 2:
            raise SystemExit(f"{work.name}: {counts} records arrived")
        return theirs, ours
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- showing --------------------------------------------------------------------------------------------------------


def median(samples: Sequence[Sample], what: str) -> float:
    return statistics.median(getattr(one, what) for one in samples)


def throughput(works: Sequence[Work], rounds: int) -> None:
    from postgres import NoPostgresError, server

    dsn: str | None = None
    try:
        database = server().database()
        dsn = database.__enter__()
    except NoPostgresError as error:
        print(f"(no Postgres: {error})\n")
    print("| Work | floor: CPU s, wall s, MiB | penstock: CPU s, wall s, MiB | CPU / floor | wall / floor | goal |")
    print("| --- | --- | --- | ---: | ---: | --- |")
    sizes = [*("--leads", str(SIZES["leads"]), "--jobs", str(SIZES["jobs"]), "--days", str(DAYS))]
    sizes += ["--clicks-per-day", str(SIZES["clicks"] // DAYS)]
    for work in works:
        if work.to == "postgresql" and dsn is None:
            continue
        with provider(*sizes, "--latency-ms", str(work.latency_ms)) as url:
            one_round(work, url, dsn)  # files and code come from the disk once
            rows = [one_round(work, url, dsn) for _ in range(rounds)]
        theirs, ours = [row[0] for row in rows], [row[1] for row in rows]
        shown = [
            f"{median(one, 'cpu_s'):.2f}, {median(one, 'wall_s'):.2f}, {median(one, 'peak_mib'):.0f}"
            for one in (theirs, ours)
        ]
        ratios = [median(ours, what) / median(theirs, what) for what in ("cpu_s", "wall_s")]
        print(
            f"| {work.name} | {shown[0]} | {shown[1]} | {ratios[0]:.2f} | {ratios[1]:.2f} | "
            f"{work.judged_by} at most {work.goal} |",
            flush=True,
        )


def start_up(rounds: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    bare: list[Sample] = []
    helped: list[Sample] = []
    ran: list[Sample] = []
    with provider("--leads", "1") as url:
        for number in range(rounds + 1):
            bare.append(measured([str(PYTHON), "-c", "pass"], folder))
            helped.append(measured([str(PYTHON.with_name("penstock")), "--help"], folder))
            ran.append(measured(penstock(url, "leads", f"jsonl:{folder / str(number)}"), folder))
    shutil.rmtree(folder, ignore_errors=True)
    print("\n| Start-up | CPU ms | wall ms | over a bare interpreter, CPU ms | wall ms | goal |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for name, samples, goal in (
        ("`python -c pass`", bare, ""),
        ("`penstock --help`", helped, "60 more"),
        ("a run of one record", ran, "220 more"),
    ):
        cpu, wall = (1000 * median(samples[1:], what) for what in ("cpu_s", "wall_s"))
        over = [1000 * median(bare[1:], what) for what in ("cpu_s", "wall_s")]
        print(f"| {name} | {cpu:.0f} | {wall:.0f} | {cpu - over[0]:.0f} | {wall - over[1]:.0f} | {goal} |")


def installed(venv: Path) -> None:
    packages = next(venv.glob("lib/python3*/site-packages"))
    files = [path for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")} - {"pip", "setuptools"}
    mib = sum(path.stat().st_size for path in files) / 2**20
    print("\n| Installed: core, file sinks, one connector | | goal |\n| --- | ---: | --- |")
    print(f"| MiB, without bytecode | {mib:.1f} | 12 |\n| distributions | {len(names)} | 14 |")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--only", default="", metavar="REGEX", help="only works whose name matches")
    words.add_argument("--small", type=Path, metavar="VENV", help="an environment whose size is measured")
    given = words.parse_args()
    throughput([work for work in WORKS if re.search(given.only, work.name)], given.rounds)
    if not given.only:
        start_up(2 * given.rounds)
    if given.small:
        installed(given.small)


if __name__ == "__main__":
    main()
