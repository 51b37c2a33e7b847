"""
``penstock airbyte SOURCE spec|check|discover|read``: a source as an Airbyte source, for PyAirbyte and the platform.

Messages go to standard output, everything else to stderr. The protocol:
https://docs.airbyte.com/platform/understanding-airbyte/airbyte-protocol
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import click
from attrs import field, frozen
from penstock import Layout, LedgerEntry, PenstockError, Project, UsageError, mask
from penstock.commands.process import only_data_on_stdout

from penstock_plugins.integrations import stream_schema
from penstock_plugins.integrations.message_run import JSON_FILE, message_output, read_json, run_to
from penstock_plugins.integrations.messages import RECORD, Texts, message, now_ms, split_at_record

VERBS = ("spec", "check", "discover", "read")
ENDED_EARLY = (
    "not all of it was read, since the run ended early or the provider listed no more. What was read is in the state; "
    "the next sync reads the rest"
)


@frozen
class AirbyteMessages:
    """RECORD, STATE of each stream, and the TRACE of each stream's status."""

    texts: Texts = field(factory=Texts)
    whole_states: ClassVar[bool] = False

    def start(self, layouts: Sequence[Layout], states: Mapping[str, Any]) -> bytes:
        return b"".join(_status(layout.stream, "STARTED") for layout in layouts)

    def around_record(self, layout: Layout, entry: LedgerEntry) -> tuple[bytes, bytes]:
        read_at = entry.read_at or datetime.now(UTC)
        record = {"stream": layout.stream, "data": RECORD, "emitted_at": int(read_at.timestamp() * 1000)}
        return split_at_record({"type": "RECORD", "record": record})

    def state(self, states: Mapping[str, Any]) -> bytes:
        return b"".join(
            message(
                {
                    "type": "STATE",
                    "state": {
                        "type": "STREAM",
                        "stream": {"stream_descriptor": {"name": stream}, "stream_state": state},
                    },
                }
            )
            for stream, state in states.items()
        )

    def end(self, complete: Mapping[str, bool], failed: Mapping[str, str], state: bytes) -> bytes:
        """Platforms expect an error of each stream that is not complete, also where none of its partitions failed."""
        early = {stream: f"{stream}: {ENDED_EARLY}" for stream, is_complete in complete.items() if not is_complete}
        errors = [trace_error(text, stream=stream) for stream, text in (early | dict(failed)).items()]
        statuses = [_status(stream, "COMPLETE" if yes else "INCOMPLETE") for stream, yes in complete.items()]
        return b"".join([state, *errors, *statuses])


