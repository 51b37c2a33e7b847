"""
What a plugin's functions return at run time: a value of another type fails the partition by name, with what to write.
"""

import re
import sys
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, evolve, frozen
from penstock import (
    Answer,
    Batch,
    Grant,
    Parent,
    Ready,
    Refuse,
    Request,
    Response,
    Secret,
    SinglePage,
    Stream,
    Unsigned,
    Waiting,
    added,
    column,
    hookimpl,
    record,
)
from penstock.errors import PenstockError, PluginError
from penstock.testing.memory import MemorySink, MemoryTarget
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow


@record(kind="snapshot", key="id")
class Sale:
    """A sale."""

    id: str


@record(kind="snapshot", key="id")
class Line:
    """A line of a sale."""

    sale: str = added()
    id: str


@frozen
class Pages(SinglePage):
    """``following`` and ``others`` are what its two questions are answered with."""

    following: Any = None
    others: Any = None

    def next(self, page: Any) -> Any:
        return self.following

    def rest(self, first: Any) -> Any:
        return self.others


A_POLL, READY = Request(url="http://127.0.0.1:9/polled"), Ready()


@frozen
class Report:
    """A poller of which a test changes one answer."""

    named: Any = "1"
    request: Any = A_POLL
    found: Any = READY

    def handle(self, response: Response) -> Any:
        return self.named

    def poll(self, submitted: Request, handle: str) -> Any:
        return self.request and evolve(self.request, url=f"{submitted.url}/polled")

    def state(self, response: Response, age_s: float) -> Any:
        return self.found

    def expired(self, response: Response) -> bool:
        return False


def a_decoder(response: Response) -> Any:
    return [{"id": "1"}]


def a_judge(response: Response, answer: Answer | None) -> Any:
    return response.status == 200


def refusing(response: Response, answer: Answer | None) -> Any:
    return Refuse("the key is wrong")  # type: ignore[arg-type]


def ended(*arguments: Any) -> Any:
    sys.exit()


def exhausted(response: Response, answer: Answer | None) -> Any:
    raise MemoryError


def without_threads(response: Response, answer: Answer | None) -> Any:
    raise RuntimeError("can't start new thread")


def interrupted(response: Response, answer: Answer | None) -> Any:
    raise KeyboardInterrupt


def no_links(row: Mapping[str, Any]) -> Any:
    return None


SALES = Stream(name="sales", record=Sale, path="/sales")
LINES = Stream(name="lines", record=Line, path="/lines")
HERE = r"\(test_plugin_results\.py, line \d+\)"
A_REQUEST = r"write return page\.request\.with_param\(\.\.\.\), or None"

RESULTS: dict[str, tuple[list[Stream], str]] = {
    "next is a flag": (
        [evolve(SALES, paginator=Pages(True))],
        rf"Pages\.next {HERE} returned bool \(True\); {A_REQUEST}",
    ),
    "next is a text": (
        [evolve(SALES, paginator=Pages("/2"))],
        rf"Pages\.next {HERE} returned str \('/2'\); {A_REQUEST}",
    ),
    "rest has texts": (
        [evolve(SALES, paginator=Pages(others=["/2"]))],
        rf"Pages\.rest {HERE} returned str \('/2'\); write return a list of requests, or None",
    ),
    "no handle": (
        [evolve(SALES, poller=Report(named=None), poll_first_s=0.01)],
        rf"Report\.handle {HERE} returned nothing; write return the id as a text",
    ),
    "a handle that is a number": (
        [evolve(SALES, poller=Report(named=17), poll_first_s=0.01)],
        rf"Report\.handle {HERE} returned int \(17\); write return the id as a text",
    ),
    "no poll": (
        [evolve(SALES, poller=Report(request=None), poll_first_s=0.01)],
        rf"Report\.poll {HERE} returned nothing; write return Request\(url=\.\.\.\)",
    ),
    "a state that is a flag": (
        [evolve(SALES, poller=Report(found=True), poll_first_s=0.01)],
        rf"Report\.state {HERE} returned bool \(True\); write return Waiting\(\), Ready\(\), Empty",
    ),
    "a decoder that returns records": (
        [evolve(SALES, envelope=lambda settings: a_decoder)],
        rf"a_decoder {HERE} returned list \(\[.*\]\); write return Answer\(items=\.\.\.\)",
    ),
    "a judge that returns a flag": (
        [evolve(SALES, judge=a_judge)],
        rf"a_judge {HERE} returned bool \(True\); write return None, which leaves",
    ),
    "a refusal that is a text": (
        [evolve(SALES, judge=refusing)],
        r"Refuse\('the key is wrong'\): write an error, such as RefusedError\('the key is wrong'\) "
        rf"{HERE}\. This is a defect of the connector shop, not",
    ),
    "a judge that ends the process": (
        [evolve(SALES, judge=ended)],
        rf"SystemExit {HERE}\. This is a defect of the connector shop, not",
    ),
    "no memory": (
        [evolve(SALES, judge=exhausted)],
        r"MemoryError: this process has no memory, or no thread, left\. Raise its limits",
    ),
    "no thread": (
        [evolve(SALES, judge=without_threads)],
        r"RuntimeError: can't start new thread: this process has no memory, or no thread, left\. Raise its limits",
    ),
    "requests that end the process": (
        [evolve(SALES, path="", requests=ended)],
        rf"SystemExit {HERE}\. This is a defect of the connector shop, not",
    ),
    "no request": (
        [evolve(SALES, path="", requests=lambda settings, slice_: [])],
        rf"requests of the stream sales {HERE} returned no request, and without a response it is not known",
    ),
    "no links": (
        [SALES, evolve(LINES, parent=Parent(stream="sales", columns=("id",), links=no_links))],
        rf"no_links {HERE} returned nothing; write return \[\{{\"name\": row\[\"column\"\]\}}\]",
    ),
}


