"""
One job of the outbox: the states and receipts of its rows.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from penstock._write.outbox_database import explained
from penstock.model import EXACT_JSON, Receipt, ReceiptStatus
from penstock.redact import mask, mask_json


@define(eq=False)
class OutboxJob:
    """
    One job of the outbox, locked until it is closed.
    """

    number: int
    is_new: bool
    is_finished: bool  # finished before, and nothing is to be sent again
    retry_unknown: bool
    connection: sqlite3.Connection
    lock: BinaryIO
    path: Path
    _retried: set[int] = field(factory=set, init=False)  # unknown rows that were sent again by this process

    def settled(self, first: int, last: int) -> set[int]:
        """Of the rows ``first`` to ``last``, both included, those that are not to be sent."""
        with self._statements():
            rows = self.connection.execute(
                "select row, state from rows where job = ? and row between ? and ?", (self.number, first, last)
            ).fetchall()
        return {row for row, state in rows if state != "unknown" or not self.retry_unknown or row in self._retried}

    def record_sending(self, rows: Sequence[int]) -> None:
        """Record that these rows are about to be sent; durable when this returns."""
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, 'sending', '', null, 0) on conflict (job, row) do update set "
                "left_before = max(rows.left_before, rows.state = 'unknown'), state = 'sending'",
                [(self.number, row) for row in rows],
            )
            self.connection.execute("commit")

    def record_unknown(self, rows: Sequence[int], reason: str) -> None:
        """Record that these rows were sent, may have arrived, and are about to be sent again."""
        with self._statements():
            self.connection.executemany(
                "update rows set left_before = 1, reason = ? where job = ? and row = ?",
                [(mask(reason), self.number, row) for row in rows],
            )

    def record_not_sent(self, rows: Sequence[int]) -> None:
        """Record that these rows did not arrive with this request; rows that may have arrived earlier stay unknown."""
        with self._statements():
            self.connection.execute("begin immediate")
            pairs = [(self.number, row) for row in rows]
            self.connection.executemany("delete from rows where job = ? and row = ? and not left_before", pairs)
            self.connection.executemany("update rows set state = 'unknown' where job = ? and row = ?", pairs)
            self.connection.execute("commit")

    def settle(self, receipts: Iterable[Receipt]) -> None:
        """Record the outcome of rows; durable when this returns."""
        values = [
            (
                self.number,
                receipt.row,
                receipt.status,
                mask(receipt.reason),
                None if receipt.answer is None else _json(receipt.answer),
            )
            for receipt in receipts
        ]
        if not values:
            return
        with self._statements():
            self.connection.execute("begin immediate")
            self.connection.executemany(
                "insert into rows values (?, ?, ?, ?, ?, 0) on conflict (job, row) do update set "
                "state = excluded.state, reason = excluded.reason, answer = excluded.answer",
                values,
            )
            self.connection.execute("commit")
            self._retried.update(row for _, row, status, _, _ in values if status == "unknown")

    def receipts(self, first: int) -> Iterator[Receipt]:
        """The receipts from row ``first`` on, in order, up to the first row that is not settled."""
        expected = first
        while True:
            with self._statements():
                block = self.connection.execute(
                    "select row, state, reason, answer from rows where job = ? and row >= ? order by row limit 500",
                    (self.number, expected),
                ).fetchall()
            for row, state, reason, answer in block:
                waits = state == "sending" or (state == "unknown" and self.retry_unknown and row not in self._retried)
                if row != expected or waits:
                    return
                yield _receipt(row, state, reason, answer)
                expected += 1
            if len(block) < 500:
                return

    def receipt(self, row: int) -> Receipt | None:
        """The receipt of one row; None if it was never sent."""
        with self._statements():
            stored = self.connection.execute(
                "select row, state, reason, answer from rows where job = ? and row = ?", (self.number, row)
            ).fetchone()
        return None if stored is None else _receipt(*stored)

    def finish(self, rows: int, now: datetime) -> None:
        """Record that all rows of the job are settled."""
        with self._statements():
            self.connection.execute(
                "update jobs set finished_at = ?, rows = ? where id = ?",
                (now.astimezone(UTC).isoformat(), rows, self.number),
            )

    def close(self) -> None:
        """Release the lock. Rows that are still ``sending`` become unknown when the job is resumed."""
        self.connection.close()
        self.lock.close()

    @contextmanager
    def _statements(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.rollback()
            raise explained(self.path, error) from error


def _receipt(row: int, state: str, reason: str, answer: str | None) -> Receipt:
    status: ReceiptStatus = "unknown" if state == "sending" else state  # type: ignore[assignment]
    return Receipt(row=row, status=status, reason=reason, answer=None if answer is None else json.loads(answer))


def _json(value: Any) -> str:
    # Exact numbers, as the provider wrote them.
    return EXACT_JSON.encode(mask_json(value)).decode()
