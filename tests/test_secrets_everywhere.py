"""
No secret in any byte that leaves the process, however it runs and however it fails; no credentials at a foreign origin.
"""

import base64
import contextlib
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import imitation_convertr
import imitation_joveo
import imitation_talroo
import pytest
from attrs import define, evolve, field
from command_in_process import main
from command_in_subprocess import configure
from penstock import SandboxApp, SandboxRequest, SandboxResponse
from penstock.sandbox import FAULTS, with_faults
from penstock.sandbox.server import Server, serve
from penstock.testing.secrets import secrets_apart
from providers import CONVERTR, JOVEO, PROVIDERS, TARGETCIRCLE, TODAY, Provider

pytestmark = pytest.mark.slow

# Signs that every encoding changes: JSON, percent, base64 at each alignment.
MARK = 'S3cr3t"&/+ö~{n}'

# Where a secret may not have these signs, because the connector refuses them or an imitation knows its own.
MARKS = {
    "talroo": {"customer_secret": MARK.format(n=1)},
    "targetcircle": {"api_token": "S3cr3t+token/1=="},
    "convertr": {"password": MARK.format(n=2)},
    "joveo": {"api_key": "S3cr3t+api/key==", "api_client_id": "S3cr3t0client0id"},
}


def spellings(secret: str) -> set[bytes]:
    """The forms in which a secret might be found in bytes; made here, not by what is tested."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    forms |= {form.lower() if "%" in form else form for form in forms} | {json.dumps(secret, ensure_ascii=False)[1:-1]}
    found = {form.encode() for form in forms}
    raw = secret.encode()
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + raw)
        found.add(text[4 if shift else 0 : len(text) // 4 * 4 - 4])
        found.add(base64.urlsafe_b64encode(b"x" * shift + raw)[4 if shift else 0 : len(text) // 4 * 4 - 4])
    return {form for form in found if len(form) > 5}


def repeated(secret: str) -> list[str]:
    """The whole forms in which a provider may send a secret back."""
    raw = secret.encode()
    escaped = json.dumps(secret)[1:-1].replace("/", "\\/")
    whole = [base64.b64encode(b"x" * shift + raw + b"y").decode() for shift in range(3)]
    return [secret, quote(secret, safe=""), quote_plus(secret), escaped, html.escape(secret), repr(secret), *whole]


@define(eq=False)
class Bench:
    """A provider whose secrets are marked, and everything that was written by commands run against it."""

    provider: Provider
    server: Server
    app: Any
    folder: Path
    secrets: set[str]
    output: list[bytes] = field(factory=list)
    codes: list[int] = field(factory=list)

    def call(self, *words: str) -> str:
        """Run one command in this process, which would otherwise have to start two hundred times."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.codes.append(main(words))
        printed = [file.buffer.getvalue() for file in (out, err)]  # type: ignore[attr-defined]
        self.output += printed
        return b"".join(printed).decode()

    def read(self, *more: str) -> str:
        days = self.provider.window(self.app.today)
        streams = ",".join(self.provider.streams)
        return self.call(
            *("run", self.provider.name, "--streams", streams, "--since", str(days[0]), "--until", str(days[-1])),
            *more,
        )

    def written(self) -> dict[str, bytes]:
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        files.pop(str(self.folder / "penstock.toml"))  # the user's own
        return files | {f"output {number}": text for number, text in enumerate(self.output)}

    def assert_nothing_leaked(self) -> None:
        everything = self.written()
        assert sum(map(len, everything.values())) > 1000
        found = [
            (place, form)
            for place, content in everything.items()
            for secret in self.secrets
            for form in spellings(secret)
            if form in content
        ]
        assert found == []


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    provider: Provider = request.param
    marked = MARKS[provider.name]
    # The imitation expects the marked secrets.
    monkeypatch.setattr(imitation_talroo, "CUSTOMER_SECRET", MARKS["talroo"]["customer_secret"])
    monkeypatch.setattr(imitation_convertr, "PASSWORD", MARKS["convertr"]["password"])
    monkeypatch.setattr(imitation_joveo, "API_KEY", MARKS["joveo"]["api_key"])
    monkeypatch.setattr(imitation_joveo, "API_CLIENT_ID", MARKS["joveo"]["api_client_id"])
    with secrets_apart(), serve() as server:  # what an earlier test made known must not help this one
        app = provider.make(server.base_url, TODAY)
        if provider is TARGETCIRCLE:
            app.api_token = marked["api_token"]
        server.app = app
        configure(tmp_path, provider, server.base_url, **marked, retries=1)
        yield Bench(provider, server, app, tmp_path, set(marked.values()))


