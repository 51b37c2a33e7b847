"""
Processes of this machine, one for each shard of a run: ``penstock run NAME --workers 2``.

They are spawned, and connected by pipes. A worker ends at once when the pipe of its parent closes, also where the
parent was killed; a worker that ends without a result closes its own.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import ClassVar

from attrs import define, field, frozen
from penstock import UsageError, mask
from penstock.engines import GRACE_S, Assignment, Coordinator, Message, Trial, Work

LOOK_EVERY_S = 0.2


@frozen
class Processes:
    """See :class:`penstock.engines.Engine`."""

    carries_secrets: ClassVar[bool] = True
    is_local: ClassVar[bool] = True

    workers: int

    @classmethod
    def make(cls, address: str = "", workers: int | None = None) -> "Processes":
        """``workers`` None: as many as this process may use processors."""
        if address:
            raise UsageError(f"processes have no address: write --workers N, without {address!r}")
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return cls(workers or usable or 1)

    def check(self, trial: Trial) -> None:
        """No effect: these workers have the installation, the files and the environment of this process."""

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        context = multiprocessing.get_context("spawn")
        threads, processes = [], []
        for assignment in assignments:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_worker,
                args=(theirs, assignment, work),
                name=f"penstock worker {assignment.number}",
                daemon=True,
            )
            process.start()
            processes.append(process)
            theirs.close()
            served = (process, ours, assignment.number, coordinator)
            threads.append(threading.Thread(target=_serve_worker, args=served, daemon=True))
            threads[-1].start()
        over_since: float | None = None
        while running := [thread for thread in threads if thread.is_alive()]:
            running[0].join(LOOK_EVERY_S)
            if coordinator.over:
                over_since = over_since or time.monotonic()
                if time.monotonic() - over_since > GRACE_S:
                    for process in processes:
                        process.kill()

    def close(self) -> None:
        """No effect: all processes have ended."""


def _serve_worker(
    process: "multiprocessing.context.SpawnProcess", pipe: Connection, number: int, coordinator: Coordinator
) -> None:
    """Serve the messages of one worker until it is done or has ended. Runs in a thread of the parent."""
    try:
        while True:
            kind, message = pipe.recv()
            if kind == "send":
                coordinator.received(number, message)
            elif kind == "request":
                pipe.send(coordinator.reply(number, message))
            elif kind == "done":
                coordinator.done(number, message)
                break
            else:
                coordinator.lost(number, message)
                break
    except (EOFError, OSError):
        process.join()
        coordinator.lost(number, _reason(process.exitcode))
    finally:
        pipe.close()
        process.join()


def _reason(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the process was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    return f"the process ended with {exit_code}"


@define(eq=False, repr=False)
class _PipeChannel:
    """See :class:`penstock.engines.Channel`."""

    pipe: Connection
    _requesting: threading.Lock = field(factory=threading.Lock, init=False)
    _sending: threading.Lock = field(factory=threading.Lock, init=False)

    def send(self, message: Message) -> None:
        self.put("send", message)

    def request(self, message: Message) -> Message:
        with self._requesting:
            self.put("request", message)
            try:
                reply: Message = self.pipe.recv()
            except EOFError:
                raise OSError("the coordinator has ended") from None
            return reply

    def put(self, kind: str, message: object) -> None:
        with self._sending:
            self.pipe.send((kind, message))


def _worker(pipe: Connection, assignment: Assignment, work: Work) -> None:
    """A worker's process."""
    # Ctrl-C, and a terminal that closes, reach all of its processes; the parent's order counts.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # not on every platform
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    channel = _PipeChannel(pipe)
    try:
        result = work(assignment, channel)
    except Exception as error:
        channel.put("lost", mask(f"{type(error).__name__}: {error}"))
        raise SystemExit(1) from None  # multiprocessing prints the traceback of any other, unmasked
    channel.put("done", result)


def _end_with(sentinel: int) -> None:
    """End this process at once when its parent has ended."""
    wait([sentinel])
    os._exit(1)
