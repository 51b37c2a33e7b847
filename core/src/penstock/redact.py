"""
Secrets: a type that prints as ``***``, and the one place that knows every secret value of this process.

Whatever leaves the process as text (logs, errors, reports, the ledger, rejected records) goes through :func:`mask`,
which replaces every known value in each spelling it may take on its way: as it is, percent-encoded, as base64 at any
alignment, and escaped inside JSON or HTML.
"""

import base64
import hmac
import json
import re
import threading
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

MASK = "***"

# Shorter values occur in ordinary text by chance; masking them would destroy messages and protect nothing.
SHORTEST_MASKED = 4


class Secret:
    """
    A text that must never be seen: printing, formatting or logging it gives ``***``.

    Making one tells :func:`mask` its value. ``reveal()`` is for the code that puts it into a request, nowhere else.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _known.add(value)

    def reveal(self) -> str:
        """The secret itself, for a signature, a header or a driver only."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: it would be written in clear")


def mask(text: str) -> str:
    """
    ``text`` with every known secret value, in whatever spelling, replaced by ``***``.
    """
    pattern = _known.pattern
    return pattern.sub(MASK, text) if pattern is not None else text


def mask_json(value: Any) -> Any:
    """
    A JSON-like value (dicts, lists, texts, numbers) with every text in it masked, member names included.
    """
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(name) if isinstance(name, str) else name: mask_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_json(item) for item in value]
    return value


def spellings(value: str) -> set[str]:
    """
    The forms in which a secret may turn up in a text: plain, percent-encoded, base64 at each alignment, in JSON, HTML.
    """
    import html

    found = {value, value.strip(), quote(value, safe=""), quote(value), quote_plus(value), quote(value, safe="!*'()")}
    found |= {form.replace("%", "%25") for form in set(found) if "%" in form}
    found |= {re.sub("%[0-9A-F]{2}", lambda hit: hit[0].lower(), form) for form in set(found) if "%" in form}
    texts = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    texts |= {form.replace("/", "\\/") for form in texts}  # as PHP writes JSON
    texts |= {re.sub("[&<>'=+]", lambda hit: f"\\u{ord(hit[0]):04x}", form) for form in texts}  # as Java and Go do
    texts |= {re.sub(r"\\u[0-9a-f]{4}", lambda hit: "\\u" + hit[0][2:].upper(), form) for form in texts}
    found |= texts | {repr(value)[1:-1], html.escape(value), html.escape(value, quote=False)}
    raw = value.encode()
    for shift in range(3):
        # The first and last characters also depend on the neighbours, so only the ones between are looked for.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            skipped = (0, 2, 3)[shift]
            kept = text[skipped : len(text) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(kept) >= 2 * SHORTEST_MASKED:
                found.add(kept)
    return {form for form in found if len(form) >= SHORTEST_MASKED}


class _Known:
    """Every secret value of this process, as one pattern that finds the longest first."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._lock = threading.Lock()
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str) -> None:
        forms = spellings(value)
        with self._lock:
            if forms <= self._forms:
                return
            self._forms |= forms
            self._pattern = None  # made anew when it is needed: a run of many sources knows many secrets

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """None while there is no secret."""
        with self._lock:
            if self._pattern is None and self._forms:
                self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))
            return self._pattern


_known = _Known()
