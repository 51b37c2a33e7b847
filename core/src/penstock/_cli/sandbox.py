"""
``demo`` and ``sandbox``: local imitations of the providers, over real HTTP.
"""

import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.init import toml_value
from penstock._cli.output import print_table
from penstock._cli.run import followed
from penstock._cli.session import Session, command
from penstock._cli.signals import stopping
from penstock._util.clock import Clock
from penstock.errors import PluginError, UsageError

if TYPE_CHECKING:
    from penstock.project.results import RunResult

DEMO = Path("penstock-demo")
DEMO_DAYS = 30

# The imitation is on this machine: nobody has to be spared, and a report is ready at once.
DEMO_PACE = {"requests_per_second": 1000.0, "poll_first_s": 0.05, "poll_max_s": 0.2, "retry_first_s": 0.05}


@command()
def demo(session: Session) -> int:
    """
    Run every installed connector against a local imitation of its provider, into ./penstock-demo. Needs no credentials.
    """
    from penstock.project import Project
    from penstock.sandbox.server import serve

    registry = session.registry
    today = Clock().now().date()
    sandboxes = {
        name: sandbox
        for name, sandbox in registry.sandboxes().items()
        if name in registry.connectors() and registry.streams(name)
    }
    if not sandboxes:
        raise PluginError(
            "no installed connector brings a local imitation of its provider; install one, such as: "
            "pip install connector-talroo"
        )
    with ExitStack() as stack:
        sources: dict[str, Any] = {}
        for name, sandbox in sandboxes.items():
            server = stack.enter_context(serve())
            server.app = sandbox.make(server.base_url, today)
            sources[name] = {**DEMO_PACE, **sandbox.settings, "base_url": server.base_url}
        config = {
            "source": sources,
            "sink": {"files": {"kind": "jsonl", "path": str(DEMO)}},
            "pipeline": {"demo": {"source": list(sources), "sink": "files"}},
        }
        project = Project(config, plugins=session.plugins, environ={})
        since = today - timedelta(days=DEMO_DAYS)
        finished = followed(session, lambda follow, stop: project.run("demo", since=since, on_event=follow, stop=stop))
    if not session.quiet:
        _summary(finished)
    return finished.exit_code


def _summary(finished: "RunResult") -> None:
    rows = []
    for source, one in sorted(finished.report["sources"].items()):
        for stream, counts in sorted(one["streams"].items()):
            folder = DEMO / source / stream
            files = sum(1 for file in folder.rglob("data.*") if file.is_file()) if folder.is_dir() else 0
            partitions = counts["partitions"]
            rows.append([source, stream, partitions["delivered"], partitions["skipped"], counts["records"], files])
    print()
    print_table(["connector", "stream", "partitions", "final before", "rows", "files"], rows)
    first = rows[0][0] if rows else "CONNECTOR"
    print(f"\nThe data is in ./{DEMO}. Next:")
    penstock = as_typed(Path(sys.argv[0]))
    nexts = {
        f"{penstock} status --to jsonl:{DEMO}": "what was delivered, and what is still open",
        f"{penstock} streams {first}": "every field, with type and unit",
        f"{penstock} init {first} > penstock.toml": "a configuration for your own account",
    }
    width = max(map(len, nexts))
    for line, why in nexts.items():
        print(f"  {line:<{width}}  {why}")


def as_typed(started: Path) -> str:
    """What to type to get the command that was ``started`` once more: its name, or where it is (``make demo``)."""
    import shlex
    import shutil

    found = shutil.which("penstock")
    if started.name != "penstock" or not started.is_file() or (found and Path(found).samefile(started)):
        return "penstock"
    return shlex.quote(str(started))


@command()
@click.argument("connector")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: any free one.", metavar="N")
@click.option("--faults", metavar="A,B", help="Let it fail: names of faults; --faults list shows them.")
@click.option("--seed", type=int, default=0, metavar="N", help="Another order of the faults.")
def sandbox(session: Session, connector: str, port: int, faults: str | None, seed: int) -> None:
    """
    Serve a local imitation of a provider until Ctrl-C, and print the configuration that reads it.
    """
    from penstock.sandbox.faults import FAULTS, faults_named, with_faults
    from penstock.sandbox.server import serve

    if faults == "list":
        print_table(["fault", "kind", "what happens"], [[one.name, one.kind, one.summary] for one in FAULTS.values()])
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
        for key, value in {"base_url": server.base_url, **offered.settings}.items():
            print(f"{key} = {toml_value(value)}")
        use = f"run {connector} --to jsonl:data" if registry.streams(connector) else f"act {connector} --list"
        print(f"\n# and in another terminal: penstock {use}", flush=True)
        with stopping(session, clock, "stopped"):
            clock.stop.wait()
