"""
A sample answer of a provider: where its records are, and what the envelope around them states.
"""

import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Literal, cast

import msgspec
from attrs import evolve, frozen
from penstock import EXACT_JSON, UsageError

from penstock_plugins.scaffold.personal import replaced_value, without_secrets

MAX_SERVED = 200  # records of the sample that the sandbox serves
MAX_HEADER_LINES = 50
MAX_BYTES = 64 * 2**20  # of a sample, unpacked
DELIMITERS = ",;\t|"

TOTALS = ("total", "totalCount", "total_count", "totalItems", "totalResults", "totalRecords", "recordsTotal", "count")
PAGES = ("pages", "totalPages", "total_pages", "pageCount", "page_count", "lastPage", "last_page")
CURSORS = (
    "nextCursor",
    "next_cursor",
    "endCursor",
    "cursor",
    "nextPageToken",
    "next_page_token",
    "nextToken",
    "next",
    "after",
)
LINKS = ("next", "nextLink", "next_link", "next_page_url", "nextPageUrl", "nextUrl", "href")
WRAPPERS = ("node", "attributes", "properties", "fields")  # objects that hold the members of a record
FLAGS = ("hasMore", "has_more", "hasNextPage", "has_next_page", "hasNext", "has_next", "more")

_TOTALS = re.compile(
    r"(?i)((grand |sub-?)?totals?|sum|summe|gesamt(summe)?|insgesamt|totaux|totale|totaal|somme|suma|razem|celkem)"
    r"\s*([:(].*)?"
)

Record = dict[str, Any]


@frozen(kw_only=True)
class Sample:
    """The records of a sample, in its order, and what is around them."""

    format: Literal["json", "csv"]
    packing: Literal["", "gzip", "zip"] = ""
    text: str  # what the sandbox serves: personal values and secrets are replaced, MAX_SERVED records are kept
    records: Sequence[Record]
    members: Sequence[str]
    # Dotted paths; "" and None where there is none.
    items: str = ""
    total: str | None = None
    pages: str | None = None
    cursor: str | None = None
    link: str | None = None
    more: str | None = None
    url: str = ""  # a link to pages of the provider
    within: str = ""  # the object in each record, such as "node", whose members are here those of the record
    inner: tuple[str, ...] = ()  # the members of ``within``
    is_array: bool = False  # the body is a bare array
    # Of CSV; ``header``, ``encoding`` and ``totals`` are what its ReportFile must declare.
    delimiter: str = ","
    head: int = 1  # rows up to the header row, which is one of them
    header: tuple[str, ...] = ()
    encoding: str | None = None
    written_in: str = "utf-8"  # the encoding of the file
    totals: tuple[str, ...] = ()


def read_sample(body: bytes) -> Sample:
    """The sample in a body of JSON or CSV, plain, gzip or zip. Raises UsageError if it has no records."""
    packing: Any = "gzip" if body[:2] == b"\x1f\x8b" else "zip" if body[:4] == b"PK\x03\x04" else ""
    bodies = _unpacked(body, packing)
    text, encoding = _text_of(bodies[0])
    if text.lstrip()[:1] in ("{", "["):
        return evolve(_json_sample(text), packing=packing)
    if text.lstrip()[:1] == "<":
        raise UsageError(f"the sample is HTML or XML, neither JSON nor CSV; it begins: {text.strip()[:80]!r}")
    sample = _csv_sample([_text_of(body)[0] for body in bodies])
    declared = encoding if encoding == "latin-1" else None  # the others are recognised
    return evolve(sample, packing=packing, encoding=declared, written_in=encoding)


def _unpacked(body: bytes, packing: str) -> list[bytes]:
    """The file, or the files of a zip."""
    try:
        if packing == "gzip":
            return [_bounded(cast("BinaryIO", gzip.GzipFile(fileobj=io.BytesIO(body))))]
        if packing == "zip":
            archive, bodies = zipfile.ZipFile(io.BytesIO(body)), []
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as file:
                        bodies.append(_bounded(cast("BinaryIO", file)))
            if not bodies:
                raise UsageError("the sample is a zip without a file")
            return bodies
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(f"the sample is packed, and cannot be unpacked: {error}; give it unpacked") from None
    return [body]


