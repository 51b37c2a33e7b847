"""
What a directory of files does beyond the suite of every sink: names, crashes with damage, files that vanish or are in
the way, disks that are full.
"""

import errno
import gzip
import json
import os
import resource
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from disks import ignored_case
from penstock import Batch, LedgerEntry, Partition, SinkError, SinkKind, TargetError, UsageError
from penstock.testing.sinks import (
    ANSWERS,
    CLICKS,
    LEADS,
    SOURCE,
    TAGS,
    a_day,
    a_lead_day,
    an_entry,
    answer,
    click,
    commit,
    deliver,
    deliver_group,
    killed_at,
    lead,
    rows_of,
)
from penstock_plugins.files import source_files
from penstock_plugins.files.csv import Csv
from penstock_plugins.files.disk import file_name, former_pair_name, pair_name, sync_directory
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink
from penstock_plugins.sink_kinds import KINDS
from sqlite_statements import Statements

TAG = {"click_id": "c1", "tag": "x"}


@pytest.fixture
def sink(tmp_path: Path) -> FileSink:
    return FileSink(directory=tmp_path / "out", codec=JsonLines())


def day_file(sink: FileSink, day: int = 1) -> Path:
    clicks = sink.directory / SOURCE / "clicks" / "by_advertiser_id=2112"
    return clicks / f"by_report_date=2026-03-{day:02d}" / "data.jsonl"


def ids(path: Path) -> list[str]:
    return [json.loads(line)["click_id"] for line in path.read_text().splitlines()] if path.exists() else []


def state_of(sink: FileSink, partition: Partition) -> tuple[str, str, bool] | None:
    """State, run and presence of a partition, as a next run sees it."""
    target = sink.open(SOURCE, "looking")
    entry = target.ledger.entry(SOURCE, partition)
    found = None if entry is None else (entry.state, entry.run_id, target.is_intact(entry))
    target.close()
    return found


def run(sink: FileSink, partition: Partition, *streams, run_id: str = "r1") -> None:
    target = sink.open(SOURCE, run_id)
    try:
        deliver(target, partition, streams, run_id=run_id)
        target.finish(partition.stream)
    finally:
        target.close()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("clicks", "clicks", id="plain"),
        pytest.param("a/b\\c", "a%2Fb%5Cc", id="separators"),
        pytest.param("..", "%2E.", id="parent directory"),
        pytest.param(".penstock", "%2Epenstock", id="our own directory"),
        pytest.param("a b=c%\n\0", "a%20b%3Dc%25%0A%00", id="signs"),
        pytest.param("Köln", "K%C3%B6ln", id="letters beyond ASCII"),
    ],
)
def test_file_names_are_percent_encoded(text, name):
    """
    Any sign but plain letters, digits and some signs is percent-encoded, and no name begins with a dot.
    """
    assert file_name(text) == name


@pytest.mark.parametrize("text", ["x" * 300, "ä" * 100, "/" * 300], ids=["letters", "umlauts", "slashes"])
def test_long_names_are_bounded_and_differ(text):
    """
    A long value is cut at a whole sign and ends in a hash, so that two long ones stay apart.
    """
    one, other = pair_name("account", text), pair_name("account", text + "x")

    assert len(one) <= 200
    assert one != other
    assert "%~" not in one
    assert not any(one.partition("~")[0].endswith(cut) for cut in ("%", "%2", "%C", "%A"))


