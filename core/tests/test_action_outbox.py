"""
The outbox: its state after a crash, and what each way to go on sends.
"""

import fcntl
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from attrs import evolve
from penstock._write.outbox import RETENTION_DAYS, UNRECORDED, Outbox, OutboxJob, forget_old, load_other
from penstock._write.outbox_decision import (
    CALL,
    STDIN,
    JobKey,
    OtherJob,
    PreviousJob,
    Resume,
    SendNothing,
    Start,
    decide,
)
from penstock.errors import LockHeldError, SinkError, TargetError, UsageError
from penstock.model import Receipt
from penstock.redact import Secret

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = JobKey(source="acme", action="send", digest="d1", what="events.jsonl")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / ".penstock")


@pytest.fixture
def crashed(outbox: Outbox) -> Outbox:
    """A job of which row 0 is done, 1 is refused, 2 is unknown and 3 was under way."""
    job = outbox.open(KEY, NOW)
    job.settle(
        [done(0), Receipt(row=1, status="refused", reason="no"), Receipt(row=2, status="unknown", reason="lost")]
    )
    job.record_sending([3])
    job.close()
    return outbox


def done(row: int) -> Receipt:
    return Receipt(row=row, status="done")


def one_line(job: OutboxJob, first: int = 0) -> list[tuple[int, str]]:
    return [(receipt.row, receipt.status) for receipt in job.receipts(first)]


