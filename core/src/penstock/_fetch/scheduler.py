"""
The scheduler: threads that fetch, and one loop that resumes the tasks with the results.

The *steps* of a task are a generator (see :mod:`penstock._read.slice_reading`). It yields calls, and is resumed with
the result of each, in the order of the calls. The scheduler decides the order of the calls of all tasks:

* a source has as many fetching threads as it may have concurrent requests;
* a free thread takes the next call of the task that began first; where no task has named its next call, it
  begins another one, so that no thread is idle while a body is decoded;
* buffered bodies are bounded, in number for each source and in bytes over all tasks;
* a pause (a report that is not ready) waits on a timer and occupies no thread.

The cost of a response does not depend on the number of waiting tasks: tasks that can start are queued per client, and
tasks that need the rows of others are kept separately until they are released.
"""

import contextlib
import heapq
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable

from attrs import define, field

from penstock._fetch.call import Call, CallResult, Failed, Pause, Steps
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import Deadline, default_deadline
from penstock._plugins.plugin_errors import FAILURES
from penstock._util.clock import Clock
from penstock.errors import PenstockError, StoppedError

# Maximum bytes of fetched bodies in memory that no task has taken. One more body is always allowed, however large.
READ_AHEAD_BYTES = 32 * 1024 * 1024

# The most responses of a source that are under way or not yet taken, as a multiple of its ``concurrency``
# (back-pressure: where the writer is slower than the provider, the threads do not all compete for the processor).
READ_AHEAD_FACTOR = 2

# Maximum of active tasks. One that waits for a report counts, although it occupies no thread.
MAX_ACTIVE_TASKS = 64

# Maximum delay until a stop or a deadline takes effect.
TICK_S = 0.2

# A result that comes within this time is no reason to be idle, and so to end a group of commits: a source with one
# request at a time has no response waiting, and each of its partitions would be a group (five syncs, two transactions).
# A commit after a slower response is this much later; a kill loses up to a group of partitions, as of other sources.
SOON_S = 0.01

# How long a run that ends waits for the responses to submissions of reports that are under way.
LAST_RESPONSES_S = 3.0


@define(eq=False, repr=False)
class Task:
    """
    The reads of one slice and their place in the scheduler. ``on_end`` is called once, with the error that ended the
    task, if one did.

    ``after``: it starts once this key was released (:meth:`Scheduler.release`); None: at once.
    """

    client: SourceClient
    start: Callable[[], Steps[None]]
    after: Hashable | None = None
    on_end: Callable[[BaseException | None], None] = lambda error: None
    client_queue: "ClientQueue" = field(init=False)  # from when it is added
    # From when it starts: many tasks wait, and a deque is large.
    steps: Steps[None] = field(init=False)
    pending_calls: deque["PendingCall"] = field(init=False)
    undispatched: int = field(default=0, init=False)  # of ``pending_calls``
    resumes_at: float | None = field(default=None, init=False)
    active: bool = field(default=False, init=False)

    @property
    def can_resume(self) -> bool:
        """Whether the result that is next in its order has come."""
        return (
            self.active
            and self.resumes_at is None
            and bool(self.pending_calls)
            and self.pending_calls[0].result is not None
        )


@define(eq=False, repr=False)
class PendingCall:
    """A call that a task waits for, in order."""

    task: Task
    call: Call
    dispatched: bool = False
    result: CallResult | None = None
    size: int = 0  # of the body of the result


Results = queue.SimpleQueue[tuple[PendingCall, CallResult]]
"""The results of calls, from the fetching threads to the scheduler."""