def test_partitions_are_under_source_and_stream(sink):
    """
    Data under source, stream and partition; everything else in .penstock, for its owner only.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), (TAGS, [TAG]))

    found = sorted(path.relative_to(sink.directory).as_posix() for path in sink.directory.rglob("*") if path.is_file())
    assert found == [
        ".penstock/.machine.lock",
        ".penstock/acme.lock",
        ".penstock/ledger.sqlite",
        "acme/click_tags/.penstock",
        "acme/click_tags/by_advertiser_id=2112/by_report_date=2026-03-01/data.jsonl",
        "acme/clicks/.penstock",
        "acme/clicks/by_advertiser_id=2112/by_report_date=2026-03-01/data.jsonl",
        "acme/datapackage.json",
    ]
    modes = [stat.S_IMODE((sink.directory / name).stat().st_mode) for name in (".penstock", *found[:2])]
    assert modes == [0o700, 0o600, 0o600]


def test_the_data_package_describes_the_files(sink):
    """
    Types, key, units and meaning of every column, and the files that are there; rewritten when a file comes or goes.
    """
    run(sink, a_day(), (CLICKS, [click(1)]))
    run(sink, a_day(2), (CLICKS, [click(1)]))
    path = sink.directory / SOURCE / "datapackage.json"
    before = path.stat()
    run(sink, a_day(2), (CLICKS, [click(2)]))

    package = json.loads(path.read_text())
    (resource_,) = package["resources"]
    fields = {field["name"]: field for field in resource_["schema"]["fields"]}
    assert (resource_["path"], resource_["description"]) == (
        [f"clicks/by_advertiser_id=2112/by_report_date=2026-03-0{day}/data.jsonl" for day in (1, 2)],
        "Clicks on jobs",
    )
    assert resource_["schema"]["primaryKey"] == ["advertiser_id", "report_date", "click_id"]
    assert fields["price"] == {"name": "price", "type": "number", "unit": "USD", "additive": True}
    assert fields["click_id"] == {
        "name": "click_id",
        "type": "string",
        "member": "clickId",
        "constraints": {"required": True},
    }
    assert fields["url"]["description"] == "Where it led"
    assert path.stat().st_ino == before.st_ino

    run(sink, a_day(1), (CLICKS, []))
    (resource_,) = json.loads(path.read_text())["resources"]
    assert resource_["path"] == "clicks/by_advertiser_id=2112/by_report_date=2026-03-02/data.jsonl"
    run(sink, a_day(2), (CLICKS, []))
    assert not path.exists()


def a_target_of_the_first_layout(sink: FileSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories named <column>=<value>, a data package in each stream's directory, a day of changes not merged."""
    with monkeypatch.context() as former:
        former.setattr(source_files, "pair_name", former_pair_name)
        run(sink, a_day(1), (CLICKS, [click(1)]), (TAGS, [TAG]))
        run(sink, a_day(2, advertiser="x" * 300), (CLICKS, [click(2)]))
        run(sink, a_lead_day(1), (LEADS, [lead(1)]))
        target = sink.open(SOURCE, "r1")
        deliver(target, a_lead_day(2), [(LEADS, [lead(2)])])
        target.ledger.set_fact(f"layout of {SOURCE}", "1")
        target.close()
    (sink.directory / SOURCE / "datapackage.json").unlink()
    for stream in ("clicks", "click_tags", "leads"):
        (sink.directory / SOURCE / stream / ".penstock").unlink()
        (sink.directory / SOURCE / stream / "datapackage.json").write_text('{"made_by": "penstock"}')


def lines(sink: FileSink, stream: str) -> list[str]:
    return sorted(
        line
        for path in (sink.directory / SOURCE / stream).rglob("data.jsonl")
        for line in path.read_text().splitlines()
    )


def test_an_intent_that_cannot_be_completed_concerns_its_partition_only(sink):
    """
    After a kill between intent and place, a directory stands where a file must go: the other partitions go on, and this
    one is completed once the directory is gone.
    """
    run(sink, a_day(1), (CLICKS, [click(1)]))
    assert killed_at("files.intended", lambda: run(sink, a_day(2), (CLICKS, [click(2)])))
    day_file(sink, 2).mkdir(parents=True)

    run(sink, a_day(3), (CLICKS, [click(3)]))

    target = sink.open(SOURCE, "r2")
    states = {entry.partition: entry.state for entry in target.ledger.entries(SOURCE, "clicks").values()}
    target.close()
    assert states == {a_day(1): "delivered", a_day(2): "intended", a_day(3): "delivered"}
    assert "is a directory" in target.notices[0] or "Is a directory" in target.notices[0]
    day_file(sink, 2).rmdir()
    sink.open(SOURCE, "r3").close()
    assert state_of(sink, a_day(2))[::2] == ("delivered", True)


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed in between"])
@pytest.mark.parametrize("streams", [(), ("clicks", "click_tags", "leads")], ids=["looked at", "a run"])
def test_a_target_of_the_first_layout_is_moved(sink, monkeypatch, killed, streams):
    """
    The files of a target of the first layout go to their new places when it is opened; every final day stays final, and
    no row is there twice. A run names its streams, whose directories are recognised by the mark of that layout.
    """
    a_target_of_the_first_layout(sink, monkeypatch)
    before = {stream: lines(sink, stream) for stream in ("clicks", "click_tags")}
    assert (sink.directory / SOURCE / "clicks" / "advertiser_id=2112").is_dir()
    if killed:
        assert killed_at("files.moved", lambda: sink.open(SOURCE, "r2", streams))

    target = sink.open(SOURCE, "r2", streams)
    entries = target.ledger.entries(SOURCE, "clicks") | target.ledger.entries(SOURCE, "leads")
    intact = [target.is_intact(entry) for entry in entries.values()]
    target.close()

    assert intact == [True] * 4
    assert {stream: lines(sink, stream) for stream in before} == before
    assert len(lines(sink, "leads")) == 2
    assert [path.name for path in (sink.directory / SOURCE).rglob("*=*") if not path.name.startswith("by_")] == []
    run(sink, a_day(1), (CLICKS, [click(1)]), (TAGS, [TAG]))
    run(sink, a_day(2, advertiser="x" * 300), (CLICKS, [click(2)]))
    assert {stream: lines(sink, stream) for stream in before} == before


