"""
The demos in the connectors' wheels: what ``penstock demo`` and ``penstock sandbox`` serve.
"""

from collections.abc import Iterable
from pathlib import Path

import penstock
import penstock_plugins
import pytest
from attrs import evolve, frozen
from command_in_process import main
from connector_run import loaded
from penstock import Connector, Secret, SourceSettings, setting
from penstock._cli.sandbox import left_out, with_secrets
from penstock.testing.conformance import Subject, first_run, wrong_credentials
from providers import REGISTRY

pytestmark = pytest.mark.slow

READING = [name for name in REGISTRY.sandboxes() if REGISTRY.streams(name)]


def demo_of(name: str, *streams: str) -> Subject:
    offered = REGISTRY.sandbox(name)
    return Subject(name=name, make=offered.make, settings=offered.settings, streams=streams, registry=REGISTRY)


@pytest.mark.parametrize("name", READING)
def test_a_demo_has_records_of_every_stream(name: str, tmp_path: Path) -> None:
    """
    Streams that are off by default, too; no record is rejected, no member unknown, and each run has the same rows.
    """
    demo = demo_of(name, *(stream.name for stream in REGISTRY.streams(name) if not stream.not_built))

    rows, wrong = first_run(demo, tmp_path / "first")
    again, _ = first_run(demo, tmp_path / "again")

    assert wrong == []
    assert again == rows


@pytest.mark.parametrize("name", READING)
def test_a_demo_refuses_wrong_credentials(name: str, tmp_path: Path) -> None:
    """
    Whoever tries it sees what a wrong secret does: exit 3, and nothing shown.
    """
    assert wrong_credentials(demo_of(name), tmp_path) == []


@frozen(kw_only=True)
class PerAccount(SourceSettings):
    """A token for each account."""

    token: Secret = setting(help="of an account", per_account=True)


def test_a_demo_may_have_accounts_with_tokens_of_their_own() -> None:
    """
    A secret in the table of an account is one in the demo, too.
    """
    made = with_secrets(PerAccount, {"base_url": "x", "accounts": {"1": {"token": "abc", "timezone": "Asia/Tokyo"}}})

    assert made["accounts"]["1"]["token"].reveal() == "abc"
    assert made["accounts"]["1"]["timezone"] == "Asia/Tokyo"


class Bare:
    """A connector without a sandbox."""

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield evolve(REGISTRY.connector("talroo"), name="bare")


class Mistaken:
    """A plugin with a hook that does not exist."""

    @penstock.hookimpl
    def penstock_nonsense(self) -> None:
        return None


def test_a_connector_that_the_demo_leaves_out_has_a_reason() -> None:
    """
    A connector without streams, one without a sandbox, and a broken plugin.
    """
    assert left_out(REGISTRY) == {"sensis": "has no streams, only writes: penstock act sensis --list"}
    reasons = left_out(loaded([Bare(), Mistaken()]))
    assert reasons.pop("bare") == "brings no local imitation of its provider"
    assert [reason[:7] for reason in reasons.values()] == ["broken:"]


def test_a_demo_of_nothing_names_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Where no connector can be in the demo, each has its reason; without any connector, how to install one.
    """
    assert main(["demo"], plugins=[Bare(), Mistaken()]) == 2
    reported = capsys.readouterr().err
    assert "bare: brings no local imitation of its provider" in reported
    assert "Mistaken: broken: it implements penstock_nonsense, which is not a hook" in reported

    assert main(["demo"], plugins=[penstock_plugins]) == 2
    assert "pip install ./connector_PROVIDER" in capsys.readouterr().err
