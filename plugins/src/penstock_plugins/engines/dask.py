"""
Workers of a Dask cluster, one task for each shard of a run: ``penstock run NAME --engine dask://SCHEDULER:8786``.

Dask distributes, and gives the task of a worker that died to another one. Workers and coordinator write to each other
through Dask queues (:mod:`penstock_plugins.engines.dask_queues`).
"""

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from typing import Any

import distributed
from attrs import define, field
from distributed.comm import CommClosedError
from penstock import PluginError, UsageError
from penstock.engines import GRACE_S, Assignment, Coordinator, Message, Trial, Work

from penstock_plugins.engines.dask_queues import DISCONNECTED, LOST_AFTER_S, QueueChannel, RequestServer

CONNECT_S = 30.0  # as long as Dask itself tries
CHECK_S = 120.0  # for a worker to import the connectors and read the configuration
GONE = "the Dask scheduler is gone"


@define(eq=False, slots=False)  # cached_property needs a __dict__
class Dask:
    """See :class:`penstock.engines.Engine`."""

    address: str
    shards: int | None
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
        for name in ("distributed.client", "distributed.core"):  # the run's report states what becomes of its shards
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            return distributed.Client(self.address, timeout=CONNECT_S, set_as_default=False, name="penstock")
        except (OSError, ValueError, TypeError) as error:
            reason = str(error) or type(error).__name__
        gc.collect()  # Dask's half-made client: collected while another one starts, it would wait for it for ever
        raise UsageError(
            f"the Dask scheduler {self.address} cannot be reached: {reason}. Check the address, and that it runs; a "
            "scheduler with TLS is dask:tls://HOST:PORT, with the certificates in Dask's configuration."
        )

    @property
    def workers(self) -> int:
        with self._connected():
            self._wait_for_worker()
            return self.shards or len(self.client.nthreads())

    def _wait_for_worker(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_S)
        except TimeoutError:
            raise UsageError(
                f"no worker is connected to the Dask scheduler {self.address}: start some (dask worker)"
            ) from None

    def check(self, trial: Trial) -> None:
        with self._connected():
            self._wait_for_worker()
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
                    f"the worker {worker} of {self.address} cannot carry out a shard of this run: {reason}"
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
            requests = distributed.Queue(name, client=self.client)
            tasks = {
                assignment.number: self.client.submit(
                    read_shard, assignment, work, name, key=f"{name}-{assignment.number}", pure=False
                )
                for assignment in assignments
            }
        except DISCONNECTED as error:
            for assignment in assignments:
                coordinator.lost(assignment.number, f"{GONE} ({type(error).__name__})")
            return
        pool = ThreadPoolExecutor(2 * len(tasks), thread_name_prefix="reply")
        server = RequestServer(client=self.client, coordinator=coordinator, requests=requests, pool=pool)
        with closing(server):
            _RunningTasks(client=self.client, server=server, tasks=tasks).wait()

    def close(self) -> None:
        if "client" in vars(self):
            with suppress(Exception):
                self.client.close(timeout=LOST_AFTER_S)


@define(eq=False, repr=False, kw_only=True)
class _RunningTasks:
    """The tasks of a run, by the number of their shard, until each is done or lost."""

    client: distributed.Client
    server: RequestServer
    tasks: dict[int, distributed.Future]
    _connected_at: float = field(factory=time.monotonic, init=False)  # when the scheduler was there for the last time
    _ending_since: float | None = field(default=None, init=False)

    def wait(self) -> None:
        """Serve the requests of the tasks until none is left."""
        while self.tasks:
            if self.server.coordinator.over:
                self._cancel_late()
            if self.server.serve_next():
                self._connected_at = time.monotonic()
            self._collect()

    def _cancel_late(self) -> None:
        """Once the run is to end: cancel the tasks that no worker has begun, and all after :data:`GRACE_S`."""
        self._ending_since = self._ending_since or time.monotonic()
        late = time.monotonic() - self._ending_since > GRACE_S
        for number in [number for number in self.tasks if late or number not in self.server.begun]:
            with suppress(Exception):
                self.tasks.pop(number).cancel(reason="the run has ended")
            self.server.coordinator.lost(number, "no worker had begun it when the run ended")

    def _collect(self) -> None:
        """Pass on the results of the tasks that have ended; without a scheduler, all are lost."""
        gone = self.client.status != "running" and time.monotonic() - self._connected_at > LOST_AFTER_S
        for number, task in list(self.tasks.items()):
            if gone:
                self.server.coordinator.lost(number, GONE)
                del self.tasks[number]
            elif task.done() and self._pass_on(number, task):
                del self.tasks[number]

    def _pass_on(self, number: int, task: distributed.Future) -> bool:
        """
        Pass the result of a task on, or the reason why there is none. False: its worker died with the result, and Dask
        gives the task to another one, which finds all of it delivered.
        """
        coordinator = self.server.coordinator
        if task.status != "finished":
            coordinator.lost(number, _reason(task))
            return True
        try:
            done = task.result(timeout=LOST_AFTER_S)
        except TimeoutError:
            return False
        except DISCONNECTED as error:
            coordinator.lost(number, f"its result was lost ({type(error).__name__})")
            return True
        for message in done["sent"]:
            coordinator.received(number, message)
        coordinator.done(number, done["result"])
        return True


def _reason(task: distributed.Future) -> str:
    try:
        error = task.exception(timeout=LOST_AFTER_S)
    except DISCONNECTED as failed:
        error = failed
    return f"{type(error).__name__}: {error}" if error is not None else f"Dask reports it as {task.status}"


# --- in a worker ------------------------------------------------------------------------------------------------------


def read_shard(assignment: Assignment, work: Work, requests: str) -> Message:
    """The task of one shard. ``requests``: the name of the queue that the coordinator reads."""
    worker = distributed.get_worker()
    key = worker.get_current_task()
    channel = QueueChannel.open(
        distributed.get_client(), requests, assignment.number, is_wanted=lambda: _is_wanted(worker, key)
    )
    try:
        result = work(assignment, channel)
    finally:
        channel.close()
    return {"result": result, "sent": channel.unsent()}


def _is_wanted(worker: Any, key: str) -> bool:
    """Whether anybody waits for the task: a scheduler forgets the tasks of a client that is gone."""
    task = worker.state.tasks.get(key)
    return worker.status.name == "running" and task is not None and task.state not in ("cancelled", "forgotten")