@pytest.fixture
def other_volume(tmp_path: Path) -> Iterator[Path]:
    """A directory of a file system that is not the one of ``tmp_path``."""
    place = Path("/dev/shm") / f"penstock-{os.getpid()}"
    place.mkdir()
    assert place.stat().st_dev != tmp_path.stat().st_dev
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("link", ["acme", "acme/clicks", "acme/clicks/by_advertiser_id=2112"])
def test_a_directory_on_another_volume(sink, other_volume, link):
    """
    A file appears whole behind a symlink to another volume, also where a run was killed between intent and place.
    """
    (sink.directory / link).parent.mkdir(parents=True)
    (sink.directory / link).symlink_to(other_volume)
    (sink.directory / "acme/clicks").mkdir(parents=True, exist_ok=True)
    (sink.directory / "acme/clicks" / ".penstock").write_text("")
    run(sink, a_day(1), (CLICKS, [click(1)]))
    assert killed_at("files.intended", lambda: run(sink, a_day(2), (CLICKS, [click(2)])))

    target = sink.open(SOURCE, "r2")
    entries = target.ledger.entries(SOURCE, "clicks")
    states = [(entry.state, target.is_intact(entry)) for entry in entries.values()]
    target.close()

    assert states == [("delivered", True)] * 2
    found = sorted(path.name for path in other_volume.rglob("*") if path.is_file())
    assert [name for name in found if name not in (".penstock", "datapackage.json")] == ["data.jsonl"] * 2


@pytest.mark.parametrize("other", ["ACME", "acme."])
def test_a_file_system_that_ignores_case(sink, other):
    """
    An account whose directory would be that of another one is refused, in the same run and in later ones; a source
    likewise. On other file systems both have their own.
    """
    with ignored_case(sink.directory, sink.directory / SOURCE / "clicks"):
        run(sink, a_day(1, "Acme"), (CLICKS, [click(1)]))
        run(sink, a_day(2, "Acme"), (CLICKS, [click(2)]))
        target = sink.open(SOURCE, "r2")
        deliver(target, a_day(1, "another"), [(CLICKS, [click(1)])], run_id="r2")

        for name, day in ((other, 1), (other, 3), ("ANOTHER", 1)):
            with pytest.raises(TargetError, match="the file system takes both names for one"):
                target.begin([CLICKS], a_day(day, name))
        target.close()

        with pytest.raises(TargetError, match=f"has the rows of the source {SOURCE}, and the file system takes"):
            sink.open(SOURCE.upper(), "r3")

    run(sink, a_day(1, other), (CLICKS, [click(1)]))
    sink.open(SOURCE.upper(), "r3").close()


@pytest.mark.parametrize("ignores_case", [True, False])
def test_a_file_in_a_directory_of_another_case_is_counted_where_case_is_ignored(sink, ignores_case):
    """
    A copy of the directory may have other names: they are those of the ledger only where the file system ignores case.
    """
    run(sink, a_day(1, "Acme"), (CLICKS, [click(1)]))
    account = sink.directory / SOURCE / "clicks" / "by_advertiser_id=Acme"
    account.rename(account.with_name("by_advertiser_id=ACME"))
    target = sink.open_readonly(SOURCE)
    entries = target.ledger.entries(SOURCE, "clicks")

    with ignored_case(*[sink.directory / SOURCE / "clicks"] * ignores_case):
        found = list(target.verify("clicks", list(entries.values())))
    target.close()

    assert any(difference.uncounted for difference in found) is not ignores_case


@pytest.mark.parametrize("point", ["day.staged", "merge.intended"])
def test_days_of_changes_wait_for_a_volume_that_is_not_mounted(sink, tmp_path, point):
    """
    Days that were merged into a file behind a link to nothing are not missing, and a day that a killed run left is kept
    until the file can be written.
    """
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    assert killed_at(point, lambda: run(sink, a_lead_day(2), (LEADS, [lead(2)])))
    directory = sink.directory / SOURCE / "leads"
    directory.rename(tmp_path / "volume")
    directory.symlink_to(tmp_path / "mount")
    for _ in range(2):
        target = sink.open(SOURCE, "r2")
        states = [entry.state for entry in target.ledger.entries(SOURCE, "leads").values()]
        (notice, *_) = target.notices
        target.close()

        assert states == ["delivered", "staged"]
        assert "which is not there" in notice
    (tmp_path / "volume").rename(tmp_path / "mount")

    sink.open(SOURCE, "r3").close()

    assert [state_of(sink, a_lead_day(day))[::2] for day in (1, 2)] == [("delivered", True)] * 2
    (merged,) = directory.rglob("data.jsonl")
    assert merged.read_bytes().count(b"\n") == 2