def _bounded(file: BinaryIO) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(f"the sample has more than {MAX_BYTES >> 20} MiB unpacked; give one with fewer records")
    return content


def _text_of(body: bytes) -> tuple[str, str]:
    """The text, and its encoding."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16"), "utf-16"
    try:
        return body.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return body.decode("latin-1"), "latin-1"


# --- JSON -----------------------------------------------------------------------------------------------------------


def _json_sample(text: str) -> Sample:
    try:
        value = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise UsageError(f"the sample is no JSON: {error}") from None
    except RecursionError:
        raise UsageError("the sample is nested too deeply; give one with fewer levels") from None
    value = without_secrets(value, {})
    try:
        EXACT_JSON.encode(value)
    except UnicodeEncodeError:
        raise UsageError("the sample has half a character (an escape such as \\ud800 alone); remove it") from None
    items, records = _longest_array(value)
    envelope = value if isinstance(value, dict) and items else {}
    cursor = _stated_path(envelope, items, CURSORS, lambda value: value is None or _is_cursor(value))
    if cursor and items.endswith(".edges"):
        for record in records:
            record.pop("cursor", None)  # of the pages, not of the record
    link = _stated_path(envelope, items, LINKS, lambda value: isinstance(value, str) and _is_link(value))
    if items:
        _shorten(value, items)
    else:
        value = value[:MAX_SERVED] if isinstance(value, list) else value
    return Sample(
        format="json",
        text=msgspec.json.format(EXACT_JSON.encode(value), indent=2).decode() + "\n",
        **_of_records(records),
        items=items,
        is_array=isinstance(value, list),
        total=_stated_path(envelope, items, TOTALS, lambda value: _is_count(value) and int(value) >= len(records)),
        pages=_stated_path(envelope, items, PAGES, _is_count),
        cursor=cursor,
        link=link,
        url=next((value for path, value in _members(envelope, items) if path == link and "://" in value), ""),
        more=_stated_path(envelope, items, FLAGS, lambda value: isinstance(value, bool)),
    )


def _longest_array(value: Any) -> tuple[str, list[Record]]:
    """The longest array of objects, with its path; a single object is an array of one."""
    longest = max(_arrays(value), key=lambda array: len(array[1]), default=None)
    if longest is None and isinstance(value, dict) and not any(isinstance(inner, list) for inner in value.values()):
        longest = ("", [value])
    if longest is None or not longest[1]:
        raise UsageError("the sample has no array of objects with at least one record; save an answer that has some")
    return longest


def _of_records(records: Sequence[Record]) -> dict[str, Any]:
    """The records, their members, and the object within each that has most of these."""
    for within in WRAPPERS:
        objects = [record.get(within) for record in records]
        inner = tuple(dict.fromkeys(member for object_ in objects if isinstance(object_, dict) for member in object_))
        outer = dict.fromkeys(member for record in records for member in record if member != within)
        if inner and all(isinstance(object_, dict) for object_ in objects) and not outer.keys() & set(inner):
            flat = [
                {**{name: record[name] for name in record if name != within}, **record[within]} for record in records
            ]
            return {"records": flat, "members": [*outer, *inner], "within": within, "inner": inner}
    return {"records": records, "members": list(dict.fromkeys(member for record in records for member in record))}


def _arrays(value: Any, path: str = "", depth: int = 4) -> Iterator[tuple[str, list[Record]]]:
    """The arrays of objects in a body, outermost first, with their paths."""
    if isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            yield path, value
    elif isinstance(value, dict) and depth:
        for member, inner in value.items():
            if "." not in member:
                yield from _arrays(inner, f"{path}.{member}" if path else member, depth - 1)


def _shorten(value: Any, path: str) -> None:
    *outer, last = path.split(".")
    for member in outer:
        value = value[member]
    value[last] = value[last][:MAX_SERVED]


def _stated_path(envelope: Any, items: str, names: Sequence[str], fits: Any) -> str | None:
    """The path of the first member of one of these names whose value fits, outside of the records."""
    paths: dict[str, str] = {}
    for path, value in _members(envelope, items):
        name = path.rpartition(".")[2].rpartition(":")[2].lstrip("@")
        if fits(value):
            paths.setdefault(name, path)
    return next((paths[name] for name in names if name in paths), None)


def _members(value: Any, items: str, path: str = "") -> Iterator[tuple[str, Any]]:
    for member, inner in value.items():
        at = f"{path}.{member}" if path else member
        if at == items or "." in member:
            continue
        if isinstance(inner, dict):
            yield from _members(inner, items, at)
        else:
            yield at, inner


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"\d{1,12}", str(value)) is not None


def _is_link(value: str) -> bool:
    return value.startswith(("/", "http://", "https://", "?"))


def _is_cursor(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and not _is_link(str(value))


# --- CSV ------------------------------------------------------------------------------------------------------------


def _csv_sample(texts: Sequence[str]) -> Sample:
    """The records of files of one report."""
    lines = texts[0].splitlines(keepends=True)
    delimiter = max(
        DELIMITERS, key=lambda delimiter: max((line.count(delimiter) for line in lines[:MAX_HEADER_LINES]), default=0)
    )
    rows = _rows(texts[0], delimiter)
    widths = [_width(row) for row in rows[:MAX_HEADER_LINES]]
    at = widths.index(max(widths)) if widths else 0
    header = rows[at] if rows else []
    names = [cell.strip() for cell in header[: widths[at]]] if rows else []
    if len(names) < 2 or len(set(names)) < len(names):
        shown_names = ", ".join(map(repr, names[:20])) or "nothing"
        raise UsageError(
            f"the sample is no JSON, and as CSV has no header row with different names: found {shown_names}"
        )
    rows = rows[at + 1 :]
    for further in (_rows(text, delimiter) for text in texts[1:]):
        rows += further[further.index(header) + 1 :] if header in further else []
    words = [_TOTALS.fullmatch(_first(row)) for row in rows]
    totals = tuple(dict.fromkeys(word[1] for word in words if word is not None))
    rows = [row for row, word in zip(rows, words, strict=True) if len(row) >= len(names) and word is None]
    if not rows:
        raise UsageError("the sample has a header row and no record; save a report that has some")
    replaced: dict[tuple[str, str], str] = {}
    records = [
        {name: replaced_value(name, cell, replaced) for name, cell in zip(names, row, strict=False)} for row in rows
    ]
    return Sample(
        format="csv",
        text=_csv_text(names, records[:MAX_SERVED], delimiter, has_head=at > 0),
        records=records,
        members=names,
        delimiter=delimiter,
        head=2 if at else 1,
        header=tuple(names[:2]) if at else (),
        totals=totals,
    )


def _csv_text(names: Sequence[str], records: Sequence[Record], delimiter: str, *, has_head: bool) -> str:
    """The file that the sandbox serves. ``has_head``: a line stands before the header row."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["A line before the header row"]] * has_head)
    writer.writerow(names)
    writer.writerows([list(record.values()) for record in records])
    return out.getvalue()


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The rows of a file that are not blank."""
    rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    return [row for row in rows if any(cell.strip() for cell in row)]


def _first(row: Sequence[str]) -> str:
    """The first cell that is not blank."""
    return next(filter(None, map(str.strip, row)), "")


def _width(row: Sequence[str]) -> int:
    """The number of cells up to the last that is not blank."""
    return max((number for number, cell in enumerate(row, 1) if cell.strip()), default=0)
