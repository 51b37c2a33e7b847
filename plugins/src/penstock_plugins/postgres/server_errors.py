"""
The errors of a server as penstock's: what was seen, what became of the rows, and what to do.
"""

import re
from typing import TYPE_CHECKING

import psycopg
from penstock import PenstockError, SinkError, TargetError
from psycopg import errors

from penstock_plugins.postgres.connection import pooled_error
from penstock_plugins.sink_support.sql_tables import identifier

if TYPE_CHECKING:
    from penstock_plugins.postgres.database import Database

# SQLSTATE -> the setting by which the server ended the session.
_TIMEOUTS = {"25P03": "idle_in_transaction_session_timeout", "25P04": "transaction_timeout"}

READ_ONLY = (
    "This server takes no writes: it is a standby, or default_transaction_read_only is set for it, for the database or "
    "for this user. Name the primary, or another user."
)


# Another session and this one waited for each other, and the server ended this transaction: it can be repeated.
CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)

# A value cannot be stored (SQLSTATE class 22), is too long for an index, or violates a constraint on its row.
VALUE_ERRORS = (
    psycopg.DataError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.NotNullViolation,
    errors.CheckViolation,
)

# Two rows have the same key.
KEY_ERRORS = (errors.UniqueViolation, errors.CardinalityViolation)


class NotStoredError(Exception):
    """The table has other rows than were sent: a key occurred twice, or a trigger or rule left some out."""


class LostSessionError(SinkError):
    """The session ended: the server restarted, or the connection was closed."""


class LockedTableError(SinkError):
    """Another session held a lock on a table, or on a row of it, for as long as this one waits."""


_GONE = (
    ". Nothing was replaced. Somebody renamed or dropped it. If it is of a stream's table, run again: the run names "
    "what is missing, or makes it anew. If it is of the ledger, restore its schema from a backup; or rename the schema "
    "and run again, which makes a new ledger and reads the window again."
)

# SQLSTATE, or its beginning -> the kind of error, and the rest of the message after what the server states.
_BY_STATE: dict[str, tuple[type[PenstockError], str]] = {
    "0A000": (TargetError, ". Drop what depends on it, run again, and create it anew."),
    "23503": (
        SinkError,
        ". Nothing was replaced. If the provider withdrew rows that another table references, delete the references, "
        "or declare the foreign key with on delete cascade or set null. If its rows reference one that is missing, "
        "add that one, or drop the foreign key. Then run again.",
    ),
    "25006": (TargetError, f". {READ_ONLY}"),
    "2BP": (TargetError, ". Drop what depends on it, run again, and create it anew."),
    "42703": (TargetError, _GONE),
    "42P01": (TargetError, _GONE),
    "42501": (TargetError, ". Give this user the right to do it, or name another user, schema or database."),
    "53": (
        SinkError,
        ". The server is out of disk, memory or connections (SQLSTATE {state}). Nothing was replaced. Free "
        "some of it, then run again.",
    ),
    "55P03": (
        LockedTableError,
        ": another session held a lock on the table for {lock_timeout}. pg_stat_activity shows which. Nothing was "
        "replaced. Run again when it is gone.",
    ),
}


def explanation(error: psycopg.Error, database: "Database") -> PenstockError:
    """The error of a statement as penstock's."""
    message, state = message_of(error), error.sqlstate or ""
    seen = f"{database.label}: {message}"
    if (state == "57014" or database.connection.closed) and database.reason is not None:
        return database.reason
    if state == "08P01" and "pooling mode" in message:  # in which there are no transactions
        return pooled_error(database.label)
    if database.connection.closed or state.startswith(("08", "57P")):
        return _lost_session(seen, state, database)
    if state == "57014":
        return SinkError(f"{seen}. Nothing was replaced. {_remedy_for_setting('statement_timeout', database)}")
    if is_without_partition(error):
        return SinkError(
            f"{seen}. Nothing was replaced. Make a partition of the table for these rows, or a default one, and run "
            "again."
        )
    if state == "0A000" and ("RETURNING" in message or " rules " in message):
        return TargetError(f"{seen}. A rule on the table is in the way: drop it, or use a trigger; then run again.")
    for beginning in (state, state[:3], state[:2]):
        if beginning in _BY_STATE:
            kind, rest = _BY_STATE[beginning]
            return kind(seen + rest.format(state=state, lock_timeout=database.lock_timeout) + _origin(error))
    if error.diag.message_hint:
        seen = f"{seen}. {error.diag.message_hint.strip().rstrip('.')}"
    return SinkError(f"{seen} (SQLSTATE {state or 'none'}). Nothing was replaced.{_origin(error)}")


