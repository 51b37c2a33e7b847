"""
Rows to bytes: CSV as RFC 4180 has it, JSON lines, and reading both back to merge.
"""

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from penstock import Column, Layout
from penstock_plugins.files.csv import Csv
from penstock_plugins.files.jsonl import JsonLines


def a_layout(*columns: Column) -> Layout:
    return Layout(source="acme", stream="things", kind="report", columns=columns)


def rows_of(layout: Layout, *rows: tuple[Any, ...]) -> list[Any]:
    made = msgspec.defstruct("Row", [column.name for column in layout.columns])
    return [made(*row) for row in rows]


def a_cell(type_: Any, value: Any, *, nullable: bool = True, escape_formulas: bool = False) -> str:
    layout = a_layout(Column(name="it", type=type_, nullable=nullable), Column(name="_extra", type="json"))
    (line,) = Csv(escape_formulas).encoder(layout).rows(rows_of(layout, (value, None))).decode().split("\r\n")[:-1]
    return line.removesuffix(",")


@pytest.mark.parametrize(
    ("type_", "value", "cell"),
    [
        ("text", "plain", '"plain"'),
        ("text", "", '""'),
        ("text", None, ""),
        ("text", "None", '"None"'),
        ("text", 'say "hi"', '"say ""hi"""'),
        ("integer", 2**70, "1180591620717411303424"),
        ("integer", None, ""),
        ("decimal", Decimal("1.50"), "1.50"),
        ("decimal", None, ""),
        ("boolean", True, "true"),
        ("boolean", False, "false"),
        ("boolean", None, ""),
        ("date", date(2026, 3, 1), '"2026-03-01"'),
        ("datetime", datetime(2026, 3, 1, 2, 3, 4), '"2026-03-01T02:03:04"'),  # noqa: DTZ001
        ("datetime", datetime(2026, 3, 1, 2, 3, 4, 5, UTC), '"2026-03-01T02:03:04.000005+00:00"'),
        ("datetime", None, ""),
        ("json", {"a": [1, Decimal("0.10"), "x"]}, '"{""a"":[1,0.10,""x""]}"'),
        ("json", msgspec.Raw(b'{"a": "\xc3\xa4"}'), '"{""a"": ""ä""}"'),
        ("json", msgspec.Raw(b"null"), ""),
        ("json", None, ""),
        ("json", msgspec.UNSET, ""),
        ("json", [], '"[]"'),
        ("json", 0, '"0"'),
    ],
)
def test_a_csv_cell_keeps_null_apart_from_empty_text(type_, value, cell):
    """
    Null is nothing, an empty text is quoted, digits are kept, nested values are JSON.
    """
    assert a_cell(type_, value) == cell


def test_null_where_none_was_declared():
    """
    A batch hook may blank a column that the provider always sends: it is null, not the word None.
    """
    assert a_cell("text", None, nullable=False) == ""


def test_csv_for_a_spreadsheet_of_another_country():
    """
    Semicolons, decimal commas and a byte order mark; a file with them is read back to be merged.
    """
    codec = Csv(delimiter=";", decimal_sign=",", bom=True)
    layout = a_layout(Column(name="id", type="text"), Column(name="spend", type="decimal"))
    content = codec.encoder(layout).begin() + codec.encoder(layout).rows(
        rows_of(layout, ("a;b", Decimal("1.50")), ("c", None))
    )
    records = codec.read(io.BytesIO(content))
    (block,) = records

    assert content == b'\xef\xbb\xbf"id";"spend"\r\n"a;b";"1,50"\r\n"c";\r\n'
    assert records.keys(block, ["id"]) == [("a;b",), ("c",)]
    assert records.chosen(block, [True, True], a_layout(*reversed(layout.columns))) == [
        b'"1,50";"a;b"\r\n',
        b';"c"\r\n',
    ]


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_formulas_are_escaped_only_on_demand(start):
    """
    A text that a spreadsheet would run gets an apostrophe; other columns do not.
    """
    assert a_cell("text", f"{start}1", escape_formulas=True) == f'"\'{start}1"'
    assert a_cell("text", f"{start}1") == f'"{start}1"'
    assert a_cell("integer", -1, escape_formulas=True) == "-1"
    assert a_cell("text", None, escape_formulas=True) == ""
    assert a_cell("text", "", escape_formulas=True) == '""'


