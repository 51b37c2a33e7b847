"""
Recognise a pooler between this process and the server, which may give each transaction another session.
"""

import selectors
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
from penstock import TargetError
from psycopg import errors

if TYPE_CHECKING:
    from penstock_plugins.postgres.database import Database, Row

POOLER_PROBES, PROBE_S = 3, 5  # connections, and the longest wait for an answer to each


def pooled_error(label: str) -> TargetError:
    """The error of a session that is not the same from one transaction to the next."""
    return TargetError(
        f"{label} is reached through a pooler that gives each transaction another session (pgbouncer: "
        "pool_mode = transaction or statement; often port 6543). The lock of a source lives in a session, so two "
        "runs could write at once. Name the port of the server itself, or of a pool with pool_mode = session."
    )


def is_in_transaction_pool(database: "Database", parameters: dict[str, Any]) -> bool:
    """
    Whether a pooler gives each transaction another session, which keeps no lock, and settings for others.

    A second connection tests whether it gets the session of the first one, which stays connected.
    ``parameters``: of the connections.
    """
    if not database.is_pooled:
        return False
    if database.one("select pg_backend_pid()") != database.pid:
        return True
    parameters = {**parameters, "connect_timeout": PROBE_S}
    for _ in range(POOLER_PROBES):
        try:
            with closing(psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)) as other:
                pid = _pid_in_a_transaction(other)
                # The other one is in a transaction: in a pool of transactions this one now gets another session.
                if pid == database.pid or (pid is not None and database.one("select pg_backend_pid()") != database.pid):
                    return True
        except errors.ProtocolViolation:  # a pooler of statements refuses transactions
            return True
        except psycopg.OperationalError:
            pid = None
        if pid is None:  # no second session is available: each commit checks again
            return False
    return False


def _pid_in_a_transaction(connection: "psycopg.Connection[Row]") -> int | None:
    """
    The process id of the connection's session, in a transaction that stays open; None if a pooler that has no session
    left lets it wait. Raises psycopg.Error.
    """
    wire = connection.pgconn
    wire.send_query(b"begin; select pg_backend_pid()")
    until = time.monotonic() + PROBE_S
    with selectors.DefaultSelector() as selector:
        selector.register(wire.socket, selectors.EVENT_READ)
        while wire.is_busy():
            if not selector.select(max(until - time.monotonic(), 0)):
                return None
            wire.consume_input()
    pid = None
    while (result := wire.get_result()) is not None:
        if result.status not in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK):
            if b"query_wait_timeout" in result.error_message:
                return None
            raise errors.error_from_result(result)
        value = result.get_value(0, 0) if result.ntuples else None
        pid = int(value) if value is not None else pid
    return pid
