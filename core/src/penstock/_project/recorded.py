"""
Runs that are recorded, and runs from a recording.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from penstock._config import ConfiguredSink
from penstock._fetch.client import ExchangeLog
from penstock._plan.plan import Job
from penstock._project.selection import Selection
from penstock._project.setup import Notice
from penstock.errors import UsageError

if TYPE_CHECKING:
    from penstock._recording.replay import Recording

Folder = str | os.PathLike[str] | None


def recording_of(replay: Folder, record: Folder, record_full: Folder, notice: Notice) -> "Recording":
    """The recording to run from. Raises UsageError."""
    from penstock._recording.replay import Recording

    if record is not None or record_full is not None:
        raise UsageError("a run from a recording makes no exchange that could be recorded: leave out --record")
    assert replay is not None
    recording = Recording.open(Path(replay))
    if not recording.finished:
        notice(f"--replay {recording.folder}: the recorded run was killed; requests may lack their response")
    return recording


def as_recorded(selection: Selection, recording: "Recording") -> Selection:
    """The selection, with that of the recorded run where it makes none."""
    options = recording.options
    return evolve(
        selection,
        streams=selection.streams or tuple(options["streams"]),
        exclude_streams=selection.exclude_streams or tuple(options["exclude_streams"]),
        accounts=selection.accounts or tuple(options["accounts"]),
        since=selection.since or options["since"],
        until=selection.until or options["until"],
    )


def refuse_masked(recording: "Recording", jobs: Sequence[Job], sink: ConfiguredSink | None) -> None:
    """Raise UsageError for a masked recording and a target with a ledger."""
    if recording.masked and any(job.sink.keeps_ledger for job in jobs):
        raise UsageError(
            f"--replay {recording.folder}: its rows are not those of the provider ({recording.masked}), and "
            f"{sink.shown if sink else 'the sink'} has a ledger, which would count them as delivered. Print them with "
            "--to -, write one file such as --to jsonl:rows.jsonl, or make the recording with --record-full."
        )


def recorder_of(record: Folder, record_full: Folder, selection: Selection) -> ExchangeLog | None:
    """The exchange log of a run that is recorded. Raises UsageError."""
    if record is not None and record_full is not None:
        raise UsageError("--record and --record-full: choose one")
    if (folder := record if record is not None else record_full) is None:
        return None
    from penstock._recording.recorder import Recorder

    options = {
        "streams": selection.streams,
        "exclude_streams": selection.exclude_streams,
        "accounts": selection.accounts,
        "since": str(selection.since) if selection.since is not None else None,
        "until": str(selection.until) if selection.until is not None else None,
    }
    return Recorder(Path(folder), full=record_full is not None, options=options)
