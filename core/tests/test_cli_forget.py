"""
What changes the ledger or the rows: ``penstock forget``, ``erase``, ``rejected``.
"""

import json
import os
import sys
import tracemalloc
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from connector_run import sink_at
from penstock import Column, Rejected
from penstock._cli.rejected import cut
from penstock._decode.conversion import MisfitError, coerce
from penstock.ledger import SqliteLedger
from shop_commands import TODAY, Here, days

pytestmark = pytest.mark.slow


def test_rows_are_deleted_only_on_demand(here: Here) -> None:
    """
    Without --yes, and without a terminal, nothing is deleted.
    """
    here("run", "daily", *days(2))

    here("forget", "shop", "sales", "--rows", "--accounts", "7", code=2)
    assert "--rows deletes the rows of shop.sales: 2 partitions in files. Add --yes to confirm that" in here.err
    assert here("forget", "shop", "sales", "--rows", "--accounts", "7", "--yes") == (
        "files: 2 partitions of shop.sales deleted and forgotten\n"
    )
    assert list((here.folder / "data" / "shop" / "sales").rglob("data.jsonl")) == []


def test_forget_makes_days_missing_again(here: Here) -> None:
    """
    Only the days named are forgotten; the next plan holds them.
    """
    here("run", "daily", *days(9))
    first = str(TODAY - timedelta(days=9))

    assert "files: 2 partitions of shop.sales forgotten" in here(
        "forget", "shop", "sales", "--since", first, "--until", str(TODAY - timedelta(days=8))
    )

    parts = json.loads(here("plan", "shop", *days(9), "--json"))["partitions"]
    assert [part["partition"]["report_date"] for part in parts if part["reason"] == "missing"] == [
        first,
        str(TODAY - timedelta(days=8)),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["sale", "--since", "2026-01-01", "--until", "2026-01-02"], 'Did you mean "sales"?', id="stream"),
        pytest.param(["nosuch"], "no shop.nosuch was delivered yet. There is items, sales;", id="no stream"),
        pytest.param(["sales"], "sales is divided by days: name them by both --since and --until", id="days"),
        pytest.param(["sales", "--since", "-3d"], "name them by both --since and --until", id="no last day"),
        pytest.param(["sales", "--since", "2026-01-02", "--until", "2026-01-01"], "is after", id="order"),
    ],
)
def test_forget_refuses_unknown_names_accounts_and_days(here: Here, arguments: list[str], message: str) -> None:
    """
    A name, account or day that does not exist is an error, and nothing is forgotten.
    """
    here("run", "daily", *days(2))

    here("forget", "shop", *arguments, code=2)
    assert message in here.err


def test_all_streams_are_forgotten_for_some_days(here: Here) -> None:
    """
    Without a stream, ``forget`` takes all that have days; the others are named and left, also with --rows.
    """
    here("run", "daily", *days(2))
    window = (*days(2), "--until", str(TODAY))
    here("forget", "shop", code=2)
    assert "sales is divided by days: name them" in here.err

    assert here("forget", "shop", *window) == "files: 2 partitions of shop.sales forgotten\n"
    assert "left as it is: shop.items is not divided by days" in here.err
    here("run", "daily", *days(2))
    assert here("forget", "shop", "--rows", "--yes", *window) == (
        "files: 2 partitions of shop.sales deleted and forgotten\n"
    )
    assert list((here.folder / "data" / "shop" / "items").rglob("data.jsonl")) != []


def test_a_target_that_is_not_used_any_more_is_forgotten(here: Here) -> None:
    """
    status does not look at it again; its files stay. One that was never used is refused.
    """
    here("run", "shop", "--to", "jsonl:old", *days(1))
    here("run", "daily", *days(1))
    used = json.loads((here.folder / ".penstock" / "targets.json").read_text())["targets"]
    (old,) = [one for one in used if one.endswith("old")]
    assert old != "jsonl:old", "it is remembered by its whole path"

    assert "What lies there was not touched" in here("forget", "--target", "jsonl:old")

    assert "old" not in here("status")
    assert list((here.folder / "old").rglob("data.jsonl")) != []
    here("forget", "--target", old, code=2)
    assert "was used from this configuration: " in here.err
    here("forget", code=2)
    assert "name the source" in here.err


def test_personal_data_is_erased_only_on_demand(here: Here) -> None:
    """
    Personal data is not erased while the source delivers it, nor without --yes and without a terminal. Days and
    accounts are refused.
    """
    here("run", "daily", *days(2))
    here("forget", "shop", "--personal", "--yes", code=2)
    assert "Set include_personal = false in [source.shop] first" in here.err
    here("forget", "shop", "--personal", "--accounts", "7", code=2)
    config = here.folder / "penstock.toml"
    config.write_text(config.read_text().replace("retries = 0", "retries = 0\ninclude_personal = false"))

    here("forget", "shop", "sales", "--personal", code=2)
    assert "in sales.buyer, sales._extra: 2 partitions of shop.sales in files. Add --yes to confirm that" in here.err
    assert here("forget", "shop", "--personal", "--yes").splitlines() == [
        "files: personal data erased in 0 rows of shop.items (1 partition)",
        "files: personal data erased in 2 rows of shop.sales (2 partitions)",
    ]


def test_forget_waits_for_no_run(here: Here) -> None:
    """
    While a run holds any of the targets, nothing is forgotten in any of them.
    """
    here("run", "shop", "--to", "jsonl:one", *days(9))
    here("run", "shop", "--to", "csv:two", *days(9))
    running = sink_at("jsonl:one").open("shop", "the-run")
    first = str(TODAY - timedelta(days=9))
    before = here("plan", "shop", "--to", "csv:two", *days(9))

    here("forget", "shop", "sales", "--since", first, "--until", first, code=6)

    running.close()
    assert f"another run writes shop to {here.folder / 'one'} (process" in here.err
    assert here("plan", "shop", "--to", "csv:two", *days(9)) == before