class ClientQueue:
    """
    A client's tasks that can start, and its fetching threads: daemons, so that a socket that hangs cannot keep the
    process from ending. ``busy`` and ``untaken`` are counted by :class:`ReadAhead`.
    """

    def __init__(self, client: SourceClient, results: Results) -> None:
        self.waiting: deque[Task] = deque()
        self.concurrency = client.concurrency
        self.busy = 0  # threads that make a call
        self.untaken = 0  # results that no task was resumed with yet
        self._fetch = client.fetch
        self._calls: queue.SimpleQueue[PendingCall | None] = queue.SimpleQueue()
        self._results = results
        self._started = 0

    def dispatch(self, pending_call: PendingCall) -> None:
        """Give a call to a free thread, ``busy`` includes it."""
        if self.busy > self._started:
            self._started += 1
            threading.Thread(target=self._work, name=f"fetch-{self._started}", daemon=True).start()
        self._calls.put(pending_call)

    def stop_threads(self) -> None:
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (pending_call := self._calls.get()) is not None:
            try:
                result = self._fetch(pending_call.call)
            except BaseException as error:  # the task raises it: a thread that ended would be waited for
                result = Failed(pending_call.call, error)
            self._results.put((pending_call, result))


@define(eq=False, repr=False)
class ReadAhead:
    """All clients' calls that are under way or whose result is not taken. ``max_bytes``: of buffered bodies."""

    max_bytes: int
    under_way: int = 0
    buffered_bytes: int = 0
    _largest: int = field(default=0, init=False)  # body so far, in bytes: one under way may be as large

    def has_room(self, client_queue: ClientQueue) -> bool:
        """Whether this client may have another call under way."""
        bytes_left = self.buffered_bytes + self.under_way * self._largest < self.max_bytes
        return bytes_left and client_queue.busy + client_queue.untaken < READ_AHEAD_FACTOR * client_queue.concurrency

    def add_call(self, client_queue: ClientQueue) -> None:
        self.under_way += 1
        client_queue.busy += 1

    def add_result(self, pending_call: PendingCall, result: CallResult) -> None:
        client_queue = pending_call.task.client_queue
        size = len(result.response.body) if result.response is not None else 0
        self.under_way -= 1
        client_queue.busy -= 1
        self._largest = max(self._largest, size)
        if pending_call.task.active:
            pending_call.result, pending_call.size = result, size
            self.buffered_bytes += size
            client_queue.untaken += 1

    def take(self, task: Task) -> CallResult:
        """The result that is next in the task's order, which has arrived."""
        pending_call = task.pending_calls.popleft()
        assert pending_call.result is not None
        self.buffered_bytes -= pending_call.size
        task.client_queue.untaken -= 1
        return pending_call.result

    def drop(self, task: Task) -> None:
        """Of a task that has ended: forget its calls, and the results that it did not take."""
        for pending_call in task.pending_calls:
            if pending_call.result is not None:
                self.buffered_bytes -= pending_call.size
                task.client_queue.untaken -= 1
        task.pending_calls.clear()
        task.undispatched = 0


