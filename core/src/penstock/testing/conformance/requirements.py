"""
All requirements for a connector, in one call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

from penstock._plugins.registry import Registry
from penstock._project.function_trials import trial_problems_of, unstated_settings
from penstock.errors import ConfigError, PluginError, UsageError
from penstock.sandbox.app import SandboxApp
from penstock.testing.conformance.credentials import one_reading_check, wrong_credentials
from penstock.testing.conformance.findings import Finding, NotConforming
from penstock.testing.conformance.first_run import first_run
from penstock.testing.conformance.later_runs import PASSING, faults_that_pass, nothing_final_again, stopped_and_resumed
from penstock.testing.conformance.paging import paging
from penstock.testing.conformance.subject import Subject
from penstock.testing.conformance.truth import Truth, sandbox_truth


def conforms(
    connector: str,
    folder: Path,
    *,
    truth: Truth | Literal["unknown"] | None = None,
    make: Callable[[str, date], SandboxApp] | None = None,
    settings: Mapping[str, Any] | None = None,
    streams: Sequence[str] = (),
    faults: str = PASSING,
    expired: int = 401,
    plugins: Iterable[object] | None = None,
) -> None:
    """
    Test all requirements for a connector (``CHECKS``). Raises NotConforming with those that it does not meet.

    ``folder`` is an empty directory. Default: the sandbox that the connector offers, read with its settings, all
    streams that are on by default, and the plugins that are installed. ``truth``: default: the sandbox's own method
    ``truth(stream, **partition)``; without one it must be given, if only as ``UNKNOWN``. ``faults`` are names of those
    that pass, and ``expired`` is the status with which the provider refuses a token that ran out, where a login grants
    it.
    """
    __tracebackhide__ = True  # pytest shows the problems, not this function
    registry = Registry(plugins)
    wrong = _declared_wrong(registry, connector)
    if not wrong and registry.streams(connector):
        offered = registry.sandboxes().get(connector)
        imitation = make or (offered.make if offered is not None else None)
        if imitation is None:
            text = "it offers no sandbox; write Connector(sandbox=...), or give conforms make= and settings="
            raise NotConforming(connector, [Finding("declarations", text)])
        subject = Subject(
            name=connector,
            make=imitation,
            settings={**(offered.settings if offered is not None else {}), **(settings or {})},
            streams=tuple(streams),
            registry=registry,
            state=folder / "state",
        )
        stated = None if isinstance(truth, str) else truth or sandbox_truth
        try:
            wrong = _problems_with(subject, folder, stated, faults, expired)
        except (ConfigError, PluginError, UsageError) as error:  # before any request
            wrong = [Finding("declarations", str(error))]
    if wrong:
        raise NotConforming(connector, wrong)


def _declared_wrong(registry: Registry, connector: str) -> list[Finding]:
    broken = registry.broken()
    try:
        offered_by = registry.origin(connector)
    except PluginError as error:  # it is broken itself, or some plugin that should offer it
        reasons = [plugin.reason for plugin in broken if plugin.reason not in str(error)] + [str(error)]
    else:
        reasons = (
            [plugin.reason for plugin in broken if plugin.plugin == offered_by]
            or trial_problems_of(registry, connector)
            or unstated_settings(registry, connector)
        )
    return [Finding("declarations", text) for text in reasons]


def _problems_with(subject: Subject, folder: Path, truth: Truth | None, faults: str, expired: int) -> list[Finding]:
    baseline, wrong = first_run(subject, folder / "first", truth)
    if not wrong:
        wrong += paging(subject, folder / "paging", baseline)
        wrong += stopped_and_resumed(subject, folder / "stopped", baseline)
        wrong += nothing_final_again(subject, folder / "final")
        wrong += faults_that_pass(subject, folder / "faults", baseline, faults, expired)
        wrong += wrong_credentials(subject, folder / "wrong")
        wrong += one_reading_check(subject)
    return wrong