@pytest.mark.parametrize("result", RESULTS)
def test_a_wrong_result_fails_by_name(result: str, tmp_path: Path) -> None:
    """
    A wrong result fails with the function, its file and line, what it returned, and what to write.
    """
    streams, message = RESULTS[result]

    report = ScriptedProvider(folder=tmp_path, streams=streams, answer=lambda request: [{"id": "1"}]).run()

    assert report.exit_code == 1
    assert any(re.search(message, error["message"]) for error in report.errors), report.errors


class ForgetfulSink(MemorySink):
    """A sink whose author left out a ``return``."""

    def open(self, *arguments: Any, **options: Any) -> Any:
        super().open(*arguments, **options)


class ForgetfulTarget(MemoryTarget):
    def begin(self, *arguments: Any) -> Any:
        super().begin(*arguments)


class SinkOfForgetfulTarget(MemorySink):
    def open(self, *arguments: Any, **options: Any) -> Any:
        target = super().open(*arguments, **options)
        return ForgetfulTarget(target.sink, target.ledger)


def test_a_sink_that_opens_nothing_is_named(tmp_path: Path) -> None:
    """
    The error has the method, its file and line.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = ForgetfulSink(tmp_path / "ledger.sqlite")

    with pytest.raises(
        PluginError, match=rf"ForgetfulSink\.open {HERE} returned nothing; write return the opened target"
    ):
        provider.run()


def test_a_target_that_begins_nothing_fails_by_name(tmp_path: Path) -> None:
    """
    The error blames the method of the target, not the connector.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = SinkOfForgetfulTarget(tmp_path / "ledger.sqlite")

    report = provider.run()

    assert report.exit_code == 1
    assert re.search(rf"ForgetfulTarget\.begin {HERE} returned nothing; write return", report.errors[0]["message"])


