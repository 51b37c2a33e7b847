"""
``connectors`` and ``streams``: what is installed, without any configuration.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from penstock._cli import complete
from penstock._cli.output import paged, print_csv, print_json, print_table
from penstock._cli.session import Session, as_json, as_json_or_csv, command
from penstock._cli.stderr import to_stderr
from penstock.connector import Stream
from penstock.errors import PluginError, UsageError
from penstock.names import did_you_mean
from penstock.records import Column


@command()
@as_json
def connectors(session: Session, json_: bool) -> None:
    """
    What is installed: connectors, sinks, and plugins that are broken, each with the reason.
    """
    from penstock._config.trial import trial_problems

    registry = session.registry
    sandboxes = registry.sandboxes()
    installed = [
        {
            "name": name,
            "summary": connector.summary,
            "distribution": registry.origin(name).distribution,
            "version": registry.origin(name).version,
            "sandbox": name in sandboxes,
        }
        for name, connector in registry.connectors().items()
    ]
    sinks = [
        {"name": kind.name, "to": kind.example, "summary": kind.summary, "promise": kind.promise}
        for kind in registry.sinks().values()
    ]
    broken = [
        {"distribution": fault.plugin.distribution, "version": fault.plugin.version, "reason": fault.reason}
        for fault in (*registry.broken(), *trial_problems(registry))
    ]
    if broken and session.strict_plugins:  # others were refused when they were loaded
        listed = "\n".join(f"{plugin['distribution']} {plugin['version']}: {plugin['reason']}" for plugin in broken)
        raise PluginError(f"broken plugins are not tolerated (--strict-plugins):\n{listed}")
    commands = [{"name": command.name, "summary": command.summary} for command in registry.commands().values()]
    if json_:
        print_json({"connectors": installed, "sinks": sinks, "commands": commands, "broken": broken})
        return
    if installed:
        print_table(
            ["connector", "version", "sandbox", "summary"],
            [
                [connector["name"], connector["version"], "yes" if connector["sandbox"] else "", connector["summary"]]
                for connector in installed
            ],
        )
    else:
        print("No connector is installed. In a checkout of penstock: pip install ./connector_PROVIDER")
    if sinks:
        print()
        print_table(["sink", "--to", "summary"], [[sink["name"], sink["to"], sink["summary"]] for sink in sinks])
    if commands:
        print()
        print_table(["command", "summary"], [[command["name"], command["summary"]] for command in commands])
    if broken:
        print()
        print_table(
            ["broken plugin", "version", "reason"],
            [[plugin["distribution"], plugin["version"], plugin["reason"]] for plugin in broken],
        )
        if session.debug:
            for plugin in registry.broken():
                to_stderr(f"\n{plugin.plugin}:\n{plugin.details}")


@command()
@click.argument("connector", shell_complete=complete.connectors)
@click.argument("stream", required=False, metavar="[STREAM]", shell_complete=complete.one_stream)
@click.option("--search", metavar="TEXT", help="Only streams and actions with this text in a name or a description.")
@as_json_or_csv
def streams(session: Session, connector: str, stream: str | None, search: str | None, json_: bool, csv_: bool) -> None:
    """
    What a connector offers: its streams with kind, key, partition and fields, and its actions. Needs no
    configuration.

    STREAM is a name, a part of one, or a pattern. With --csv one row per field.
    """
    registry = session.registry
    if connector not in registry.connectors():
        # A source's name is accepted for its connector's, since other commands take the source's.
        try:
            registry.connector(connector)
        except PluginError:
            if connector not in session.config.sources:
                raise
            connector = session.config.connector_of(connector)
    offered = [described(stream) for stream in registry.streams(connector)]
    actions = [
        {
            "name": action.name,
            "summary": action.summary,
            "not_built": action.not_built or None,
        }
        for action in registry.actions(connector)
    ]
    if stream is not None:
        exact = [entry for entry in offered if entry["name"] == stream]
        parts = [entry for entry in offered if stream in entry["name"] or fnmatchcase(entry["name"], stream)]
        offered, actions = exact or parts, []
        if not offered:
            known = [stream.name for stream in registry.streams(connector)]
            raise UsageError(f"{connector} has no stream {stream!r}.{did_you_mean(stream, known)}".rstrip("."))
    if search is not None:
        offered = [entry for entry in offered if _holds(entry, search.lower())]
        actions = [action for action in actions if _holds(action, search.lower())]
    if json_:
        print_json({"connector": connector, "streams": offered, "actions": actions})
        return
    if csv_:
        print_csv(
            [
                {"stream": entry["name"], "kind": entry["kind"], **field}
                for entry in offered
                for field in entry["fields"]
            ],
            ("stream", "kind", "name", "type"),
        )
        return
    if not offered and not actions:
        print(f"nothing of {connector} has {search!r} in it" if search else f"{connector} offers nothing")
        return
    with paged():
        if offered:
            _print_streams(offered)
        if actions:
            print()
            print_table(
                ["action", "summary"],
                [
                    [action["name"], f"not built: {action['not_built']}" if action["not_built"] else action["summary"]]
                    for action in actions
                ],
            )


def _holds(listed: dict[str, Any], text: str) -> bool:
    """Whether a stream or an action has this text in its name, its summary, or a field's name or description."""
    fields = listed.get("fields", [])
    texts = [listed["name"], listed["summary"], *(field[key] for field in fields for key in ("name", "description"))]
    return any(text in str(part).lower() for part in texts)


