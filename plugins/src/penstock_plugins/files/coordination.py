"""
A directory on a file system that several machines share: workers stage files, the coordinator commits them.

A worker writes and syncs its files in ``DIR/.penstock/staged/<source>/``, and requests everything else of the
coordinator's target: the rows of the ledger, and the commit of what it staged. So a worker that was cut off can leave
files there that nobody commits, and replaces none. The next opening of the target removes them.

Rejected records pass in a file, too, as the rows do.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from attrs import evolve
from penstock import (
    BaseTarget,
    FinalDay,
    Layout,
    Ledger,
    LedgerEntry,
    LedgerFile,
    Partition,
    PendingReport,
    PenstockError,
    Rejected,
    RunRecord,
    SinkError,
    TargetError,
    mask,
)
from penstock.engines.calls import Calls, Failure, RoundTrip

from penstock_plugins.files.commit import FileWriter, Staged, stage_all
from penstock_plugins.files.disk import Draft, file_errors, file_name, make_directories, replace_text
from penstock_plugins.files.source_files import STATE, SourceFiles

if TYPE_CHECKING:
    from penstock_plugins.files.target import FileTarget

PATIENCE_S, LOOK_EVERY_S = 5.0, 0.2  # a network file system may show a new file late


# --- the coordinator --------------------------------------------------------------------------------------------------


class Coordination:
    """What workers request of the coordinator's target, besides the methods of its ledger."""

    def __init__(self, target: "FileTarget") -> None:
        self._target = target
        self._files = target.files

    def leave_mark(self) -> str:
        """See :meth:`penstock.sinks.Coordinating.mark`. It replaces the mark of an earlier run."""
        mark = token_hex(16)
        with file_errors(self._files.staging):
            make_directories(self._files.staging, mode=0o700)
            replace_text(_path_of_mark(self._files), mark.encode())
        return mark

    def reply(self, request: str) -> str:
        """The reply to a request of a worker."""
        receiver, _, call = request.partition(" ")
        return _LEDGER.reply(self._target.ledger, call) if receiver == "ledger" else _TARGET.reply(self, call)

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """See :meth:`.target.FileTarget.prepare`."""
        self._target.prepare(layouts)

    def claim(self, layouts: Sequence[Layout]) -> None:
        """See :meth:`.target.FileTarget.claim`."""
        self._target.claim(layouts)

    def commit_staged(self, staged: Sequence[Staged]) -> list[Failure | None]:
        """Commit partitions that a worker has staged. Returns the error of each, None where it was committed."""
        results = self._target.committer.commit_group([self._receive(partition) for partition in staged])
        return [Failure.of(result) if isinstance(result, Exception) else None for result in results]

    def _receive(self, staged: Staged) -> Staged | Exception:
        """What a worker staged, as this process sees it, with its rejected records."""
        try:
            if self._files.folding:
                self._target.distinguish(staged.entry.partition)
            missing = [file.staged for file in staged.files if not self._files.are_staged([file])]
            if missing:
                raise SinkError(
                    f"{self._files.path(str(missing[0]))}, which a worker has written, is not there for the "
                    "coordinator of the run, or has another size. Look whether both see one file system. Nothing "
                    "was replaced."
                )
            entry = evolve(staged.entry, rejected_records=self._take_rejected(staged))
            return staged._replace(entry=entry)
        except PenstockError as error:
            self._files.discard(staged.files)
            return error

    def _take_rejected(self, staged: Staged) -> tuple[Rejected, ...]:
        if not staged.rejected:
            return ()
        path = Path(self._files.path(staged.rejected))
        with file_errors(path):
            records = msgspec.json.decode(path.read_bytes(), type=tuple[Rejected, ...])
            path.unlink()
        return records

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay]:
        """See :meth:`penstock.sinks.Target.final_days`."""
        return self._target.final_days(stream, since=since, until=until, accounts=accounts)

    def merged_files(self) -> list[tuple[Partition, tuple[LedgerFile, ...]]]:
        """The files of every account of the source's changes streams."""
        every = self._target.ledger.all_merged_files(self._target.source)
        return [(merged.partition, merged.files) for merged in every]


_LEDGER = Calls(Ledger, without=["close"])
_TARGET = Calls(Coordination, without=["leave_mark", "reply"])


def _path_of_mark(files: SourceFiles) -> Path:
    return files.directory / STATE / f"{file_name(files.source)}.mark"


# --- a worker ---------------------------------------------------------------------------------------------------------


