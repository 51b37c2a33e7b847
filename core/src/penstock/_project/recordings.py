"""
The recordings of ``run``: one to write beside the delivery, or one to read in place of the provider.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attrs import evolve

from penstock._config.config import ConfiguredSink
from penstock._fetch.exchange_recording import ExchangeRecording
from penstock._plan.read_job import ReadJob
from penstock._project.selected_jobs import Selection
from penstock._project.setup import AddNotice
from penstock.errors import UsageError

if TYPE_CHECKING:
    from penstock._recording.replay import Recording

Folder = str | os.PathLike[str] | None


class RecordingOptions(NamedTuple):
    """
    The directory of a recording: a new one to write (``record``; ``record_full``: with credentials masked only), or one
    to read in place of the provider (``replay``).
    """

    record: Folder
    record_full: Folder
    replay: Folder


def recording_of(recordings: RecordingOptions, add_notice: AddNotice) -> "Recording | None":
    """The recording to run from, if there is one. Raises UsageError."""
    if recordings.replay is None:
        return None
    from penstock._recording.replay import Recording

    if recordings.record is not None or recordings.record_full is not None:
        raise UsageError("a run from a recording makes no exchange that could be recorded: leave out --record")
    recording = Recording.open(Path(recordings.replay))
    if not recording.finished:
        add_notice(f"--replay {recording.folder}: the recorded run was killed; requests may lack their response")
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


def check_unmasked(recording: "Recording", jobs: Sequence[ReadJob], sink: ConfiguredSink | None) -> None:
    """Raises UsageError for a masked recording and a target with a ledger."""
    if recording.masked and any(job.sink.keeps_ledger for job in jobs):
        raise UsageError(
            f"--replay {recording.folder}: its rows are not those of the provider ({recording.masked}), and "
            f"{sink.name if sink else 'the sink'} has a ledger, which would count them as delivered. Print them with "
            "--to -, write one file such as --to jsonl:rows.jsonl, or make the recording with --record-full."
        )


def recorder_of(recordings: RecordingOptions, selection: Selection) -> ExchangeRecording | None:
    """The recorder of a run that is recorded. Raises UsageError."""
    record, record_full = recordings.record, recordings.record_full
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
