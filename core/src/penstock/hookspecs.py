"""
What plugins may offer. Hooks are for wiring: called per run, per source, per partition or per page, never per record.

pluggy project ``penstock``, entry-point group ``penstock``. A plugin is a module (or object) whose functions carry
``@penstock.hookimpl`` and one of these names. Each hook has a page section in ``docs/hooks.md``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock import hookspec
from penstock.actions import Action
from penstock.commands import Command
from penstock.connector import Connector, Registration, Stream
from penstock.model import Batch
from penstock.sandbox.app import Sandbox
from penstock.sinks import SinkKind


@hookspec
def penstock_sources() -> Iterable[Connector]:
    """
    Offer providers.

    Called once, at load. Two offers of one name break both, since one would receive the other's credentials.
    """
    raise NotImplementedError


@hookspec
def penstock_record_streams(source: str) -> Iterable[Stream]:
    """
    Offer the streams of the connector named ``source``; nothing for any other name.

    Must not depend on a configuration: ``penstock streams`` has none.
    """
    raise NotImplementedError


@hookspec
def penstock_authenticators() -> Iterable[Registration]:
    """Offer authenticators that a source may name."""
    raise NotImplementedError


@hookspec
def penstock_paginators() -> Iterable[Registration]:
    """Offer paginators that a stream may name: ``named("page_number", size=100)``."""
    raise NotImplementedError


@hookspec
def penstock_pollers() -> Iterable[Registration]:
    """Offer pollers that a stream may name."""
    raise NotImplementedError


@hookspec
def penstock_decoders() -> Iterable[Registration]:
    """Offer decoders of bodies that a stream may name: ``named("report_file")``."""
    raise NotImplementedError


@hookspec
def penstock_actions(source: str) -> Iterable[Action]:
    """
    Offer the writes of the connector named ``source``: one receipt per input row; nothing for any other name.

    Must not depend on a configuration: ``penstock act SOURCE --list`` has none.
    """
    raise NotImplementedError


@hookspec
def penstock_sinks() -> Iterable[SinkKind]:
    """Offer outputs."""
    raise NotImplementedError


@hookspec
def penstock_secrets() -> Mapping[str, Callable[[str], str]]:
    """
    Offer kinds of reference to a secret, besides ``env`` and ``file``: name -> function from reference to value.

    ``{"vault": read}`` makes ``customer_secret = { vault = "talroo/main" }`` work. The function raises LookupError
    with a reason when there is no such secret.
    """
    raise NotImplementedError


@hookspec
def penstock_sandboxes() -> Iterable[Sandbox]:
    """Offer a local imitation of a provider, for ``penstock demo``, ``penstock sandbox`` and tests."""
    raise NotImplementedError


@hookspec
def penstock_commands() -> Iterable[Command]:
    """
    Offer commands of the command line. Called when a name is not one of penstock's own commands.

    The name of one of penstock's own commands is refused.
    """
    raise NotImplementedError


@hookspec
def penstock_batch(batch: Batch) -> Batch | None:
    """
    Change the values of a batch (mask, enrich), never its columns. Called once per page, before the sink.

    None leaves it as it is; each plugin receives what the one before it returned.
    """
    raise NotImplementedError


@hookspec
def penstock_event(event: Mapping[str, Any]) -> None:
    """
    Follow a run: ``event["event"]`` names what happened (``run_started``, ``partition_delivered``, ...).

    For progress, logs and metrics. What it raises is logged and changes nothing.
    """
    raise NotImplementedError
