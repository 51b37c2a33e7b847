"""
The kit for connectors: what keeps everything passes, and each thing that is not kept is told by name.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import penstock
import pytest
from attrs import evolve, frozen
from penstock import (
    AuthenticationError,
    Connector,
    Refuse,
    Request,
    Sandbox,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    added,
    record,
    setting,
)
from penstock.testing.conformance import conforms
from penstock_plugins.tokens import HeaderTokens
from worlds import PROVIDERS, Provider

# How a provider refuses a token that ran out.
EXPIRED = {"joveo": 403}


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_the_connectors_keep_what_every_connector_must(provider: Provider, tmp_path: Path) -> None:
    """
    All streams of the reading ones, with the rows that their imitations state.
    """
    conforms(
        provider.name,
        tmp_path,
        make=provider.make,
        settings=provider.settings,
        streams=provider.streams,
        truth=lambda app, stream, **partition: provider.truth(app, stream, tuple(partition.values())),
        faults="reset,cut_json",  # all of them are in front of all of these in test_fault_matrix.py
        expired=EXPIRED.get(provider.name, 401),
    )


def test_one_that_only_writes_is_asked_less(tmp_path: Path) -> None:
    """
    Its declarations must be sound.
    """
    conforms("sensis", tmp_path)


# --- what is not kept -----------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class AcmeSettings(SourceSettings):
    base_url: str = setting(help="where Acme answers")
    key: Secret = setting(help="from Acme")


@record()
class Sale:
    day: date = added()
    id: str
    price: str | None = None


def judge(response: Any, answer: Any) -> Any:
    return Refuse(AuthenticationError("the key was refused")) if response.status == 401 else None


class Sales:
    """Two sales a day."""

    def __init__(self, base_url: str, today: date) -> None:
        self.today = today

    def truth(self, stream: str, day: str) -> list[dict[str, Any]]:
        return [{"id": f"{day}-{number}", "price": "1.50"} for number in range(2)]

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.headers.get("x-key") != "demo":
            return SandboxResponse(status=401, body=b"{}")
        return SandboxResponse(body=json.dumps(self.answer(parse_qs(request.query).get("day", [""])[0])).encode())

    def answer(self, day: str) -> list[dict[str, Any]]:
        return self.truth("sales", day)


class Empty(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return []


class Talkative(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return [{**row, "buyer": "ann"} for row in super().answer(day)]


class Open(Sales):
    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        return super().__call__(evolve(request, headers={"x-key": "demo"}))


class Acme:
    """A connector that keeps everything, but for what a test changes."""

    def __init__(
        self, make: Any = Sales, *, connector: Mapping[str, Any] | None = None, stream: Mapping[str, Any] | None = None
    ) -> None:
        self.make, self.connector, self.stream = make, connector or {}, stream or {}

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        said: dict[str, Any] = {
            "authenticator": lambda settings: HeaderTokens(headers={"x-key": settings.key}),
            "judge": judge,
            "check": lambda settings, slice_: Request(url=f"{settings.base_url}/me"),
        }
        yield Connector(name="acme", summary="", settings=AcmeSettings, **{**said, **self.connector})

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        said: dict[str, Any] = {
            "key": "id",
            "day": "day",
            "requests": lambda settings, slice_: [
                Request(url=f"{settings.base_url}/sales", params=(("day", str(slice_.since)),))
            ],
        }
        if source == "acme":
            yield Stream(name="sales", summary="", record=Sale, kind="report", **{**said, **self.stream})

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        yield Sandbox(connector="acme", summary="", make=self.make, settings={"key": "demo"})


def post(settings: Any, ask: Any) -> Request:
    return Request(method="POST", url=f"{settings.base_url}/me")


def only_once(response: Any, answer: Any) -> Any:
    refused = judge(response, answer)
    return refused or (Refuse(AuthenticationError("busy")) if response.status == 500 else None)


def test_a_sound_connector_conforms(tmp_path: Path) -> None:
    """
    With the truth of its imitation, and without.
    """
    conforms("acme", tmp_path / "a", plugins=[Acme()], truth=Sales.truth)
    conforms("acme", tmp_path / "b", plugins=[Acme()])


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Acme(stream={"key": "nothing"}), "it is broken: stream sales: key names the column 'nothing'"),
        (Acme(Empty), "sales: the sandbox has no record of it, so that nothing was tried"),
        (Acme(Talkative), "members that the record class lacks: buyer"),
        (Acme(stream={"requests": lambda settings, slice_: ()}), "sales: the sandbox has no record of it"),
        (Acme(Open), "a run with a wrong key ended with 0 instead of 3"),
        (Acme(Open), "the check of a wrong key said: acme: credentials work"),
        (Acme(connector={"check": post}), "the check sent POST /me; expected one GET"),
        (
            Acme(connector={"judge": only_once}),
            "a run behind the fault server_error (500 with an HTML page) ended",
        ),
    ],
    ids=["broken", "nothing to read", "unknown members", "no request", "key not looked at", "check", "post", "retry"],
)
def test_what_is_not_kept_is_told(plugin: Acme, said: str, tmp_path: Path) -> None:
    """
    Under the connector's name, with what was seen.
    """
    with pytest.raises(AssertionError) as told:
        conforms("acme", tmp_path, plugins=[plugin])

    assert "acme does not keep what every connector must" in str(told.value)
    assert said in str(told.value)


def test_rows_that_are_not_true_are_told(tmp_path: Path) -> None:
    """
    With the partition and one of them.
    """

    def truth(app: Sales, stream: str, day: str) -> list[dict[str, Any]]:
        return [{**row, "price": "150"} for row in app.truth(stream, day)]

    with pytest.raises(AssertionError, match=r"sales \('2026-03-17',\): of 2 true rows 2 rows are missing"):
        conforms("acme", tmp_path, plugins=[Acme()], truth=truth)
