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
from penstock import (
    Connector,
    Sandbox,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    named,
    record,
    setting,
)
from penstock.testing.conformance import Subject, first_run, wrong_credentials
from providers import REGISTRY

import connector_sensis

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
    With a wrong secret a run ends with exit code 3, and shows nothing of the secret.
    """
    assert wrong_credentials(demo_of(name), tmp_path) == []


@frozen(kw_only=True)
class PerAccount(SourceSettings):
    """A token for each account."""

    base_url: str = setting(help="where the provider answers")
    token: Secret = setting(help="of an account", per_account=True)


@record(key="id", kind="snapshot", account="account")
class Sale:
    """A sale."""

    id: str


class Accounts:
    """A connector whose accounts have tokens of their own, with an imitation that looks at them."""

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(
            name="shop",
            summary="a shop",
            settings=PerAccount,
            authenticator=lambda settings: named("bearer", token=settings.token),
        )

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        if source == "shop":
            yield Stream(name="sales", record=Sale, path="/sales")

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        def answer(request: SandboxRequest) -> SandboxResponse:
            allowed = request.headers.get("authorization") == "Bearer token-of-one"
            return SandboxResponse(body=b'[{"id": "7"}]') if allowed else SandboxResponse(status=401)

        tables = {"one": {"token": "token-of-one", "timezone": "Asia/Tokyo"}}
        yield Sandbox(connector="shop", summary="", make=lambda base_url, today: answer, settings={"accounts": tables})


@pytest.mark.usefixtures("working_directory")
def test_a_demo_may_have_accounts_with_tokens_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A secret in the table of an account is one in the demo, too. A connector that the demo leaves out has its reason.
    """
    assert main(["demo"], plugins=[Accounts(), connector_sensis.plugin, Bare(), penstock_plugins]) == 0

    printed = capsys.readouterr()
    rows = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "shop sales 1 0 1 1" in rows
    assert "bare brings no local imitation of its provider" in rows
    assert "sensis has no streams, only writes: penstock act sensis --list" in rows
    assert "secret" not in printed.err


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
