"""
Protocols of development versions, each of one method that ``BaseTarget`` or ``Ledger`` has now: decision 72.
"""

from types import new_class
from typing import Any, Protocol, runtime_checkable

METHODS = {
    "Advising": "advice",
    "Grouping": "commit_group",
    "GroupingLedger": "fail_all",
    "Interruptible": "interrupt",
    "ListsFinal": "final_days",
    "Preparing": "prepare",
}


def former_protocol(name: str) -> Any:
    """The protocol of this name. A class may extend it beside a base, and ``isinstance`` looks for its method."""

    def method(extended: Any, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(extended).__name__}.{METHODS[name]}")

    return runtime_checkable(new_class(name, (Protocol,), {}, lambda body: body.update({METHODS[name]: method})))
