"""
Outputs that remember nothing: one file, and standard output.
"""

import fcntl
import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from penstock import Batch, LockHeldError, OutputClosedError, TargetError, UsageError
from penstock.sinks import Divisible, Staging
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    LEADS,
    SOURCE,
    TAGS,
    a_day,
    a_lead_day,
    click,
    deliver,
    lead,
    rows_of,
)
from penstock_plugins import penstock_sinks
from penstock_plugins.files.single import SingleFileSink
from penstock_plugins.files.stdout import StdoutSink

pytestmark = pytest.mark.slow

FORMER = '{"advertiser_id":"2112","report_date":"2026-03-01","click_id":"c0"}\n'
KINDS = {kind.name: kind for kind in penstock_sinks()}


def a_sink(text: str):
    kind = KINDS[text.partition(":")[0]]
    return kind.open(kind.parse(text))


def ids(content: bytes) -> list[str]:
    return [json.loads(line)["click_id"] for line in content.splitlines()]


def abort(target, partition, layout=CLICKS) -> None:
    writer = target.begin([layout], partition)
    writer.write(Batch(layout=layout, rows=rows_of(layout, [click(99)])))
    writer.abort()


def test_one_file_appears_whole_at_the_end(tmp_path):
    """
    Until the stream is finished the former file is there; then the new one, in the order of partitions, without what
    was aborted, and nothing beside it.
    """
    path = tmp_path / "clicks.jsonl"
    path.write_text(FORMER)
    target = a_sink(f"jsonl:{path}").open(SOURCE, "r1", ["clicks"])
    deliver(target, a_day(2), [(CLICKS, [click(3)])])
    abort(target, a_day(3))
    deliver(target, a_day(1), [(CLICKS, [click(1), click(2)])])
    deliver(target, a_day(4), [(CLICKS, [])])
    assert path.read_text() == FORMER
    target.finish("clicks")
    assert ids(path.read_bytes()) == ["c1", "c2", "c3"]
    target.close()

    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["clicks.tsv", "clicks.jsonl", "clicks.csv.zip"])
def test_no_directory_gets_the_name_of_a_file(tmp_path: Path, name: str) -> None:
    """
    The suffix of another format is refused, unless a directory of this name is there.
    """
    with pytest.raises(UsageError, match=r"would become a directory of this name. One file ends in .csv or .csv.gz"):
        a_sink(f"csv:{tmp_path / name}")

    (tmp_path / name).mkdir()
    assert a_sink(f"csv:{tmp_path / name}").open(SOURCE, "r1", ["clicks"]).close() is None


