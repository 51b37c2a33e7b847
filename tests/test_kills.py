"""
The process is killed as kill -9 does it, at every step and at any moment; the next run leaves the provider's rows.
"""

import csv
import ctypes
import gzip
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from command_in_subprocess import command, configure
from disks import resize, small_disk
from penstock import SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server, serve
from providers import CONVERTR, JOVEO, PROVIDERS, TALROO, TARGETCIRCLE, TODAY, Provider, Row, bag

pytestmark = pytest.mark.slow

SINKS = ("jsonl", "csv")

# Every point that the code marks; a test below holds this list against the source.
PARTITION_POINTS = (
    "files.staged",
    "files.intended",
    "file.renamed",
    "files.in_place",
    "files.delivered",
    "partition.delivered",
)
CHANGES_POINTS = (
    "day.written",
    "day.staged",
    "merge.written",
    "merge.intended",
    "file.renamed",
    "files.in_place",
    "merge.delivered",
)
REPORT_POINTS = ("report.submitted",)

# The changes of Convertr, without its snapshots.
LEADS = evolve(
    CONVERTR,
    streams=("leads", "lead_data"),
    parts=lambda app, days: [key for key in CONVERTR.parts(app, days) if key[0] in ("leads", "lead_data")],
)


@define(eq=False)
class Bench:
    """A provider that is served, and a folder in which the command line reads it."""

    provider: Provider
    server: Server
    app: Any
    folder: Path
    kind: str = "jsonl"
    on_request: Callable[[int], None] = lambda number: None
    requested: list[SandboxRequest] = field(factory=list)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        self.requested.append(request)
        self.on_request(len(self.requested))
        answer: SandboxResponse = self.app(request)
        return answer

    @property
    def today(self) -> date:
        found: date = self.app.today
        return found

    @property
    def days(self) -> list[date]:
        return self.provider.window(self.today)

    def start(self, *words: str, environ: Mapping[str, str] | None = None, **more: Any) -> "subprocess.Popen[bytes]":
        days = self.days
        return command(
            self.folder,
            *("run", self.provider.name, "--to", f"{self.kind}:out", "--streams", ",".join(self.provider.streams)),
            *("--since", str(days[0]), "--until", str(days[-1]), "--report", "report.json", *words),
            environ=environ,
            **more,
        )

    def run(self, *words: str, environ: Mapping[str, str] | None = None, **more: Any) -> tuple[int, str]:
        """Exit code and stderr; also the traces of a defect, of which there must be none."""
        process = self.start(*words, environ=environ, **more)
        _, output = process.communicate()
        text = output.decode()
        assert "Traceback" not in text, text
        assert "defect" not in text, text
        return process.returncode, text

    def rows(self) -> dict[str, list[Row]]:
        """What lies in the files, by stream."""
        root = self.folder / "out" / self.provider.name
        return {
            stream: [row for file in sorted((root / stream).rglob("data.*")) for row in rows_of(file)]
            for stream in self.provider.streams
        }

    def truth(self) -> dict[str, list[Row]]:
        return self.provider.expected_by_stream(self.app, self.days)

    def assert_true(self) -> None:
        """The files hold the provider's rows, each once."""
        here, true = self.rows(), self.truth()
        for stream in self.provider.streams:
            if self.kind == "csv":
                assert len(here[stream]) == len(true[stream]), stream
                key = {"clicks": "click_id", "leads": "id", "campaigns": "id"}.get(stream)
                if key is not None and all(key in row for row in true[stream]):
                    assert sorted(row[key] for row in here[stream]) == sorted(str(row[key]) for row in true[stream])
            else:
                assert bag(here[stream]) == bag(true[stream]), stream
        assert list((self.folder / "out" / ".penstock" / "staged").rglob("*.*")) == []

    @property
    def submissions(self) -> list[tuple[str, str, bytes]]:
        """The reports that were requested: path, account and body."""
        return [
            (request.path, request.headers.get("x-client-id", ""), request.body)
            for request in self.requested
            if self.provider.submits(request)
        ]


