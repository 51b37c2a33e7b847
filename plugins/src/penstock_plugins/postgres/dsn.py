"""
The DSN of a database: the parameters of its connections, and its name in messages.
"""

from typing import Any

import psycopg
from penstock import Secret, TargetError
from psycopg import conninfo

from penstock_plugins.postgres.sql_text import short

# Both sides detect a lost host after 30 s + 3 x 10 s, so that its lock on the source is released.
KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}

_UNREADABLE = (
    "the DSN of Postgres cannot be read. Write postgresql://user:password@host:port/database?option=value, with @ as "
    "%40, / as %2F, ? as %3F and % as %25 in user and password; or host=... user=... password='...' dbname=..., with "
    "quotes where there are blanks. Options are those of libpq."
)


def database_of(dsn: Secret) -> str | None:
    """Hosts, ports and name of the database that a DSN names, in one form; None for a DSN that cannot be read."""
    try:
        named = conninfo.conninfo_to_dict(dsn.reveal())
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        return None
    host = named.get("host") or named.get("hostaddr") or ""
    return f"Postgres at {host} port {named.get('port') or 5432}, {named.get('dbname') or named.get('user') or ''}"


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
        Secret(parameters["password"])
    parameters.setdefault("connect_timeout", 15)
    parameters.setdefault("keepalives", 1)
    for name, value in KEEPALIVES.items():
        parameters.setdefault(f"keepalives_{name}", value)
    parameters.setdefault("tcp_user_timeout", 60_000)
    return {**parameters, "client_encoding": "utf8", "application_name": short(application)}


def label_of(parameters: dict[str, Any]) -> str:
    """The database in messages, without user and password."""
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    return f"Postgres at {host}, database {parameters.get('dbname') or parameters.get('user') or '(default)'}"


def _has_unescaped_delimiter(dsn: str) -> bool:
    """Whether a URL's login has an unescaped delimiter, so that part of the password is parsed as host or database."""
    without_options = dsn.partition("?")[0]
    login, at, rest = without_options.partition("://")[2].partition("@")
    return bool(at) and ("@" in rest or "/" in login)
