"""
Secrets: a type that prints as ``***``, and the registry of all secret values of this process.

All text that leaves the process (logs, errors, reports, the ledger, rejected records) goes through :func:`mask`, which
replaces every known value in each encoding it may have, see :func:`secret_pattern`. Text that a message truncates goes
through :func:`clip`.
"""

import base64
import hmac
import html.entities
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, NoReturn

MASK = "***"

# Shorter values occur in ordinary text by chance; masking them would destroy messages and protect nothing.
SHORTEST_MASKED = 4


class Secret:
    """
    A secret text: printing, formatting or logging it gives ``***``.

    Its value is masked from then on, as by :func:`mask_always`. Only the code that puts it into a request calls
    ``reveal()``.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        mask_always(value)

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
    ``text`` with every known secret value, in any form of :func:`secret_pattern`, replaced by ``***``. Where a secret
    has escaped letters or digits, all escaped letters and digits of the text are shown plain.
    """
    return replaced_also_escaped(text, _mask_forms)


def replaced_also_escaped(text: str, replace: Callable[[str], str]) -> str:
    """
    ``replace(text)``. If ``replace`` finds more once all escaped letters and digits are plain, these are plain in the
    result.
    """
    replaced = replace(text)
    plain = _ESCAPED.sub(_plain_character, replaced)
    return plain_replaced if plain != replaced and (plain_replaced := replace(plain)) != plain else replaced


def _mask_forms(text: str) -> str:
    pattern = _known.pattern_for(text)
    text = pattern.sub(MASK, text) if pattern is not None else text
    passing = tuple(_known.passing)
    lower = text.lower() if passing else ""
    for value in passing:
        if value.lower() in lower:
            text = re.sub(re.escape(value), MASK, text, flags=re.IGNORECASE)
    return text


def mask_always(value: str) -> None:
    """Mask this value from now on, in every form of :func:`secret_pattern`."""
    _known.add(value)


def show_always(value: str) -> None:
    """Do not mask this value as a whole where a Secret is made from it later: it has nothing secret in it."""
    _known.shown.add(value)


def mask_temporarily(value: str) -> None:
    """
    Mask a short-lived secret such as a signature. Only the last 128 are remembered, and only in their plain form, in
    upper or lower case: a provider may repeat hexadecimal digits in the other one.
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
    The start of ``text``. It is masked before it is truncated: :func:`mask` cannot recognise half a secret.
    """
    return mask(text)[:length]


def secret_pattern(value: str) -> str:
    """
    A pattern (as text) that matches a secret in every form in which it may occur; empty for a secret too short to mask.

    It matches any mix of escaped and plain characters other than letters and digits: percent-encoding, and the escapes
    of JSON, HTML and programming languages, each of them nested. A run of whitespace matches any other, since a message
    is shown on one line. Further forms are hexadecimal, and base64 at each alignment. Hexadecimal digits match in upper
    and lower case.
    """
    core = value.strip()
    if len(core) < SHORTEST_MASKED:
        return ""
    raw = core.encode(errors="surrogatepass")
    plain = f"(?i:{_any_escapes(core)})" if _HEXADECIMAL.fullmatch(core) else _any_escapes(core)
    forms = [plain, f"(?i:{raw.hex()})", *map(_any_escapes, _base64_forms(raw))]
    return "|".join(dict.fromkeys(forms))


_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+(?:-[0-9a-fA-F]+)*")
_LITERAL = re.compile(r"[0-9A-Za-z]+")
_ANCHOR = 6


def _anchors(value: str) -> set[str]:
    """
    Up to ``_ANCHOR`` letters and digits that every match of a form of :func:`secret_pattern` has, in lower case;
    ``""`` for a form without any. They are the end of a run, since tokens of one kind begin alike.
    """
    core = value.strip()
    if len(core) < SHORTEST_MASKED:
        return set()
    raw = core.encode(errors="surrogatepass")
    forms = (core, raw.hex(), *_base64_forms(raw))
    return {max(_LITERAL.findall(form), key=len, default="")[-_ANCHOR:].lower() for form in forms}


def _base64_forms(raw: bytes) -> Iterator[str]:
    """``raw`` in base64 at each alignment and in both alphabets, without the ends that depend on its neighbours."""
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            kept = text[(0, 2, 3)[shift] : len(text) - (1 if (shift + len(raw)) % 3 else 0)]
            if len(kept) >= SHORTEST_MASKED:
                yield kept


_RUNS = re.compile(r"[0-9A-Za-z]+|\s+|(.)\1*", re.DOTALL)


def _any_escapes(text: str) -> str:
    """A pattern for ``text`` in which every character but letters and digits may be escaped in any way."""
    pieces = []
    for run in (found[0] for found in _RUNS.finditer(text)):
        char, count = run[0], len(run)
        if run.isascii() and run.isalnum():
            pieces.append(run)
        elif run.isspace():
            pieces.append(f"{_any_form(char)}{{1,16}}")
        else:
            # CSV and SQL double a quote, most languages double a backslash, and nesting doubles it again.
            maximum = count * {"'": 2, '"': 2, "\\": 4}.get(char, 1)
            pieces.append(f"{_any_form(char)}{{{count},{maximum}}}" if maximum > 1 else _any_form(char))
    return "".join(pieces)


# Every repetition below is bounded: with an unbounded one, a crafted text would take hours to search.
_BACKSLASH = r"(?:\\|%(?:25){0,3}5c){1,4}"