every = pytest.mark.parametrize("bench", PROVIDERS.values(), ids=PROVIDERS, indirect=True)


def tokens_of(bench: Bench) -> set[str]:
    """What the imitation granted: as secret as what it was granted for."""
    if bench.provider is CONVERTR:
        granted: set[str] = set(bench.app.tokens.issued)
        return granted | {token.replace("token", "refresh") for token in granted}
    return set(bench.app.tokens.issued) if bench.provider is JOVEO else set()


@every
def test_nothing_leaks_from_a_life_of_commands(bench: Bench) -> None:
    """
    check, plan, run, status, rejected, again with every log on: no secret in any output, in a file, in the ledger.
    """
    source = bench.provider.name
    bench.call("check", source)
    bench.call("plan", source, "--json")
    bench.read("--to", "jsonl:out", "--report", "report.json", "-v", "--debug")
    bench.read("--to", "csv:tables", "--log-format", "json", "-v", "--debug")
    bench.read("--to", "jsonl:out", "--full", "--report", "report.json", "-q")
    bench.call("status", source, "--to", "jsonl:out", "--json")
    bench.call("rejected", "list", "--to", "jsonl:out")

    assert bench.codes == [0] * 7, bench.output
    bench.secrets |= tokens_of(bench)
    bench.assert_nothing_leaked()


