"""
Writes to providers drawn from numbers, through every trouble and kill: what a receipt calls done was captured once,
what it calls refused was not, and only what it calls unknown may or may not have been.

PENSTOCK_SEEDS=100-200 chooses the numbers of the long run (make soak).
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import penstock_plugins
import pytest
from attrs import define, field, frozen
from command_in_process import main
from penstock import (
    Action,
    Connector,
    Field,
    Receipt,
    Refusal,
    Response,
    SandboxRequest,
    SandboxResponse,
    Secret,
    SourceSettings,
    hookimpl,
    json_response,
    named,
)
from penstock.sandbox.server import Reset, Scripted, serve

pytestmark = pytest.mark.slow

PLUGINS = (penstock_plugins,)
FEW = range(12)
_FROM, _TO = map(int, os.environ.get("PENSTOCK_SEEDS", "200-300").split("-"))


@frozen(kw_only=True)
class Traits:
    """What a provider of writes does."""

    rows_per_request: int
    repeatable: bool
    tokens: bool
    answers: str  # "results": a result for each row; "failed": the rows that failed; "status": the status alone

    @classmethod
    def drawn(cls, pick: Random) -> "Traits":
        return cls(
            rows_per_request=pick.choice([1, 1, 3, 10]),
            repeatable=pick.random() < 0.3,
            tokens=pick.random() < 0.4,
            answers=pick.choice(["results", "failed", "status"]),
        )


@define(eq=False)
class Receiver:
    """
    The provider of a number. ``captured`` counts each row that it took, ``refused`` are those that it never takes.

    ``troubled``: some requests meet with trouble. ``victim``: the process that is killed at request ``kill_at``.
    """

    seed: int
    troubled: bool = False
    victim: int = 0
    kill_at: int = 0
    pick: Random = field(init=False)
    traits: Traits = field(init=False)
    captured: Counter[str] = field(factory=Counter, init=False)
    refused: set[str] = field(factory=set, init=False)
    _token: int = field(default=0, init=False)
    _token_left: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.pick = Random(self.seed)
        self.traits = Traits.drawn(self.pick)

    @hookimpl
    def penstock_sources(self) -> Sequence[Connector]:
        return [
            Connector(
                name="desk",
                summary="an invented provider",
                settings=SourceSettings,
                authenticator=lambda settings: (
                    named("oauth_client", url=f"{settings.base_url}/token", client_id="us", client_secret=Secret("s3"))
                    if self.traits.tokens
                    else named("header_tokens", headers={"X-Token": Secret("of-the-desk")})
                ),
            )
        ]

    @hookimpl
    def penstock_actions(self, source: str) -> Sequence[Action]:
        if source != "desk":
            return ()
        return [
            Action(
                name="send",
                summary="Send events",
                method="POST",
                path="/events",
                rows_per_request=self.traits.rows_per_request,
                fields=(
                    Field(name="event_id", required=True),
                    Field(name="kind", choices=("open", "click")),
                    Field(name="price", type="number"),
                ),
                judge=None if self.traits.answers == "status" else self._judge,
                statuses={422: Refusal("correct these rows")},
                repeatable=self.traits.repeatable,
            )
        ]

    def _judge(self, response: Response, rows: Sequence[Any]) -> Sequence[Receipt] | None:
        members = response.members() if response.status == 200 else None
        if not members or self.traits.answers not in members:
            return None
        if self.traits.answers == "failed":
            failed = dict.fromkeys(members["failed"], "not taken")
        else:
            failed = {one["id"]: str(one["why"]) for one in members["results"] if not one["ok"]}
        return [
            Receipt(
                row=number,
                status="refused" if row["event_id"] in failed else "done",
                reason=failed.get(row["event_id"], ""),
            )
            for number, row in enumerate(rows)
        ]

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.path == "/token":
            self._token += 1
            self._token_left = 4
            return json_response({"access_token": f"token-{self._token}", "expires_in": 3600})
        kill = False
        if self.victim:
            self.kill_at -= 1
            kill = self.kill_at <= 0
        before = self.pick.random() < 0.5
        if kill and before:
            os.kill(self.victim, signal.SIGKILL)
        if self.traits.tokens:
            self._token_left -= 1
            if request.headers.get("authorization") != f"Bearer token-{self._token}" or self._token_left < 0:
                return SandboxResponse(status=401)
        trouble = (
            self.pick.choice(["lost", "broken", "busy", "page"]) if self.troubled and self.pick.random() < 0.2 else ""
        )
        if trouble == "busy":
            return SandboxResponse(status=429, headers={"Retry-After": "0"})
        answer = self._taken(request) if not (trouble and before) and not (kill and before) else SandboxResponse()
        if kill:
            os.kill(self.victim, signal.SIGKILL)
        match trouble:
            case "lost":
                return Scripted(steps=(Reset(),))
            case "broken":
                return SandboxResponse(status=self.pick.choice([500, 502, 503]), body=b"{}")
            case "page":
                return SandboxResponse(headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>")
        return answer

    def _taken(self, request: SandboxRequest) -> SandboxResponse:
        body = json.loads(request.body)
        ids = [row["event_id"] for row in (body if isinstance(body, list) else [body])]
        bad = [id_ for id_ in ids if id_ in self.refused]
        if bad and self.traits.answers == "status":
            return json_response({"message": "one is no event"}, status=422)
        self.captured.update(id_ for id_ in ids if id_ not in self.refused)
        results = [{"id": id_, "ok": id_ not in bad, "why": "no event" if id_ in bad else ""} for id_ in ids]
        self.pick.shuffle(results)
        return json_response({"results": results, "failed": bad})


@define(eq=False)
class Job:
    """One file of events that is sent until it is through."""

    receiver: Receiver
    folder: Path
    capture: Any
    ids: list[str] = field(factory=list)
    done: list[Any] = field(factory=list)

    def write(self, base_url: str) -> None:
        pick = self.receiver.pick
        source = f'base_url = "{base_url}"\nallow_writes = true\nretry_first_s = 0.01\nretry_max_s = 0.02\n'
        (self.folder / "penstock.toml").write_text(f"[source.desk]\n{source}requests_per_second = 10000.0\n")
        rows: list[dict[str, Any]] = []
        for number in range(pick.randrange(1, 40)):
            row = {"event_id": f"e{number}", "kind": pick.choice(["open", "click", "nonsense", None]), "price": 1.5}
            if pick.random() < 0.1:
                self.receiver.refused.add(f"e{number}")
            rows.append(row)
        self.ids = [row["event_id"] for row in rows]
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def act(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        self.capture.readouterr()
        words = ["act", "--config", str(self.folder / "penstock.toml"), "desk", "send"]
        code = main([*words, "--from", str(self.folder / "rows.jsonl"), *options], plugins=[self.receiver, *PLUGINS])
        out, err = self.capture.readouterr()
        self.done.append((options, code, err[-600:]))
        return code, [json.loads(line) for line in out.splitlines()]

    def killed(self, *options: str) -> None:
        """The command in a process of its own, which is killed at one of its requests."""
        process = os.fork()
        if process == 0:
            try:
                self.act(*options)
            finally:
                os._exit(0)
        self.receiver.victim = process
        self.done.append((options, "killed", os.waitpid(process, 0)[1]))
        self.receiver.victim = 0

    def agrees(self, code: int, receipts: list[dict[str, Any]], *, unknown_again: bool = False) -> None:
        """Whether receipts and exit code are true."""
        repeatable = self.receiver.traits.repeatable
        assert [receipt["row"] for receipt in receipts] == list(range(len(self.ids))), self
        assert (code == 0) == all(receipt["status"] == "done" for receipt in receipts), self
        for id_, receipt in zip(self.ids, receipts, strict=True):
            most = 100 if repeatable or unknown_again else 1
            bounds = {"done": (1, most), "refused": (0, 0), "unknown": (0, most)}[receipt["status"]]
            assert bounds[0] <= self.receiver.captured[id_] <= bounds[1], (id_, receipt, self)

    def __repr__(self) -> str:
        return f"receiver {self.receiver.seed}: {self.receiver.traits}\n{self.done}\n{self.receiver.captured}"


def sent(seed: int, folder: Path, capture: Any, *, kills: bool) -> None:
    """A file of events, sent by as many commands as it takes; then the unknown rows once more."""
    receiver = Receiver(seed)
    chance = Random(seed)
    with serve(receiver) as server:
        job = Job(receiver, folder, capture)
        job.write(server.base_url)
        option: tuple[str, ...] = ()
        for _ in range(chance.randrange(4)):
            receiver.troubled = True
            receiver.kill_at = chance.randrange(1, 12)
            if kills and chance.random() < 0.7:
                job.killed(*option)
            else:
                code, receipts = job.act(*option)
                if code != 2:
                    job.agrees(code, receipts)
            option = ("--resume",)
        receiver.troubled = False
        code, receipts = job.act(*option)
        if code == 2:  # no request of the killed commands left
            code, receipts = job.act()
        job.agrees(code, receipts)
        unknown = [receipt["row"] for receipt in receipts if receipt["status"] == "unknown"]
        before = Counter(receiver.captured)
        code, receipts = job.act("--retry-unknown")
        job.agrees(code, receipts, unknown_again=True)
        assert {receipt["status"] for receipt in receipts} <= {"done", "refused"}, job
        again = {int(id_[1:]) for id_, times in receiver.captured.items() if times != before[id_]}
        assert again <= set(unknown), job


@pytest.mark.parametrize("seed", FEW)
def test_receipts_are_true_whatever_the_provider(seed: int, tmp_path: Path, capsys: Any) -> None:
    """
    The traits of the provider may be any together, and its requests may meet any fault.
    """
    sent(seed, tmp_path, capsys, kills=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("seed", FEW)
def test_receipts_are_true_after_kills(seed: int, tmp_path: Path, capsys: Any) -> None:
    """
    Receipts are true also where commands are killed before and after the provider captured a request.
    """
    sent(seed, tmp_path, capsys, kills=True)


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("seed", range(_FROM, _TO))
def test_receipts_are_true_after_many_kills(seed: int, tmp_path: Path, capsys: Any) -> None:
    """
    Receipts are true after kills, for many providers.
    """
    sent(seed, tmp_path, capsys, kills=True)