@define(eq=False, repr=False)
class Scheduler:
    """
    Runs tasks until none is left. It does not raise their errors, but passes each to the task's ``on_end``.

    When the deadline passes, or the clock's ``stop`` is set, no new call is made, every unfinished task is ended with
    that error, and :meth:`run` returns it.
    """

    clock: Clock
    deadline: Deadline = default_deadline
    read_ahead: ReadAhead = field(factory=lambda: ReadAhead(READ_AHEAD_BYTES))
    _client_queues: dict[int, ClientQueue] = field(factory=dict, init=False)  # by the identity of the client
    _blocked: dict[Hashable, list[Task]] = field(factory=dict, init=False)  # key -> tasks that start after it
    _released: set[Hashable] = field(factory=set, init=False)
    _active: list[Task] = field(factory=list, init=False)
    _timers: list[tuple[float, int, Task]] = field(factory=list, init=False)
    _resumable: deque[Task] = field(factory=deque, init=False)
    _results: Results = field(factory=queue.SimpleQueue, init=False)
    _timers_set: int = field(default=0, init=False)  # orders the timers of one moment

    def add(self, tasks: Iterable[Task]) -> None:
        """Add tasks; may be called from within the steps of a task or an ``on_end``."""
        for task in tasks:
            queued = self._client_queues.get(id(task.client))
            task.client_queue = queued if queued is not None else self._new_queue(task.client)
            if task.after is None or task.after in self._released:
                task.client_queue.waiting.append(task)
            else:
                self._blocked.setdefault(task.after, []).append(task)

    def release(self, key: Hashable) -> None:
        """Let the tasks after ``key`` start, before other waiting tasks. May be called wherever :meth:`add` may."""
        self._released.add(key)
        for task in reversed(self._blocked.pop(key, [])):
            task.client_queue.waiting.appendleft(task)

    def run(self, idle: Callable[[], None] = lambda: None) -> PenstockError | None:
        """
        Run all tasks. Returns the error that ended the run early, if one did; else other tasks can be added and run.
        ``idle`` is called before the loop waits for longer than ``SOON_S``.
        """
        try:
            while not self.deadline.run_is_ending:
                if not self._step(idle):
                    return None
            return self._end_all()
        finally:
            for client_queue in self._client_queues.values():
                client_queue.stop_threads()
            self._client_queues.clear()
            self._released.clear()  # a key may hold a job, with its target

    def _step(self, idle: Callable[[], None]) -> bool:
        """Start and resume what can be, else wait. Returns False where no task is left."""
        self._receive_all()
        self._dispatch_all()  # before resuming: decoding and writing take a while
        if self._resumable:
            self._resume_next()
        elif self._active or self.read_ahead.under_way:
            self._wait(idle)
        # A task that ended at once may have added some for another client.
        elif not any(client_queue.waiting for client_queue in self._client_queues.values()):
            if not self._blocked:
                return False
            # Nothing is left that could release these: each fails, with the reason why it cannot start.
            self.release(next(iter(self._blocked)))
        return True

    # --- dispatching ------------------------------------------------------------------------------------------------

    def _dispatch_all(self) -> None:
        """Give calls to the free threads: those of active tasks first, then of new ones."""
        for task in self._active:
            if task.undispatched:
                self._dispatch_calls(task)
        for client_queue in list(self._client_queues.values()):
            while (
                client_queue.waiting
                and len(self._active) < MAX_ACTIVE_TASKS
                and client_queue.busy < client_queue.concurrency
                and self.read_ahead.has_room(client_queue)
            ):
                self._start(client_queue.waiting.popleft())

    def _dispatch_calls(self, task: Task) -> None:
        """Give the task's next calls to free threads, in their order."""
        client_queue, read_ahead = task.client_queue, self.read_ahead
        for pending_call in task.pending_calls:
            if pending_call.dispatched:
                continue
            # The next body of the oldest task is always allowed, to avoid a deadlock.
            oldest = (task is self._active[0] and pending_call is task.pending_calls[0]) or read_ahead.under_way == 0
            if client_queue.busy >= client_queue.concurrency or not (oldest or read_ahead.has_room(client_queue)):
                return
            pending_call.dispatched = True
            task.undispatched -= 1
            read_ahead.add_call(client_queue)
            client_queue.dispatch(pending_call)

    def _new_queue(self, client: SourceClient) -> ClientQueue:
        client_queue = self._client_queues[id(client)] = ClientQueue(client, self._results)
        return client_queue

    # --- receiving --------------------------------------------------------------------------------------------------

    def _wait(self, idle: Callable[[], None]) -> None:
        """Wait for the next result or timer."""
        if not self.read_ahead.under_way or not self._receive_one(SOON_S):
            idle()
            due_s = max(0.0, self._timers[0][0] - self.clock.monotonic()) if self._timers else TICK_S
            if self.read_ahead.under_way == 0 and self._timers:
                with contextlib.suppress(StoppedError):  # run() looks at the stop itself
                    self.clock.sleep(min(due_s, TICK_S) if self.deadline.at is not None else due_s)
            else:
                self._receive_one(min(due_s, TICK_S))
        while self._timers and self._timers[0][0] <= self.clock.monotonic():
            _, _, task = heapq.heappop(self._timers)
            task.resumes_at = None
            if task.active:
                self._resume(task, None)

    def _receive_one(self, within_s: float) -> bool:
        """Take the next result. False if none comes within this time."""
        try:
            pending_call, result = self._results.get(timeout=within_s)
        except queue.Empty:
            return False
        self._record_result(pending_call, result)
        return True

    def _receive_all(self) -> None:
        """Take all results that have arrived, so that their threads can get other calls at once."""
        while not self._results.empty():
            self._record_result(*self._results.get())

    def _record_result(self, pending_call: PendingCall, result: CallResult) -> None:
        self.read_ahead.add_result(pending_call, result)
        task = pending_call.task
        if task.active and pending_call is task.pending_calls[0] and task.resumes_at is None:
            self._resumable.append(task)

    def _resume_next(self) -> None:
        """Resume one task with the result that is next in its order."""
        task = self._resumable.popleft()
        if task.active:  # else it ended meanwhile
            self._resume(task, self.read_ahead.take(task))

    def _start(self, task: Task) -> None:
        task.active, task.steps, task.pending_calls = True, task.start(), deque()
        self._active.append(task)
        self._resume(task, None)

    def _resume(self, task: Task, result: CallResult | None) -> None:
        try:
            step = task.steps.send(result)
        except StopIteration:
            self._end(task, None)
        except FAILURES as error:  # the task's own error; its ``on_end`` handles it
            self._end(task, error)
        else:
            if isinstance(step, Pause):
                self._timers_set += 1
                task.resumes_at = self.clock.monotonic() + step.seconds
                heapq.heappush(self._timers, (task.resumes_at, self._timers_set, task))
            else:
                for call in reversed(step):
                    task.pending_calls.appendleft(PendingCall(task, call))
                task.undispatched += len(step)
                self._dispatch_calls(task)
                if not step and task.can_resume:
                    self._resumable.appendleft(task)

    def _end(self, task: Task, error: BaseException | None) -> None:
        if task.active:
            task.active = False
            self._active.remove(task)
        if task.pending_calls:
            self.read_ahead.drop(task)
        task.on_end(error)

    def _end_all(self) -> PenstockError:
        """End every task with the error that ends the run early, and return that."""
        error: PenstockError = self.deadline.error()
        if self.clock.stop.is_set():
            error = StoppedError("interrupted; what was delivered so far is kept, the next run goes on from it")
        self._receive_submissions()
        for task in list(self._active):
            task.steps.close()
            self._end(task, error)
        while self._blocked:
            self.release(next(iter(self._blocked)))
        for client_queue in self._client_queues.values():
            while client_queue.waiting:
                client_queue.waiting.popleft().on_end(error)
        return error

    def _receive_submissions(self) -> None:
        """
        Resume the tasks that wait for the response to a submission, as far as it comes within ``LAST_RESPONSES_S``:
        the next run would submit a report again whose id was not recorded. What a task requests next is not sent.
        """
        until = self.clock.monotonic() + LAST_RESPONSES_S
        while tasks := [task for task in self._active if _is_submitting(task)]:
            for task in tasks:
                if task.can_resume:
                    with contextlib.suppress(Exception):  # the run ends anyway, and the next one meets it again
                        task.steps.send(self.read_ahead.take(task))
            if any(map(_is_submitting, tasks)) and not self._receive_one(max(0.0, until - self.clock.monotonic())):
                return


def _is_submitting(task: Task) -> bool:
    """Whether the task waits for the response to a submission that was given to a thread."""
    return bool(task.pending_calls) and task.pending_calls[0].dispatched and task.pending_calls[0].call.submits
