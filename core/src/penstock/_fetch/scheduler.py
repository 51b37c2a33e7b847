"""
The scheduler: threads that only fetch, and one loop that hands what they bring to whoever waits for it.

A *reading* (see :mod:`penstock._read.reader`) is a generator. It yields calls, and is resumed with the outcome of each,
in the order of the calls. The scheduler decides which call is made when:

* a source has as many fetching threads as it may have requests under way;
* the reading that started first has the first claim on them, so that what was begun is finished;
* bodies that nobody has taken yet are bounded, in number for each source and in bytes over all readings;
* a pause (a report that is not ready) waits on a timer and holds no thread.
"""

import contextlib
import heapq
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol

from attrs import define, field, frozen

from penstock._util.clock import Clock
from penstock.connector import Stream
from penstock.errors import DeadlineReachedError, PenstockError, StoppedError
from penstock.model import Answer, Request, Response
from penstock.protocols import Accept, BodyDecoder, Refuse, Skip

# What may lie in memory, fetched and not yet written. One body more is always let through, however large.
READ_AHEAD_BYTES = 32 * 1024 * 1024

# A source may have this many times its ``concurrency`` in answers that are under way or not yet taken. Where the
# writer is slower than the provider, its threads then wake one by one, and do not all compete for the processor.
READ_AHEAD = 2

# A source is asked for so many answers at once until one of its answers is waited for this long: threads for a provider
# that is quicker would take turns at the interpreter's lock, which costs a tenth more than it gains.
FEW, QUICK_S = 2, 0.002

# Readings begun and not ended: those that wait for a report hold no thread, only their place.
MOST_ACTIVE = 64

# A stop or a deadline is noticed after at most so long.
TICK_S = 0.2


@frozen(kw_only=True, eq=False)
class Call:
    """
    One request for a fetching thread to make. ``read`` finds the items in its body; None where a body says nothing.

    ``lenient``: a refused or unreadable answer is handed back instead of raised (submissions and polls).
    ``digest``: also fingerprint the items, so that a repeated page is noticed.
    """

    request: Request
    read: BodyDecoder | None
    stream: Stream | None = None  # whose judge is asked first, and on whose account it is counted
    lenient: bool = False
    digest: bool = False


@frozen(kw_only=True, eq=False)
class Outcome:
    """What a call brought: a judged answer, or the error that stands."""

    call: Call
    response: Response | None = None
    verdict: Accept | Refuse | Skip | None = None
    answer: Answer = field(factory=Answer)
    digest: int | None = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        return len(self.response.body) if self.response is not None else 0


@frozen
class Pause:
    """Yielded by a reading: resume me after so many seconds."""

    seconds: float


Step = tuple[Call, ...] | Pause
Reading = Generator[Step, Outcome | None, None]


class Client(Protocol):
    """A source as the scheduler sees it: how many requests it may have under way, and how one is made."""

    @property
    def concurrency(self) -> int: ...

    def make(self, call: Call) -> Outcome:
        """Called in a fetching thread; never raises."""


@define(eq=False)
class Task:
    """
    A reading and its place in the scheduler. ``ready`` says whether it may start; ``ended`` is told how it ended.
    """

    client: Client
    start: Callable[[], Reading]
    ready: Callable[[], bool] = lambda: True
    ended: Callable[[BaseException | None], None] = lambda error: None
    _reading: Reading | None = field(default=None, init=False)
    wanted: deque["_Slot"] = field(factory=deque, init=False)
    resumes_at: float | None = field(default=None, init=False)
    active: bool = field(default=False, init=False)


@define(eq=False)
class _Slot:
    """A call that a task waits for, in order."""

    call: Call
    submitted: bool = False
    outcome: Outcome | None = None


