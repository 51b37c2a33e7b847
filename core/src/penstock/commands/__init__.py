"""
What plugins with commands use: durations, the declaration of a command, signals, closed pipes, and files that are
written whole.

Durations are here. ``declaration`` is apart, since the help imports this package and no attrs; the rest is in
``process``.
"""

import re

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float:
    """``45``, ``45s``, ``30m``, ``90min``, ``2h`` or ``1d`` in seconds. Raises ValueError for any other text, and 0."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)\s*", text, re.ASCII)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise ValueError(f"found {text!r}, expected a time such as 45, 45s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2]]