def rows_of(file: Path) -> Iterator[Row]:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if file.name.startswith("data.csv"):
        yield from csv.DictReader(raw.decode().splitlines(keepends=True))
    else:
        for line in raw.decode().splitlines():
            yield json.loads(line, parse_float=Decimal)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Parametrised indirectly: (provider, kind of sink)."""
    provider, kind = request.param
    with serve() as server:
        app = provider.make(server.base_url, TODAY)
        made = Bench(provider, server, app, tmp_path, kind)
        server.app = made
        configure(tmp_path, provider, server.base_url)
        yield made
        assert server.errors == []


def benches(*providers: Provider, kinds: tuple[str, ...] = SINKS) -> Any:
    cases = [(provider, kind) for provider in providers for kind in kinds]
    marked = [
        pytest.param((one, kind), marks=pytest.mark.large if kind == "csv" else (), id=f"{one.name}-{kind}")
        for one, kind in cases
    ]
    return pytest.mark.parametrize("bench", marked, indirect=True)


def test_every_point_is_killed_at() -> None:
    """
    The lists above name every fault point in the code.
    """
    import re

    root = Path(__file__).parents[1]
    files = [*root.glob("core/src/**/*.py"), *root.glob("plugins/src/**/*.py")]
    named = {name for file in files for name in re.findall(r'fault_point\("([\w.]+)"\)', file.read_text())}
    of_others = {
        name for name in named if name.startswith(("postgres.", "duckdb.", "singer.", "act.", "token.", "files.moved"))
    }
    assert named - of_others == {*PARTITION_POINTS, *CHANGES_POINTS, *REPORT_POINTS}


@benches(TALROO)
@pytest.mark.parametrize("point", PARTITION_POINTS)
@pytest.mark.parametrize("number", [1, pytest.param(3, marks=pytest.mark.large)])
def test_killed_while_a_partition_is_delivered(bench: Bench, point: str, number: int) -> None:
    """
    Killed at any step of a commit, the next run, started at once, leaves exactly the provider's rows.
    """
    code, _ = bench.run(environ={"PENSTOCK_KILL_AT": f"{point}:{number}"})
    assert code == -signal.SIGKILL

    code, output = bench.run()

    assert code == 0, output
    bench.assert_true()


@benches(LEADS)
@pytest.mark.parametrize("point", CHANGES_POINTS)
def test_killed_while_changes_are_merged(bench: Bench, point: str) -> None:
    """
    Killed between the days of a changes stream or in the middle of their merge: the next run ends with each row once.
    """
    code, _ = bench.run(environ={"PENSTOCK_KILL_AT": point})
    assert code == -signal.SIGKILL

    code, output = bench.run()

    assert code == 0, output
    bench.assert_true()


@benches(TARGETCIRCLE, JOVEO, kinds=("jsonl",))
@pytest.mark.parametrize("point", [*REPORT_POINTS, "files.staged", "files.intended"])
def test_no_report_is_submitted_twice(bench: Bench, point: str) -> None:
    """
    A report whose name was read is gone on with after a crash: it is not submitted once more.
    """
    code, _ = bench.run(environ={"PENSTOCK_KILL_AT": point})
    assert code == -signal.SIGKILL
    # Reports that were requested when the process ended, but whose answer had not been read.
    unread = submitted_but_unknown(bench)

    code, output = bench.run()

    assert code == 0, output
    bench.assert_true()
    again = [one for one in set(bench.submissions) if bench.submissions.count(one) > 1]
    assert len(again) <= unread, again


def submitted_but_unknown(bench: Bench) -> int:
    """How many submissions the provider saw that the ledger does not know of, neither as under way nor as delivered."""
    with sqlite3.connect(bench.folder / "out" / ".penstock" / "ledger.sqlite") as ledger:
        (under_way,) = ledger.execute("select count(*) from reports").fetchone()
    ledger.close()
    return len(bench.submissions) - int(under_way)


def killed_at_request(bench: Bench, number: int) -> None:
    """A run whose process ends at the moment its request of this number arrives (or later, with the run)."""
    started: list[subprocess.Popen[bytes]] = []
    seen = len(bench.requested)

    def kill(count: int) -> None:
        if count - seen == number and started:
            started[0].kill()

    bench.on_request = kill
    process = bench.start()
    started.append(process)
    process.communicate()
    bench.on_request = lambda number: None


def killed_after(bench: Bench, seconds: float) -> None:
    process = bench.start()
    time.sleep(seconds)
    process.kill()
    process.communicate()


@benches(*PROVIDERS.values(), kinds=("jsonl",))
@pytest.mark.large
def test_killed_at_any_moment(bench: Bench) -> None:
    """
    The process is killed several times, at random requests and random moments. One run that is not killed then leaves
    exactly the provider's rows.
    """
    draw = random.Random(bench.provider.name)
    for _ in range(2):
        killed_at_request(bench, draw.randint(1, 12))
    killed_after(bench, draw.uniform(0.25, 0.6))

    code, output = bench.run()

    assert code == 0, output
    bench.assert_true()


@pytest.mark.soak
@benches(*PROVIDERS.values())
@pytest.mark.parametrize("seed", range(25))
def test_killed_at_many_moments(bench: Bench, seed: int) -> None:
    """
    Many rounds of kills at random moments.
    """
    draw = random.Random(seed)
    for _ in range(4):
        if draw.random() < 0.5:
            killed_at_request(bench, draw.randint(1, 30))
        else:
            killed_after(bench, draw.uniform(0.2, 1.2))

    code, output = bench.run()

    assert code == 0, output
    bench.assert_true()


@benches(TALROO, kinds=("jsonl",))
def test_killed_while_a_day_is_replaced(bench: Bench) -> None:
    """
    Killed while an open day is replaced, a reader finds the old day or the new one; afterwards it is the new one.
    """
    assert bench.run()[0] == 0
    before = {path: path.read_bytes() for path in (bench.folder / "out").rglob("data.jsonl")}
    for day in bench.days:
        bench.app.restate(day)

    code, _ = bench.run(environ={"PENSTOCK_KILL_AT": "file.renamed:2"})

    assert code == -signal.SIGKILL
    now = {path: path.read_bytes() for path in (bench.folder / "out").rglob("data.jsonl")}
    changed = [path for path in now if now[path] != before.get(path)]
    assert 1 <= len(changed) <= 2
    assert bench.run()[0] == 0
    bench.assert_true()


# --- the disk refuses -----------------------------------------------------------------------------------------------


@benches(TALROO, CONVERTR, TARGETCIRCLE, kinds=("jsonl",))
@pytest.mark.large
def test_a_full_disk_fails_partitions_by_name(bench: Bench) -> None:
    """
    Where the target takes no more bytes, what cannot be written fails by name, the rest is delivered, and the next
    run completes it.
    """
    if bench.provider is TALROO:
        bench.app.clicks_per_day = 1000
    if bench.provider is TARGETCIRCLE:
        bench.app.clicks_per_day, bench.app.rows_per_page = 3000, 600

    # Less than a day's file, and more than the ledger, which has an error of its own.
    code, output = bench.run(before=disk_with(400_000 if bench.provider is TARGETCIRCLE else 200_000))

    assert code == 1, output
    assert "Free some space and run again" in output
    lost = sum(map(len, bench.truth().values())) - sum(map(len, bench.rows().values()))
    assert lost > 0
    code, output = bench.run()
    assert code == 0, output
    bench.assert_true()


@benches(TALROO, kinds=("jsonl",))
def test_disk_full_while_days_are_replaced(bench: Bench) -> None:
    """
    A day that cannot be replaced for lack of space keeps its former rows, whole.
    """
    bench.app.clicks_per_day = 1000
    assert bench.run()[0] == 0
    before = {path: path.read_bytes() for path in (bench.folder / "out").rglob("data.jsonl")}
    for day in bench.days:
        bench.app.restate(day)

    code, output = bench.run(before=disk_with(200_000))

    assert code == 1, output
    now = {path: path.read_bytes() for path in (bench.folder / "out").rglob("data.jsonl")}
    assert now.keys() == before.keys()
    too_large = {path: content for path, content in before.items() if len(content) > 200_000}
    assert too_large
    assert {path: now[path] for path in too_large} == too_large
    assert bench.run()[0] == 0
    bench.assert_true()


@benches(TALROO, kinds=("jsonl",))
@pytest.mark.large
def test_a_disk_that_fills_up_in_the_middle_of_a_commit(bench: Bench) -> None:
    """
    Wherever the last byte goes, to a draft, to the ledger or to a directory: a day's file is whole or not there, and
    the run ends with 1. With more space the next run completes it.
    """
    bench.app.clicks_per_day = 500
    out = bench.folder / "out"
    out.mkdir()
    for kib in range(128, 720, 64):
        with small_disk(out, f"{kib}k"):
            code, output = bench.run()
            assert code == 1, output
            assert "Free some space" in output, output
            for file in (out / "talroo" / "clicks").rglob("data.jsonl"):
                account, day = (pair.partition("=")[2] for pair in file.relative_to(out).parts[2:4])
                assert bag(rows_of(file)) == bag(
                    bench.provider.expected(bench.app, bench.days)["clicks", (account, day)]
                )
            resize(out, "64m")
            code, output = bench.run()
            assert code == 0, output
            bench.assert_true()


def disk_with(free: int) -> Callable[[], None]:
    """Called in the child: no file of it grows beyond so many bytes, and a write fails, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))

    return limit