def _status(stream: str, status: str) -> bytes:
    about = {"stream_descriptor": {"name": stream}, "status": status}
    return message(
        {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": now_ms(), "stream_status": about}}
    )


def trace_error(text: str, kind: str = "transient_error", stream: str | None = None) -> bytes:
    """The TRACE of an error."""
    error: dict[str, Any] = {"message": mask(text), "failure_type": kind}
    if stream is not None:
        error["stream_descriptor"] = {"name": stream}
    return message({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": now_ms(), "error": error}})


# --- spec and catalog -------------------------------------------------------------------------------------------------


def specification(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The SPEC of a source with these settings (a JSON Schema); secrets as Airbyte marks them."""
    properties = {name: _setting(setting) for name, setting in settings["properties"].items()}
    return {
        "type": "SPEC",
        "spec": {
            "connectionSpecification": {**settings, "properties": properties, "additionalProperties": True},
            "supportsIncremental": True,
        },
    }


def _setting(setting: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in setting.items() if key != "writeOnly"}
    return {**schema, "airbyte_secret": True} if setting.get("writeOnly") else schema


def stream_of(layout: Layout) -> dict[str, Any]:
    """A stream of the catalog. The source keeps its own cursor; the column of the day is named as one."""
    day = layout.day_column
    return {
        "name": layout.stream,
        "json_schema": stream_schema.json_schema(layout, Texts()),
        "supported_sync_modes": ["full_refresh", "incremental"] if day else ["full_refresh"],
        "source_defined_primary_key": [[column] for column in layout.unique_columns],
        **({"source_defined_cursor": True, "default_cursor_field": [day], "is_resumable": True} if day else {}),
    }


def selected(catalog: Mapping[str, Any], layouts: Sequence[Layout]) -> dict[str, str]:
    """Stream -> sync mode, of a configured catalog. Raises UsageError for what the source does not have."""
    modes = {layout.stream: stream_of(layout)["supported_sync_modes"] for layout in layouts}
    chosen: dict[str, str] = {}
    try:
        for configured in catalog["streams"]:
            name, mode = configured["stream"]["name"], configured["sync_mode"]
            if name not in modes:
                raise UsageError(
                    f"the catalog names the stream {name!r}, which this source does not have; there are "
                    f"{', '.join(modes)}. Discover the catalog again"
                )
            if mode not in modes[name]:
                raise UsageError(
                    f"the catalog names the sync mode {mode!r} for {name}, which supports {' and '.join(modes[name])}"
                )
            chosen[name] = mode
    except (KeyError, TypeError):
        raise UsageError(
            "the catalog is not a configured catalog of Airbyte; make one from what `discover` prints"
        ) from None
    return chosen


def states_of(messages: Any) -> dict[str, Any]:
    """Stream -> state, of a list of STATE messages (or of their content). Raises UsageError for another shape."""
    states: dict[str, Any] = {}
    try:
        for stored in messages or ():
            about = stored.get("state", stored)["stream"]
            states[about["stream_descriptor"]["name"]] = about.get("stream_state") or {}
    except (AttributeError, KeyError, TypeError):
        raise UsageError("the state is not a list of states of streams, which `read` prints") from None
    return states


# --- the command ------------------------------------------------------------------------------------------------------


@click.command("airbyte")
@click.argument("source")
@click.argument("verb", metavar="spec|check|discover|read")
@click.option("--config", "config_file", type=JSON_FILE, metavar="FILE", help="Keys of the source as JSON.")
@click.option("--catalog", "catalog_file", type=JSON_FILE, metavar="FILE", help="The configured catalog (read).")
@click.option("--state", "state_file", type=JSON_FILE, metavar="FILE", help="The states printed last (read).")
@click.pass_obj
def airbyte(
    project: Project,
    source: str,
    verb: str,
    *,
    config_file: Path | None,
    catalog_file: Path | None,
    state_file: Path | None,
) -> int:
    """
    Be an Airbyte source: print the specification, the status, the catalog or the records of SOURCE as messages.

    SOURCE is a source of the configuration, or a connector whose keys are in --config.
    """
    if source in VERBS and verb not in VERBS:
        source, verb = verb, source
    if verb not in VERBS:
        raise UsageError(f"found {verb!r}, expected one of {', '.join(VERBS)}")
    try:
        if verb != "spec" and config_file is not None:
            project = project.with_source(source, read_json(config_file, "--config", dict), where=str(config_file))
        if verb == "spec":
            return _print(specification(project.settings_schema(source)))
        if verb == "check":
            return _print({"type": "CONNECTION_STATUS", "connectionStatus": _checked(project, source)})
        with only_data_on_stdout():  # what a connector prints is no message
            layouts = project.layouts(source, ["*"])
        if verb == "discover":
            return _print({"type": "CATALOG", "catalog": {"streams": [stream_of(layout) for layout in layouts]}})
        if catalog_file is None:
            raise UsageError("read needs --catalog, the configured catalog")
        modes = selected(read_json(catalog_file, "--catalog", dict), layouts)
        states = states_of(read_json(state_file, "--state", list)) if state_file is not None else {}
        states = {name: state for name, state in states.items() if modes.get(name) == "incremental"}
        return run_to(project, source, AirbyteMessages(), list(modes), states)
    except PenstockError as error:
        with message_output() as output:
            output(trace_error(str(error), "config_error" if isinstance(error, UsageError) else "system_error"))
        raise


def _print(value: Mapping[str, Any]) -> int:
    with message_output() as output:
        output(message(value))
    return 0


def _checked(project: Project, source: str) -> dict[str, str]:
    try:
        with only_data_on_stdout():
            checked = project.check(source)
    except PenstockError as error:
        return {"status": "FAILED", "message": mask(str(error))}
    text = mask("; ".join(tried.message for tried in checked.checked))
    return {"status": "FAILED" if checked.exit_code else "SUCCEEDED", "message": text}
