"""
Names in messages: their form, their plural, the nearest known name, and the source line of a declaration.
"""

import difflib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
"""The form of names that become keys of TOML, folders, tables, and parts of environment variables."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """
    The known word most similar to an unknown one, ignoring case. None if none has at least the similarity ``cutoff``,
    from 0 to 1.
    """
    by_folded = {name.lower(): name for name in known}
    if not by_folded:
        return None
    near = difflib.get_close_matches(word.lower(), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """
    `` Did you mean "talroo"?``, with a leading space. The known word that is similar, else the only one with the same
    first word (``open_for`` for ``open_days``); empty if there is none.
    """
    names = tuple(known)
    near = nearest(word, names)
    if near is None and len(first := _first_word(word)) > 2:
        same = [name for name in names if _first_word(name) == first]
        near = same[0] if len(same) == 1 else None
    return f' Did you mean "{near}"?' if near is not None else ""


def _first_word(name: str) -> str:
    return re.split(r"[_-]", name, maxsplit=1)[0].lower()


def counted(number: int, what: str) -> str:
    """``1 record``, ``2 records``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def as_names(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """One name, several, or none, as a tuple: the attrs converter of fields that take either."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def source_line(value: Any) -> str:
    """File and line of a class or function, for a message; its module where the source is not at hand."""
    try:
        return f"{Path(inspect.getsourcefile(value) or '?').name}, line {inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):
        return str(getattr(value, "__module__", "?"))