@benches(TALROO, kinds=SINKS)
def test_ledger_is_no_ledger(bench: Bench) -> None:
    """
    A ledger that is a broken file is refused in a sentence before the first request; no byte of anything changes.
    """
    assert bench.run()[0] == 0
    requested = len(bench.requested)
    state = bench.folder / "out" / ".penstock"
    for file in state.glob("ledger.sqlite*"):
        file.unlink()
    (state / "ledger.sqlite").write_bytes(b"SQLite format 3\0 and then nothing that makes sense" * 100)
    before = {path: path.read_bytes() for path in (bench.folder / "out").rglob("*") if path.is_file()}

    code, output = bench.run()

    assert code == 2, output
    assert "ledger.sqlite" in output
    assert len(bench.requested) == requested
    after = {path: path.read_bytes() for path in (bench.folder / "out").rglob("*") if path.is_file()}
    after = {path: content for path, content in after.items() if path.suffix != ".lock"}
    assert after == {path: content for path, content in before.items() if path.suffix != ".lock"}


def without_override() -> None:
    """Take from root what lets it read and write everywhere; Linux's constants are those of prctl and capabilities."""
    if os.getuid() == 0:
        drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
        for capability in (dac_override, dac_read_search):
            assert ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0


@benches(TALROO, kinds=("jsonl",))
@pytest.mark.parametrize("what", ["a file in its place", "a file in place of its state", "not permitted"])
def test_target_cannot_be_written(bench: Bench, what: str) -> None:
    """
    A target that is a file, or a directory without the right to write, is refused before the first request.
    """
    out = bench.folder / "out"
    if what == "a file in its place":
        out.write_text("mine")
    elif what == "a file in place of its state":
        out.mkdir()
        (out / ".penstock").write_text("mine")
    else:
        out.mkdir(mode=0o555)

    code, output = bench.run(before=without_override)

    assert code == 2, output
    assert "out" in output
    assert bench.requested == []