def test_a_file_behind_a_symlink_is_replaced_at_its_place(tmp_path):
    """
    The link stays, and the file keeps its mode.
    """
    place = tmp_path / "elsewhere" / "clicks.jsonl"
    place.parent.mkdir()
    place.write_text(FORMER)
    place.chmod(0o640)
    link = tmp_path / "clicks.jsonl"
    link.symlink_to(place)

    target = a_sink(f"jsonl:{link}").open(SOURCE, "r1", ["clicks"])
    deliver(target, a_day(1), [(CLICKS, [click(1)])])
    target.finish("clicks")
    target.close()

    assert link.is_symlink()
    assert ids(place.read_bytes()) == ["c1"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert list(place.parent.iterdir()) == [place]


def test_a_pipe_is_not_replaced(tmp_path):
    """
    A pipe or a device is not replaced, behind a link either.
    """
    os.mkfifo(tmp_path / "pipe")
    for name, place in (("pipe.jsonl", tmp_path / "pipe"), ("null.jsonl", "/dev/null")):
        (tmp_path / name).symlink_to(place)
        with pytest.raises(TargetError, match="is a device or a pipe"):
            a_sink(f"jsonl:{tmp_path / name}").open(SOURCE, "r1", ["clicks"])


def test_a_run_that_ends_early_leaves_the_former_file(tmp_path):
    """
    Closed without a finish, or with nothing committed, a run leaves no trace.
    """
    path = tmp_path / "clicks.jsonl"
    path.write_text(FORMER)
    target = a_sink(f"jsonl:{path}").open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    target.close()
    target = a_sink(f"jsonl:{path}").open(SOURCE, "r2")
    abort(target, a_day())
    target.finish("clicks")
    target.close()

    assert path.read_text() == FORMER
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content", "ours"),
    [
        pytest.param("clicks.jsonl", b"precious\n", False, id="text"),
        pytest.param("clicks.jsonl", b'{"mine": 1}\n', False, id="other records"),
        pytest.param("clicks.jsonl", b"", True, id="empty"),
        pytest.param("clicks.jsonl.gz", b"precious\n", False, id="no gzip"),
        pytest.param("clicks.jsonl.gz", gzip.compress(FORMER.encode()), True, id="gzip"),
        pytest.param("clicks.csv", b"a,b\r\n1,2\r\n", False, id="other columns"),
        pytest.param("clicks.csv", b"\xff\xfe\x00", False, id="binary"),
        pytest.param("clicks.csv", b'"click_id","report_date","advertiser_id","old"\r\n', True, id="former columns"),
    ],
)
def test_a_foreign_file_is_not_replaced(tmp_path, name, content, ours):
    """
    A file with other content than this stream's is refused before the first request.
    """
    path = tmp_path / name
    path.write_bytes(content)
    target = a_sink(f"{path.name.split('.')[1]}:{path}").open(SOURCE, "r1")

    if ours:
        target.begin([CLICKS], a_day()).abort()
    else:
        with pytest.raises(TargetError, match="it was not touched"):
            target.begin([CLICKS], a_day())
    target.close()

    assert path.read_bytes() == content


def test_parts_of_a_killed_run_are_removed(tmp_path):
    """
    The parts that a killed run left are not joined to the next run's.
    """
    path = tmp_path / "clicks.jsonl"
    child = os.fork()
    if child == 0:
        try:
            deliver(a_sink(f"jsonl:{path}").open(SOURCE, "r1"), a_day(), [(CLICKS, [click(1)])])
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert any((tmp_path / ".clicks.jsonl.part").glob("0*"))
    target = a_sink(f"jsonl:{path}").open(SOURCE, "r2")
    deliver(target, a_day(2), [(CLICKS, [click(2)])])
    target.finish("clicks")
    target.close()

    assert ids(path.read_bytes()) == ["c2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("leads.csv", b'"lead_id","status","_extra"\r\n1,"new",\r\n2,"sold",\r\n', id="csv"),
        pytest.param("leads.csv.gz", b'"lead_id","status","_extra"\r\n1,"new",\r\n2,"sold",\r\n', id="csv.gz"),
        pytest.param("leads.jsonl.gz", b'{"lead_id":1,"status":"new"}\n{"lead_id":2,"status":"sold"}\n', id="jsonl.gz"),
    ],
)
def test_changes_in_one_file_are_merged(tmp_path, name, content):
    """
    The later day's reading of a record wins, whichever day was committed first; the suffix decides how it is written.
    """
    path = tmp_path / name
    target = a_sink(f"{name.split('.')[1]}:{path}").open(SOURCE, "r1")
    deliver(target, a_lead_day(2), [(LEADS, [lead(2, "sold")])])
    deliver(target, a_lead_day(1), [(LEADS, [lead(1), lead(2)])])
    target.finish("leads")
    target.close()

    found = path.read_bytes()
    assert (gzip.decompress(found) if name.endswith("gz") else found) == content


def test_no_rows_make_an_empty_file(tmp_path):
    """
    A stream that was read and has no records is a file with its header, as a reader of files expects.
    """
    path = tmp_path / "leads.csv"
    target = a_sink(f"csv:{path}").open(SOURCE, "r1")
    deliver(target, a_lead_day(1), [(LEADS, [])])
    target.finish("leads")
    target.close()

    assert path.read_bytes() == b'"lead_id","status","_extra"\r\n'


