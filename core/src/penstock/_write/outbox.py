"""
The outbox: the outcome of every row that was sent to a provider, in ``.penstock/writes.sqlite``.

A job is one input for one action of one source. A row that is not in it was never sent. The state ``sending`` is
durable before the request is sent. A row found in this state when no process holds the job may have arrived or not, and
becomes unknown. The values of rows are not stored, only their numbers, outcomes and the provider's answers.

``outbox_decision`` decides whether a command begins a job, resumes one or is refused;
``outbox_database`` has the tables, and ``outbox_job`` the rows of one job.
"""

import contextlib
import os
import sqlite3
import zlib
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from penstock._write.outbox_database import (
    apply,
    connect,
    explained,
    forget_old,
    load,
    load_other,
    unusable,
)
from penstock._write.outbox_decision import JobKey, Refusal, Resume, Start, decide
from penstock._write.outbox_job import OutboxJob
from penstock.errors import LockHeldError, UsageError


@frozen
class Outbox:
    """The write ledger in ``folder``, the directory ``.penstock`` beside the configuration."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "writes.sqlite"

    def open(
        self,
        key: JobKey,
        now: datetime,
        *,
        resume: bool = False,
        retry_unknown: bool = False,
        confirmed: bool = False,
    ) -> "OutboxJob":
        """
        The job to send, locked: a new one, or with ``resume`` or ``retry_unknown`` the last one of this key.

        ``confirmed``: even if its address is not the one with which the job began. Raises LockHeldError if another
        process sends it, UsageError if :func:`decide` refuses, TargetError if the outbox cannot be used.
        """
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(self._lock(key))
            connection = stack.enter_context(contextlib.closing(connect(self.path)))
            try:
                connection.execute("begin immediate")
                decision = decide(
                    key,
                    load(connection, key),
                    other_begun_at=load_other(connection, key),
                    resume=resume or retry_unknown,
                    confirmed=confirmed,
                )
                if isinstance(decision, Refusal):
                    raise UsageError(decision.reason)
                number = apply(connection, decision, key, now)
                forget_old(connection, now)
                connection.execute("commit")
            except sqlite3.Error as error:
                raise explained(self.path, error) from error
            stack.pop_all()
        return OutboxJob(
            number=number,
            is_new=isinstance(decision, Start),
            is_finished=isinstance(decision, Resume) and decision.is_finished and not retry_unknown,
            retry_unknown=retry_unknown,
            connection=connection,
            lock=lock,
            path=self.path,
        )

    def _lock(self, key: JobKey) -> BinaryIO:
        """Lock the byte of this job in one file. A killed process releases it, and no file is left behind."""
        import fcntl

        path = self.folder / "writes.lock"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        except OSError as error:
            raise unusable(path, error) from error
        byte = zlib.crc32(f"{key.source}\0{key.action}\0{key.digest}".encode())
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            file.close()
            raise LockHeldError(
                f"another process is sending {key.what} to {key.source} {key.action}. Wait for it to end; a process "
                "that was killed holds no lock."
            ) from None
        except OSError as error:
            file.close()
            raise unusable(path, error) from error
        return file