def test_a_directory_that_cannot_be_synced_concerns_its_partition_only(sink, monkeypatch):
    """
    A partition on a failing disk fails, and not those that are committed with it; the next opening completes it.
    """

    def failing(directory: str) -> None:
        if "report_date=2026-03-02" in os.fspath(directory):
            raise OSError(errno.EIO, os.strerror(errno.EIO), directory)
        sync_directory(directory)

    days = {a_day(day): [click(day)] for day in (1, 2, 3)}
    target = sink.open(SOURCE, "r1")
    with monkeypatch.context() as patched:
        patched.setattr(source_files, "sync_directory", failing)
        first, second, third = deliver_group(target, days)
    target.close()

    assert isinstance(first, LedgerEntry)
    assert isinstance(second, SinkError)
    assert isinstance(third, LedgerEntry)
    assert "report_date=2026-03-02: Input/output error" in str(second)
    sink.open(SOURCE, "r2").close()
    assert [state_of(sink, day)[::2] for day in days] == [("delivered", True)] * 3


def test_gzip_may_be_switched(sink):
    """
    The file of the other setting goes when the partition is replaced: rows are never there twice.
    """
    compressed = FileSink(directory=sink.directory, codec=JsonLines(), compress=True)
    path = day_file(sink)
    for opened, run_id in ((sink, "r1"), (compressed, "r2"), (sink, "r3")):
        run(opened, a_day(), (CLICKS, [click(1)]), run_id=run_id)
        (only,) = path.parent.iterdir()
        assert only.suffix == (".gz" if opened.compress else ".jsonl")
        assert state_of(opened, a_day()) == ("delivered", run_id, True)
        run(opened, a_lead_day(1), (LEADS, [lead(1), lead(2, run_id)]))
        (merged,) = (sink.directory / SOURCE / "leads" / "by_campaign=7").iterdir()
        content = gzip.decompress(merged.read_bytes()) if opened.compress else merged.read_bytes()
        assert content.count(b"\n") == 2


def test_equal_rows_give_equal_files(sink):
    """
    Compressed files are equal, too: no time stamp gets in, so copies and checksums stay what they were.
    """
    compressed = FileSink(directory=sink.directory, codec=JsonLines(), compress=True)
    run(compressed, a_day(), (CLICKS, [click(1)]))
    before = day_file(sink).with_suffix(".jsonl.gz").read_bytes()
    run(compressed, a_day(), (CLICKS, [click(1)]))

    assert day_file(sink).with_suffix(".jsonl.gz").read_bytes() == before


# --- crashes with damage ----------------------------------------------------------------------------------------------


def crash(sink: FileSink, point: str, partition: Partition, *streams) -> None:
    assert killed_at(point, lambda: run(sink, partition, *streams, run_id="killed"))


def test_a_lost_draft_brings_the_former_delivery_back(sink):
    """
    Intended, and the staged file is gone: the former file is intact, so its delivery counts.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), run_id="former")
    crash(sink, "files.intended", a_day(), (CLICKS, [click(2)]))
    for path in (sink.directory / ".penstock" / "staged" / SOURCE).iterdir():
        path.unlink()

    assert state_of(sink, a_day()) == ("delivered", "former", True)
    assert ids(day_file(sink)) == ["c1"]


def test_a_torn_draft_is_not_delivered(sink):
    """
    A staged file whose bytes are not the intended ones is not moved to its place.
    """
    crash(sink, "files.intended", a_day(), (CLICKS, [click(2)]))
    (draft,) = (sink.directory / ".penstock" / "staged" / SOURCE).iterdir()
    draft.write_bytes(bytes(draft.stat().st_size))

    assert state_of(sink, a_day()) is None
    assert ids(day_file(sink)) == []


def test_half_a_commit_with_damage_is_missing(sink):
    """
    One of two files renamed and the other draft lost: neither reading is whole, so the partition is read again.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), (TAGS, [TAG]), run_id="former")
    crash(sink, "file.renamed", a_day(), (CLICKS, [click(2)]), (TAGS, [TAG, TAG]))
    (draft,) = (sink.directory / ".penstock" / "staged" / SOURCE).iterdir()
    draft.unlink()

    assert state_of(sink, a_day()) is None


def test_drafts_without_an_intent_are_removed(sink):
    """
    Files that a killed or failed run wrote, and did not record as intended, are removed.
    """
    crash(sink, "files.staged", a_day(), (CLICKS, [click(2)]))
    drafts = sink.directory / ".penstock" / "staged" / SOURCE
    assert len(list(drafts.iterdir())) == 1
    state_of(sink, a_day())

    assert list(drafts.iterdir()) == []


def test_a_staged_day_that_is_lost_is_missing(sink):
    """
    A day whose staged file is gone before it was merged is read again.
    """
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    crash(sink, "day.staged", a_lead_day(2), (LEADS, [lead(2)]))
    for path in (sink.directory / ".penstock" / "staged" / SOURCE).iterdir():
        path.unlink()

    assert state_of(sink, a_lead_day(2)) is None
    assert state_of(sink, a_lead_day(1)) == ("delivered", "r1", True)