@pytest.mark.parametrize("name", ["class", "import", "f-string'\"\\", "{r}", "zwei worte"])
def test_columns_of_any_name(name):
    """
    Columns declared in a configuration may have names that no attribute could be written with.
    """
    layout = a_layout(Column(name=name, type="text"), Column(name="other", type="json"))
    row = type("Row", (), {})()
    setattr(row, name, "x")
    row.other = None

    assert Csv().encoder(layout).rows([row]) == b'"x",\r\n'


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["", '"', "\r\n", ",", "None", "\0", "''"])
ROWS = st.lists(
    st.tuples(TEXTS, st.none() | TEXTS, st.none() | st.integers(), st.none() | st.lists(TEXTS, max_size=2)), max_size=5
)
LAYOUT = a_layout(
    Column(name="a", type="text", nullable=False),
    Column(name="b", type="text"),
    Column(name="c", type="integer"),
    Column(name="d", type="json"),
)


@settings(max_examples=300)
@given(ROWS)
def test_csv_is_what_the_standard_library_reads(rows):
    """
    A reader of RFC 4180 gets any text back, a NUL as U+2400.
    """
    written = Csv().encoder(LAYOUT).rows(rows_of(LAYOUT, *rows)).decode()

    assert list(csv.reader(io.StringIO(written, newline=""), strict=True)) == [
        [
            a.replace("\0", "\u2400"),
            (b or "").replace("\0", "\u2400"),
            "" if c is None else str(c),
            "" if d is None else msgspec.json.encode(d).decode(),
        ]
        for a, b, c, d in rows
    ]


TYPED_ROWS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\x02"), max_size=8)
        | st.text(st.sampled_from('\\"nrtbfu0\n\r\t\b\f\0\x01\x1f[],'), max_size=8),
        st.none() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False),
        st.none() | st.booleans(),
        st.none() | st.datetimes(timezones=st.none() | st.just(UTC)),
        st.none() | st.dates(),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=500)
@given(TYPED_ROWS)
def test_csv_is_the_same_as_by_the_standard_library(rows):
    """
    Records with commas are made by way of JSON, those with another delimiter by csv.writer: the same, but for it.
    """
    types: Any = ("text", "decimal", "boolean", "datetime", "date")
    layout = a_layout(*(Column(name=f"c{number}", type=type_) for number, type_ in enumerate(types)))
    by_commas, by_others = (Csv(delimiter=one).encoder(layout).rows(rows_of(layout, *rows)) for one in ",\x02")

    assert by_commas == by_others.replace(b"\x02", b",")


@pytest.mark.parametrize("codec", [Csv(), JsonLines()], ids=["csv", "jsonl"])
@settings(max_examples=200)
@given(rows=ROWS)
def test_records_are_read_back_byte_for_byte(codec, rows):
    """
    A file falls into its records again, with the values of any columns as keys; equal values, equal keys.
    """
    encoded = codec.encoder(LAYOUT).rows(rows_of(LAYOUT, *rows))
    records = codec.read(io.BytesIO(codec.encoder(LAYOUT).begin() + encoded))
    blocks = list(records)

    assert b"".join(record for block in blocks for record in block) == encoded
    keys = [key for block in blocks for key in records.keys(block, ["a", "c"])]
    assert len(keys) == len(rows)
    assert len(set(keys)) == len({(a.replace("\0", "\u2400") if codec.name == "csv" else a, c) for a, _, c, _ in rows})
    assert [one for block in blocks for one in records.chosen(block, [True] * len(block), LAYOUT)] == [
        one for block in blocks for one in block
    ]


