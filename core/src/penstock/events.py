"""
The events of a run, as ``penstock_event``, ``on_event`` and ``--log-format json`` receive them.
"""

from collections.abc import Callable, Mapping
from typing import Any

Event = Mapping[str, Any]
"""``event`` is its kind, ``run_id`` the run; docs/hooks.md lists the other members of each kind."""

OnEvent = Callable[[Event], None]
"""Called from the threads of a run, one call at a time."""


def ignore(event: Event) -> None:
    """The callback that ignores events."""
