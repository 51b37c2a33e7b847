"""
Names that a user wrote and that are not known: the known name that was probably meant.
"""

import difflib
from collections.abc import Iterable


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
    """`` Did you mean "talroo"?``, with a leading space; empty if no known word is similar."""
    near = nearest(word, known)
    return f' Did you mean "{near}"?' if near is not None else ""