@every
@pytest.mark.large
def test_nothing_leaks_to_other_tools(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The page, the file for Prometheus, the messages for Singer and Airbyte; also of a provider that repeats the secrets.
    """
    source = bench.provider.name
    monkeypatch.setenv("PENSTOCK_METRICS_DIR", str(bench.folder))
    catalog = {"streams": [{"stream": {"name": one}, "sync_mode": "full_refresh"} for one in bench.provider.streams]}
    (bench.folder / "catalog.json").write_text(json.dumps(catalog))
    wrong = {name: [value] for name, value in MARKS[source].items()}  # of another type
    (bench.folder.parent / "wrong.json").write_text(json.dumps(wrong))
    held = [form for secret in sorted(bench.secrets) for form in repeated(secret)]

    def others() -> None:
        bench.read("--to", "jsonl:out")
        bench.call("page", "--html", "page.html", "--to", "jsonl:out")
        bench.call("singer", source, "--about")
        for verb in ("spec", "check", "discover"):
            bench.call("airbyte", source, verb)
        bench.call("airbyte", source, "read", "--catalog", "catalog.json")
        bench.call("airbyte", source, "check", "--config", str(bench.folder.parent / "wrong.json"))

    others()
    assert set(bench.codes[:-1]) == {0}, bench.output
    bench.server.app = lambda request: SandboxResponse(status=400, body=json.dumps({"error": held}).encode())
    others()

    assert (bench.folder / f"penstock_{source}.prom").exists()
    bench.secrets |= tokens_of(bench)
    bench.assert_nothing_leaked()


@every
@pytest.mark.parametrize("option", ["--record", "--record-full"])
def test_nothing_leaks_into_a_recording(bench: Bench, option: str) -> None:
    """
    A recording keeps neither secrets nor granted tokens, also of a provider that repeats the secrets in every answer.
    """
    held = [form for secret in sorted(bench.secrets) for form in repeated(secret)]
    bench.read("--to", "jsonl:out", option, "recording")
    bench.server.app = lambda request: SandboxResponse(body=json.dumps({"data": held, "error": held}).encode())
    bench.read("--to", "jsonl:out", "--full", option, "echoes")

    assert bench.codes[0] == 0, bench.printed
    assert len(list((bench.folder / "recording").rglob("*.exchange.json"))) > 5
    bench.secrets |= tokens_of(bench)
    bench.assert_nothing_leaked()


@every
@pytest.mark.parametrize("fault", ["unauthorized", "html", "bad_record", "reset", "cut_json", "foreign_redirect"])
def test_nothing_leaks_from_failures(bench: Bench, fault: str) -> None:
    """
    Refused, cut, redirected, with tracebacks on: messages name the request, without what lets others make it.
    """
    bench.server.app = with_faults(bench.app, [evolve(FAULTS[fault], kind="fatal")])

    bench.call("check", bench.provider.name, "--debug")
    bench.read("--to", "jsonl:out", "--report", "report.json", "-v", "--debug")
    bench.call("rejected", "show", "--to", "jsonl:out")

    assert bench.codes[1] != 0, bench.output
    bench.secrets |= tokens_of(bench)
    bench.assert_nothing_leaked()


@every
def test_wrong_credentials_are_not_shown_either(bench: Bench) -> None:
    """
    A secret with a typing error is refused with exit code 3, and appears nowhere, though the provider repeats it.
    """
    wrong = {name: f"{value[:-1]}X9" for name, value in MARKS[bench.provider.name].items()}
    bench.secrets = set(wrong.values())
    configure(bench.folder, bench.provider, bench.server.base_url, **wrong, retries=1)

    bench.call("check", bench.provider.name, "--debug")
    bench.read("--to", "jsonl:out", "--debug", "--report", "report.json")

    assert bench.codes == [3, 3], bench.output
    bench.assert_nothing_leaked()


@every
def test_a_provider_that_repeats_the_secret(bench: Bench) -> None:
    """
    An error body that holds the secret, plain, encoded or as base64, is quoted without it.
    """
    held = [form for secret in sorted(bench.secrets) for form in repeated(secret)]

    turn = [0]

    def answer(request: SandboxRequest) -> SandboxResponse:
        turn[0] = (turn[0] + 1) % len(held)
        body = json.dumps({"message": f"no: {held[turn[0]]}", "error": held}).encode()
        return SandboxResponse(status=400, body=body)

    bench.server.app = answer

    bench.call("check", bench.provider.name, "--debug")
    bench.read("--to", "jsonl:out", "--report", "report.json", "--debug", "-v")

    assert 0 not in bench.codes
    bench.assert_nothing_leaked()


@every
@pytest.mark.parametrize("how", ["redirect", "link"])
def test_no_credentials_at_another_origin(bench: Bench, how: str) -> None:
    """
    A second server, to which every answer redirects or links, receives no request with credentials.
    """
    with serve() as other:
        other.app = lambda request: SandboxResponse(body=b"[]")

        def away(request: SandboxRequest) -> SandboxResponse:
            if how == "redirect":
                return SandboxResponse(status=307, headers={"Location": f"{other.base_url}{request.target}"})
            answer: SandboxResponse = bench.app(request)
            moved = {
                name: value.replace("</", f"<{other.base_url}/") if name.lower() in ("location", "link") else value
                for name, value in answer.headers.items()
            }
            if moved.get("Location", "").startswith("/"):
                moved["Location"] = other.base_url + moved["Location"]
            body = answer.body.replace(b'next": "/', f'next": "{other.base_url}/'.encode())
            body = body.replace(bench.server.base_url.encode(), other.base_url.encode())
            return SandboxResponse(status=answer.status, headers=moved, body=body)

        app: SandboxApp = away
        bench.server.app = app
        bench.call("check", bench.provider.name)
        bench.read("--to", "jsonl:out", "--debug")

        seen = b"".join(f"{one.target} {dict(one.headers)}".encode() + one.body for one in other.requests)
    bench.secrets |= tokens_of(bench)
    assert [form for secret in bench.secrets for form in spellings(secret) if form in seen] == []
    carriers = {"authorization", "x-api-token", "x-api-key", "x-authorization-key"}
    assert [one.target for one in other.requests if carriers & one.headers.keys()] == []
    bench.assert_nothing_leaked()


@every
def test_files_with_state_are_for_their_owner(bench: Bench) -> None:
    """
    The ledger and its directory can be read by nobody else.
    """
    bench.read("--to", "jsonl:out")

    state = bench.folder / "out" / ".penstock"
    assert state.stat().st_mode & 0o077 == 0
    assert [file.name for file in state.iterdir() if file.is_file() and file.stat().st_mode & 0o077] == []


@every
def test_set_of_a_secret_is_refused(bench: Bench) -> None:
    """
    A secret on the command line, where every user of the machine can read it, is refused with the right way named.
    """
    name, value = next(iter(MARKS[bench.provider.name].items()))

    output = bench.call("check", bench.provider.name, "--set", f"source.{bench.provider.name}.{name}={value}")

    assert bench.codes == [2]
    assert "env" in output
    assert not any(form in output.encode() for form in spellings(value))