# --- files that vanish ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["gone", "cut", "derived gone"])
def test_a_file_that_is_not_as_delivered_is_missing(sink, damage):
    """
    Presence is judged by the size of every file of the partition.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), (TAGS, [TAG]))
    if damage == "gone":
        day_file(sink).unlink()
    elif damage == "cut":
        os.truncate(day_file(sink), 10)
    else:
        (
            sink.directory / SOURCE / "click_tags" / day_file(sink).relative_to(sink.directory / SOURCE / "clicks")
        ).unlink()

    assert state_of(sink, a_day()) == ("delivered", "r1", False)


def test_the_comparison_of_a_day_reads_nothing_of_other_days(sink):
    """
    A comparison of one day reads neither the ledger's rows of other days nor their directories.
    """
    for day in (1, 2):
        run(sink, a_day(day), (CLICKS, [click(day)]))
        shutil.copy(day_file(sink, day), day_file(sink, day).with_name("copied.jsonl"))
    target = sink.open_readonly(SOURCE)
    entries = target.ledger.entries(SOURCE, "clicks")
    day = a_day(2).day

    found = [
        list(target.verify("clicks", list(entries.values()))),
        list(target.verify("clicks", [entries[a_day(2)]], since=day, until=day)),
    ]
    known = list(target.ledger.places(SOURCE, "clicks", f"{SOURCE}/clicks/", since=day, until=day))
    target.close()

    assert [[difference.partition for difference in of] for of in found] == [[a_day(1), a_day(2)], [a_day(2)]]
    assert known == [entries[a_day(2)].files[0].path]


@pytest.mark.parametrize("staged", [False, True], ids=["nothing staged", "a day staged"])
def test_an_account_whose_file_is_gone_is_read_again_whole(sink, staged, statements):
    """
    Every day that was merged into it is missing, with a notice; other accounts are not.
    """
    for day in (1, 2):
        run(sink, a_lead_day(day), (LEADS, [lead(day)]))
    run(sink, a_lead_day(1, "8"), (LEADS, [lead(3)]))
    if staged:
        crash(sink, "day.staged", a_lead_day(3), (LEADS, [lead(4)]))
    (sink.directory / SOURCE / "leads" / "by_campaign=7" / "data.jsonl").unlink()
    statements.clear()
    target = sink.open(SOURCE, "r2")
    read = [json.loads(one.parameters[-1]) for one in statements.of("account in (select")]
    assert read == [["7"]]  # not the days of other accounts, whose file may be gone, too
    known = set(target.ledger.entries(SOURCE, "leads"))
    (notice,) = target.notices
    target.close()

    assert "/leads/by_campaign=7/data.jsonl was removed or changed: what was delivered of acme.leads is" in notice
    assert "is missing (partitions: 2, 2026-03-01 to 2026-03-02). A run reads those of its window" in notice
    assert known == {a_lead_day(1, "8")} | ({a_lead_day(3)} if staged else set())


def test_a_delivered_file_has_no_temporary_place(sink):
    """
    The ledger has only the place where the file is: what is staged there later is of another partition.
    """
    run(sink, a_day(), (CLICKS, [click(1)]))
    target = sink.open_readonly(SOURCE)
    (entry,) = target.ledger.entries(SOURCE, "clicks").values()
    target.close()

    assert [file.staged for file in entry.files] == [None]


@pytest.mark.parametrize("done", ["removed", "compressed", "cut", "edited"])
def test_an_account_s_file_that_changes_during_a_run_is_not_merged_into(sink, done):
    """
    Else the rows of all earlier days would be lost, or an edit be taken for delivered, and the ledger would agree. The
    account is read again whole, and the day of this run is kept for the next one.
    """
    path = sink.directory / SOURCE / "leads" / "by_campaign=7" / "data.jsonl"
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    target = sink.open(SOURCE, "r2")
    deliver(target, a_lead_day(2), ((LEADS, [lead(2)]),), run_id="r2")
    if done == "removed":
        path.unlink()
    elif done == "compressed":
        path.with_name("data.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    elif done == "cut":
        os.truncate(path, 0)
    else:
        path.write_bytes(path.read_bytes().replace(b"new", b"old"))
    with pytest.raises(SinkError, match=r"removed or changed during the run, or edited before: what was delivered of"):
        target.finish("leads")
    target.close()

    assert state_of(sink, a_lead_day(1)) is None
    assert state_of(sink, a_lead_day(2)) == ("delivered", "r2", True)
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    assert sorted(json.loads(line)["lead_id"] for line in path.read_text().splitlines()) == [1, 2]
    assert not path.with_name("data.jsonl.gz").exists()


def test_a_merged_file_that_was_damaged_is_named(sink):
    """
    Lines that are no records stop the merge with the file's name; the file and the staged day stay.
    """
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    path = sink.directory / SOURCE / "leads" / "by_campaign=7" / "data.jsonl"
    path.write_bytes(path.read_bytes() + b'{"lead_id": 9, "sta')
    before = path.read_bytes()
    with pytest.raises(SinkError, match=r"data\.jsonl cannot be read back"):
        run(sink, a_lead_day(2), (LEADS, [lead(2)]))
    assert path.read_bytes() == before
    path.unlink()

    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    assert path.read_text().count("\n") == 2


def test_a_file_that_the_disk_does_not_give_back_is_named(sink, monkeypatch):
    """
    It is no defect of penstock. The file and the staged day stay for the next run.
    """
    run(sink, a_lead_day(1), (LEADS, [lead(1)]))
    path = sink.directory / SOURCE / "leads" / "by_campaign=7" / "data.jsonl"

    def opened(path: Path, **options: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("penstock_plugins.files.merge.opened", opened)
        with pytest.raises(SinkError, match=r"staged/acme/.*: Input/output error\. What was delivered before"):
            run(sink, a_lead_day(2), (LEADS, [lead(2)]))
    sink.open(SOURCE, "r2").close()

    assert path.read_text().count("\n") == 2


def test_derived_rows_that_are_not_selected_stay(sink):
    """
    A run without the derived stream leaves its file, and the partition stays present.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), (TAGS, [TAG]))
    run(sink, a_day(), (CLICKS, [click(1)]), run_id="r2")
    run(sink, a_lead_day(1), (LEADS, [lead(1)]), (ANSWERS, [answer(1, "a", "1")]))
    run(sink, a_lead_day(2), (LEADS, [lead(1)]), run_id="r2")

    assert state_of(sink, a_day()) == ("delivered", "r2", True)
    assert state_of(sink, a_lead_day(2)) == ("delivered", "r2", True)
    assert (sink.directory / SOURCE / "lead_data" / "by_campaign=7" / "data.jsonl").exists()


