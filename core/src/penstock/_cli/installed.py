"""
``connectors`` and ``streams``: what is installed, without any configuration.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from penstock._cli import completion
from penstock._cli.output import paged, print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import to_stderr
from penstock._plugins.plugin_errors import NO_SINKS
from penstock.connector import Stream
from penstock.errors import PluginError, UsageError
from penstock.names import did_you_mean
from penstock.records import Column

if TYPE_CHECKING:
    from penstock._plugins.registry import Registry


@command()
@as_json
def connectors(session: Session, json_: bool) -> None:
    """
    What is installed: connectors, sinks, and plugins that are broken, each with the reason.
    """
    registry = session.registry
    installed = _installed_plugins(registry)
    if installed["broken"] and session.strict_plugins:  # others were refused when they were loaded
        reasons = "\n".join(
            f"{entry['distribution']} {entry['version']}: {entry['reason']}" for entry in installed["broken"]
        )
        raise PluginError(f"broken plugins are not tolerated (--strict-plugins):\n{reasons}")
    if json_:
        print_json(installed)
        return
    _print_installed(installed)
    if session.debug:
        for plugin in registry.broken():
            to_stderr(f"\n{plugin.plugin}:\n{plugin.details}")


def _installed_plugins(registry: "Registry") -> dict[str, list[dict[str, Any]]]:
    """The connectors, sinks and commands that are installed, and the plugins that are broken."""
    from penstock._project.function_trials import trial_problems

    sandboxes = registry.sandboxes()
    return {
        "connectors": [
            {
                "name": name,
                "summary": connector.summary,
                "distribution": registry.origin(name).distribution,
                "version": registry.origin(name).version,
                "sandbox": name in sandboxes,
            }
            for name, connector in registry.connectors().items()
        ],
        "sinks": [
            {"name": kind.name, "to": kind.example, "summary": kind.summary, "promise": kind.promise}
            for kind in registry.sinks().values()
        ],
        "commands": [{"name": command.name, "summary": command.summary} for command in registry.commands().values()],
        "broken": [
            {"distribution": fault.plugin.distribution, "version": fault.plugin.version, "reason": fault.reason}
            for fault in (*registry.broken(), *trial_problems(registry))
        ],
    }


def _print_installed(installed: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A table of each kind of which there is any."""
    if installed["connectors"]:
        print_table(
            ["connector", "version", "sandbox", "summary"],
            [
                [connector["name"], connector["version"], "yes" if connector["sandbox"] else "", connector["summary"]]
                for connector in installed["connectors"]
            ],
        )
    else:
        print("No connector is installed. In a checkout of penstock: pip install ./connector_PROVIDER")
    if not installed["sinks"]:
        print(NO_SINKS)
    for kind, header, keys in (
        ("sinks", ["sink", "--to", "summary"], ["name", "to", "summary"]),
        ("commands", ["command", "summary"], ["name", "summary"]),
        ("broken", ["broken plugin", "version", "reason"], ["distribution", "version", "reason"]),
    ):
        if installed[kind]:
            print()
            print_table(header, [[entry[key] for key in keys] for entry in installed[kind]])


@command()
@click.argument("connector", shell_complete=completion.connectors)
@click.argument("stream", required=False, metavar="[STREAM]", shell_complete=completion.one_stream)
@click.option("--search", metavar="TEXT", help="Only streams and actions with this text in a name or a description.")
@as_json
def streams(session: Session, connector: str, stream: str | None, search: str | None, json_: bool) -> None:
    """
    What a connector offers: its streams with kind, key, partition and fields, and its actions. Needs no
    configuration.

    STREAM is a name, a part of one, or a pattern.
    """
    connector = _connector_of(session, connector)
    offered, actions = _offered_streams(session.registry, connector, stream, search)
    if json_:
        print_json({"connector": connector, "streams": offered, "actions": actions})
    elif not offered and not actions:
        print(f"nothing of {connector} has {search!r} in it" if search else f"{connector} offers nothing")
    else:
        with paged():
            _print_offered(offered, actions)


def _connector_of(session: Session, name: str) -> str:
    """The connector of this name, or of the source of this name, since other commands take the source's."""
    if name in session.registry.connectors():
        return name
    try:
        session.registry.connector(name)
    except PluginError:
        if name not in session.setup.config.sources:
            raise
        return session.setup.config.connector_of(name)
    return name


def _offered_streams(
    registry: "Registry", connector: str, stream: str | None, search: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    The streams and actions of a connector, each as JSON. ``stream``: only the streams of this name or pattern, and no
    actions; UsageError if there is none. ``search``: only what has this text in it.
    """
    offered = [described(entry) for entry in registry.streams(connector)]
    actions = [
        {"name": action.name, "summary": action.summary, "not_built": action.not_built or None}
        for action in registry.actions(connector)
    ]
    if stream is not None:
        exact = [entry for entry in offered if entry["name"] == stream]
        matching = [entry for entry in offered if stream in entry["name"] or fnmatchcase(entry["name"], stream)]
        if not (exact or matching):
            names = [entry["name"] for entry in offered]
            meant = did_you_mean(stream, names) or f" There are {', '.join(names) or 'none'}"
            raise UsageError(f"{connector} has no stream {stream!r}.{meant}")
        offered, actions = exact or matching, []
    if search is not None:
        offered = [entry for entry in offered if _contains_text(entry, search.lower())]
        actions = [action for action in actions if _contains_text(action, search.lower())]
    return offered, actions


def _print_offered(offered: Sequence[dict[str, Any]], actions: Sequence[dict[str, Any]]) -> None:
    if offered:
        print_streams(offered)
    if actions:
        print()
        print_table(
            ["action", "summary"],
            [
                [action["name"], f"not built: {action['not_built']}" if action["not_built"] else action["summary"]]
                for action in actions
            ],
        )


def _contains_text(element: dict[str, Any], text: str) -> bool:
    """Whether a stream or an action has this text in its name, its summary, or a field's name or description."""
    fields = element.get("fields", [])
    texts = [
        element["name"],
        element["summary"],
        *(field[key] for field in fields for key in ("name", "description")),
    ]
    return any(text in str(value).lower() for value in texts)


def print_streams(offered: Sequence[dict[str, Any]]) -> None:
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
                _is_default(stream),
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
        notes += [f"derived from {stream['derived_from']}"] if stream["derived_from"] else []
        print(f"\n{stream['name']}" + (f" ({'; '.join(notes)})" if notes else ""))
        print_table(
            ["  field", "type", "unit", "notes", "description"],
            [
                [
                    f"  {field['name']}",
                    field["type"],
                    field["unit"] or (f"in {field['unit_of']}" if field["unit_of"] else None),
                    ", ".join(_field_marks(field)),
                    field["description"],
                ]
                for field in stream["fields"]
            ],
        )


def _is_default(stream: dict[str, Any]) -> str:
    """Whether a run without ``--streams`` reads it."""
    if stream["not_built"]:
        return "not built"
    if not stream["on_by_default"]:
        return ""
    return f"with {', '.join(stream['needs'])}" if stream["needs"] else "yes"


def _field_marks(field: dict[str, Any]) -> list[str]:
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
        "unit_of": column.unit_of or None,
        "additive": column.additive,
        "personal": column.personal,
        "secret": column.secret,
        "zone": column.zone if column.type == "datetime" else None,
        "description": column.description,
    }
