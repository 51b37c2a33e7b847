"""
Runs after the first: stopped and resumed ones, those of final days, and those behind faults that pass.
"""

from pathlib import Path

from attrs import evolve

from penstock._plan.selection import chosen_streams
from penstock.events import Event
from penstock.sandbox.fault_effects import status
from penstock.sandbox.faults import FAULTS, faults_named, with_faults
from penstock.testing.conformance.findings import Finding, exit_findings
from penstock.testing.conformance.rows import Rows, delivered_to, same_rows
from penstock.testing.conformance.subject import Subject, grant_request, noon_of
from penstock.testing.memory import MemorySink

# Faults that pass: one of each kind. ``expired`` comes on top where a login grants the token.
PASSING = "throttled,unavailable,server_error,reset,reset_in_body,cut,cut_json,html_as_json,empty,corrupt_gzip"


def stopped_and_resumed(subject: Subject, folder: Path, baseline: Rows) -> list[Finding]:
    """A run that is stopped after its first partition leaves whole partitions; the next one finishes it."""
    sink, clock = MemorySink(folder / "ledger.sqlite"), noon_of(subject.today)

    def stop(event: Event) -> None:
        if event["event"] == "partition_delivered":
            clock.stop.set()

    with subject.served() as (server, _):
        subject.run(server.base_url, sink, on_event=stop, clock=clock)
        held = delivered_to(sink)
        expected = {key: rows for key, rows in baseline.items() if key in held}
        wrong = same_rows("stopped", held, expected, "after a stopped run")
        report = subject.run(server.base_url, sink)
    wrong_exit = exit_findings("resumed", report, "the run after a stopped one", 0)
    return wrong + wrong_exit + same_rows("resumed", delivered_to(sink), baseline, "resumed")


def nothing_final_again(subject: Subject, folder: Path) -> list[Finding]:
    """Days that were read after they closed are requested no more."""
    sink = MemorySink(folder / "ledger.sqlite")
    with subject.served() as (server, _):
        source = subject.source(server.base_url)
        chosen = chosen_streams(source, subject.streams)
        dated = [name for name in chosen if source.stream(name).kind != "snapshot"]
        if not dated:
            return []
        first, second = (subject.run(server.base_url, sink, streams=dated, open_for="0 days") for _ in range(2))
    wrong = exit_findings("final", first, "a run of closed days", 0)
    wrong += exit_findings("final", second, "the run after one of closed days", 0)
    for name in dated:
        again = second.stream(subject.name, name)
        if again.requests or again.delivered:
            text = f"{name}: {again.delivered} final partitions were read again, with {again.requests} requests"
            wrong.append(Finding("final", text))
    return wrong


def faults_that_pass(
    subject: Subject, folder: Path, baseline: Rows, names: str = PASSING, expired: int = 401
) -> list[Finding]:
    """With each of these faults, which affect every request once, a run delivers the same rows as without."""
    wrong: list[Finding] = []
    chosen = list(faults_named(names))
    with subject.served() as (server, _):
        granting = grant_request(subject.source(server.base_url)) is not None
        chosen += [evolve(FAULTS["expired"], change=status(expired, "{}"))] if granting else []
        for fault in chosen:
            sink = MemorySink(folder / fault.name / "ledger.sqlite")
            server.app = with_faults(subject.make(server.base_url, subject.today), [fault], seed=1)
            report = subject.run(server.base_url, sink, clock=noon_of(subject.today, pace=50))
            what = f"behind the fault {fault.name} ({fault.summary})"
            wrong_exit = exit_findings("faults", report, f"a run {what}", 0)
            wrong += wrong_exit or same_rows("faults", delivered_to(sink), baseline, what)
    return wrong