def test_one_file_holds_one_source(tmp_path):
    """
    Two sources of one run are a mistake in the call, and no other run that holds the file.
    """
    sink = a_sink(f"jsonl:{tmp_path / 'all.jsonl'}")
    target = sink.open(SOURCE, "r1", ["clicks"])
    with pytest.raises(UsageError, match=r"stream of one source, and this run has several sources.*jsonl:DIR"):
        sink.open("other", "r1", ["clicks"])
    with pytest.raises(LockHeldError):
        sink.open("other", "r2", ["clicks"])
    target.close()


def test_one_file_holds_one_stream(tmp_path):
    """
    Several streams are refused, before anything is fetched where the run names what it will write.
    """
    sink = a_sink(f"jsonl:{tmp_path / 'all.jsonl'}")
    with pytest.raises(TargetError, match="--streams"):
        sink.open(SOURCE, "r1", ["clicks", "jobs"])
    target = sink.open(SOURCE, "r1")
    with pytest.raises(TargetError, match="click_tags, clicks"):
        target.begin([CLICKS, TAGS], a_day())
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    with pytest.raises(TargetError, match="clicks, leads"):
        target.begin([LEADS], a_lead_day(1))
    target.close()


def test_one_run_at_a_time_writes_a_file(tmp_path):
    """
    The second one's error names the run that holds it.
    """
    sink = a_sink(f"jsonl:{tmp_path / 'clicks.jsonl'}")
    target = sink.open(SOURCE, "r1")
    with pytest.raises(LockHeldError, match="run r1") as refused:
        sink.open(SOURCE, "r2")
    target.close()

    assert refused.value.run_id == "r1"


def test_a_lock_that_an_ending_run_removed_is_taken_again(tmp_path, monkeypatch):
    """
    A run that ends may remove the lock's file after another one opened it: a third run would make a new one.
    """
    sink = a_sink(f"jsonl:{tmp_path / 'clicks.jsonl'}")
    lock, removed = fcntl.flock, list[Path]()

    def remove_first(file: BinaryIO, operation: int) -> None:
        if not removed:
            removed.extend(path for path in tmp_path.rglob("*") if path.is_file())
            removed[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    target = sink.open(SOURCE, "r1")

    assert removed[0].exists()
    with pytest.raises(LockHeldError):
        sink.open(SOURCE, "r2")
    target.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_begins_while_another_one_ends_is_a_run_of_its_own(tmp_path):
    """
    The end of a run removes its own parts and lock only: each run leaves its rows, or finds the lock held.
    """
    path = tmp_path / "clicks.jsonl"
    runs = 4

    def attempt(number: int) -> str:
        try:
            target = a_sink(f"jsonl:{path}").open(SOURCE, f"r{number}")
        except LockHeldError:
            return "held"
        deliver(target, a_day(), [(CLICKS, [click(number)])])
        target.finish("clicks")
        written = ids(path.read_bytes())
        target.close()
        return "whole" if written == [f"c{number}"] else f"{written} of {number}"

    with ThreadPoolExecutor(runs) as threads:
        outcomes = set(threads.map(attempt, range(400)))

    assert outcomes <= {"held", "whole"}
    assert "whole" in outcomes
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_declares_the_workers_that_write_its_sink(name):
    """
    A message about another sink proposes it by what its kind declares. A run is divided by the methods of the sink.
    """
    if (library := {"parquet": "pyarrow", "duckdb": "duckdb", "postgres": "psycopg"}.get(name)) is not None:
        pytest.importorskip(library)
    kind = KINDS[name]
    sink = kind.open(kind.parse(kind.example.replace("...", "localhost")))

    by_machines = isinstance(sink, Staging) or (isinstance(sink, Divisible) and not sink.one_machine)
    expected = "machines" if by_machines else "processes" if isinstance(sink, Divisible) else None
    assert kind.workers == expected


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param("jsonl:", UsageError, "jsonl:DIR", id="no place"),
        pytest.param("jsonl:{there}/no/clicks.jsonl", TargetError, "is no directory", id="no directory"),
        pytest.param("jsonl:/proc/penstock", TargetError, "[Nn]ame another target", id="no place for a directory"),
        pytest.param("jsonl:/proc/penstock.jsonl", TargetError, "[Nn]ame another target", id="no place for a file"),
    ],
)
def test_an_unusable_place_is_refused(tmp_path, text, error, message):
    """
    The error states how a place is named.
    """
    with pytest.raises(error, match=message):
        a_sink(text.format(there=tmp_path)).open(SOURCE, "r1")


