"""
A plugin with engines whose workers count as those of other machines, although they are threads of this process.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import thread_engine
from attrs import define, field, frozen
from penstock import Registration, hookimpl
from penstock.engines import Assignment, Coordinator, Message, Work


def _threads(workers: int | None) -> Any:
    return thread_engine.Threads(workers or 2, is_local=False)  # type: ignore[attr-defined]


@define(eq=False)
class HeldChannel:
    """A channel whose first commit reaches the coordinator late. ``held``: it has begun; ``late``: it may go on."""

    number: int
    coordinator: Coordinator
    held: threading.Event = field(factory=threading.Event)
    late: threading.Event = field(factory=threading.Event)

    def send(self, message: Message) -> None:
        self.coordinator.received(self.number, message)

    def request(self, message: Message) -> Message:
        if "commit_staged" in message.get("text", ""):
            self.held.set()
            assert self.late.wait(120)
        return self.coordinator.reply(self.number, message)


@define(eq=False)
class TakenOver:
    """
    An engine that gives each part to a second worker when the first is about to commit, and lets the first go on when
    the second has done the work. ``ends``: how the first workers ended; ``changed``: the files that they changed.
    """

    directory: Path
    workers: int = 2
    carries_secrets: bool = True
    is_local: bool = False
    ends: list[Message] = field(factory=list)
    changed: list[Path] = field(factory=list)

    def check(self, trial: Any) -> None:
        trial()

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        for one in assignments:
            channel = HeldChannel(one.number, coordinator)
            first = threading.Thread(target=lambda one=one, channel=channel: self.ends.append(work(one, channel)))
            first.start()
            assert channel.held.wait(120)
            result = work(one, thread_engine.ThreadChannel(one.number, coordinator))  # type: ignore[attr-defined]
            before = self._files()
            channel.late.set()
            first.join(120)
            self.changed += [path for path, status in self._files().items() if before.get(path) != status]
            coordinator.done(one.number, result)

    def _files(self) -> dict[Path, tuple[int, int]]:
        files = [path for path in self.directory.rglob("data.*") if path.is_file()]
        return {path: (os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in files}

    def close(self) -> None:
        """There is nothing to release."""


@frozen
class Elsewhere(thread_engine.Threads):  # type: ignore[misc, name-defined]
    """An engine whose workers find the mark of another run in ``directory``, as in a directory of another machine."""

    is_local: bool = False
    directory: Path = field(kw_only=True)

    def check(self, trial: Any) -> None:
        (mark,) = self.directory.glob(".penstock/*.mark")
        mark.write_text("made on another machine")
        trial()


taken_over: list[TakenOver] = []  # those of this process, which tests look at


def _taken_over(address: str, workers: int | None) -> TakenOver:
    taken_over.append(TakenOver(Path(address)))
    return taken_over[-1]


@hookimpl
def penstock_engines() -> Iterable[Registration]:
    yield Registration(name="machines", factory=lambda address, workers: _threads(workers), summary="other machines")
    yield Registration(name="taken_over", factory=_taken_over, summary="other machines, of which each is cut off")
    yield Registration(
        name="elsewhere",
        factory=lambda address, workers: Elsewhere(workers or 2, directory=Path(address)),
        summary="other machines, without the directory of the run",
    )