# --- what is in the way -----------------------------------------------------------------------------------------------


def test_a_directory_belongs_to_one_format(sink):
    """
    The ledger would count the other format's days as delivered.
    """
    run(sink, a_day(), (CLICKS, [click(1)]))

    with pytest.raises(TargetError, match="holds jsonl files"):
        FileSink(directory=sink.directory, codec=Csv()).open(SOURCE, "r2")


def test_a_directory_has_csv_files_of_one_dialect(tmp_path):
    """
    No reader reads files with two delimiters. A byte order mark may be added.
    """
    run(FileSink(directory=tmp_path, codec=Csv(delimiter=";")), a_day(), (CLICKS, [click(1)]))
    run(FileSink(directory=tmp_path, codec=Csv(delimiter=";", bom=True)), a_day(), (CLICKS, [click(1)]))

    with pytest.raises(TargetError, match='csv files with delimiter = ";", decimal'):
        FileSink(directory=tmp_path, codec=Csv(delimiter=";", decimal_sign=",")).open(SOURCE, "r2")


def _file_as_target(directory: Path) -> None:
    directory.write_text("mine")


def _file_as_source(directory: Path) -> None:
    directory.mkdir()
    (directory / SOURCE).write_text("mine")


def _foreign_files(directory: Path) -> None:
    (directory / SOURCE / "clicks").mkdir(parents=True)
    (directory / SOURCE / "clicks" / "data.jsonl").write_text("mine")


def _foreign_package(directory: Path) -> None:
    _foreign_files(directory)
    (directory / SOURCE / "clicks" / "datapackage.json").write_text('{"name": "mine"}')


def _directory_as_file(directory: Path) -> None:
    sink = FileSink(directory=directory, codec=JsonLines())
    run(sink, a_day(2), (CLICKS, [click(1)]))
    (day_file(sink) / "mine").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "output"),
    [
        pytest.param(_file_as_target, "is a file", id="a file as target"),
        pytest.param(_file_as_source, "A file stands where a directory is needed", id="a file as source"),
        pytest.param(_foreign_files, "penstock did not make", id="foreign files"),
        pytest.param(_foreign_package, "penstock did not make", id="a foreign data package"),
        pytest.param(_directory_as_file, "is a directory", id="a directory as file"),
    ],
)
def test_a_file_in_the_way_is_named_and_kept(tmp_path, make, output):
    """
    The error names it; nothing of it is touched, nothing is left behind, and the next run is not confused.
    """
    sink = FileSink(directory=tmp_path / "out", codec=JsonLines())
    make(sink.directory)

    def mine() -> set[Path]:
        return {path for path in sink.directory.rglob("*") if ".penstock" not in path.parts}

    before = mine()
    for _ in range(2):
        with pytest.raises(TargetError, match=output) as caught:
            run(sink, a_day(), (CLICKS, [click(1)]))
        assert str(tmp_path / "out") in str(caught.value)

    assert mine() == before
    drafts = sink.directory / ".penstock" / "staged"
    assert [path for path in drafts.rglob("*") if path.is_file()] == [] if drafts.is_dir() else True


@pytest.mark.parametrize("make", [_file_as_source, _foreign_files, _foreign_package], ids=lambda make: make.__name__)
def test_a_stream_that_has_no_place_is_refused_before_anything_is_fetched(tmp_path, make):
    """
    Where the streams are known, the run ends when the target is opened, not once for each partition.
    """
    sink = FileSink(directory=tmp_path / "out", codec=JsonLines())
    make(sink.directory)

    with pytest.raises(TargetError):
        sink.open(SOURCE, "r1", ["items", "clicks"])
    if make is not _file_as_source:
        sink.open(SOURCE, "r1", ["items"]).close()