def test_rejected_records_are_counted_and_shown(here: Here) -> None:
    """
    ``list`` by reason, ``show`` with the raw record.
    """
    here.configure(["13"])
    here("run", "daily", *days(2), code=5)

    (one,) = json.loads(here("rejected", "list", "--json"))["rejected"]
    shown = json.loads(here("rejected", "show", "--json"))["rejected"]

    assert (one["count"], one["stream"]) == (2, "sales")
    assert len(shown) == 2
    assert json.loads(shown[0]["raw"]) == {"id": "2", "paid": 12.5}
    assert cut("a" * 1000) == "a" * 1000
    assert cut("a" * 1001) == "a" * 1000 + "… (1,001 characters; --json shows all)"
    assert "price" in here("rejected", "list")
    assert "shop.sales[shop_id=13, report_date=" in here("rejected", "show")
    assert '{"id":"2","paid":12.50}' in here.out


def test_rejected_records_of_days_and_accounts(here: Here) -> None:
    """
    The rejected records of the chosen partitions are listed, in every form.
    """
    here.configure(["13", "14"])
    here("run", "daily", *days(3), code=5)
    first, last = str(TODAY - timedelta(days=3)), str(TODAY - timedelta(days=1))

    def shown(*options: str) -> list[dict[str, Any]]:
        printed = here("rejected", "show", "--json", *options)
        assert printed == json.dumps(json.loads(printed), indent=2) + "\n"
        return json.loads(printed)["rejected"]

    every = shown()
    assert [one["partition"]["report_date"] for one in shown("--since", last)] == [last]
    assert shown("--until", first, "--accounts", "1*") == every[:1]
    assert shown("--accounts", "14") == []
    assert here("rejected", "show", "--accounts", "14") == "no rejected records\n"
    assert len(every) == 3
    assert json.loads(here("rejected", "list", "--json", "--since", last))["rejected"][0]["count"] == 1


def test_rejected_records_of_a_target_that_cannot_be_read(here: Here) -> None:
    """
    A target that is left out is named, and the exit code is 1.
    """
    here.configure(["13"])
    here("run", "daily", *days(1), code=5)
    here("run", "shop", "--to", "csv:two", *days(1), code=5)
    (here.folder / "two" / ".penstock" / "ledger.sqlite").write_bytes(b"no database at all, but a text")

    for words in ("list", "show", "show --json"):
        assert "id" in here("rejected", *words.split(), code=1)
        assert "two cannot be read" in here.err


@pytest.mark.parametrize("what", ["list", "show", "show --json"])
def test_rejected_records_are_not_held(here: Here, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """
    A target may have millions of them: each is counted, or printed, and dropped.
    """
    here.configure(["13"])
    here("run", "daily", *days(1), code=5)
    (path,) = here.folder.rglob("ledger.sqlite")
    ledger = SqliteLedger(path)
    entry = next(iter(ledger.entries("shop", "sales").values()))
    records = [Rejected(stream="sales", path=f"$[{n}]", reason="it is null", raw=f"{n:020000}") for n in range(100)]
    ledger.deliver(evolve(entry, rejected=len(records), rejected_records=tuple(records)))
    ledger.close()
    here("rejected", *what.split())  # imports all that it needs
    monkeypatch.setattr("penstock.ledger.partition_queries.ROWS_AT_ONCE", 5)

    with open(os.devnull, "w") as nowhere, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", nowhere)
        tracemalloc.start()
        try:
            here("rejected", *what.split())
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert most_bytes < sum(len(record.raw) for record in records) / 4


def test_reasons_of_one_kind_are_counted_together(here: Here) -> None:
    """
    Rejected records with one reason are counted together, whatever their values were.
    """
    here("run", "daily", *days(1))
    number = Column(name="paid", type="integer")
    reasons = ["the member 'id' is missing; there is Id", "the member 'id' is missing; there is uid", "it is null"]
    for value in ("n/a", "'', got 1", 1.5, True, {"a": 1}):
        with pytest.raises(MisfitError) as misfit:
            coerce(number, value if not isinstance(value, float) else Decimal(str(value)))
        reasons.append(str(misfit.value))
    (path,) = here.folder.rglob("ledger.sqlite")
    ledger = SqliteLedger(path)
    entry = next(iter(ledger.entries("shop", "sales").values()))
    bad = [Rejected(stream="sales", path=f"$[{n}].paid", reason=reason, raw="{}") for n, reason in enumerate(reasons)]
    ledger.deliver(evolve(entry, rejected=len(bad), rejected_records=tuple(bad)))
    ledger.close()

    counted = {one["reason"]: one["count"] for one in json.loads(here("rejected", "list", "--json"))["rejected"]}

    assert counted == {
        "the member 'id' is missing; there is Id": 1,
        "the member 'id' is missing; there is uid": 1,
        "it is null": 1,
        "expected a number, got 'n/a'": 4,
        "expected a whole number, got '1.5'": 1,
    }


def test_a_singer_target_on_the_path_is_found_again(here: Here) -> None:
    """
    A program of the PATH is no file of the current directory: ``status`` and ``forget`` look for it as the run did.
    """
    here("run", "shop", "--to", "singer:cat -u", *days(2), "--streams", "sales")

    assert "target singer:cat -u" in here("status")
    assert here.err == ""
    here("forget", "--target", "singer:cat -u")
    assert "singer:cat" not in (here.folder / ".penstock" / "targets.json").read_text()