class DefectiveTarget(MemoryTarget):
    """A target one of whose methods, or of those of its writers, raises ``error``."""

    defect = ""
    error: Exception | None

    def begin(self, *arguments: Any) -> Any:
        writer = super().begin(*arguments)

        if self.defect == "begin":
            self.fail()
        return SimpleNamespace(
            **{"write": writer.write, "commit": writer.commit, "abort": writer.abort, self.defect: self.fail}
        )

    def fail(self, *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error


@define(eq=False, kw_only=True)
class DefectiveSink(MemorySink):
    """A sink whose targets raise ``error`` in ``method``."""

    method: str
    error: Exception | None

    def open(self, *arguments: Any, **options: Any) -> Any:
        target = super().open(*arguments, **options)
        defective = DefectiveTarget(target.sink, target.ledger)
        defective.defect, defective.error = self.method, self.error
        if hasattr(defective, self.method) and self.method != "begin":
            setattr(defective, self.method, defective.fail)
        return defective


@pytest.mark.parametrize("method", ["begin", "write", "commit"])
@pytest.mark.parametrize(
    ("error", "seen", "advice"),
    [
        (KeyError("x"), "KeyError: 'x'", "This is a defect of the sink"),
        (RecursionError("too deep"), "RecursionError: too deep", "This is a defect of the sink"),
        (OSError(28, "No space left on device"), r"OSError: \[Errno 28\] No space left on device", "Remove the cause"),
    ],
    ids=["defect", "recursion", "full disk"],
)
def test_a_failure_of_a_sink_is_no_defect_of_the_connector(
    tmp_path: Path, method: str, error: Exception, seen: str, advice: str
) -> None:
    """
    The error names the class of the sink. An error of the operating system is no defect.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = DefectiveSink(tmp_path / "ledger.sqlite", method=method, error=error)

    report = provider.run()

    assert report.exit_code == 1
    assert re.search(rf"the sink \w+ failed with {seen} {HERE}\. {advice}", report.errors[0]["message"])


@pytest.mark.parametrize("method", ["prepare", "finish", "close"])
def test_a_defect_of_a_target_between_partitions_names_the_sink(tmp_path: Path, method: str) -> None:
    """
    Before the first partition and after the last one, too.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = DefectiveSink(tmp_path / "ledger.sqlite", method=method, error=KeyError("x"))

    try:
        message = provider.run().errors[0]["message"]
    except PluginError as error:
        message = str(error)

    assert re.search(rf"the sink \w+ failed with KeyError: 'x' {HERE}\. This is a defect of the sink", message)


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyError("x"), "KeyError: 'x'"), (OSError("gone"), "OSError: gone")], ids=["defect", "system"]
)
def test_a_sink_that_cannot_be_opened_is_named(tmp_path: Path, error: Exception, seen: str) -> None:
    """
    The run does not start, whatever the error is.
    """

    class Unopened(MemorySink):
        def open(self, *arguments: Any, **options: Any) -> Any:
            raise error

    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = Unopened(tmp_path / "ledger.sqlite")

    with pytest.raises(PenstockError, match=rf"the sink Unopened failed with {seen}"):
        provider.run()


@pytest.mark.parametrize("method", ["is_intact", "entries", "final_days"])
def test_a_defect_of_a_target_that_is_planned_from_names_the_sink(tmp_path: Path, method: str) -> None:
    """
    Before a run, and without one: neither penstock nor the connector is blamed.
    """

    class Defective(MemorySink):
        broken = False

        def open(self, *arguments: Any, **options: Any) -> Any:
            return self._defective(super().open(*arguments, **options))

        def open_readonly(self, source: str) -> Any:
            return self._defective(super().open_readonly(source))

        def _defective(self, target: Any) -> Any:
            if self.broken:
                setattr(target.ledger if method == "entries" else target, method, fail)
            return target

    def fail(*arguments: Any, **options: Any) -> Any:
        if method == "final_days":  # which is iterated later
            return (fail_late() for _ in range(1))
        raise KeyError("x")

    def fail_late() -> Any:
        raise KeyError("x")

    stream = evolve(SALES, kind="report", day="day", params={"day": "{since}"})
    provider = ScriptedProvider(folder=tmp_path, streams=[stream], answer=lambda request: [{"id": "1"}])
    provider.sink = Defective(tmp_path / "ledger.sqlite")
    assert provider.run().exit_code == 0
    provider.sink.broken = True

    for look in (provider.plan, provider.run):
        with pytest.raises(
            PluginError, match=rf"the sink \w+ failed with KeyError: 'x' {HERE}\. This is a defect of the"
        ):
            look()


def test_a_target_that_cannot_be_opened_to_look_names_the_sink(tmp_path: Path) -> None:
    """
    A plan, which opens it to read only, blames neither penstock nor the connector.
    """

    class Unopened(MemorySink):
        def open_readonly(self, source: str) -> Any:
            raise KeyError("x")

    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = Unopened(tmp_path / "ledger.sqlite")

    with pytest.raises(PluginError, match=rf"the sink Unopened failed with KeyError: 'x' {HERE}\. This is a defect of"):
        provider.plan()


