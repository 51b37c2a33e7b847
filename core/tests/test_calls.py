"""
Methods that another process calls, by JSON text.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve
from penstock import (
    LedgerEntry,
    LedgerFile,
    Partition,
    PendingReport,
    Rejected,
    Restatement,
    SinkError,
    StoppedError,
    UsageError,
)
from penstock.engines.calls import Calls, Failure
from penstock.errors import ServerError
from penstock.ledger import SqliteLedger
from penstock.ledger_interface import Ledger

DAY = Partition("clicks", (("account", "ü\n7"), ("day", "2026-03-01")))
ENTRY = LedgerEntry(
    source="acme",
    partition=DAY,
    state="delivered",
    run_id="r1",
    read_at=datetime(2026, 3, 2, 4, 5, 6, 789, tzinfo=UTC),
    rows=2,
    sums={"price": Decimal("0.10")},
    derived_rows={"tags": 3},
    files=(LedgerFile(path="a", size=1, checksum="crc32:0"),),
    rejected=1,
    rejected_records=(Rejected(stream="clicks", path="$", reason="is none", raw="{}"),),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def test_a_ledger_over_requests_is_that_ledger(ledger: SqliteLedger) -> None:
    """
    Every value comes back as it was: decimals, moments, days, files, named tuples, mappings by partition.
    """
    calls = Calls(Ledger, without=["close"])
    remote = calls.remote(lambda request: calls.reply(ledger, request))

    remote.deliver(ENTRY)
    remote.fail_all("acme", [(Partition("clicks"), "no"), (Partition("clicks", (("account", "8"),)), "no")], "r2")
    remote.remember_accounts("acme", "campaigns", ["b", "a"])
    report = PendingReport(
        source="acme",
        stream="clicks",
        handle="h",
        request="{}",
        partitions=(DAY,),
        submitted_at=datetime(2026, 3, 1, tzinfo=UTC),
        fingerprint="f",
    )
    remote.submit(report)

    assert as_dicts(remote.entries("acme", "clicks").values()) == as_dicts(ledger.entries("acme", "clicks").values())
    assert remote.entries("acme", "clicks", since=date(2026, 3, 1), accounts=["ü\n7"]).keys() >= {DAY}
    assert remote.entries("acme", "clicks")[DAY].sums == {"price": Decimal("0.10")}
    assert as_dicts(remote.counts("acme")) == as_dicts(ledger.counts("acme"))
    assert remote.accounts("acme", "campaigns") == ("b", "a")
    assert as_dicts(remote.pending("acme", "clicks")) == as_dicts([report])
    ((of, kept),) = remote.rejected()
    assert (of.partition, as_dicts([kept])) == (DAY, as_dicts(ENTRY.rejected_records))
    remote.deliver(evolve(ENTRY, version=1, rows=5))
    (restated,) = remote.restated("acme")
    assert isinstance(restated, Restatement)
    assert restated.rows == (2, 5)
    assert not hasattr(remote, "close")
    with pytest.raises(SinkError, match="changed in the ledger"):
        remote.deliver(ENTRY)


def as_dicts(values: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(value) for value in values]


@pytest.mark.parametrize("kind", [StoppedError, UsageError, SinkError])
def test_an_error_keeps_its_class(kind: type[Exception]) -> None:
    """
    An error of penstock keeps its class.
    """
    error = Failure.of(kind("so it is")).error

    assert (type(error), str(error)) == (kind, "so it is")


def test_an_error_keeps_its_place() -> None:
    """
    Apart from its reason, so that the place where it is reported is not added once more.
    """
    sent = ServerError("no answer", "Try again.").at(source="acme", partition=DAY, request="POST /token")

    error = Failure.of(sent).error

    assert (error.without_place, error.request, str(error)) == ("no answer. Try again.", "POST /token", str(sent))
    assert str(error.at(source="acme", partition="clicks", request="GET /clicks")) == str(sent)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("x"), "KeyError: 'x'. This is a defect of the sink."),
        (OSError(28, "disk full"), "OSError: [Errno 28] disk full. Remove the cause and run again."),
    ],
    ids=["defect", "full disk"],
)
def test_an_unforeseen_error_is_named(error: Exception, text: str) -> None:
    """
    An unforeseen error is a SinkError with its class and text. One of the operating system is no defect.
    """
    received = Failure.of(error).error

    assert type(received) is SinkError
    assert str(received) == text
