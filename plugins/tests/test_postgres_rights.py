"""
Rights, row-level security and settings of a server that a DBA runs.
"""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from penstock import LedgerEntry, Secret, SinkError, TargetError
from penstock.testing.sinks import CLICKS, SOURCE, a_day, click
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.query import rows_of as queried
from postgres_runs import as_role, deliver, delivered, name_of, query, sink, verified
from waits import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A role that may do nothing yet; what it owns goes with it."""
    name = "role_" + name_of(dsn)
    query(dsn, f"create role {name}")
    yield name
    query(dsn, f"reassign owned by {name} to current_user; drop owned by {name}; drop role {name}")


def test_schemas_of_the_dba_are_enough(dsn: str, role: str):
    """
    USAGE and CREATE on two schemas suffice, for the ledger's too, which can be named; readers get what is granted.
    """
    query(dsn, f"create schema state; create schema raw; grant usage, create on schema state, raw to {role}")
    reader = f"{role}_reader"
    query(dsn, f"create role {reader}")
    try:
        settings: dict[str, Any] = {"ledger_schema": "state", "schema": "raw", "grant_to": (reader,)}
        query(dsn, f"grant usage on schema state, raw to {reader}")
        delivered(as_role(dsn, role), [click(1)], **settings)
        delivered(as_role(dsn, role), [click(2)], run_id="r2", **settings)

        assert query(as_role(dsn, reader), "select click_id from raw.clicks") == [("c2",)]
        assert query(as_role(dsn, reader), "select account, day::text, rows from state.days") == [
            ("2112", "2026-03-01", 1)
        ]
        assert query(dsn, "select to_regnamespace('penstock')") == [(None,)]
    finally:
        query(dsn, f"drop owned by {reader}; drop role {reader}")


def test_a_role_that_is_not_there_is_named(dsn: str):
    """
    ``grant_to`` with a wrong name is refused before anything is requested.
    """
    with pytest.raises(TargetError, match=r"grant_to: .* no role analyst9"):
        sink(dsn, grant_to=("analyst9",)).open(SOURCE, "r1")


def test_row_level_security_is_named(dsn: str, role: str):
    """
    A table whose rows may be hidden from us is refused by name, with the statements that help. That no row is seen is
    no reason to take its days for missing.
    """
    delivered(dsn, [click(1)])
    query(dsn, f"grant usage on schema penstock, acme to {role}; grant all on all tables in schema penstock to {role}")
    query(dsn, f"grant all on acme.clicks to {role}; alter table acme.clicks enable row level security")
    target = sink(as_role(dsn, role)).open(SOURCE, "r2")
    entry = target.ledger.entry(SOURCE, a_day())
    assert entry is not None
    refused = r'row-level security of the table "acme"\."clicks" holds.*alter role .* bypassrls'
    looks = (
        lambda: target.prepare([CLICKS]),
        lambda: target.is_intact(entry),
        lambda: list(target.verify("clicks", [])),
    )
    for look in looks:
        with pytest.raises(TargetError, match=refused):
            look()
    target.close()


def test_row_level_security_that_begins_during_a_run_is_an_error(dsn: str, role: str):
    """
    The former rows of the day are hidden then: new ones are not stored beside them.
    """
    layout = evolve(CLICKS, key=())
    delivered(dsn, [click(1)], layout)
    query(dsn, f"grant usage on schema penstock, acme to {role}; grant all on all tables in schema penstock to {role}")
    query(dsn, f"grant all on acme.clicks to {role}; create policy adding on acme.clicks for insert with check (true)")
    target = sink(as_role(dsn, role)).open(SOURCE, "r2")
    try:
        deliver(target, [click(1), click(2)], layout, run_id="r2")
        query(dsn, "alter table acme.clicks enable row level security")
        with pytest.raises(TargetError, match="row-level security"):
            deliver(target, [click(3)], layout, run_id="r2")
    finally:
        target.close()

    assert query(dsn, "select click_id from acme.clicks order by 1") == [("c1",), ("c2",)]


def test_a_query_has_the_rows_that_a_policy_lets_its_user_see(dsn: str, role: str):
    """
    A query of the user has the rows that a policy lets him see; only penstock's own statements need all rows.
    """
    query(dsn, "create table leads as select number from generate_series(1, 3) as number")
    query(dsn, f"grant select on leads to {role}; alter table leads enable row level security")
    query(dsn, "create policy most on leads using (number > 1)")

    rows = queried(Secret(as_role(dsn, role)), "select number from leads order by number")

    assert [row["number"] for row in rows] == [2, 3]


def test_row_level_security_of_the_ledger_is_named(dsn: str, role: str):
    """
    A ledger that shows no row would take every day for missing: it is refused, also to look at.
    """
    delivered(dsn, [click(1)])
    query(dsn, f"grant usage on schema penstock to {role}; grant all on all tables in schema penstock to {role}")
    query(dsn, "alter table penstock.partitions enable row level security")
    theirs = sink(as_role(dsn, role))
    for look in (lambda: theirs.open(SOURCE, "r2"), lambda: theirs.open_readonly(SOURCE)):
        with pytest.raises(TargetError, match=r'security of the table "penstock"\."partitions" holds for'):
            look()


def test_a_server_that_is_set_read_only(dsn: str):
    """
    ``default_transaction_read_only`` is respected, and named before anything is requested; looking works.
    """
    delivered(dsn, [click(1)])
    name = name_of(dsn)
    query(dsn, f"alter database {name} set default_transaction_read_only = on")
    with pytest.raises(TargetError, match=r"takes no writes: it is a standby, or default_transaction_read_only is set"):
        sink(dsn).open(SOURCE, "r2")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    assert seen.ledger.entry(SOURCE, a_day()) is not None
    seen.close()


def test_settings_of_the_user_do_not_change_the_rows_read(dsn: str):
    """
    Forms of dates, texts and transactions are those of the session, whatever role and database prefer.
    """
    name = name_of(dsn)
    for setting in (
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Tokyo'",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "default_transaction_isolation = 'serializable'",
        "search_path = ''",
        "idle_session_timeout = '50ms'",
    ):
        query(dsn, f"alter database {name} set {setting}")
    first = delivered(dsn, [click(1), click(2)])
    delivered(dsn, [click(1), click(3)], run_id="r2")
    seen = sink(dsn).open_readonly(SOURCE)
    assert seen is not None
    entry = seen.ledger.entry(SOURCE, a_day())
    seen.close()

    assert entry is not None
    assert entry.read_at == first.read_at
    assert verified(dsn, "clicks") == []


def test_a_statement_timeout_is_named(dsn: str):
    """
    A server that cancels the statement of a commit: the setting and the statement that changes it are named.
    """
    delivered(dsn, [click(1)])
    target = sink(dsn).open(SOURCE, "r2")
    target.database.run("set statement_timeout = '200ms'")
    with psycopg.connect(dsn) as other:
        other.execute("update acme.clicks set url = 'mine'")
        with pytest.raises(SinkError, match=r"statement timeout.*must run: alter role .* set statement_timeout = 0"):
            deliver(target, [click(1, url="new")], run_id="r2")
    target.close()


def test_a_limit_of_idle_transactions_is_named(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """
    The server ends the session between two statements of a commit, also of the second one; nothing is written.
    """
    delivered(dsn, [click(1)])
    query(dsn, f"alter database {name_of(dsn)} set idle_in_transaction_session_timeout = 50")
    target = sink(dsn).open(SOURCE, "r2")
    deliver_entry = PostgresLedger.deliver

    def slow(ledger: PostgresLedger, entry: LedgerEntry) -> None:
        session = target.database.connection.info.backend_pid
        eventually(lambda: not query(dsn, f"select 1 from pg_stat_activity where pid = {session}"))
        deliver_entry(ledger, entry)

    monkeypatch.setattr(PostgresLedger, "deliver", slow)
    with pytest.raises(SinkError, match=r"alter role .* set idle_in_transaction_session_timeout = 0"):
        deliver(target, [click(1, url="new")], run_id="r2")
    target.close()
    assert query(dsn, "select _run_id from acme.clicks") == [("r1",)]


@pytest.mark.parametrize(
    ("done", "opened", "cure"),
    [
        pytest.param(
            "revoke all on schema penstock from {role}",
            "read",
            'grant usage on schema "penstock" to "{role}"; grant select on all tables in schema "penstock" to "{role}"',
            id="the ledger's schema, to read",
        ),
        pytest.param(
            "revoke all on schema penstock from {role}",
            "write",
            'grant usage on schema "penstock" to "{role}"; grant select, insert, update, delete on all tables in '
            'schema "penstock" to "{role}"',
            id="the ledger's schema, to write",
        ),
        pytest.param(
            "revoke select on penstock.partitions from {role}",
            "read",
            'grant select on all tables in schema "penstock" to "{role}"',
            id="a table of the ledger",
        ),
        pytest.param(
            "revoke usage on schema acme from {role}",
            "verify",
            'grant usage on schema "acme" to "{role}"; grant select on "acme"."clicks" to "{role}"',
            id="the rows' schema, to verify",
        ),
        pytest.param(
            "revoke select on acme.clicks from {role}",
            "plan",
            'grant usage on schema "acme" to "{role}"; grant select on "acme"."clicks" to "{role}"',
            id="the rows, to plan",
        ),
    ],
)
def test_a_right_that_is_missing_is_named_with_its_statement(
    dsn: str, role: str, done: str, opened: str, cure: str
) -> None:
    """
    For every use of another owner's target, the message has the statement that helps, which then helps.
    """
    delivered(dsn, [click(1)], grant_to=(role,))
    mine = sink(as_role(dsn, role))

    def use() -> None:
        if opened == "write":
            mine.open(SOURCE, "r2").close()
            return
        seen = mine.open_readonly(SOURCE)
        assert seen is not None
        try:
            entries = list(seen.ledger.entries(SOURCE, "clicks").values())
            if opened == "verify":
                assert list(seen.verify("clicks", entries)) == []
            elif opened == "plan":
                assert seen.is_intact(entries[0])
        finally:
            seen.close()

    query(dsn, done.format(role=role))
    cure = cure.format(role=role)
    with pytest.raises(TargetError, match=re.escape(f"must run: {cure}; or name another user")):
        use()
    query(dsn, cure)
    use()


def test_a_user_who_may_not_create(dsn: str):
    """
    Without the right to make the ledger the message states whose right is missing.
    """
    role = "guest_" + dsn.partition("?")[0].rpartition("/")[2]
    query(dsn, f"create role {role}")
    try:
        with pytest.raises(TargetError, match=r"may not create it\. The database's owner must run: create schema"):
            sink(as_role(dsn, role)).open(SOURCE, "r1")
    finally:
        query(dsn, f"drop role {role}")


def test_a_user_who_may_only_read(dsn: str):
    """
    A run is refused at once where the ledger can be read and not written; looking at it is not.
    """
    delivered(dsn, [click(1)])
    role = "reader_" + dsn.partition("?")[0].rpartition("/")[2]
    query(dsn, f"create role {role}; grant usage on schema penstock to {role}")
    query(dsn, f"grant select on all tables in schema penstock to {role}")
    reading = sink(as_role(dsn, role))
    try:
        with pytest.raises(TargetError, match=f"{role} may not write the ledger .*partitions.*grant"):
            reading.open(SOURCE, "r2")
        target = reading.open_readonly(SOURCE)
        assert target is not None
        assert len(target.ledger.entries(SOURCE, "clicks")) == 1
        target.close()
    finally:
        query(dsn, f"drop owned by {role}; drop role {role}")