@pytest.mark.parametrize(
    ("answer", "reason"), [(404, "404"), ([{"id": None}], "all 1 records were rejected")], ids=["read", "replacement"]
)
def test_a_writer_that_cannot_abort_does_not_hide_why_it_was_to(tmp_path: Path, answer: Any, reason: str) -> None:
    """
    The error of the read, or of what may not replace former rows, stays; a note of the run names the sink.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: answer)
    provider.sink = DefectiveSink(tmp_path / "ledger.sqlite", method="abort", error=KeyError("x"))

    report = provider.run()

    assert reason in report.errors[0]["message"]
    assert any(re.search(rf"the sink \w+ failed with KeyError: 'x' {HERE}\.", note) for note in provider.notes)


@pytest.mark.parametrize("method", ["fail_all", "record_run"])
def test_a_ledger_that_cannot_record_is_named(tmp_path: Path, method: str) -> None:
    """
    A ledger that records no failure ends the run; one that does not record the run itself leaves a notice.
    """

    class Defective(MemorySink):
        def open(self, *arguments: Any, **options: Any) -> Any:
            target = super().open(*arguments, **options)
            setattr(target.ledger, method, fail)
            return target

    def fail(*arguments: Any, **options: Any) -> Any:
        raise KeyError("x")

    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: 404)
    provider.sink = Defective(tmp_path / "ledger.sqlite")

    try:
        texts = provider.run().notices
    except PluginError as error:
        texts = [str(error)]

    assert any(re.search(rf"the sink SqliteLedger failed with KeyError: 'x' {HERE}\.", text) for text in texts)


def test_a_commit_that_returns_nothing_is_named(tmp_path: Path) -> None:
    """
    The error blames the method of the writer, not the connector.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [{"id": "1"}])
    provider.sink = DefectiveSink(tmp_path / "ledger.sqlite", method="commit", error=None)

    report = provider.run()

    assert re.search(rf"fail {HERE} returned nothing; write return the entry", report.errors[0]["message"])


def test_an_interrupted_thread_ends_the_run(tmp_path: Path) -> None:
    """
    The run does not wait for a response that no thread brings any more.
    """
    provider = ScriptedProvider(folder=tmp_path, streams=[evolve(SALES, judge=interrupted)], answer=lambda request: [])

    with pytest.raises(KeyboardInterrupt):
        provider.run()


def test_the_last_state_of_a_report_is_in_the_message(tmp_path: Path) -> None:
    """
    A word that the poller does not know, else the last answer: a misspelt state is seen at once.
    """
    for state, seen in (
        (Waiting("finished"), "its state is 'finished', which the poller does not know"),
        (Waiting(), '[{"id": "1"}]'),
    ):
        stream = evolve(SALES, poller=Report(found=state), poll_first_s=0.1, poll_max_s=1.0, poll_deadline_s=2.0)
        report = ScriptedProvider(
            folder=tmp_path / seen[:3], streams=[stream], answer=lambda request: [{"id": "1"}]
        ).run()

        assert "was not ready 2 s after it was submitted; " in report.errors[0]["message"]
        assert seen in report.errors[0]["message"]


@frozen
class Login(Unsigned):
    """An authenticator of which a test changes one answer."""

    granted: Any = None
    request: Any = A_POLL
    signs: bool = True

    def grant_request(self) -> Any:
        return self.request

    def read_grant(self, response: Response) -> Any:
        return self.granted() if callable(self.granted) else self.granted

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Any:
        return request if self.signs else None


@pytest.mark.parametrize(
    ("authenticator", "message"),
    [
        (Login(granted="tok"), rf"Login\.read_grant {HERE} returned str \('tok'\); write return Grant\("),
        (
            Login(request="/token"),
            rf"Login\.grant_request {HERE} returned str \('/token'\); write return",
        ),
        (
            Login(request=None, signs=False),
            rf"Login\.sign {HERE} returned nothing; write return request\.with_headers",
        ),
        (
            Login(granted=lambda: Grant(token="tok")),
            r"Grant\(token=\.\.\.\) is str; write Grant",
        ),
    ],
    ids=["a grant that is a text", "a login that is a text", "no signed request", "a token that is a text"],
)
def test_a_wrong_result_of_an_authenticator_is_named(authenticator: Any, message: str, tmp_path: Path) -> None:
    """
    A wrong result of an authenticator is named with its class, file and line, and what to write.
    """

    def at_its_address(settings: Any) -> Any:
        if authenticator.request is not A_POLL:
            return authenticator
        return evolve(authenticator, request=Request(url=f"{settings.base_url}/login"))

    shop = ScriptedProvider(folder=tmp_path, streams=[SALES], answer=lambda request: [], authenticator=at_its_address)

    (error,) = shop.run().errors

    assert error["error"] == "PluginError"
    assert re.search(message, error["message"])