def test_a_full_disk_loses_nothing(sink):
    """
    The commit fails with an error that names the space; delivered files stay, and the drafts are removed.
    """
    run(sink, a_day(), (CLICKS, [click(1)]), run_id="former")
    child = os.fork()
    if child == 0:
        reported = 1
        try:
            # The limit of a file's size stands for the disk's: the system call fails in the same place.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            target = sink.open(SOURCE, "r2")
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            writer = target.begin([CLICKS], a_day())
            try:
                while True:
                    rows = rows_of(CLICKS, [click(number) for number in range(1000)])
                    writer.write(Batch(layout=CLICKS, rows=rows))
            except SinkError as error:
                reported = 0 if "Free some space" in str(error) else 2
            writer.abort()
        finally:
            os._exit(reported)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert state_of(sink, a_day()) == ("delivered", "former", True)
    assert ids(day_file(sink)) == ["c1"]


def test_a_target_that_was_only_read_is_not_changed(sink):
    """
    Reading a target needs no lock, also during a run, and shows the committed partitions.
    """
    target = sink.open(SOURCE, "r1")
    deliver(target, a_day(), [(CLICKS, [click(1)])])
    seen = sink.open_readonly(SOURCE)
    found = seen.ledger.entries(SOURCE, "clicks")
    seen.close()
    deliver(target, a_day(2), [(CLICKS, [click(1, report_date=date(2026, 3, 2))])])
    target.close()

    assert list(found) == [a_day(1)]


def test_a_writer_that_is_refused_leaves_no_draft(sink):
    """
    A commit that the ledger refuses removes its drafts.
    """
    target = sink.open(SOURCE, "r1")
    writer = target.begin([CLICKS], a_day())
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    with pytest.raises(SinkError, match="changed in the ledger"):
        commit(target, writer, an_entry(target.ledger, a_day(), version=5))
    left = list((sink.directory / ".penstock" / "staged" / SOURCE).iterdir())
    target.close()

    assert left == []
    assert ids(day_file(sink)) == []


# --- cost -----------------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The number of synced files, and of synced directories, from now on."""
    counts = {"files": 0, "directories": 0}
    fsync = os.fsync

    def counted_fsync(handle: int) -> None:
        counts["directories" if stat.S_ISDIR(os.fstat(handle).st_mode) else "files"] += 1
        fsync(handle)

    monkeypatch.setattr(os, "fsync", counted_fsync)
    return counts


def test_a_group_costs_two_syncs_a_partition(
    sink: FileSink, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A group syncs the file and the directory of each partition, and has two transactions of the ledger. It syncs a
    directory that several partitions share once.
    """
    days = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in range(1, 21)}
    target = sink.open(SOURCE, "r1")
    deliver(target, a_day(28), [(CLICKS, [click(28)])])
    counts = counted(monkeypatch)
    for new_directories in (1, 0):
        counts.update(files=0, directories=0)
        statements.clear()
        deliver_group(target, days)
        assert counts == {"files": 20, "directories": 20 + new_directories}
        assert statements.durable_changes == 2
    target.close()


def test_days_of_changes_cost_one_sync_each(
    sink: FileSink, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Days that are staged together: one sync of each file, one of their directory, one transaction of the ledger.
    """
    target = sink.open(SOURCE, "r1")
    commits = []
    for day in range(1, 11):
        writer = target.begin([LEADS], a_lead_day(day))
        writer.write(Batch(layout=LEADS, rows=rows_of(LEADS, [lead(day)])))
        commits.append((writer, an_entry(target.ledger, a_lead_day(day), rows=1)))
    counts = counted(monkeypatch)
    statements.clear()
    target.commit_group(commits)
    assert counts == {"files": 10, "directories": 1}
    assert statements.durable_changes == 1

    target.finish("leads")
    target.close()
    merged = (sink.directory / SOURCE / "leads" / "by_campaign=7" / "data.jsonl").read_text().splitlines()
    assert [json.loads(line)["lead_id"] for line in merged] == list(range(1, 11))


def test_an_intent_that_fails_is_completed_by_the_next_run(sink: FileSink, monkeypatch: pytest.MonkeyPatch):
    """
    A file of a group that cannot be renamed fails its partition, and keeps its staged file: the next opening puts it
    into place. The others are delivered.
    """
    days = {a_day(day): [click(day, report_date=date(2026, 3, day))] for day in (1, 2, 3)}
    move = source_files.move

    def refuse(path: str, place: str) -> None:
        if "2026-03-02" in place:
            raise OSError(5, "Input/output error")
        move(path, place)

    target = sink.open(SOURCE, "r1")
    with monkeypatch.context() as patch:
        patch.setattr(source_files, "move", refuse)
        done = deliver_group(target, days)
    target.close()

    assert [type(one) for one in done] == [LedgerEntry, SinkError, LedgerEntry]
    assert [ids(day_file(sink, day)) for day in (1, 2, 3)] == [["c1"], [], ["c3"]]
    assert state_of(sink, a_day(2)) == ("delivered", "r1", True)
    assert ids(day_file(sink, 2)) == ["c2"]


def test_the_history_is_not_read(sink: FileSink, statements: Statements) -> None:
    """
    Opening a target, delivering a day and finishing the stream read the rows of that day only, however many days were
    delivered before; of these, only the paths of their files.
    """
    target = sink.open(SOURCE, "r1")
    for day in range(1, 29):
        deliver(target, a_day(day), [(CLICKS, [click(day, report_date=date(2026, 3, day))])])
    target.finish("clicks")
    target.close()
    statements.clear()
    target = sink.open(SOURCE, "r2")
    writer = target.begin([CLICKS], a_day(29))
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(29, report_date=date(2026, 3, 29))])))
    commit(target, writer, an_entry(None, a_day(29), rows=1))
    target.finish("clicks")
    target.close()

    values = {value for row in statements.rows for value in row}
    assert statements.durable_changes > 0
    assert values.isdisjoint(a_day(day).text for day in range(1, 29))