@cache
def _any_form(char: str) -> str:
    """A pattern for one character: plain, or escaped in any way."""
    raw = char.encode(errors="surrogatepass")
    forms = [re.escape(char), _percent(raw), _html_entity(char)]
    forms += _backslash_escapes(char, raw) if char != "\\" else [rf"{_BACKSLASH}(?:x|u00|u000000)5c"]
    if char.isspace():
        forms += [r"\s", r"\+", rf"{_BACKSLASH}[nrtfv]"]
    if not char.isascii():  # decoded or encoded with another charset
        forms += [re.escape(raw.decode("latin-1")), r"\?{1,4}", "\ufffd{1,4}"]
    return f"(?i:{'|'.join(forms)})"


def _percent(raw: bytes) -> str:
    """A pattern for percent-encoding, up to four times."""
    return "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in raw)


def _html_entity(char: str) -> str:
    """A pattern for the entities of HTML: decimal, hexadecimal and named, up to four times."""
    number = ord(char)
    named = html.entities.codepoint2name.get(number, "apos" if char == "'" else None)
    entity = f"#0{{0,5}}{number}|#x0{{0,5}}{number:x}" + (f"|{named}" if named else "")
    return f"&(?:amp;){{0,3}}(?:{entity});"


def _backslash_escapes(char: str, raw: bytes) -> list[str]:
    """Patterns for the escapes of JSON and programming languages: the character, its code point, UTF-16 or bytes."""
    number, units = ord(char), char.encode("utf-16-be", errors="surrogatepass").hex()
    escaped = [re.escape(char), _percent(raw), f"x{number:02x}", f"u{number:08x}"]
    return [
        f"{_BACKSLASH}(?:{'|'.join(escaped)})",
        "".join(f"{_BACKSLASH}u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        "".join(f"{_BACKSLASH}x{byte:02x}" for byte in raw),
    ]


_CODE = "(3[0-9]|[46][1-9a-f]|[57][0-9a])"  # of a letter or digit of ASCII, in hexadecimal
_DECIMAL = "(?P<decimal>4[89]|5[0-7]|6[5-9]|[78][0-9]|9[07-9]|1[01][0-9]|12[0-2])"
_AFTER_BACKSLASH = rf"(?:\\|%(?:25){{0,3}}5c){{0,3}}(?:x|u00|u000000){_CODE}"
# A letter or digit that is escaped, which no encoder has to do. A pattern of a secret with all of them would be slow.
# Each branch begins with one character, so that the search skips all others at C speed.
_ESCAPED = re.compile(
    rf"(?i:%(?:25){{0,3}}(?:{_CODE}|5c{_AFTER_BACKSLASH})|\\{_AFTER_BACKSLASH}"
    rf"|&(?:amp;){{0,3}}#(?:x0{{0,5}}{_CODE}|0{{0,5}}{_DECIMAL});)"
)


def _plain_character(escaped: re.Match[str]) -> str:
    return chr(int(escaped[escaped.lastindex or 0], 10 if escaped.lastgroup == "decimal" else 16))


FEW_SECRETS = 16  # secrets, of which one pattern is faster than the search for anchors
_CHARACTERS_AT_ONCE = 1 << 16  # characters whose anchors are in memory at once


class _Known:
    """
    Every secret value of this process.

    A pattern of all tries each of them at every character: a line takes a hundred times as long with 200 secrets as
    with 10. So where there are many, a text is searched for those only of which it has an anchor.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._by_anchor: dict[int, dict[str, set[str]]] = {}  # length of an anchor -> anchor -> values
        self._lock = threading.Lock()
        self.shown: set[str] = set()
        self.passing: deque[str] = deque(maxlen=128)

    def add(self, value: str) -> None:
        with self._lock:
            if value in self._values or value in self.shown:
                return
            self._values.add(value)
            for anchor in _anchors(value):
                self._by_anchor.setdefault(len(anchor), {}).setdefault(anchor, set()).add(value)

    def pattern_for(self, text: str) -> re.Pattern[str] | None:
        """A pattern of all secrets that the text may have; None if it has none."""
        with self._lock:
            found = self._values if len(self._values) <= FEW_SECRETS else self._anchored(text.lower())
            values = frozenset(found)
        return _pattern_of(values) if values else None

    def _anchored(self, text: str) -> set[str]:
        found: set[str] = set()
        for length, values in self._by_anchor.items():
            for start in range(0, len(text) - length + 1, _CHARACTERS_AT_ONCE):
                last = min(start + _CHARACTERS_AT_ONCE, len(text) - length + 1)
                for anchor in values.keys() & {text[at : at + length] for at in range(start, last)}:
                    found |= values[anchor]
        return found


@lru_cache(100)
def _pattern_of(values: frozenset[str]) -> re.Pattern[str] | None:
    """One pattern that matches the longest first. None if all are too short."""
    forms = [secret_pattern(value) for value in sorted(values, key=len, reverse=True)]
    return re.compile("|".join(filter(None, forms))) if any(forms) else None


_known = _Known()


def shown_url(text: str) -> str:
    """
    A possibly malformed URL for a message, with ``***`` for everything before its last ``@`` and for its query.

    It is not parsed: a ``/`` or ``#`` in a password would turn the password into a path or a port.
    """
    scheme, slashes, without_scheme = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    _, at, place = without_scheme.rpartition("@")
    place, mark, _ = place.partition("?")
    return f"{scheme}{slashes}{MASK if at else ''}{at}{place}{mark}{MASK if mark else ''}"