def test_a_job_is_opened_without_looking_at_all_others(outbox: Outbox) -> None:
    """
    An action that is called every minute leaves 260,000 jobs: old and unfinished ones are found by an index.
    """
    outbox.open(KEY, NOW).close()
    executed: list[str] = []
    with closing(sqlite3.connect(outbox.path)) as connection:
        connection.set_trace_callback(executed.append)
        forget_old(connection, NOW)
        load_other(connection, KEY)
        connection.set_trace_callback(None)
        steps = [
            step
            for statement in executed
            if statement.startswith(("select", "delete"))
            for *_, step in connection.execute(f"explain query plan {statement}")
        ]

    assert any("jobs_by_end" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN")]


def test_an_unfinished_job_is_refused_and_names_the_way_on(crashed: Outbox) -> None:
    """
    A second job beside an unfinished one is refused with the options to go on, and nothing changes.
    """
    for _ in range(2):
        with pytest.raises(UsageError, match=r"events\.jsonl.*1 done, 1 refused, 2 unknown.*--resume"):
            crashed.open(KEY, NOW)


@pytest.mark.parametrize(
    ("retry_unknown", "settled", "receipts"),
    [
        (False, {0, 1, 2, 3}, [(0, "done"), (1, "refused"), (2, "unknown"), (3, "unknown")]),
        (True, {0, 1}, [(0, "done"), (1, "refused")]),
    ],
    ids=["resume", "retry unknown"],
)
def test_ways_to_go_on(
    crashed: Outbox, retry_unknown: bool, settled: set[int], receipts: list[tuple[int, str]]
) -> None:
    """
    A row that was under way may have arrived: it is unknown, and is sent again only on a person's demand.
    """
    job = crashed.open(KEY, NOW, resume=not retry_unknown, retry_unknown=retry_unknown)

    assert job.settled(0, 10) == settled
    assert one_line(job) == receipts
    found = job.receipt(3)
    assert found is not None
    assert (found.status, found.reason) == ("unknown", UNRECORDED)
    assert job.receipt(4) is None
    job.close()


def test_a_retried_row_that_was_not_sent_is_unknown_again(crashed: Outbox) -> None:
    """
    A retried row that was not sent is unknown again, since it may have arrived the first time; a new row was not sent.
    """
    job = crashed.open(KEY, NOW, retry_unknown=True)
    job.record_sending([2, 4])
    job.record_not_sent([2, 4])

    first, second = job.receipt(2), job.receipt(4)
    assert first is not None
    assert (first.status, first.reason) == ("unknown", "lost")
    assert second is None
    job.close()


def test_a_row_that_is_refused_after_an_unknown_attempt_may_have_arrived(crashed: Outbox) -> None:
    """
    The provider may refuse it because it has it already. The row that was not sent before is just refused.
    """
    job = crashed.open(KEY, NOW, retry_unknown=True)
    for row in (2, 4):
        job.record_sending([row])
        job.settle([Receipt(row=row, status="refused", reason="exists already")])

    assert [receipt.reason for row in (2, 4) if (receipt := job.receipt(row))] == [
        "exists already; an earlier attempt, whose outcome is unknown, may have arrived",
        "exists already",
    ]
    job.record_sending([3])
    job.settle([done(3)])
    assert job.receipt(3) == done(3)
    job.close()


def test_a_job_of_which_a_refused_row_may_have_arrived_is_not_begun_anew(outbox: Outbox) -> None:
    """
    The row was unknown, was retried and refused, and the job ended before its other rows: a command without --resume
    is refused.
    """
    job = outbox.open(KEY, NOW)
    job.settle([Receipt(row=0, status="unknown", reason="lost")])
    job.close()
    job = outbox.open(KEY, NOW, retry_unknown=True)
    job.record_sending([0])
    job.settle([Receipt(row=0, status="refused", reason="exists already")])
    job.close()

    with pytest.raises(UsageError, match=r"is not finished \(1 refused after an unknown attempt\)"):
        outbox.open(KEY, NOW)


def test_a_repeated_row_stays_unknown_when_the_repetition_was_not_sent(outbox: Outbox) -> None:
    """
    A row whose first attempt is unknown stays unknown where its repetition was never sent.
    """
    job = outbox.open(KEY, NOW)
    job.record_sending([0])
    job.record_unknown([0], "reset")
    job.record_sending([0])
    job.record_not_sent([0])

    assert one_line(job) == [(0, "unknown")]
    job.close()


def test_receipts_end_at_the_first_row_that_is_not_settled(outbox: Outbox) -> None:
    """
    Receipts are given in order, up to the first row that is not settled.
    """
    job = outbox.open(KEY, NOW)
    job.settle(done(row) for row in (0, 1, 3))
    job.record_sending([2])

    assert one_line(job) == [(0, "done"), (1, "done")]
    job.settle([done(2)])
    assert one_line(job, 2) == [(2, "done"), (3, "done")]
    job.settle(done(row) for row in range(4, 1200))
    assert len(one_line(job)) == 1200
    job.close()


@pytest.mark.parametrize("end", ["finished", "nothing captured", "crashed before the first row"])
def test_the_same_input_is_a_new_job(outbox: Outbox, end: str) -> None:
    """
    Once it came to its end, or where nothing of it can have arrived.
    """
    job = outbox.open(KEY, NOW)
    if end == "finished":
        job.settle([done(0)])
        job.finish(1, NOW)
    elif end == "nothing captured":
        job.settle([Receipt(row=0, status="refused", reason="no")])
    job.close()

    again = outbox.open(KEY, NOW)

    assert again.is_new
    assert again.settled(0, 10) == set()
    again.close()


def test_resume_after_the_end_sends_nothing(outbox: Outbox) -> None:
    """
    ``--resume`` after the end of a job reports again what became of its rows; without any job it begins one.
    """
    job = outbox.open(KEY, NOW, resume=True)
    assert job.is_new
    job.settle([done(0)])
    job.finish(1, NOW)
    job.close()

    job = outbox.open(KEY, NOW, resume=True)

    assert (job.is_new, job.is_finished, job.settled(0, 0), one_line(job)) == (False, True, {0}, [(0, "done")])
    job.close()


def test_other_inputs_are_other_jobs(crashed: Outbox) -> None:
    """
    A job is identified by source, action and the digest of its input.
    """
    for change in ({"source": "other"}, {"action": "other"}, {"digest": "other"}):
        facts = {"source": "acme", "action": "send", "digest": "d1", "what": "x", **change}
        job = crashed.open(JobKey(**facts), NOW)
        assert job.is_new
        job.close()


ELSEWHERE = evolve(KEY, destination="https://prod.example.com/send")


@pytest.fixture
def moved(outbox: Outbox) -> Outbox:
    """An unfinished job whose row 0 went to the address of tests."""
    job = outbox.open(evolve(KEY, destination="https://test.example.com/send"), NOW)
    job.settle([done(0)])
    job.close()
    return outbox


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"retry_unknown": True}], ids=str)
def test_rows_that_went_to_another_address_need_a_decision(moved: Outbox, options: dict[str, bool]) -> None:
    """
    Going on would leave out what only the other system has; the message names both addresses and both ways on.
    """
    for _ in range(2):
        with pytest.raises(
            UsageError, match=r"(?s)test\.example\.com/send \(1 done\).*prod\.example.*--yes.*--resume --yes"
        ):
            moved.open(ELSEWHERE, NOW, **options)


def test_the_same_system_under_a_new_address_is_gone_on_with(moved: Outbox) -> None:
    """
    A job goes on at another address of the same system, on demand and once.
    """
    for confirmed in (True, False):
        job = moved.open(ELSEWHERE, NOW, resume=True, confirmed=confirmed)
        assert (job.is_new, job.settled(0, 1)) == (False, {0})
        job.close()


def test_another_system_gets_all_rows(moved: Outbox) -> None:
    """
    On a person's demand another system gets all rows; an unfinished job of the same system gets none again.
    """
    job = moved.open(ELSEWHERE, NOW, confirmed=True)
    assert (job.is_new, job.settled(0, 1)) == (True, set())
    job.settle([done(0)])
    job.close()

    with pytest.raises(UsageError, match="is not finished"):
        moved.open(ELSEWHERE, NOW, confirmed=True)