def _print_streams(offered: Sequence[dict[str, Any]]) -> None:
    """One table of all streams, then one of each stream's fields."""
    print_table(
        ["stream", "kind", "key", "partition", "final", "default", "summary"],
        [
            [
                stream["name"],
                stream["kind"],
                ", ".join(stream["key"]),
                " x ".join(stream["partition"]),
                stream["final"],
                _default(stream),
                stream["not_built"] or stream["summary"],
            ]
            for stream in offered
        ],
    )
    for stream in offered:
        if stream["not_built"]:
            continue
        notes = [f"needs {', '.join(stream['needs'])}"] if stream["needs"] else []
        notes += [f"child of {stream['parent']}"] if stream["parent"] else []
        notes += [f"travels with {stream['derived_from']}"] if stream["derived_from"] else []
        print(f"\n{stream['name']}" + (f" ({'; '.join(notes)})" if notes else ""))
        print_table(
            ["  field", "type", "unit", "notes", "description"],
            [
                [f"  {field['name']}", field["type"], field["unit"], ", ".join(_marks(field)), field["description"]]
                for field in stream["fields"]
            ],
        )


def _default(stream: dict[str, Any]) -> str:
    """Whether a run without ``--streams`` reads it."""
    if stream["not_built"]:
        return "not built"
    if not stream["on_by_default"]:
        return ""
    return f"with {', '.join(stream['needs'])}" if stream["needs"] else "yes"


def _marks(field: dict[str, Any]) -> list[str]:
    """The properties of a field (unit, personal, not additive, ...), as words."""
    marks = [] if field["nullable"] else ["required"]
    marks += ["additive"] if field["additive"] else []
    marks += [mark for mark in ("personal", "secret") if field[mark]]
    marks += ["added"] if field["member"] is None else []
    return marks + (["no zone stated"] if field["zone"] == "naive" else [])


def described(stream: Stream) -> dict[str, Any]:
    """A stream as ``streams --json`` shows it."""
    return {
        "name": stream.name,
        "summary": stream.summary,
        "kind": stream.kind,
        "key": list(stream.key),
        "partition": list(stream.partition_columns),
        "final": final_when(stream),
        "on_by_default": stream.on_by_default and not stream.not_built,
        "needs": list(stream.required_settings),
        "parent": stream.parent.stream if stream.parent is not None else None,
        "derived_from": stream.derived.stream if stream.derived is not None else None,
        "not_built": stream.not_built or None,
        "fields": [
            *({**_field(column), "nullable": False} for column in stream.stamped_columns),
            *(_field(column) for column in stream.columns),
        ],
    }


def final_when(stream: Stream) -> str:
    """When a partition becomes final, as text."""
    if stream.derived is not None:
        return f"with {stream.derived.stream}"
    if stream.kind == "snapshot":
        return "never"
    if stream.kind == "changes":
        minutes = int(max(stream.lookback, stream.lag).total_seconds() // 60)
        return f"{minutes} min after its end" if minutes else "after its end"
    if not stream.open_for.days and stream.open_for.month_day is None:
        return "after its end"
    return f"after {stream.open_for}"


def _field(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "member": column.member,
        "type": column.type,
        "nullable": column.nullable,
        "unit": column.unit or None,
        "additive": column.additive,
        "personal": column.personal,
        "secret": column.secret,
        "zone": column.zone if column.type == "datetime" else None,
        "description": column.description,
    }