def _lost_session(seen: str, state: str, database: "Database") -> LostSessionError:
    setting = _TIMEOUTS.get(state)
    remedy = _remedy_for_setting(setting, database) if setting else "Run again once the server can be reached."
    return LostSessionError(
        f"the connection to {seen}. It is lost, and with it what was not committed; all that was delivered stays. "
        f"{remedy}"
    )


def _remedy_for_setting(setting: str, database: "Database") -> str:
    """The remedy where the server ended a session or a statement by a setting of its administrator."""
    return (
        f"If the server's {setting} is shorter than a partition takes, its administrator must run: alter role "
        f"{identifier(database.connection.info.user)} set {setting} = 0; then run again."
    )


def unreachable(error: psycopg.Error, label: str) -> SinkError | TargetError:
    """The error of a connection that was not made: a SinkError where the next run may succeed without a correction."""
    message = message_of(error)
    for kind, remedies in ((SinkError, _OF_A_BUSY_SERVER), (TargetError, _OF_CONNECTIONS)):
        for text, remedy in remedies.items():
            if text in message:
                return kind(f"{label} cannot be reached: {message}. {remedy}")
    return TargetError(
        f"{label} cannot be reached: {message}. Check the DSN (host, port, database, user, password) and that the "
        "server runs."
    )


def is_without_partition(error: Exception) -> bool:
    """Whether a row was refused because its table is partitioned, and no partition is for it."""
    return isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None and not _is_of_code(error)


def _is_of_code(error: psycopg.Error) -> bool:
    """Whether a trigger or function of somebody's raised it: penstock has none in the database."""
    return "PL/" in (error.diag.context or "")


def _origin(error: psycopg.Error) -> str:
    """The trigger or function that raised an error, as a sentence after others; empty if none did."""
    if not _is_of_code(error):
        return ""
    place = next(line for line in (error.diag.context or "").splitlines() if "PL/" in line)  # the innermost one
    return f" It was raised by {_one_line(place)}. Correct that trigger or function, or drop it, and run again."


# What the server states of a connection that it does not accept now -> what helps.
_OF_A_BUSY_SERVER = {
    "too many ": "Wait until sessions end, or raise the limit: max_connections, or that of the role or the database.",
    "connection slots are reserved": "Wait until sessions end, or raise max_connections.",
    "database system is": "Run again when the server has started.",
}

# What the server or libpq states of a connection that was not made -> the correction.
_OF_CONNECTIONS = {
    "does not match host name": "With sslmode=verify-full, host must be a name that the server's certificate has.",
    "root certificate file": "sslrootcert must name the certificate of the authority that signed the server's.",
    "certificate verify failed": (
        "Do not trust this server before you know why: sslrootcert must name the certificate of the authority that "
        "signed the server's."
    ),
    "no encryption": "If the server takes connections over TLS only, write sslmode=require or verify-full in the DSN.",
    "server does not support SSL": "Let the server's administrator set up TLS, or name the port that has it.",
}


def message_of(error: psycopg.Error) -> str:
    """The message of the server or the library, on one line."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    text = re.sub(r"\n\t.*", "", text)  # the library's guesses, such as "Is the server running ...?"
    text = re.sub(r"\s*\n\s*", "; ", text.strip())  # it states each attempt on a line of its own
    hint = error.diag.message_detail
    return _one_line(f"{text} ({hint})" if hint else text).rstrip(".")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
