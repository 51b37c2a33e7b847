"""
The hook specifications. Hooks are for wiring: called per run, per source, per partition or per page, never per record.

pluggy project ``penstock``, entry-point group ``penstock``. A plugin is a module or an object whose functions carry
``@penstock.hookimpl`` and one of these names. ``docs/hooks.md`` has a section with an example for each. A connector
needs no hook function of its own: :class:`penstock.ConnectorPlugin` makes them from its declaration.
"""

from collections.abc import Callable, Iterable, Mapping

from penstock import hookspec
from penstock.actions import Action
from penstock.commands.declaration import Command
from penstock.connector import Connector, Registration, Sandbox, Stream
from penstock.events import Event
from penstock.model import Batch
from penstock.sinks import SinkKind


@hookspec
def penstock_sources() -> Iterable[Connector]:
    """
    Offer connectors. Called once for each connector that is needed, and once where all are listed.

    A ConnectorPlugin that states its name is not called for another one.

    Two offers of one name break both, since one would receive the other's credentials.
    Example: ``yield Connector(name="acme", summary="Clicks from Acme", settings=AcmeSettings, ...)``
    """
    raise NotImplementedError


@hookspec
def penstock_record_streams(source: str) -> Iterable[Stream]:
    """
    Offer the streams of the connector named ``source``; nothing for any other name. Called once per connector.

    The result must not depend on a configuration: ``penstock streams`` has none.
    Example: ``return [Stream(name="clicks", record=Click, kind="report", ...)] if source == "acme" else []``
    """
    raise NotImplementedError


@hookspec
def penstock_authenticators() -> Iterable[Registration]:
    """
    Offer authenticators by name. Called once, when a name is needed.

    Example: ``yield Registration(name="stamped", factory=Stamped, summary="a key and the time, in headers")``
    """
    raise NotImplementedError


@hookspec
def penstock_paginators() -> Iterable[Registration]:
    """
    Offer paginators by name: ``paginator=named("page_number", size=100)``. Called once, when a name is needed.

    Example: ``yield Registration(name="cursor", factory=Cursor, summary="a cursor in each page names the next")``
    """
    raise NotImplementedError


@hookspec
def penstock_pollers() -> Iterable[Registration]:
    """
    Offer pollers by name. Called once, when a name is needed.

    Example: ``yield Registration(name="job", factory=Job, summary="a job that is polled until it is done")``
    """
    raise NotImplementedError


@hookspec
def penstock_decoders() -> Iterable[Registration]:
    """
    Offer decoders of bodies by name: ``downloads=named("report_file")``. Called once, when a name is needed.

    Example: ``yield Registration(name="pipes", factory=Pipes, summary="values between | signs")``
    """
    raise NotImplementedError


@hookspec
def penstock_encoders() -> Iterable[Registration]:
    """
    Offer forms in which another library takes what ``Project.read`` reads, by name. Called once, when one is needed.

    The factory returns a :data:`penstock.Encoder`. ``arrow`` is the one behind ``Records.__arrow_c_stream__``.
    Example: ``yield Registration(name="columns", factory=lambda: columns, summary="a list per column")``
    """
    raise NotImplementedError


@hookspec
def penstock_actions(source: str) -> Iterable[Action]:
    """
    Offer the writes of the connector named ``source``; nothing for any other name. Called once per connector.

    Each input row gets one receipt. The result must not depend on a configuration: ``penstock act SOURCE --list`` has
    none.
    Example: ``return [Action(name="report_event", method="POST", path="/events", ...)] if source == "acme" else []``
    """
    raise NotImplementedError


@hookspec
def penstock_sinks() -> Iterable[SinkKind]:
    """
    Offer sinks. Called once, when a sink is needed.

    Example: ``yield SinkKind(name="count", scheme="count", settings=CountSettings, parse=..., open=..., ...)``
    """
    raise NotImplementedError


@hookspec
def penstock_secrets() -> Mapping[str, Callable[[str], str]]:
    """
    Offer kinds of reference to a secret, besides ``env`` and ``file``: name -> function from reference to value.

    The function raises LookupError with a reason when there is no such secret.
    Example: ``return {"vault": read}`` makes ``customer_secret = { vault = "talroo/main" }`` work.
    """
    raise NotImplementedError


@hookspec
def penstock_sandboxes() -> Iterable[Sandbox]:
    """
    Offer local imitations of providers, for ``penstock demo``, ``penstock sandbox`` and tests. Called once.

    Example: ``yield Sandbox(connector="acme", make=Acme, settings={"api_key": "..."}, summary="two accounts")``
    """
    raise NotImplementedError


@hookspec
def penstock_commands() -> Iterable[Command]:
    """
    Offer commands of the command line. Called when a name is not one of penstock's own commands, which are refused.

    Example: ``yield Command(name="count", target="penstock_count.cli:count", summary="count rows")``
    """
    raise NotImplementedError


@hookspec
def penstock_engines() -> Iterable[Registration]:
    """
    Offer engines, which carry out the shards of a divided run (:mod:`penstock.engines`). Called once, when a run is
    divided. ``factory(address, workers)`` makes one: from the text after ``--engine NAME:`` and from ``--workers``.

    Example: ``yield Registration(name="queue", factory=Queue, summary="workers that take shards from a queue")``
    """
    raise NotImplementedError


@hookspec
def penstock_batch(batch: Batch) -> Batch | None:
    """
    Change the values of a batch (mask, enrich), never its columns. Called once per page, before the sink.

    None leaves the batch as it is; each plugin receives the result of the one before it. The columns of the partition
    (account, day) keep their values, and different keys stay different: by these, rows are found and replaced. Children
    are requested by the values that the provider sent.
    Example: ``return evolve(batch, rows=[masked(row) for row in batch])``
    """
    raise NotImplementedError


@hookspec
def penstock_event(event: Event) -> None:
    """
    Follow a run: ``event["event"]`` is its kind (``run_started``, ``partition_delivered``, ...).

    For progress, logs and metrics. An exception is logged and changes nothing.
    Example: ``if event["event"] == "partition_failed": alert(event["message"])``
    """
    raise NotImplementedError