def test_a_job_of_a_former_version_has_no_address(crashed: Outbox) -> None:
    """
    The ledger of a job of a former version gains the column of the address, and the job goes on.
    """
    connection = sqlite3.connect(crashed.path)
    connection.execute("alter table jobs drop column destination")
    connection.close()

    job = crashed.open(ELSEWHERE, NOW, resume=True)

    assert job.settled(0, 10) == {0, 1, 2, 3}
    job.close()


def test_other_rows_of_the_same_name_are_not_gone_on_with(crashed: Outbox) -> None:
    """
    A file that was edited after a crash is another job: --resume would send again what was sent. So is a stream that
    has other rows when it is made again.
    """
    with pytest.raises(UsageError, match=r"events\.jsonl or the parameters beside it are not those of the job"):
        crashed.open(evolve(KEY, digest="edited"), NOW, resume=True)
    streamed = crashed.open(evolve(KEY, digest="streamed", what=STDIN), NOW)
    streamed.record_sending([0])
    streamed.close()
    with pytest.raises(UsageError, match="stdin or the parameters beside it are not those of the job"):
        crashed.open(evolve(KEY, digest="streamed later", what=STDIN), NOW, resume=True)
    for what in ("other.jsonl", CALL):
        job = crashed.open(evolve(KEY, digest=f"of {what}", what=what), NOW, resume=True)
        assert job.is_new
        job.close()


@pytest.mark.parametrize("renamed", [{"action": "post"}, {"source": "prod"}], ids=["action", "source"])
def test_a_job_whose_action_or_source_was_renamed_is_not_sent_anew_by_resume(
    crashed: Outbox, renamed: dict[str, str]
) -> None:
    """
    The rows may have arrived under the former name: only a command without --resume begins a job.
    """
    with pytest.raises(UsageError, match=f"no job of .* to resume, and one of the same rows .* {KEY.action}. Nothing"):
        crashed.open(evolve(KEY, **renamed), NOW, resume=True)

    job = crashed.open(evolve(KEY, **renamed), NOW)
    assert job.is_new
    job.close()


def test_a_job_is_locked_while_it_is_sent(outbox: Outbox) -> None:
    """
    A job that is sent is locked for another process and another thread, also after another job of this process ended.
    """
    job = outbox.open(KEY, NOW)
    outbox.open(evolve(KEY, digest="d3"), NOW).close()
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from penstock._write.outbox import *\n"
        "try: Outbox(Path(sys.argv[1])).open(JobKey(source='acme', action='send', digest=sys.argv[2], what='x'), "
        "datetime.now(UTC))\n"
        f"except {LockHeldError.__name__} as error: sys.exit(error.exit_code)\n"
    ).replace("import *", "import *; from penstock.errors import LockHeldError")

    codes = [
        subprocess.run([sys.executable, "-c", code, str(outbox.folder), digest], check=False).returncode
        for digest in ("d1", "d2")
    ]

    assert codes == [6, 0]
    with pytest.raises(LockHeldError, match="another process or thread"):
        outbox.open(KEY, NOW)
    job.close()
    outbox.open(KEY, NOW).close()
    assert list(outbox.folder.glob("*.lock")) == []


