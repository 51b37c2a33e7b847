"""
Secrets: a type that prints as ``***``, and the one place that knows every secret value of this process.

Whatever leaves the process as text (logs, errors, reports, the ledger, rejected records) goes through :func:`mask`,
which replaces every known value in each spelling it may take on its way, see :func:`spelled`. What is cut short for a
message goes through :func:`clip`.
"""

import base64
import hmac
import re
import threading
from collections import deque
from functools import cache
from typing import Any, NoReturn

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
        return isinstance(other, Secret) and hmac.compare_digest(
            self._value.encode(errors="surrogatepass"), other._value.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: it would be written in clear")


def mask(text: str) -> str:
    """
    ``text`` with every known secret value, in whatever spelling, replaced by ``***``.
    """
    pattern = _known.pattern
    text = pattern.sub(MASK, text) if pattern is not None else text
    for value in tuple(_known.passing):
        text = text.replace(value, MASK)
    return text


def mask_temporarily(value: str) -> None:
    """
    Let :func:`mask` know what is secret for a moment only, such as a signature: as it is, until 64 others came.
    """
    if len(value) >= 4 * SHORTEST_MASKED and value not in _known.passing:
        _known.passing.append(value)


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


def clip(text: str, length: int) -> str:
    """
    The start of ``text``, masked before it is cut: half a secret is not recognised any more, and tells half of it.
    """
    return mask(text)[:length]


def secret_pattern(value: str) -> str:
    """
    A pattern (as text) that finds a secret in every form in which it may turn up, empty if it is too short for that.

    Plain, percent-encoded, escaped as in JSON, HTML or a programming language, each sign for itself, so that it does
    not matter which signs somebody's encoder spares; a run of blanks as any other, since texts are shown on one line;
    in hexadecimal; and base64 at each alignment, itself encoded or not.
    """
    core = value.strip()
    if len(core) < SHORTEST_MASKED:
        return ""
    raw = core.encode(errors="surrogatepass")
    forms = [_signs(core), f"(?i:{raw.hex()})"]
    for shift in range(3):
        # The first and last characters also depend on the neighbours, so only the ones between are looked for.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            kept = text[(0, 2, 3)[shift] : len(text) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(kept) >= SHORTEST_MASKED:
                forms.append(_signs(kept))
    return "|".join(dict.fromkeys(forms))


_RUNS = re.compile(r"[0-9A-Za-z]+|\s+|(.)\1*", re.DOTALL)


def _signs(text: str) -> str:
    """A pattern for the text in which each sign but letters and digits may be written in any way."""
    parts = []
    for run in (found[0] for found in _RUNS.finditer(text)):
        sign, count = run[0], len(run)
        if run.isascii() and run.isalnum():
            parts.append(run)
        elif run.isspace():
            parts.append(f"{_sign(sign)}{{1,16}}")
        else:
            # A quote is doubled in CSV and SQL, a backslash in most languages, and again in what quotes them.
            most = count * {"'": 2, '"': 2, "\\": 4}.get(sign, 1)
            parts.append(f"{_sign(sign)}{{{count},{most}}}" if most > 1 else _sign(sign))
    return "".join(parts)


_BACKSLASH = r"(?:\\|%(?:25){0,3}5c){1,4}"


@cache
def _sign(sign: str) -> str:
    # Every repetition is bounded: a text made for it would keep an unbounded one busy for hours.
    import html.entities

    raw = sign.encode(errors="surrogatepass")
    number = ord(sign)
    named = html.entities.codepoint2name.get(number, "apos" if sign == "'" else None)
    entity = f"#0{{0,5}}{number}|#x0{{0,5}}{number:x}" + (f"|{named}" if named else "")
    percent = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in raw)
    forms = [re.escape(sign), percent, f"&(?:amp;){{0,3}}(?:{entity});"]
    if sign != "\\":
        units = sign.encode("utf-16-be", errors="surrogatepass").hex()
        escaped = [re.escape(sign), percent, f"x{number:02x}", f"u{number:08x}"]
        forms.append(f"{_BACKSLASH}(?:{'|'.join(escaped)})")
        forms.append("".join(f"{_BACKSLASH}u{units[at : at + 4]}" for at in range(0, len(units), 4)))
        forms.append("".join(f"{_BACKSLASH}x{byte:02x}" for byte in raw))
    if sign.isspace():
        forms += [r"\s", r"\+", rf"{_BACKSLASH}[nrtfv]"]
    if not sign.isascii():  # read or written with another encoding
        forms += [re.escape(raw.decode("latin-1")), r"\?{1,4}", "\ufffd{1,4}"]
    return f"(?i:{'|'.join(forms)})"


class _Known:
    """Every secret value of this process, as one pattern that finds the longest first."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}  # value -> how it is found
        self._lock = threading.Lock()
        self._pattern: re.Pattern[str] | None = None
        self.passing: deque[str] = deque(maxlen=64)

    def add(self, value: str) -> None:
        with self._lock:
            if value in self._forms:
                return
            self._forms[value] = secret_pattern(value)
            self._pattern = None  # made anew when it is needed: a run of many sources knows many secrets

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """None while there is no secret."""
        with self._lock:
            if self._pattern is None:
                forms = [self._forms[value] for value in sorted(self._forms, key=len, reverse=True)]
                if any(forms):
                    self._pattern = re.compile("|".join(filter(None, forms)))
            return self._pattern


_known = _Known()


def shown_url(text: str) -> str:
    """
    A possibly malformed URL for a message, with ``***`` for everything before its last ``@`` and for its query.

    It is not parsed: a ``/`` or ``#`` in a password would turn the password into a path or a port.
    """
    scheme, slashes, rest = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    _, at, place = rest.rpartition("@")
    place, mark, _ = place.partition("?")
    return f"{scheme}{slashes}{MASK if at else ''}{at}{place}{mark}{MASK if mark else ''}"
