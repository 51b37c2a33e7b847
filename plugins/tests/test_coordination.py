"""
A directory that workers write through the coordinator of their run: who may commit what. The promises of every sink are
in ``test_file_sinks``.
"""

import json
import os
import threading
from pathlib import Path

import pytest
from disks import ignored_case
from penstock import (
    LockHeldError,
    PendingReport,
    Rejected,
    Secret,
    SinkError,
    TargetError,
)
from penstock.testing.sinks import CLICKS, READ_AT, SOURCE, a_day, click, deliver
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink


def a_sink(place: Path) -> FileSink:
    return FileSink(directory=place, codec=JsonLines())


@pytest.fixture
def sink(tmp_path: Path) -> FileSink:
    return a_sink(tmp_path / "out")


def test_the_same_directory_is_found(sink: FileSink) -> None:
    """
    A worker that sees the coordinator's directory, and can write there, leaves nothing in it.
    """
    target = sink.open(SOURCE, "r1")
    sink.find_mark(SOURCE, target.mark())
    target.close()

    assert list(sink.directory.glob(".penstock/staged/*/*")) == []


def test_another_directory_is_refused_by_name(sink: FileSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An empty directory, a copy of this one, or one that cannot be written: named with its path and the remedy.
    """
    monkeypatch.setattr("penstock_plugins.files.coordination.PATIENCE_S", 0.0)
    target = sink.open(SOURCE, "r1")
    former = target.mark()
    mark = target.mark()

    with pytest.raises(TargetError, match=r"/elsewhere is another directory here .*elsewhere/.* is not there"):
        a_sink(tmp_path / "elsewhere").find_mark(SOURCE, mark)
    with pytest.raises(TargetError, match=r"has another text.*Mount the file system that the coordinator writes"):
        sink.find_mark(SOURCE, former)
    staging = sink.directory / ".penstock" / "staged" / SOURCE
    staging.rmdir()
    staging.write_text("in the way")
    with pytest.raises(TargetError, match=f"{staging}.*name another target"):
        sink.find_mark(SOURCE, mark)
    target.close()


def test_rejected_records_pass_in_a_file(sink: FileSink) -> None:
    """
    A request to commit has neither their text nor a secret; the ledger has them masked, and the file is gone.
    """
    Secret("of-the-worker")
    requests: list[str] = []
    target = sink.open(SOURCE, "r1")

    def request(text: str) -> str:
        requests.append(text)
        return target.reply(text)

    worker = sink.open_staging(SOURCE, "r1", request)
    rejected = Rejected(stream="clicks", path="$[0]", reason="is no price", raw='{"token": "of-the-worker", "a": 1}')
    deliver(worker, a_day(), [(CLICKS, [click(1)])], rejected=1, rejected_records=(rejected,))
    worker.ledger.fail_all(SOURCE, [(a_day(2), "refused of-the-worker")], "r1")
    report = PendingReport(
        source=SOURCE,
        stream="clicks",
        handle="of-the-worker-7",
        request="?token=of-the-worker",
        partitions=(a_day(3),),
        submitted_at=READ_AT,
        fingerprint="f",
    )
    worker.ledger.submit(report)

    ((entry, kept),) = target.ledger.rejected(SOURCE)
    assert (entry.rejected, json.loads(kept.raw)) == (1, {"token": "***", "a": 1})
    assert target.ledger.entries(SOURCE, "clicks")[a_day(2)].error == "refused ***"
    (pending,) = worker.ledger.pending(SOURCE, "clicks")
    assert (pending.partitions, pending.handle) == ((a_day(3),), "***-7")
    worker.ledger.drop(report)
    assert worker.ledger.pending(SOURCE, "clicks") == ()
    assert "of-the-worker" not in "".join(requests)
    assert "is no price" not in "".join(requests)
    worker.close()
    target.close()
    assert list(sink.directory.glob(".penstock/staged/*/*")) == []


def test_a_staged_file_that_is_gone_or_cut_replaces_nothing(sink: FileSink) -> None:
    """
    A staged file that is not there, or was cut, is an error of its partition that names the file. The others of the
    group are delivered.
    """
    target = sink.open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])

    def cut(text: str) -> str:
        if "commit_staged" in text:
            os.truncate(next(sink.directory.glob(f".penstock/staged/{SOURCE}/*")), 3)
        return target.reply(text)

    worker = sink.open_staging(SOURCE, "r2", cut)
    with pytest.raises(SinkError, match=r"staged/.* is not there for the coordinator of the run, or has another size"):
        deliver(worker, a_day(), [(CLICKS, [click(2)])], run_id="r2")
    worker.close()
    (entry,) = target.ledger.entries(SOURCE, "clicks").values()
    assert (entry.run_id, target.is_intact(entry)) == ("r1", True)
    target.close()
    assert list(sink.directory.glob(".penstock/staged/*/*")) == []


def test_an_uncommitted_file_is_removed_by_the_next_opening(sink: FileSink) -> None:
    """
    A worker whose coordinator is gone commits nothing; what it staged is removed.
    """
    target = sink.open(SOURCE, "r1")

    def gone(text: str) -> str:
        if "commit_staged" in text:
            raise SinkError("gone")
        return target.reply(text)

    worker = sink.open_staging(SOURCE, "r1", gone)
    with pytest.raises(SinkError, match="gone"):
        deliver(worker, a_day(), [(CLICKS, [click(1)])])
    worker.close()
    target.close()
    assert list(sink.directory.glob(".penstock/staged/*/*")) != []
    sink.open(SOURCE, "r2").close()

    assert list(sink.directory.glob(".penstock/staged/*/*")) == []
    assert list(sink.directory.rglob("data.jsonl")) == []


def test_a_run_waits_for_the_workers_of_a_killed_coordinator(sink: FileSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run waits for the workers of a killed coordinator, which may still make requests. Where they do not end, the run
    is refused, and they are named.
    """
    target = sink.open(SOURCE, "r1")
    worker = sink.open_staging(SOURCE, "r1", target.reply)
    target.close()

    monkeypatch.setattr("penstock_plugins.files.locks.WORKERS_WAIT_S", 0.0)
    with pytest.raises(LockHeldError, match=r"run r1, a worker on ") as refused:
        sink.open(SOURCE, "r2")
    monkeypatch.undo()
    threading.Timer(0.2, worker.close).start()
    sink.open(SOURCE, "r3").close()

    assert refused.value.run_id == "r1"


def test_rows_of_a_case_folding_file_system(sink: FileSink) -> None:
    """
    Where names of other case are one directory, the coordinator refuses the second account, as it does for itself.
    """
    with ignored_case(sink.directory / SOURCE / "clicks"):
        target = sink.open(SOURCE, "r1")
        worker = sink.open_staging(SOURCE, "r1", target.reply)
        deliver(worker, a_day(advertiser="Acme"), [(CLICKS, [click(1, advertiser_id="Acme")])])
        with pytest.raises(TargetError, match="differ in upper and lower case only"):
            deliver(worker, a_day(advertiser="acme"), [(CLICKS, [click(1, advertiser_id="acme")])])
        worker.close()
        target.close()