def test_a_name_decides_between_one_file_and_a_directory(tmp_path):
    """
    A suffix of the format means one file, unless a directory of that name is there.
    """
    (tmp_path / "dir.jsonl").mkdir()

    assert isinstance(a_sink(f"jsonl:{tmp_path}/x.jsonl"), SingleFileSink)
    assert not isinstance(a_sink(f"jsonl:{tmp_path}/dir.jsonl"), SingleFileSink)
    with pytest.raises(UsageError, match=r"x\.jsonl\.gz"):
        KINDS["jsonl"].open(KINDS["jsonl"].settings(path=Path("x.jsonl"), gzip=True))


# --- standard output --------------------------------------------------------------------------------------------------


def test_standard_output_shows_committed_partitions_only():
    """
    A partition's lines come at its commit, in one piece; an aborted one's never.
    """
    output = io.BytesIO()
    target = StdoutSink(output=lambda: output).open(SOURCE, "r1", ["clicks"])
    abort(target, a_day(1))
    writer = target.begin([CLICKS], a_day(2))
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    writer.write(Batch(layout=CLICKS, rows=[]))
    assert output.getvalue() == b""
    writer.abort()
    deliver(target, a_day(2), [(CLICKS, [click(1), click(2), click(3)])])
    target.finish("clicks")
    target.close()

    assert ids(output.getvalue()) == ["c1", "c2", "c3"]
    assert not output.closed


@pytest.mark.parametrize(
    ("streams", "named"),
    [
        pytest.param(["leads"], False, id="one stream"),
        pytest.param(["leads", "lead_data"], True, id="several streams"),
    ],
)
def test_lines_name_their_stream_when_there_are_several(streams, named):
    """
    ``_stream`` comes first in each line, of derived streams too.
    """
    output = io.BytesIO()
    target = StdoutSink(output=lambda: output).open(SOURCE, "r1", streams)
    data = [{"lead_id": 1, "name": "{", "value": "\n{"}, {"lead_id": 1, "name": "b", "value": "}"}]
    deliver(target, a_lead_day(1), [(LEADS, [lead(1), lead(2)]), (ANSWERS, data)])

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    expected = [("leads", lead(1)), ("leads", lead(2)), *(("lead_data", one) for one in data)]
    assert lines == [{**({"_stream": stream} if named else {}), **row} for stream, row in expected]
    assert all((next(iter(line)) == "_stream") == named for line in lines)


def test_a_closed_pipe_ends_the_run_without_a_message():
    """
    When the reader closes the pipe, the run ends by an error with exit code 0, and the interpreter prints no message.
    """
    program = """
        import sys
        from penstock.errors import OutputClosedError
        from penstock.testing.sinks import CLICKS, a_day, click, deliver
        from penstock_plugins.files.stdout import StdoutSink

        target = StdoutSink().open("acme", "r1")
        sys.stdin.readline()
        try:
            for day in range(1, 28):
                deliver(target, a_day(day), [(CLICKS, [click(number) for number in range(500)])])
        except OutputClosedError as error:
            print("closed", file=sys.stderr)
            sys.exit(error.exit_code)
    """
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    os.close(reader)
    _, printed = process.communicate(b"\n", timeout=60)

    assert (process.returncode, printed) == (0, b"closed\n")
    assert OutputClosedError.exit_code == 0


def test_a_closed_output_is_refused_before_any_request():
    """
    A closed output is refused when the target is opened: the rows of a run would be lost.
    """
    program = """
        import sys
        from penstock import TargetError
        from penstock_plugins.files.stdout import StdoutSink

        try:
            StdoutSink().open("acme", "r1")
        except TargetError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
    """
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == "standard output is closed. Redirect it to a file, or name another target\n"