def find_mark(files: SourceFiles, mark: str) -> None:
    """See :meth:`penstock.sinks.Staging.find_mark`."""
    path, end = _path_of_mark(files).absolute(), time.monotonic() + PATIENCE_S
    while (text := _text_of(path)) != mark:
        if time.monotonic() >= end:
            raise TargetError(
                f"{files.directory.absolute()} is another directory here than where the run was started ({path} "
                f"{'is not there' if text is None else 'has another text'}). Mount the file system that the "
                "coordinator writes at the same absolute path on each worker, or name a Postgres database."
            )
        time.sleep(LOOK_EVERY_S)
    attempt = Path(files.draft_path())
    with file_errors(attempt):
        attempt.touch()
        attempt.unlink()


def _text_of(path: Path) -> str | None:
    with file_errors(path), suppress(FileNotFoundError):
        return path.read_text()
    return None


class WorkerLedger(Ledger):
    """The ledger of the coordinator's target, as far as a run needs it. Free text is masked before it leaves."""

    def __init__(self, request: RoundTrip) -> None:
        self._remote: Any = _LEDGER.remote(lambda call: request(f"ledger {call}"))

    def entries(
        self,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
        flawed: bool = False,
    ) -> dict[Partition, LedgerEntry]:
        entries: dict[Partition, LedgerEntry] = self._remote.entries(
            source, stream, since=since, until=until, accounts=accounts, flawed=flawed
        )
        return entries

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        self._remote.fail_all(source, [(partition, mask(error)) for partition, error in failures], run_id)

    def submit(self, report: PendingReport) -> None:
        self._remote.submit(_masked(report))

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        return tuple(self._remote.pending(source, stream))

    def drop(self, report: PendingReport) -> None:
        self._remote.drop(_masked(report))

    def remember_accounts(self, source: str, stream: str, accounts: Sequence[str]) -> None:
        self._remote.remember_accounts(source, stream, accounts)

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        return tuple(self._remote.accounts(source, stream))

    def deliver(self, entry: LedgerEntry) -> None:
        raise NotImplementedError("the coordinator's target delivers")

    def record_run(self, run: RunRecord) -> None:
        """No effect: the coordinator records the run."""

    def close(self) -> None:
        """No effect: the coordinator closes its target."""


def _masked(report: PendingReport) -> PendingReport:
    return evolve(report, handle=mask(report.handle), request=mask(report.request))


class StagingTarget(BaseTarget):
    """
    A directory as a worker opens it: it stages files, and requests their commit. ``lock``: held until it is closed.
    """

    def __init__(self, files: SourceFiles, request: RoundTrip, lock: BinaryIO) -> None:
        self.ledger = WorkerLedger(request)
        self._files = files
        self._lock = lock
        self._coordinator: Coordination = _TARGET.remote(lambda call: request(f"target {call}"))
        self._layouts: dict[str, Sequence[Layout]] = {}

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """See :meth:`penstock.sinks.Target.prepare`."""
        self._coordinator.prepare(layouts)

    def begin(self, layouts: Sequence[Layout], partition: Partition) -> FileWriter:
        first = layouts[0]
        if self._layouts.get(first.stream) != layouts:
            self._coordinator.claim(layouts)
            self._layouts[first.stream] = layouts
        return FileWriter(self._files, layouts, partition)

    def commit_group(self, commits: Sequence[tuple[FileWriter, LedgerEntry]]) -> list[LedgerEntry | Exception]:
        """See :meth:`penstock.sinks.Target.commit_group`."""
        results: list[LedgerEntry | Exception] = []
        staged = stage_all(self._files, commits)
        sent = [self._prepare_for_sending(result) for result in staged if isinstance(result, Staged)]
        failures = iter(self._coordinator.commit_staged(sent))
        for result in staged:
            if isinstance(result, Staged):
                failure = next(failures)
                results.append(result.entry if failure is None else failure.error)
            else:
                results.append(result)
        return results

    def _prepare_for_sending(self, staged: Staged) -> Staged:
        """What was staged, without what the coordinator's ledger has, and with rejected records in a file."""
        entry = evolve(staged.entry, replaces=None, rejected_records=())
        if not staged.entry.rejected_records:
            return staged._replace(entry=entry)
        records = [
            evolve(record, path=mask(record.path), reason=mask(record.reason), raw=mask(record.raw))
            for record in staged.entry.rejected_records
        ]
        draft = Draft(self._files.draft_path())
        draft.write(msgspec.json.encode(records))
        draft.finish()
        return staged._replace(entry=entry, rejected=self._files.place_of(draft))

    def is_intact(self, entry: LedgerEntry) -> bool:
        return self._files.is_intact(entry, self._merged_files.get)

    @cached_property
    def _merged_files(self) -> dict[Partition, Sequence[LedgerFile]]:
        """By account. No worker changes them: the coordinator merges at the end of the run."""
        return dict(self._coordinator.merged_files())

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay]:
        """See :meth:`penstock.sinks.Target.final_days`."""
        return self._coordinator.final_days(stream, since=since, until=until, accounts=accounts)

    def close(self) -> None:
        self._files.close()
        self._lock.close()