@pytest.mark.parametrize("value", [Secret("a-secret"), 5], ids=["a secret", "a number"])
@pytest.mark.parametrize("where", ["params", "headers"])
def test_a_request_holds_texts_only(where: str, value: Any) -> None:
    """
    Anything else would fail in the library that sends it, without a name.
    """
    with pytest.raises(TypeError, match=f"the value of key is {type(value).__name__}, and no text; write ") as raised:
        Request(url="http://127.0.0.1:9", **{where: [("key", value)]})

    assert "a-secret" not in str(raised.value)


@record(kind="report", key="id", account="shop_id", day="day")
class Visit:
    """A visit."""

    id: str
    note: str | None = None
    size: Decimal | None = column(additive=True)


@define(kw_only=True, eq=False)
class Masked(ScriptedProvider):
    """Visits and the lines of each, whose rows a plugin changes: ``values`` are set in the rows of ``masked``."""

    masked: str = "visits"
    values: Mapping[str, Any]

    @hookimpl
    def penstock_batch(self, batch: Batch) -> Batch:
        for row in batch.rows if batch.layout.stream == self.masked else ():
            for name, value in self.values.items():
                setattr(row, name, value)
        return batch


def masked(folder: Path, answers: Mapping[str, Any], by: str = "id", **values: Any) -> Masked:
    """``answers`` by path: of the visits, and of the lines of each, which are requested by its column ``by``."""
    visits = Stream(name="visits", record=Visit, path="/visits", accounts=lambda settings: ["1"])
    parent = Parent(stream="visits", columns=(by,))
    lines = evolve(visits, name="lines", path=f"/lines/{{{by}}}", parent=parent)
    return Masked(
        folder=folder,
        streams=[visits, lines],
        answer=lambda request: answers.get(request.path, []),
        values=values,
    )


@pytest.mark.parametrize(
    ("values", "changed"),
    [({"shop_id": "x"}, "shop_id"), ({"day": date(2026, 1, 1)}, "day"), ({"id": "x"}, "the key")],
    ids=["account", "day", "key"],
)
def test_a_plugin_that_changes_where_rows_belong_fails_by_name(
    values: dict[str, Any], changed: str, tmp_path: Path
) -> None:
    """
    The next reading would not find the rows that it replaces: they would be there twice, or one in place of several.
    """
    shop = masked(tmp_path, {"/visits": [{"id": "a"}, {"id": "b"}]}, **values)

    report = shop.run()

    assert (report.exit_code, shop.rows("visits")) == (1, [])
    assert f"Masked: penstock_batch changed {changed} of visits" in str(report.errors[0])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", 0.1, "set size of visits to a float; it takes Decimal or None"),
        ("note", 7, "set note of visits to a int; it takes str or None"),
        ("id", None, "set id of visits, which is in the key, to None"),
    ],
)
def test_a_plugin_that_sets_a_value_of_another_type_fails_by_name(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    """
    A float is not exact, and a sink would be called a defect of penstock or deliver it all the same.
    """
    shop = masked(tmp_path, {"/visits": [{"id": "a"}]}, **{name: value})

    report = shop.run()

    assert (report.exit_code, shop.rows("visits")) == (1, [])
    assert f"Masked: penstock_batch {message}" in str(report.errors[0])


def test_children_are_requested_by_what_the_provider_sent(tmp_path: Path) -> None:
    """
    It does not know the values that a plugin has given the rows, and would answer with no records.
    """
    answers = {"/visits": [{"id": "a", "note": "n"}], "/lines/n": [{"id": "l"}]}
    shop = masked(tmp_path, answers, by="note", note="***")

    assert shop.run(until="2026-06-14").exit_code == 0
    assert [row["note"] for row in shop.rows("visits")] == ["***"]
    assert [row["id"] for row in shop.rows("lines")] == ["l"]