def _with_mode(mode: int) -> Callable[[Path], Callable[[], None]]:
    def spoil(directory: Path) -> Callable[[], None]:
        folders = [directory, *(path for path in directory.iterdir() if path.is_dir())] if mode else [directory]
        for folder in folders:
            folder.chmod(mode)
        return lambda: [folder.chmod(0o755) for folder in folders] and None

    return spoil


def _behind_a_link(directory: Path) -> Callable[[], None]:
    """The directory is a symlink to a volume that is not mounted."""
    kept = directory.parent.parent / "kept"
    directory.rename(kept)
    directory.symlink_to(directory.parent.parent / "unmounted")

    def mend() -> None:
        directory.unlink()
        kept.rename(directory)

    return mend


@benches(TARGETCIRCLE, kinds=("jsonl",))
@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        pytest.param(_with_mode(0o555), "Permission denied", id="not writable"),
        pytest.param(_with_mode(0), "Permission denied", id="not readable"),
        pytest.param(_behind_a_link, "is a symlink to", id="a link to nothing"),
    ],
)
def test_a_directory_that_cannot_be_used_concerns_its_stream_only(
    bench: Bench, spoil: Callable[[Path], Callable[[], None]], seen: str
) -> None:
    """
    The partitions of a stream whose directory cannot be used fail before anything is fetched for them, the other
    streams are delivered, and nothing that was delivered there counts as missing: the next run that can use the
    directory leaves the provider's rows.
    """
    assert bench.run()[0] == 0
    stream = bench.provider.streams[0]
    mend = spoil(bench.folder / "out" / bench.provider.name / stream)
    bench.requested.clear()

    code, output = bench.run("--full", before=without_override)

    assert code == 1, output
    assert f"out/{bench.provider.name}/{stream}" in output
    assert seen in output
    streams = json.loads((bench.folder / "report.json").read_text())["sources"][bench.provider.name]["streams"]
    for name, found in streams.items():
        counts = found["partitions"]
        assert counts["failed" if name == stream else "delivered"] == counts["planned"] > 0, name
    mend()
    assert bench.run()[0] == 0
    bench.assert_true()


@benches(TALROO, kinds=("jsonl",))
def test_file_that_is_gone_is_missing(bench: Bench) -> None:
    """
    A delivered file that somebody removed is read again by the next run.
    """
    assert bench.run()[0] == 0
    victim = sorted((bench.folder / "out").rglob("data.jsonl"))[0]
    victim.unlink()

    assert bench.run()[0] == 0
    bench.assert_true()
    assert victim.exists()
