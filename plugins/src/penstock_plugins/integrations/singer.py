"""
``penstock singer SOURCE``: a source as a Singer tap, for every Singer target and Meltano.

Messages go to standard output, everything else to stderr. The Singer specification:
https://hub.meltano.com/singer/spec
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from penstock import Layout, Project, UsageError, __version__
from penstock.commands.process import only_data_on_stdout

from penstock_plugins.integrations import stream_schema
from penstock_plugins.integrations.message_run import JSON_FILE, read_json, run_to
from penstock_plugins.integrations.messages import Texts, now_ms
from penstock_plugins.integrations.singer_messages import SingerMessages

# --- catalog --------------------------------------------------------------------------------------------------------


def catalog(layouts: Sequence[Layout], by_default: Sequence[str], texts: Texts) -> dict[str, Any]:
    """The catalog of ``--discover``, with the schemas of a run; streams that are on by default are selected."""
    return {"streams": [_entry(layout, layout.stream in by_default, texts) for layout in layouts]}


def _entry(layout: Layout, by_default: bool, texts: Texts) -> dict[str, Any]:
    key, day, fixed = list(layout.unique_columns), layout.day_column, stream_schema.automatic(layout)
    method = "FULL_TABLE" if layout.kind == "snapshot" else "INCREMENTAL"
    about_stream = {
        "inclusion": "available",
        "selected-by-default": by_default,
        "selected": by_default,
        "table-key-properties": key,
        "forced-replication-method": method,
        **({"valid-replication-keys": [day]} if day else {}),
    }
    about_columns = [
        {
            "breadcrumb": ["properties", column.name],
            "metadata": {
                "inclusion": "automatic" if column.name in fixed else "available",
                "selected-by-default": True,
            },
        }
        for column in layout.columns
    ]
    return {
        "tap_stream_id": layout.stream,
        "stream": layout.stream,
        "schema": stream_schema.json_schema(layout, texts),
        "key_properties": key,
        "replication_method": method,
        **({"replication_key": day} if day else {}),
        "metadata": [{"breadcrumb": [], "metadata": about_stream}, *about_columns],
    }


def selected(catalog: Any, layouts: Sequence[Layout], by_default: Sequence[str]) -> tuple[list[str], list[str]]:
    """
    What a catalog selects by its metadata: the streams, and the columns to leave out as ``stream.column``.

    A stream or column without ``selected`` is selected as it is by default, a column whose inclusion is automatic
    always is. Raises UsageError for what the source does not have.
    """
    layouts_by_stream = {layout.stream: layout for layout in layouts}
    streams, excluded = [], []
    try:
        for entry in catalog["streams"]:
            name = entry.get("tap_stream_id") or entry["stream"]
            metadata = {tuple(item["breadcrumb"]): item["metadata"] for item in entry.get("metadata", ())}
            is_selected = metadata.get((), {}).get("selected", entry.get("selected"))
            if not (name in by_default if is_selected is None else is_selected):
                continue
            if name not in layouts_by_stream:
                raise UsageError(
                    f"the catalog selects the stream {name!r}, which this source does not have; there are "
                    f"{', '.join(layouts_by_stream)}. Make a new catalog with --discover"
                )
            streams.append(name)
            excluded += _excluded(layouts_by_stream[name], metadata)
    except (AttributeError, KeyError, TypeError):
        raise UsageError("the catalog is not one of Singer's: expected what --discover prints") from None
    return streams, excluded


def _excluded(layout: Layout, metadata: Mapping[tuple[str, ...], Mapping[str, Any]]) -> list[str]:
    fixed = stream_schema.automatic(layout)
    return [
        f"{layout.stream}.{column.name}"
        for column in layout.columns
        if column.name not in fixed and not metadata.get(("properties", column.name), {}).get("selected", True)
    ]


# --- the command ----------------------------------------------------------------------------------------------------


@click.command("singer")
@click.argument("source")
@click.option("--config", "config_file", type=JSON_FILE, metavar="FILE", help="Keys of the source as JSON.")
@click.option("--catalog", "--properties", "catalog_file", type=JSON_FILE, metavar="FILE", help="What is selected.")
@click.option("--state", "state_file", type=JSON_FILE, metavar="FILE", help="The state that a target printed last.")
@click.option(
    "--decimals",
    type=click.Choice(["number", "text"]),
    default="number",
    help="text: for targets that make a binary float of every number.  [default: number]",
)
@click.option(
    "--nested",
    type=click.Choice(["json", "text"]),
    default="json",
    help="text: for targets that take objects and lists badly.  [default: json]",
)
@click.option("--discover", is_flag=True, help="Print the catalog.")
@click.option("--about", is_flag=True, help="Print name, capabilities and settings as JSON.")
@click.option("--format", type=click.Choice(["json"]), expose_value=False, help="The format of --about.")
@click.option("--test", is_flag=True, help="Try the credentials.")
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_obj
def singer(
    project: Project,
    source: str,
    *,
    config_file: Path | None,
    catalog_file: Path | None,
    state_file: Path | None,
    decimals: str,
    nested: str,
    discover: bool,
    about: bool,
    test: bool,
    version: bool,
) -> int:
    """
    Be a Singer tap: print the records of SOURCE as messages, for a target.

    SOURCE is a source of the configuration, or a connector whose keys are in --config.
    """
    if version:
        click.echo(f"penstock {__version__}")
        return 0
    if about:
        click.echo(json.dumps(_about(project, source), indent=2))
        return 0
    if config_file is not None:
        project = project.with_source(source, read_json(config_file, "--config", dict), where=str(config_file))
    if test:
        checked = project.check(source)
        click.echo("\n".join(tried.message for tried in checked.checked), err=True)
        return checked.exit_code
    with only_data_on_stdout():  # what a connector prints is no catalog
        layouts = project.layouts(source, ["*"])
        by_default = [layout.stream for layout in project.layouts(source)]
    texts = Texts(decimals == "text", nested == "text")
    if discover:
        click.echo(json.dumps(catalog(layouts, by_default, texts), indent=2))
        return 0
    streams, excluded = by_default, list[str]()
    if catalog_file is not None:
        streams, excluded = selected(read_json(catalog_file, "--catalog", dict), layouts, by_default)
    states = (read_json(state_file, "--state", dict) if state_file is not None else {}).get("bookmarks") or {}
    if not isinstance(states, dict):
        raise UsageError(
            f"--state {state_file}: expected an object of JSON under bookmarks, found {type(states).__name__}. "
            "Give the last state that the target printed, or none, to read everything again"
        )
    return run_to(project, source, SingerMessages(now_ms(), texts), streams, states, excluded)


def _about(project: Project, source: str) -> dict[str, Any]:
    return {
        "name": source,
        "version": __version__,
        "sdk_version": None,
        "capabilities": ["about", "activate-version", "catalog", "discover", "state", "test"],
        "settings": project.settings_schema(source),
    }
