"""
Settings that several sinks have, the digits of their decimals, and the path in the text of ``--to``.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen, validators
from penstock import Column, UsageError, setting

if TYPE_CHECKING:
    from penstock.ledger import Retention


@frozen(kw_only=True, eq=False, repr=False)
class RetentionSettings:
    """What the ledger of a target retains: the same keys for every sink with a ledger of its own."""

    keep_runs: int = setting(1000, help="runs of a source whose records the ledger keeps", validator=validators.ge(1))
    keep_run_days: int = setting(400, help="days that the ledger keeps the record of a run", validator=validators.ge(1))
    keep_restatement_days: int | None = setting(
        None,
        help="days that the ledger keeps what was restated; default: always",
        validator=validators.optional(validators.ge(1)),
    )

    def retention(self) -> "Retention":
        from penstock.ledger import Retention

        return Retention(runs=self.keep_runs, run_days=self.keep_run_days, restatement_days=self.keep_restatement_days)


PRECISION = 38
SCALE = 9
"""Digits after the point of a decimal column that declares none."""


def scale_of(column: Column, scale: int) -> int:
    """The digits after the point of a decimal column: those that it declares, else ``scale``."""
    return scale if column.decimal_scale is None else column.decimal_scale


def decimal_scale_setting() -> Any:
    """The setting of a sink with decimals of a fixed scale."""
    return setting(
        SCALE,
        help="digits after the point of decimal columns that declare none; a record with more is rejected",
        validator=validators.and_(validators.ge(0), validators.le(PRECISION)),
    )


def path_of(text: str, place: str = "DIR") -> Path:
    """The path in the text of ``--to``: ``jsonl:DIR``, ``duckdb:FILE``. Raises UsageError for a text without one."""
    scheme, _, path = text.partition(":")
    if not path:
        raise UsageError(f"{text!r} names no place: write {scheme}:{place}, such as {scheme}:data")
    if "://" in path:
        raise UsageError(f"{text!r} has a URL, which would become a directory of this name; write {scheme}:{place}")
    if re.search(r"\?\w+=", path):
        raise UsageError(f"{text!r} has a query, which would become a part of the name; write {scheme}:{place}")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{text!r}: this machine has no user {path.partition('/')[0]}; write the whole path") from None
