"""
Connections to a database: their parameters by its DSN, its name in messages, and a pooler between this process and
the server.
"""

import selectors
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
from penstock import Secret, TargetError, mask_always
from psycopg import conninfo, errors

from penstock_plugins.postgres.sql_text import short

if TYPE_CHECKING:
    from penstock_plugins.postgres.database import Database, Row

# Both sides detect a lost host after 30 s + 3 x 10 s, so that its lock on the source is released. While data is
# unacknowledged no probe is sent: the second setting bounds that case, which else takes the system's 15 minutes.
KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}
USER_TIMEOUT_MS = 60_000

POOLER_PROBES, PROBE_S = 3, 5  # connections, and the longest wait for an answer to each

_UNREADABLE = (
    "the DSN of Postgres cannot be read. Write postgresql://user:password@host:port/database?option=value, with @ as "
    "%40, / as %2F, ? as %3F and % as %25 in user and password; or host=... user=... password='...' dbname=..., with "
    "quotes where there are blanks. Options are those of libpq."
)


def database_of(dsn: Secret) -> str | None:
    """Hosts, ports and name of the database that a DSN names, in one form; None for a DSN that cannot be read."""
    try:
        conn = conninfo.conninfo_to_dict(dsn.reveal())
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        return None
    host = conn.get("host") or conn.get("hostaddr") or ""
    return f"Postgres at {host} port {conn.get('port') or 5432}, {conn.get('dbname') or conn.get('user') or ''}"


def connection_parameters(dsn: Secret, application: str) -> dict[str, Any]:
    """
    What libpq takes for a connection. Raises TargetError for a DSN that cannot be read, and the errors of psycopg.
    """
    parameters: dict[str, Any]
    try:
        parameters = dict(conninfo.conninfo_to_dict(dsn.reveal()))
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        raise TargetError(_UNREADABLE) from None  # the library's message quotes it, password included
    if _has_unescaped_delimiter(dsn.reveal()):
        raise TargetError(_UNREADABLE)
    if isinstance(parameters.get("password"), str):
        mask_always(parameters["password"])
    parameters.setdefault("connect_timeout", 15)
    parameters.setdefault("keepalives", 1)
    for name, value in KEEPALIVES.items():
        parameters.setdefault(f"keepalives_{name}", value)
    parameters.setdefault("tcp_user_timeout", USER_TIMEOUT_MS)
    return {**parameters, "client_encoding": "utf8", "application_name": short(application)}


def label_of(parameters: dict[str, Any]) -> str:
    """The database in messages, without user and password."""
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    port = f" port {parameters['port']}" if parameters.get("port") else ""
    return f"Postgres at {host}{port}, database {parameters.get('dbname') or parameters.get('user') or '(default)'}"


def _has_unescaped_delimiter(dsn: str) -> bool:
    """Whether a URL's login has an unescaped delimiter, so that part of the password is parsed as host or database."""
    without_options = dsn.partition("?")[0]
    login, at, rest = without_options.partition("://")[2].partition("@")
    return bool(at) and ("@" in rest or "/" in login)


# --- poolers, which may give each transaction another session ---------------------------------------------------------


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
    if database.value("select pg_backend_pid()") != database.pid:
        return True
    parameters = {**parameters, "connect_timeout": PROBE_S}
    for _ in range(POOLER_PROBES):
        try:
            with closing(psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)) as other:
                pid = _pid_in_a_transaction(other)
                # The other one is in a transaction: in a pool of transactions this one now gets another session.
                if pid == database.pid or (
                    pid is not None and database.value("select pg_backend_pid()") != database.pid
                ):
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
