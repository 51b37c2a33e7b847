"""
Workers of a Dask cluster, one task for each part of a run: ``penstock run NAME --engine dask://SCHEDULER:8786``.

Dask distributes, and gives the task of a worker that died to another one. Workers and coordinator write to each other
through two kinds of Dask queues: one that the coordinator reads, and one for the replies to each task. The scheduler
passes their messages on unread (``to_serialize``): its log at debug level states every message that it reads, and over
TLS a reply may hold a token.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from uuid import uuid4

import distributed
from attrs import define, field
from distributed.comm import CommClosedError
from distributed.protocol import to_serialize
from penstock import PluginError, UsageError
from penstock.engines import GRACE_S, Assignment, Coordinator, Message, Trial, Work

CONNECT_S = 30.0  # as long as Dask itself tries
CHECK_S = 120.0  # for a worker to import the connectors and read the configuration
LISTEN_S = 0.1
LOST_AFTER_S = 5.0  # without a connection to the scheduler, the parts are lost to the coordinator
AGAIN_S = 7.0  # without a reply, a request is sent again: Dask drops what a busy process did not take within its bound
SILENT_S = 30.0  # a busy machine pauses a process for seconds; Dask's own connections have this bound
GRANT_S = 300.0  # for a reply: a login may be retried for a while
# What Dask raises, apart from OSError, when a connection ends during a call: asyncio's cancellation, RuntimeError of a
# closed loop, KeyError of a queue that a restarted scheduler does not have, ...
DISCONNECTED = (Exception, asyncio.CancelledError)
GONE = "the Dask scheduler is gone"


@define(eq=False, slots=False)  # cached_property needs a __dict__
class Dask:
    """See :class:`penstock.engines.Engine`."""

    address: str
    parts: int | None
    is_local = False

    @classmethod
    def make(cls, address: str = "", workers: int | None = None) -> "Dask":
        """``address``: ``//HOST:PORT``, or with a scheme of Dask's own, such as ``tls://HOST:PORT``."""
        host = address.rpartition("//")[2]
        if not host:
            raise UsageError(
                "dask needs the address of its scheduler: --engine dask://HOST:8786, or dask:tls://HOST:8786"
            )
        return cls(f"tcp:{address}" if address.startswith("//") else address, workers)

    @property
    def carries_secrets(self) -> bool:
        return self.address.startswith("tls://")

    @cached_property
    def client(self) -> distributed.Client:
        """The connection to the scheduler. Raises UsageError."""
        for name in ("distributed.client", "distributed.core"):  # the run's report states what becomes of its parts
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            return distributed.Client(self.address, timeout=CONNECT_S, set_as_default=False, name="penstock")
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"the Dask scheduler {self.address} cannot be reached: {str(error) or type(error).__name__}. Check the "
                "address, and that it runs; a scheduler with TLS is dask:tls://HOST:PORT, with the certificates in "
                "Dask's configuration."
            ) from None

    @property
    def workers(self) -> int:
        with self._connected():
            try:
                self.client.wait_for_workers(1, timeout=CONNECT_S)
            except TimeoutError:
                raise UsageError(
                    f"no worker is connected to the Dask scheduler {self.address}: start some (dask worker)"
                ) from None
            return self.parts or len(self.client.nthreads())

    def check(self, trial: Trial) -> None:
        assert self.workers
        with self._connected():
            try:
                results = self.client.run(trial, on_error="return", callback_timeout=CHECK_S)
            except TimeoutError:
                raise UsageError(
                    f"a worker of {self.address} did not read its configuration within {CHECK_S:.0f} s. Nothing was "
                    "requested; restart the worker that hangs."
                ) from None
            connected = self.client.nthreads()
        for worker, error in results.items():
            # One that ended meanwhile refuses nothing, also where the scheduler has not noticed it yet.
            if isinstance(error, BaseException) and worker in connected and not isinstance(error, CommClosedError):
                reason = f"{type(error).__name__}: {error}" if not isinstance(error, UsageError) else str(error)
                raise PluginError(
                    f"the worker {worker} of {self.address} cannot carry out a part of this run: {reason}"
                )

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Before anything was requested. Raises UsageError where the scheduler ends meanwhile."""
        try:
            yield
        except UsageError:
            raise
        except DISCONNECTED as error:
            raise UsageError(
                f"the Dask scheduler {self.address} ended before the run began ({type(error).__name__}). Nothing was "
                "requested; start the run again when the scheduler runs."
            ) from None

    def run(self, assignments: Sequence[Assignment], work: Work, coordinator: Coordinator) -> None:
        name = f"penstock-{assignments[0].run_id}"
        try:
            inbox = distributed.Queue(name, client=self.client)
            tasks = {
                assignment.number: self.client.submit(
                    carry_out, assignment, work, name, key=f"{name}-{assignment.number}", pure=False
                )
                for assignment in assignments
            }
        except DISCONNECTED as error:
            for assignment in assignments:
                coordinator.lost(assignment.number, f"{GONE} ({type(error).__name__})")
            return
        seen, over_since = time.monotonic(), None
        with _desk(self.client, coordinator, inbox, len(assignments)) as desk:
            while tasks:
                if coordinator.over:
                    over_since = over_since or time.monotonic()
                    late = time.monotonic() - over_since > GRACE_S
                    for number in [number for number in tasks if late or number not in desk.begun]:
                        self._cancel(tasks.pop(number))
                        coordinator.lost(number, "no worker had begun it when the run ended")
                if desk.hear():
                    seen = time.monotonic()
                gone = self.client.status != "running" and time.monotonic() - seen > LOST_AFTER_S
                for number in [number for number, task in tasks.items() if gone or task.done()]:
                    if self._has_ended(number, tasks[number], desk, gone=gone):
                        del tasks[number]

    def close(self) -> None:
        if "client" in vars(self):
            with suppress(Exception):
                self.client.close(timeout=LOST_AFTER_S)

    def _cancel(self, task: distributed.Future) -> None:
        with suppress(Exception):
            task.cancel(reason="the run has ended")

    def _has_ended(self, number: int, task: distributed.Future, desk: "_Desk", *, gone: bool) -> bool:
        """
        Pass the result of a task on, or the reason why there is none. False: its worker died with the result, and Dask
        gives the task to another one, which finds all of it delivered.
        """
        if gone or task.status != "finished":
            desk.coordinator.lost(number, GONE if gone else _reason(task))
            return True
        try:
            outcome = task.result(timeout=LOST_AFTER_S)
        except TimeoutError:
            return False
        except DISCONNECTED as error:
            desk.coordinator.lost(number, f"its result was lost ({type(error).__name__})")
            return True
        for message in outcome["sent"]:
            desk.coordinator.received(number, message)
        desk.coordinator.done(number, outcome["result"])
        return True


def _reason(task: distributed.Future) -> str:
    try:
        error = task.exception(timeout=LOST_AFTER_S)
    except DISCONNECTED as failed:
        error = failed
    return f"{type(error).__name__}: {error}" if error is not None else f"Dask reports it as {task.status}"


@define(eq=False, repr=False, kw_only=True)
class _Desk:
    """The coordinator's side of the queues. ``pool``: gives the replies, of which one may take as long as a login."""

    client: distributed.Client
    coordinator: Coordinator
    inbox: distributed.Queue
    pool: ThreadPoolExecutor
    begun: set[int] = field(factory=set, init=False)  # parts of which a worker sent something
    boxes: dict[str, distributed.Queue] = field(factory=dict, init=False)
    latest: dict[str, tuple[int, str]] = field(factory=dict, init=False)  # by box: a request, and its reply if made

    def hear(self) -> bool:
        """Take one message, if there is any; waits a moment for it. Returns whether the scheduler was there."""
        try:
            received = self.inbox.get(timeout=LISTEN_S, callback_timeout=LISTEN_S + LOST_AFTER_S)
        except TimeoutError:
            return True
        except DISCONNECTED:
            time.sleep(LISTEN_S)
            return False
        request = json.loads(received)
        self.begun.add(request["number"])
        number, text = self.latest.get(request["box"], (0, ""))
        if request["id"] <= number:  # it was sent again
            if text and request["id"] == number:
                self.pool.submit(self._send, request["box"], text)
            return True
        self.latest[request["box"]] = (request["id"], "")
        for message in request["sent"]:
            self.coordinator.received(request["number"], message)
        self.pool.submit(self._reply, request)
        return True

    def _reply(self, request: Message) -> None:
        reply = self.coordinator.reply(request["number"], request["message"])
        text = json.dumps({"id": request["id"], "reply": reply})
        self.latest[request["box"]] = (request["id"], text)
        self._send(request["box"], text)

    def _send(self, box: str, text: str) -> None:
        with suppress(*DISCONNECTED):  # without a scheduler there is nobody to reply to
            if box not in self.boxes:  # once: Dask keeps a queue until it was closed as often as it was made
                self.boxes[box] = distributed.Queue(box, client=self.client)
            self.boxes[box].put(to_serialize(text), callback_timeout=SILENT_S)