def test_the_files_of_a_stream_are_listed_without_the_rows_of_empty_days(
    sink: FileSink, statements: Statements
) -> None:
    """
    All of them by an index of partitions with files, those of a window by the index of days.
    """
    target = sink.open(SOURCE, "r1")

    def indexes(**window: date) -> list[str]:
        statements.clear()
        list(target.ledger.places(SOURCE, "clicks", f"{SOURCE}/clicks/", **window))
        return [plan[0] for plan in statements.plans("partitions")]

    assert indexes() == ["SEARCH partitions USING INDEX partitions_files (source=? AND stream=?)"]
    day, empty, unsettled = indexes(since=date(2026, 3, 2), until=date(2026, 3, 2))
    assert "partitions_day (source=? AND stream=? AND day>? AND day<?)" in day
    assert "partitions_day (source=? AND stream=? AND day=?)" in empty
    assert "partitions_unsettled" in unsettled
    target.close()


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_a_group_of_small_partitions_syncs_each_file_and_directory_once(
    again: bool, sink: FileSink, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Partitions that are committed together cost a sync of each file and of each directory that changed, several at the
    same time, and two changes of the ledger each, in two transactions. Nothing is searched in the ledger partition by
    partition.
    """
    days = {a_day(day): [click(day)] for day in range(1, 21)}
    if again:
        target = sink.open(SOURCE, "r0")
        deliver_group(target, days)
        target.close()
    target = sink.open(SOURCE, "r1")
    known = target.ledger.entries(SOURCE, "clicks")
    commits = []
    for partition, rows in days.items():
        writer = target.begin([CLICKS], partition)
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
        entry = an_entry(target.ledger, partition, rows=len(rows), replaces=known.get(partition))
        commits.append((writer, entry))
    syncs = []
    fsync = os.fsync
    other = threading.Barrier(2)  # each sync waits for another one that is made at the same time

    def synced(handle: int) -> None:
        other.wait(timeout=30)
        syncs.append(handle)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    statements.clear()
    done = target.commit_group(commits)
    words = [one.text.split()[0] for one in statements.executed]
    monkeypatch.undo()
    target.close()

    assert not [one for one in done if isinstance(one, Exception)]
    parents = 0 if again else 2  # by_advertiser_id=2112, and the stream's directory
    assert len(syncs) == 20 + 20 + parents
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    compared = {"select": 20} if again else {}  # the former rows and sums, to record what changed
    changes = {"update": 40} if again else {"insert": 20, "update": 20}
    assert counts == {"begin": 2, "commit": 2, "delete": 1, **changes, **compared}


def test_a_small_file_is_created_when_it_is_committed(sink: FileSink) -> None:
    """
    The rows of a small partition are held in memory until then; a partition that is aborted leaves no file.
    """
    target = sink.open(SOURCE, "r1")
    writer = target.begin([CLICKS], a_day(1))
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(1)])))
    staged = sink.directory / ".penstock" / "staged" / SOURCE
    assert list(staged.iterdir()) == []
    writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, [click(number) for number in range(2000)])))
    assert len(list(staged.iterdir())) == 1
    writer.abort()
    assert list(staged.iterdir()) == []
    target.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in ("jsonl", "csv", "parquet", "duckdb")])
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("s3://bucket/days", "has a URL, which would become a directory of this name"),
        ("days?token=abcd", "has a query, which would become a part of the name"),
        ("~nobody-here/days", "this machine has no user ~nobody-here"),
    ],
)
def test_an_unintended_place_is_refused(kind: SinkKind, place: str, problem: str) -> None:
    """
    A place with a URL, a query or an unknown user is refused: a directory of that name would be made, and its rows
    reported as delivered.
    """
    with pytest.raises(UsageError, match=problem):
        kind.parse(f"{kind.scheme}:{place}")