@define(eq=False)
class Scheduler:
    """
    Runs tasks until none is left. Raises nothing of theirs: each task's ``ended`` hears of its error.

    ``deadline`` is on the monotonic clock. When it passes, or the clock's ``stop`` is set, no new call is made,
    every unfinished task is ended with that error, and :meth:`run` returns it.
    """

    clock: Clock
    deadline: float | None = None
    read_ahead_bytes: int = READ_AHEAD_BYTES
    quick_s: float = QUICK_S
    _waiting: deque[Task] = field(factory=deque, init=False)
    _active: list[Task] = field(factory=list, init=False)
    _timers: list[tuple[float, int, Task]] = field(factory=list, init=False)
    _done: "queue.SimpleQueue[tuple[Task, _Slot, Outcome]]" = field(factory=queue.SimpleQueue, init=False)
    _workers: dict[int, "_Workers"] = field(factory=dict, init=False)
    _held: int = field(default=0, init=False)
    _under_way: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _largest: int = field(default=0, init=False)

    def add(self, tasks: Iterable[Task]) -> None:
        """More to do; may be called from within a reading or an ``ended``."""
        self._waiting.extend(tasks)

    def run(self) -> PenstockError | None:
        """The error that ended everything early, if one did."""
        try:
            while self._waiting or self._active:
                over = self._over()
                if over is not None:
                    self._end_all(over)
                    return over
                self._submit()
                if self._active or self._under_way:
                    self._receive()
                elif self._waiting:
                    # None of these is ready and nothing runs that could make one so: the first says why, by failing.
                    self._start(self._waiting.popleft())
        finally:
            for workers in self._workers.values():
                workers.dismiss()
        return None

    def _over(self) -> PenstockError | None:
        if self.clock.stop.is_set():
            return StoppedError("interrupted; what was delivered so far is kept, the next run goes on from it")
        if self.deadline is not None and self.clock.monotonic() >= self.deadline:
            return DeadlineReachedError("the deadline was reached; the next run goes on with what is left")
        return None

    # --- submitting -------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Give every free thread something to do: calls of running readings first, then new readings."""
        for task in self._active:
            for slot in task.wanted:
                if not slot.submitted and not self._hand_out(task, slot):
                    break
        self._start_new()

    def _start_new(self) -> None:
        if not any(workers.free for workers in self._workers.values()) and self._workers:
            clients = {id(task.client) for task in self._waiting}
            if clients <= set(self._workers):
                return
        passed: deque[Task] = deque()
        while self._waiting:
            task = self._waiting.popleft()
            if len(self._active) < MOST_ACTIVE and self._free(task.client) and task.ready():
                self._start(task)
            else:
                passed.append(task)
        self._waiting = passed

    def _free(self, client: Client) -> bool:
        """Whether this client has a thread to spare for a new reading: those under way were given theirs before."""
        workers = self._workers_of(client)
        return workers.free and self._room(workers, first=False)

    def _room(self, workers: "_Workers", *, first: bool) -> bool:
        """
        Whether another body may be under way. The next body of the oldest reading always may: else all would wait.
        """
        if first:
            return True
        bytes_left = self._held + self._under_way * self._largest < self.read_ahead_bytes
        return bytes_left and workers.busy + workers.ready < READ_AHEAD * workers.client.concurrency

    def _hand_out(self, task: Task, slot: _Slot) -> bool:
        workers = self._workers_of(task.client)
        next_of_oldest = task is self._active[0] and slot is task.wanted[0]
        if not workers.free or not self._room(workers, first=next_of_oldest or self._under_way == 0):
            return False
        slot.submitted = True
        self._under_way += 1
        workers.put(task, slot)
        return True

    def _workers_of(self, client: Client) -> "_Workers":
        workers = self._workers.get(id(client))
        if workers is None:
            workers = self._workers[id(client)] = _Workers(client, self._done)
        return workers

    # --- receiving --------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Wait for the next outcome or timer, and resume whom it concerns."""
        due_s = self._timers[0][0] - self.clock.monotonic() if self._timers else TICK_S
        if self._under_way == 0 and self._timers:
            with contextlib.suppress(StoppedError):  # run() looks at the stop itself
                self.clock.sleep(max(0.0, min(due_s, TICK_S if self.deadline is not None else due_s)))
        else:
            self._take_next(max(0.0, min(due_s, TICK_S)))
        while self._timers and self._timers[0][0] <= self.clock.monotonic():
            _, _, task = heapq.heappop(self._timers)
            task.resumes_at = None
            if task.active:
                self._resume(task, None)
                self._advance(task)

    def _take_next(self, most_s: float) -> None:
        """Take what comes within so many seconds; if nothing does, let sources have more under way."""
        narrow = [workers for workers in self._workers.values() if workers.window < workers.client.concurrency]
        try:
            done = self._done.get(timeout=min(most_s, self.quick_s) if narrow else most_s)
        except queue.Empty:
            for workers in narrow:
                workers.window = workers.client.concurrency
        else:
            self._take(*done)

    def _take(self, task: Task, slot: _Slot, outcome: Outcome) -> None:
        workers = self._workers_of(task.client)
        self._under_way -= 1
        workers.idle += 1
        self._largest = max(self._largest, outcome.size)
        if task.active:
            slot.outcome = outcome
            self._held += outcome.size
            workers.ready += 1
        self._submit()  # the freed thread first: decoding and writing take a while
        self._advance(task)

    def _advance(self, task: Task) -> None:
        """Hand over every outcome that is next in the task's order."""
        while task.active and task.resumes_at is None and task.wanted and task.wanted[0].outcome is not None:
            slot = task.wanted.popleft()
            outcome, slot.outcome = slot.outcome, None
            assert outcome is not None
            self._held -= outcome.size
            self._workers_of(task.client).ready -= 1
            self._resume(task, outcome)

    def _start(self, task: Task) -> None:
        task.active = True
        self._active.append(task)
        task._reading = task.start()
        self._resume(task, None)

    def _resume(self, task: Task, outcome: Outcome | None) -> None:
        assert task._reading is not None
        try:
            step = task._reading.send(outcome)
        except StopIteration:
            self._end(task, None)
        except Exception as error:  # the task's own; it says what becomes of it
            self._end(task, error)
        else:
            if isinstance(step, Pause):
                self._count += 1
                task.resumes_at = self.clock.monotonic() + step.seconds
                heapq.heappush(self._timers, (task.resumes_at, self._count, task))
            else:
                task.wanted.extendleft(_Slot(call) for call in reversed(step))
                for slot in task.wanted:
                    if not slot.submitted and not self._hand_out(task, slot):
                        break

    def _end(self, task: Task, error: BaseException | None) -> None:
        if task.active:
            task.active = False
            self._active.remove(task)
        for slot in task.wanted:
            if slot.outcome is not None:
                self._held -= slot.outcome.size
                self._workers_of(task.client).ready -= 1
        task.wanted.clear()
        task.ended(error)

    def _end_all(self, error: PenstockError) -> None:
        for task in list(self._active):
            if task._reading is not None:
                task._reading.close()
            self._end(task, error)
        while self._waiting:
            self._waiting.popleft().ended(error)


class _Workers:
    """
    A client's fetching threads: daemons, so that a socket that hangs cannot keep the process from ending.
    """

    def __init__(self, client: Client, done: "queue.SimpleQueue[Any]") -> None:
        self.client = client
        self.idle = client.concurrency
        self.window = min(FEW, client.concurrency)  # how many of them may be busy
        self.ready = 0  # what they brought and nobody has taken yet
        self._jobs: queue.SimpleQueue[tuple[Task, _Slot] | None] = queue.SimpleQueue()
        self._done = done
        self._started = 0

    @property
    def busy(self) -> int:
        return self.client.concurrency - self.idle

    @property
    def free(self) -> bool:
        """Whether one more may be given something to do."""
        return self.busy < self.window

    def put(self, task: Task, slot: _Slot) -> None:
        self.idle -= 1
        if self.busy > self._started:
            self._started += 1
            threading.Thread(target=self._work, name=f"fetch-{self._started}", daemon=True).start()
        self._jobs.put((task, slot))

    def dismiss(self) -> None:
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            task, slot = job
            self._done.put((task, slot, self.client.make(slot.call)))