@contextmanager
def _desk(
    client: distributed.Client, coordinator: Coordinator, inbox: distributed.Queue, tasks: int
) -> Iterator[_Desk]:
    """A desk for so many tasks, closed at the end with its queues."""
    pool = ThreadPoolExecutor(2 * tasks, thread_name_prefix="reply")
    desk = _Desk(client=client, coordinator=coordinator, inbox=inbox, pool=pool)
    try:
        yield desk
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for box in (desk.inbox, *desk.boxes.values()):
            with suppress(Exception):
                box.close()


# --- in a worker ------------------------------------------------------------------------------------------------------


def carry_out(assignment: Assignment, work: Work, inbox: str) -> Message:
    """The task of one part."""
    worker = distributed.get_worker()
    key = worker.get_current_task()
    client = distributed.get_client()
    box = f"{inbox}-{assignment.number}-{uuid4().hex}"
    line = _QueueLine(
        number=assignment.number,
        box=box,
        inbox=distributed.Queue(inbox, client=client),
        replies=distributed.Queue(box, client=client),
        is_wanted=lambda: _is_wanted(worker, key),
    )
    try:
        result = work(assignment, line)
    finally:
        line.close()
    return {"result": result, "sent": line.taken()}


def _is_wanted(worker: Any, key: str) -> bool:
    """Whether anybody waits for the task: a scheduler forgets the tasks of a client that is gone."""
    task = worker.state.tasks.get(key)
    return worker.status.name == "running" and task is not None and task.state not in ("cancelled", "forgotten")