@pytest.mark.parametrize("codec", [Csv(), JsonLines()], ids=["csv", "jsonl"])
def test_a_number_and_a_text_of_its_digits_are_one_key(codec):
    """
    A column that became a text since the file was written still finds its records.
    """
    keys = []
    for type_, value in (("integer", 7), ("text", "7")):
        layout = a_layout(Column(name="id", type=type_))
        records = codec.read(
            io.BytesIO(codec.encoder(layout).begin() + codec.encoder(layout).rows(rows_of(layout, (value,))))
        )
        keys += [key for block in records for key in records.keys(block, ["id"])]

    assert keys[0] == keys[1]


def test_csv_records_are_fitted_to_new_columns():
    """
    A column that is new is null in older records, one that is gone is dropped, null and empty text stay apart.
    """
    old = a_layout(*(Column(name=name, type="text") for name in ("id", "gone", "b", "c")))
    new = a_layout(*(Column(name=name, type="text") for name in ("c", "id", "new", "b")))
    rows = rows_of(old, ("1", "x,\r\n", "", None), ("2", "", None, 'a "b"\r\n'))
    records = Csv().read(io.BytesIO(Csv().encoder(old).begin() + Csv().encoder(old).rows(rows)))
    (block,) = records

    assert records.chosen(block, [True, True], new) == [b',"1",,""\r\n', b'"a ""b""\r\n","2",,\r\n']


@pytest.mark.parametrize(
    ("codec", "content"),
    [
        pytest.param(JsonLines(), b'{"id": 1}\n{"id": ', id="jsonl cut"),
        pytest.param(JsonLines(), b"[1]\n", id="jsonl no object"),
        pytest.param(Csv(), b'"id"\r\n"1"\r\n"2', id="csv cut"),
        pytest.param(Csv(), b'"other"\r\n"1"\r\n', id="csv without the key"),
    ],
)
def test_a_damaged_file_is_detected(codec, content):
    """
    A line that is no record is an error, never a key.
    """
    records = codec.read(io.BytesIO(content))

    with pytest.raises(ValueError):
        [records.keys(block, ["id"]) for block in records]


def test_json_lines_hold_one_record_per_line():
    """
    A nested value that was kept with its line breaks is written without them; money keeps its digits.
    """
    layout = a_layout(Column(name="id", type="integer"), Column(name="part", type="json"))
    rows = rows_of(layout, (1, msgspec.Raw(b'{\n "price": 0.10,\n "text": "a\\nb"}')), (2, Decimal("1.50")))

    assert (
        JsonLines().encoder(layout).rows(rows)
        == b'{"id":1,"part":{"price":0.10,"text":"a\\nb"}}\n{"id":2,"part":1.50}\n'
    )


def test_hidden_columns_are_left_out_of_json_lines():
    """
    An attribute that is unset does not appear, not even as null.
    """
    layout = a_layout(Column(name="id", type="integer"), Column(name="_extra", type="json"))

    assert JsonLines().encoder(layout).rows(rows_of(layout, (1, msgspec.UNSET))) == b'{"id":1}\n'


def _calls(work: Callable[[], object]) -> int:
    import sys

    count = 0

    def note(frame, event, arg):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("codec", [Csv(), JsonLines()], ids=["csv", "jsonl"])
def test_no_python_function_is_called_per_record(codec):
    """
    On the usual road a page of a thousand records costs a handful of calls.
    """
    layout = a_layout(*LAYOUT.columns[:3], Column(name="_extra", type="json"))
    encode = codec.encoder(layout).rows
    rows = rows_of(layout, *[(f"c{number}", None, number, msgspec.UNSET) for number in range(1000)])

    assert _calls(lambda: encode(rows)) < 30
