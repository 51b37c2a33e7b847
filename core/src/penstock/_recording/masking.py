"""
What a recording hides: secrets, and in a masked one all values that may be personal.

A body keeps its form: only values are replaced, byte by byte, so that a body that is cut, or that no parser takes,
stays the odd body that it is. Equal values get equal replacements, so that keys stay distinct and a child's request
still names its parent's row. Nothing leads back from a replacement: its key is thrown away with the process.
"""

import csv
import hashlib
import hmac
import io
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal
from urllib.parse import unquote

from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._decode.masks import steps_of
from penstock.connector import Stream
from penstock.model import Items
from penstock.records import Column
from penstock.redact import MASK, replaced_also_escaped, secret_pattern
from penstock.report_files import MAX_RECORD_BYTES

Names = Sequence[str]
"""The names of the members that lead to a value, from the outside to the inside; arrays are passed over."""

Nature = Literal["plain", "personal", "secret", "unknown"]

Replace = Callable[[Names, int, bytes], bytes | None]
"""The replacement of a JSON value that is no array or object: its names, its position and its bytes; None: it stays."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_DIGIT = re.compile(rb"[0-9]")
_WHOLE = re.compile(rb"-?[0-9]+")
_ADDRESS = re.compile(  # of a person, also in a link; one that begins in the middle of a word is none
    r"(?:(?<=%[0-9A-Fa-f]{2})|(?<![\w.+%-]))(?:[\w.+-]|%2[Bb]){1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63})+"
)
_BRACKETS = (b"{", b"[", b"}", b"]")


def replaced_json(body: bytes, replace: Replace) -> bytes:
    """
    JSON, or what there is of it, with the replacement of every value; everything else byte for byte.
    """
    pieces: list[bytes] = []
    position = 0
    names: list[str] = []
    frames: list[list[bool]] = []  # of each open array or object: is it an object, and has it named a member?
    name_due = False
    for hit in _TOKEN.finditer(body):
        token = hit[0]
        sign = token if len(token) == 1 else b""
        if sign in (b"{", b"["):
            replace(names, hit.start(), token)
            frames.append([sign == b"{", False])
            name_due = sign == b"{"
        elif sign in (b"}", b"]", b","):
            if sign != b",":
                replace(names, hit.start(), token)
            if frames and frames[-1][1]:
                names.pop()
                frames[-1][1] = False
            if sign == b",":
                name_due = bool(frames) and frames[-1][0]
            elif frames:
                frames.pop()
                name_due = False
        elif sign == b":":
            name_due = False
        elif name_due and token[:1] == b'"':
            names.append(text_of(token))
            frames[-1][1], name_due = True, False
        elif (new := replace(names, hit.start(), token)) is not None:
            pieces += (body[position : hit.start()], new)
            position = hit.end()
    return b"".join((*pieces, body[position:])) if pieces else body


def text_of(token: bytes) -> str:
    """The text of a JSON string, as far as it can be read."""
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token.strip(b'"').decode(errors="replace")


@frozen
class Fields:
    """
    The columns of a stream by the members that they read, and the natures of values. ``linked``: the columns by whose
    values requests are made.
    """

    members: dict[str, Column]
    paths: dict[tuple[str, ...], Column]
    stamped: dict[str, Column]  # columns that penstock adds, by name
    derived: dict[str, "tuple[Fields, ...]"]  # column -> the streams cut from it
    linked: frozenset[str]

    @classmethod
    def of(cls, source: ConfiguredSource, stream: Stream) -> "Fields":
        columns = source.columns_of(stream)
        inner: dict[str, tuple[Fields, ...]] = {}
        for child in source.derived_from(stream.name):
            assert child.derived is not None
            inner[child.derived.column] = (*inner.get(child.derived.column, ()), cls.of(source, child))
        parents = [other.parent for other in source.streams if other.parent is not None]
        listers = [other.accounts_from for other in source.streams if other.accounts_from is not None]
        return cls(
            {column.member: column for column in columns if column.member is not None and not column.path},
            {column.path: column for column in columns if column.path},
            {column.name: column for column in columns if column.added},
            inner,
            frozenset(
                {name for parent in parents if parent.stream == stream.name for name in parent.columns}
                | {name for lister, name in listers if lister == stream.name}
            ),
        )

    @property
    def has_secrets(self) -> bool:
        """Whether a column, or a part of one, is secret."""
        in_columns = any(column.secret or column.hidden for column in (*self.members.values(), *self.paths.values()))
        return in_columns or any(child.has_secrets for fields in self.derived.values() for child in fields)

    def nature(self, names: Names) -> tuple[Nature, Column | None]:
        """The nature of a value inside of a record, and the column that reads it."""
        column, inner_names = self._column(names)
        if column is None:
            return "unknown", None
        if column.secret or any(_within(inner_names, steps_of(path)) for path in column.hidden):
            return "secret", column
        if column.personal or any(_within(inner_names, steps_of(path)) for path in column.hidden_personal):
            return "personal", column
        inner = [child.nature(inner_names) for child in self.derived.get(column.name, ())] if inner_names else []
        return next((child_nature for child_nature in inner if child_nature[0] != "plain"), ("plain", column))

    def _column(self, names: Names) -> tuple[Column | None, Names]:
        for length in range(len(names), 0, -1):
            if column := self.paths.get(tuple(names[:length])):
                return column, names[length:]
        return (self.members.get(names[0]), names[1:]) if names else (None, ())

    def selections(self, *, personal: bool) -> set[tuple[str, str]]:
        """
        The (member, value) by which paths of secrets select objects, the value in lower case; with ``personal``, also
        those by which paths of personal parts do.
        """
        columns = (*self.members.values(), *self.paths.values())
        paths = [path for column in columns for path in (*column.hidden, *(column.hidden_personal if personal else ()))]
        pairs = {
            (steps[0][0], steps[0][1].casefold())
            for path in paths
            if len(steps := steps_of(path)) == 1 and steps[0][1] is not None
        }
        inner = (child for fields in self.derived.values() for child in fields)
        return pairs.union(*(child.selections(personal=personal) for child in inner))

    def nature_outside(self, names: Names) -> Nature:
        """The nature of a value outside of the records: by its name alone."""
        column = self.members.get(names[-1]) if names else None
        return "plain" if column is None else "secret" if column.secret else "personal" if column.personal else "plain"


def _within(names: Names, steps: Sequence[tuple[str, str | None]]) -> bool:
    """
    Whether a value is at a hidden path or below. ``*`` stands for a member or, since arrays are passed over, for none.
    A selection by a value counts as the whole of what it is in, unless it is the whole path: see ``Fields.selections``.
    """
    is_selection = len(steps) == 1 and steps[0][1] is not None
    return not is_selection and _leads_to(names, steps)


def _leads_to(names: Names, steps: Sequence[tuple[str, str | None]]) -> bool:
    if not steps or steps[0][1] is not None:
        return True
    (name, _), *inner = steps
    if name == "*" and _leads_to(names, inner):
        return True
    return bool(names) and name in ("*", names[0]) and _leads_to(names[1:], inner)


def selected(body: bytes, selections: Collection[tuple[str, str]]) -> list[tuple[int, int, int]]:
    """The objects with one of these members and values: start, end, and where that value is. Inner ones come first."""
    spans: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []  # of each open array or object: where it starts, and its selector, else -1

    def look(names: Names, start: int, token: bytes) -> None:
        if token in (b"{", b"["):
            opened.append((start, -1))
        elif token in (b"}", b"]") and opened:
            begin, selector = opened.pop()
            spans.extend([(begin, start, selector)] if selector >= 0 else [])
        elif opened and names and (names[-1], text_of(token).casefold()) in selections:
            opened[-1] = (opened[-1][0], start)

    replaced_json(body, look)
    return spans


@define(eq=False, repr=False)
class Masking:
    """
    Replaces values of one recording. ``full``: secrets only.

    ``hidden`` holds the values that requests mask, such as the customer's reference.

    ``linked`` holds the replacements of values by which requests are made (``Fields.linked``), by value.
    """

    full: bool
    linked: dict[str, str] = field(factory=dict)
    hidden: set[str] = field(factory=set)
    _salt: bytes = field(factory=lambda: secrets.token_bytes(32), repr=False)

    def alias(self, text: str) -> str:
        """The replacement of a text."""
        return f"masked-{hmac.new(self._salt, text.encode(errors='replace'), hashlib.sha256).hexdigest()[:12]}"

    def without_hidden(self, text: str) -> str:
        """A text without the values that requests mask, in every form in which a secret is recognised."""
        return replaced_also_escaped(text, self._without_hidden_forms)

    def _without_hidden_forms(self, text: str) -> str:
        for value in sorted(self.hidden, key=len, reverse=True):
            if pattern := secret_pattern(value):
                text = re.sub(pattern, self.alias(value), text)
        return text

    def without_addresses(self, text: str) -> str:
        """A text beside the records without addresses of persons; a full recording keeps them."""
        return text if self.full else _ADDRESS.sub(lambda hit: self.alias(unquote(hit[0])), text)

    def linked_text(self, text: str) -> str:
        """A text of a request as a later run makes it, from masked responses and settings."""
        return self.linked[text] if text in self.linked else self.without_addresses(text)

    def mask_text(self, value: str, nature: Nature, column: Column | None, fields: Fields) -> str:
        """The replacement of a text, which keeps its form where its column has another type."""
        if nature == "plain" or (self.full and nature != "secret") or not value.strip():
            self._keep_linked(value, column, fields)
            return value
        if nature == "secret":
            return MASK
        if column is not None and value in column.null:
            return value
        if column is not None and column.type not in ("text", "json"):
            return re.sub("[0-9]", "1", value)
        replacement = self.alias(value)
        if column is not None and column.name in fields.linked:
            self.linked[value] = replacement
        return replacement

    def _keep_linked(self, value: str, column: Column | None, fields: Fields) -> None:
        """Let requests keep an address that a plain column has, unless it is one of the settings, too."""
        if "@" in value and column is not None and column.name in fields.linked:
            self.linked.setdefault(value, value)

    def mask_value(self, token: bytes, nature: Nature, column: Column | None, fields: Fields) -> bytes | None:
        """The replacement of a value in JSON; None: it stays."""
        if nature == "plain" or (self.full and nature != "secret") or token == b"null":
            if b"@" in token:
                self._keep_linked(text_of(token), column, fields)
            return None
        if token[:1] == b'"':
            return json.dumps(self.mask_text(text_of(token), nature, column, fields)).encode()
        if nature == "secret":
            return b"0" if token[:1] not in (b"t", b"f") else b"false"
        if token in (b"true", b"false"):
            return b"false"
        if not _WHOLE.fullmatch(token):
            return _DIGIT.sub(b"1", token)
        digits = int(hmac.new(self._salt, token, hashlib.sha256).hexdigest(), 16)
        length = len(token.lstrip(b"-"))
        number = str(digits % (9 * 10 ** (length - 1)) + 10 ** (length - 1)).encode() if length > 1 else b"1"
        if column is not None and column.name in fields.linked:
            self.linked[token.decode()] = number.decode()
        return number

    def mask_body(
        self,
        body: bytes,
        fields: Fields,
        items: Iterable[Items] | None,
        stamps: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """
        A JSON body. ``items``: the records in it; None where they are not known, since it cannot be read: then every
        value counts as one inside of a record. ``stamps``: column -> path in the objects around the records.
        """
        return replaced_json(body, _Replacement.of(self, body, fields, items, stamps))

    def mask_rows(self, items: Items, raw: bytes, fields: Fields) -> bytes:
        """Rows of CSV. The first cell of a footer or a row of totals stays."""
        csv.field_size_limit(MAX_RECORD_BYTES)
        out = io.StringIO()
        writer = csv.writer(out, delimiter=items.delimiter, lineterminator="\n")
        natures: list[tuple[Nature, Column | None]] = [fields.nature((name,)) for name in items.header]
        no_records = (*items.footer, *items.totals)
        for row in csv.reader(io.StringIO(raw.decode(), newline=""), delimiter=items.delimiter):
            first = 1 if row and no_records and row[0].startswith(no_records) else 0
            cells = list(row[:first])
            for index, cell in enumerate(row[first:], first):
                nature, column = natures[index] if index < len(natures) else ("unknown", None)
                cells.append(self.mask_text(cell, nature, column, fields))
            writer.writerow(cells)
        return out.getvalue().encode()


@define(eq=False, repr=False, kw_only=True)
class _Replacement:
    """
    Replaces the values of one JSON body, which come in their order.

    ``regions``: where its records are; None: not known. ``arrays``: the paths of the arrays whose elements hold the
    records. ``stamped``: the paths around the records whose values are columns, with these. ``selections``: the objects
    in which a secret member selects the others, the last one first.
    """

    masking: Masking
    fields: Fields
    regions: list[tuple[int, int]] | None
    arrays: Collection[tuple[str, ...]]
    stamped: Mapping[tuple[str, ...], Column | None]
    selections: list[tuple[int, int, int]]
    _open: list[tuple[int, int, int]] = field(factory=list, init=False)  # the selections that the value is in
    _base: int = field(default=0, init=False)  # names that lead to the records of the current region

    @classmethod
    def of(
        cls,
        masking: Masking,
        body: bytes,
        fields: Fields,
        items: Iterable[Items] | None,
        stamps: Mapping[str, str],
    ) -> "_Replacement":
        selections = fields.selections(personal=not masking.full)
        return cls(
            masking=masking,
            fields=fields,
            regions=None if items is None else _regions(body, items),
            arrays=() if items is None else _outer_arrays(items),
            stamped={tuple(path.split(".")): fields.stamped.get(column) for column, path in stamps.items()},
            selections=sorted(selected(body, selections), reverse=True) if selections else [],
        )

    def __call__(self, names: Names, start: int, token: bytes) -> bytes | None:
        """See ``Replace``."""
        is_record = self._enter_region(names, start)
        if token in _BRACKETS:
            return None
        if self._is_selected(start):
            return self.masking.mask_value(token, "secret", None, self.fields)
        if is_record:
            inner = names[self._base :] if self.regions is not None else names
            return self.masking.mask_value(token, *self.fields.nature(inner), self.fields)
        array = next((path for path in self.arrays if tuple(names[: len(path)]) == path), None)
        if array is None:
            return self._outside(names, token)
        within = tuple(names[len(array) :])
        column = self.stamped.get(within)
        plain = within in self.stamped and not (column is not None and column.personal)
        return self.masking.mask_value(token, "plain" if plain else "unknown", column, self.fields)

    def _enter_region(self, names: Names, start: int) -> bool:
        """Whether a value that starts here is of a record."""
        regions = self.regions
        while regions and start >= regions[0][1]:
            del regions[0]
        if regions and start == regions[0][0]:
            self._base = len(names)
        return regions is None or bool(regions and start >= regions[0][0])

    def _is_selected(self, start: int) -> bool:
        """Whether a member selects its object's other members, of which this value is one."""
        while self.selections and self.selections[-1][0] < start:
            self._open.append(self.selections.pop())
        while self._open and self._open[-1][1] < start:
            self._open.pop()
        return any(start != selector for _, _, selector in self._open)

    def _outside(self, names: Names, token: bytes) -> bytes | None:
        nature = self.fields.nature_outside(names)
        if nature != "plain" or token[:1] != b'"':
            return self.masking.mask_value(token, nature, None, self.fields)
        if (text := text_of(token)) in self.masking.hidden:
            return self.masking.mask_value(token, "personal", None, self.fields)
        masked = self.masking.without_addresses(text)
        return json.dumps(masked).encode() if masked != text else None


def _regions(body: bytes, items: Iterable[Items]) -> list[tuple[int, int]]:
    """The places of the records in the body; the whole body if a run of them is not found in it."""
    regions: list[tuple[int, int]] = []
    position = 0
    for item in items:
        raw = bytes(item.raw)
        if len(raw) <= 2 or item.format == "csv":  # empty
            continue
        start = body.find(raw, position)
        if start < 0:
            start = body.find(raw)
        if start < 0:
            return [(0, len(body))]
        regions.append((start, start + len(raw)))
        position = start + len(raw)
    return sorted(regions)


def _outer_arrays(items: Iterable[Items]) -> set[tuple[str, ...]]:
    """The paths of arrays whose elements hold the records, so that what stands beside these is of a record, too."""
    paths = {item.path.partition("[")[0] for item in items if "[" in item.path}
    return {tuple(path.removeprefix("$").strip(".").split(".")) if path != "$" else () for path in paths}
