"""
``demo`` and ``sandbox``: local imitations of providers, over real HTTP.
"""

import shlex
import shutil
import sys
import typing
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.completion import connectors
from penstock._cli.follow import stopping
from penstock._cli.init import toml_value
from penstock._cli.output import print_table
from penstock._cli.run import run_and_follow
from penstock._cli.session import Session, command
from penstock._config.toml_values import bare_type
from penstock._project.project import Project
from penstock._project.run_result import RunResult
from penstock._util.clock import Clock
from penstock.errors import PluginError, UsageError
from penstock.redact import Secret
from penstock.sandbox.faults import FAULTS, faults_named, with_faults
from penstock.sandbox.server import serve

if TYPE_CHECKING:
    from penstock._plugins.registry import Registry

DEMO = Path("penstock-demo")
DEMO_DAYS = 30

# Pace for a provider on this machine.
DEMO_PACE = {"requests_per_second": 1000.0, "poll_first_s": 0.05, "poll_max_s": 0.2, "retry_first_s": 0.05}


@command()
def demo(session: Session) -> int:
    """
    Run every installed connector against a local imitation of its provider, into ./penstock-demo.

    Needs no credentials.
    """
    registry = session.registry
    today = Clock().now().date()
    sandboxes = {
        name: sandbox
        for name, sandbox in registry.sandboxes().items()
        if name in registry.connectors() and registry.streams(name)
    }
    if not sandboxes and (reasons := left_out(registry)):
        lines = "".join(f"\n  {name}: {reason}" for name, reason in sorted(reasons.items()))
        raise PluginError(f"no installed connector can be in the demo:{lines}")
    if not sandboxes:
        raise PluginError(
            "no installed connector brings a local imitation of its provider; install one, in a checkout of penstock: "
            "pip install ./connector_PROVIDER"
        )
    with ExitStack() as stack:
        sources: dict[str, Any] = {}
        for name, sandbox in sandboxes.items():
            server = stack.enter_context(serve())
            server.app = sandbox.make(server.base_url, today)
            settings = with_secrets(registry.connector(name).settings, sandbox.source(server.base_url))
            tokens = str(DEMO / ".penstock" / "tokens" / f"{name}.json")
            sources[name] = {**DEMO_PACE, **settings, "token_store": tokens}
        config = {
            "source": sources,
            "sink": {"files": {"kind": "jsonl", "path": str(DEMO)}},
            "pipeline": {"demo": {"source": list(sources), "sink": "files"}},
        }
        project = Project(config, plugins=session.plugins, environ={})
        since = today - timedelta(days=DEMO_DAYS)
        finished = run_and_follow(
            session, lambda follow, stop: project.run("demo", since=since, on_event=follow, stop=stop)
        )
    if not session.quiet:
        _summary(finished, left_out(registry))
    return finished.exit_code


def with_secrets(settings_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a sandbox, secrets as :class:`Secret`: a notice about secrets in a file would mislead here."""
    hints = typing.get_type_hints(settings_class)
    section: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "accounts" and isinstance(value, Mapping):
            section[name] = {account: with_secrets(settings_class, table) for account, table in value.items()}
        else:
            section[name] = Secret(value) if name in hints and bare_type(hints[name]) is Secret else value
    return section


def left_out(registry: "Registry") -> dict[str, str]:
    """The installed connectors that the demo does not run, each with the reason."""
    sandboxes = registry.sandboxes()
    reasons = {}
    for name in registry.connectors():
        if name not in sandboxes:
            reasons[name] = "brings no local imitation of its provider"
        elif not registry.streams(name):
            reasons[name] = f"has no streams, only writes: penstock act {name} --list"
    return reasons | {plugin.plugin.distribution: f"broken: {plugin.reason}" for plugin in registry.broken()}


def _summary(finished: RunResult, left_out: Mapping[str, str]) -> None:
    rows = []
    for source, counts_of_source in sorted(finished.report["sources"].items()):
        for stream, counts in sorted(counts_of_source["streams"].items()):
            folder = DEMO / source / stream
            files = sum(1 for file in folder.rglob("data.*") if file.is_file()) if folder.is_dir() else 0
            partitions = counts["partitions"]
            rows.append([source, stream, partitions["delivered"], partitions["skipped"], counts["records"], files])
    print()
    print_table(["connector", "stream", "partitions", "final before", "rows", "files"], rows)
    if left_out:
        print()
        print_table(["not in the demo", "reason"], sorted(left_out.items()))
    first = rows[0][0] if rows else "CONNECTOR"
    print(f"\nThe data is in ./{DEMO}. Next:")
    penstock = as_typed(Path(sys.argv[0]))
    nexts = {
        f"{penstock} status --to jsonl:{DEMO}": "what was delivered",
        f"{penstock} streams {first}": "its fields and units",
        f"{penstock} init {first} > penstock.toml": "your own configuration",
    }
    width = max(map(len, nexts))
    for line, why in nexts.items():
        print(f"  {line:<{width}}  {why}")


def as_typed(started: Path) -> str:
    """The words that start the command ``started`` again: its name, or its path (``make demo``)."""
    on_path = shutil.which("penstock")
    if started.name != "penstock" or not started.is_file() or (on_path and Path(on_path).samefile(started)):
        return "penstock"
    return shlex.quote(str(started))


@command()
@click.argument("connector", shell_complete=connectors)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: any free one.", metavar="N")
@click.option("--faults", metavar="A,B", help="Faults of the provider, by name; --faults list prints them.")
@click.option("--seed", type=int, default=0, metavar="N", help="Seed of the order of faults.")
def sandbox(session: Session, connector: str, port: int, faults: str | None, seed: int) -> None:
    """
    Serve a local imitation of a provider until Ctrl-C, and print the configuration that reads it.
    """
    if faults == "list":
        print_table(
            ["fault", "kind", "what happens"], [[fault.name, fault.kind, fault.summary] for fault in FAULTS.values()]
        )
        return
    registry = session.registry
    registry.connector(connector)
    offered = registry.sandbox(connector)
    chosen = faults_named(faults) if faults else ()
    clock = Clock()
    try:
        server = serve(port=port)
    except OSError as error:
        raise UsageError(f"--port {port}: cannot be used: {error.strerror}; leave it out for any free one") from None
    with server:
        app = offered.make(server.base_url, clock.now().date())
        server.app = with_faults(app, chosen, seed) if chosen else app
        print(f"# {offered.summary}")
        print(f"# {server.base_url} until Ctrl-C. Put this into a penstock.toml of its own:\n")
        print(f"[source.{connector}]")
        for key, value in offered.source(server.base_url).items():
            print(f"{key} = {toml_value(value)}")
        use = f"run {connector} --to jsonl:data" if registry.streams(connector) else f"act {connector} --list"
        print(f"\n# and in another terminal: penstock {use}", flush=True)
        with stopping(session, clock, "stopped"):
            clock.stop.wait()