@define(eq=False, repr=False, kw_only=True)
class _QueueLine:
    """
    See :class:`penstock.engines.Line`. What is sent travels with the next request, since the state of the run is
    requested several times a second.
    """

    number: int
    box: str
    inbox: distributed.Queue
    replies: distributed.Queue
    is_wanted: Callable[[], bool]
    _sent: list[Message] = field(factory=list, init=False)
    _requests: int = field(default=0, init=False)
    _requesting: threading.Lock = field(factory=threading.Lock, init=False)
    _sending: threading.Lock = field(factory=threading.Lock, init=False)

    def send(self, message: Message) -> None:
        with self._sending:
            self._sent.append(message)

    def taken(self) -> list[Message]:
        """What was not sent yet."""
        with self._sending:
            sent, self._sent = self._sent, []
        return sent

    def request(self, message: Message) -> Message:
        with self._requesting:
            self._requests += 1
            request = json.dumps(
                {"number": self.number, "box": self.box, "id": self._requests, "sent": self.taken(), "message": message}
            )
            end = time.monotonic() + (GRANT_S if message["kind"] == "grant" else SILENT_S)
            try:
                while True:
                    self.inbox.put(to_serialize(request), callback_timeout=SILENT_S)
                    reply = self._reply(min(end, time.monotonic() + AGAIN_S))
                    if reply is not None:
                        return reply
                    if time.monotonic() >= end:
                        raise TimeoutError("it is silent")
            except DISCONNECTED as error:
                raise OSError(f"the coordinator does not reply: {error}") from None

    def _reply(self, end: float) -> Message | None:
        """The reply to the last request; None: it did not come until ``end``."""
        while True:
            if not self.is_wanted():
                raise OSError("the coordinator is gone")
            try:
                message = json.loads(self.replies.get(timeout=1.0, callback_timeout=SILENT_S))
            except TimeoutError:
                if time.monotonic() >= end:
                    return None
                continue
            if message["id"] == self._requests:  # else one that came too late
                reply: Message = message["reply"]
                return reply

    def close(self) -> None:
        for queue in (self.inbox, self.replies):
            with suppress(Exception):
                queue.close()