def test_a_lock_file_that_its_holder_deleted_locks_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A process that opened the file before locks the one that is there now.
    """
    lock, deleted = fcntl.flock, list[Path]()

    def delete_first(file: IO[bytes], operation: int) -> None:
        if not deleted:
            deleted.extend(outbox.folder.glob("*.lock"))
            deleted[0].unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    job = outbox.open(KEY, NOW)

    assert list(outbox.folder.glob("*.lock")) == deleted
    with pytest.raises(LockHeldError):
        outbox.open(KEY, NOW)
    job.close()


def test_old_jobs_are_forgotten(outbox: Outbox) -> None:
    """
    Only finished jobs are deleted for their age.
    """
    job = outbox.open(KEY, NOW)
    job.settle([done(0)])
    job.finish(1, NOW)
    job.close()
    other = JobKey(source="acme", action="send", digest="d2", what="other")

    outbox.open(other, NOW + timedelta(days=RETENTION_DAYS + 1)).close()

    job = outbox.open(KEY, NOW, resume=True)
    assert job.is_new
    job.close()


def test_secrets_and_rows_are_not_kept(outbox: Outbox) -> None:
    """
    Reasons and answers are masked; the file is its owner's.
    """
    Secret("s3cret-value")
    job = outbox.open(KEY, NOW)
    job.settle([Receipt(row=0, status="refused", reason="no s3cret-value", answer={"echo": "s3cret-value"})])

    found = job.receipt(0)
    assert found is not None
    assert (found.reason, found.answer) == ("no ***", {"echo": "***"})
    job.close()
    assert outbox.path.stat().st_mode & 0o077 == 0


DONE, NONE = {"done": 1, "refused": 2}, {"refused": 2}


def previous(counts: dict[str, int], *, finished: bool = False, at: str = "") -> PreviousJob:
    return PreviousJob(
        number=7, started_at="2026-03-01T08:00:00+00:00", finished=finished, destination=at, counts=counts
    )


@pytest.mark.parametrize(
    ("before", "options", "decision"),
    [
        pytest.param(None, "", Start(), id="nothing before"),
        pytest.param(None, "resume", Start(), id="nothing to resume"),
        pytest.param(None, "other", Start(), id="other rows of the same name"),
        pytest.param(None, "resume other", "nothing to resume", id="resume, other rows of the same name"),
        pytest.param(previous(DONE), "", "is not finished", id="unfinished"),
        pytest.param(previous(DONE), "confirmed", "is not finished", id="unfinished, --yes"),
        pytest.param(previous(DONE), "resume", Resume(7, is_finished=False), id="unfinished, resume"),
        pytest.param(previous(NONE), "", Start(7), id="nothing captured"),
        pytest.param(previous(NONE), "resume", Resume(7, is_finished=False), id="nothing captured, resume"),
        pytest.param(previous({}), "resume", Start(7), id="ended before its rows were read, resume"),
        pytest.param(previous(DONE, finished=True), "", Start(7), id="finished"),
        pytest.param(previous(DONE, finished=True), "resume", Resume(7, is_finished=True), id="finished, resume"),
        pytest.param(previous(DONE, at="test"), "", "went to test", id="elsewhere"),
        pytest.param(previous(DONE, at="test"), "confirmed", Start(7), id="elsewhere, --yes"),
        pytest.param(previous(DONE, at="test"), "resume", "went to test", id="elsewhere, resume"),
        pytest.param(
            previous(DONE, at="test"), "resume confirmed", Resume(7, is_finished=False), id="elsewhere, resume, --yes"
        ),
        pytest.param(previous(NONE, at="test"), "", Start(7), id="elsewhere, nothing captured"),
        pytest.param(previous(NONE, at="test"), "resume", Start(7), id="elsewhere, nothing captured, resume"),
        pytest.param(previous(DONE, finished=True, at="test"), "", Start(7), id="elsewhere, finished"),
        pytest.param(previous(DONE, finished=True, at="test"), "resume", "went to test", id="elsewhere, over, resume"),
        pytest.param(previous({"unknown": 1}), "", "1 unknown", id="an unknown row is captured"),
        pytest.param(previous(DONE, at="prod"), "resume", Resume(7, is_finished=False), id="the same address"),
    ],
)
def test_the_decision_about_a_job_depends_on_its_state_and_the_options(
    before: PreviousJob | None, options: str, decision: Start | Resume | str
) -> None:
    """
    The decision depends on the job as it was found and on the options alone; a text is the reason of a refusal.
    """
    found = decide(
        evolve(KEY, destination="prod"),
        before,
        other=OtherJob(KEY.source, KEY.action, "2026-03-01T08:00:00+00:00") if "other" in options else None,
        resume="resume" in options,
        confirmed="confirmed" in options,
    )

    if isinstance(decision, str):
        assert isinstance(found, SendNothing)
        assert decision in found.reason
    else:
        assert found == decision


@pytest.fixture
def readonly(tmp_path: Path) -> Path:
    path = tmp_path / ".penstock"
    path.write_text("a file where a directory is expected")
    return path


def test_without_a_ledger_nothing_is_sent(readonly: Path) -> None:
    """
    Where the outbox cannot be opened, nothing is sent, and the error states why.
    """
    with pytest.raises(TargetError, match="nothing was sent"):
        Outbox(readonly).open(KEY, NOW)


def test_a_ledger_that_could_not_be_made_whole_is_made_later(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A disk that is full, or kill -9, between its tables leaves none of them.
    """

    class Full(sqlite3.Connection):
        def execute(self, text: str, *parameters: Any) -> sqlite3.Cursor:
            if text.startswith("create table if not exists rows"):
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(text, *parameters)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Full))
        with pytest.raises(SinkError, match="disk is full"):
            outbox.open(KEY, NOW)

    job = outbox.open(KEY, NOW)

    assert job.is_new
    job.close()


def test_another_database_is_left_alone(outbox: Outbox) -> None:
    """
    A database that is no outbox is not written.
    """
    outbox.folder.mkdir()
    connection = sqlite3.connect(outbox.path)
    connection.execute("create table things (id)")
    connection.close()

    with pytest.raises(TargetError, match="no outbox of penstock"):
        outbox.open(KEY, NOW)
