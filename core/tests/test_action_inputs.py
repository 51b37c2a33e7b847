"""
Rows for an action from files.
"""

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from penstock._write.rows import MAX_LINE_BYTES, RowFile, SingleRow, write_values
from penstock.errors import UsageError


def rows(path: Path) -> list[Any]:
    """Values, or what is wrong."""
    return [given.problem.split(":")[0] or dict(given.values) for given in RowFile.at(path)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"a": 1}\n\n  \n{"a": "\xc3\xa9"}', [{"a": 1}, {"a": "é"}]),
        ("a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n', [{"a": 1}]),
        ("a.jsonl", b'{"a": \xff}\n[1]\n{"a"\n{"a": 1}', ["the line is no UTF-8 text", "the line is no JSON object"]),
        ("a.jsonl", b"", []),
        ("a.csv", b'a,b\r\n1,\r\n\r\n"x, ""y""\n z",2\r\n', [{"a": "1", "b": ""}, {"a": 'x, "y"\n z', "b": "2"}]),
        ("a.csv", b"\xef\xbb\xbfa\n1\n", [{"a": "1"}]),
        ("a.csv", b"a,b\n1\n1,2,3\n\xff,1\n1,2\n", ["1 cells under 2 columns", "3 cells under 2 columns"]),
        ("a.csv", b"a\n", []),
        ("data", b'\n {"a": 1}', [{"a": 1}]),
        ("data", b"a\n1\n", [{"a": "1"}]),
    ],
    ids=["json", "bom", "bad json", "empty", "csv", "csv bom", "bad csv", "header only", "seen json", "seen csv"],
)
def test_rows_of_a_file(tmp_path: Path, name: str, content: bytes, expected: list[Any]) -> None:
    """
    The file's suffix, else its first sign, decides the format; a bad line is a row with a problem, and the next one is
    read.
    """
    path = tmp_path / name
    path.write_bytes(content)

    found = rows(path)

    assert found[: len(expected)] == expected
    if name.endswith(".jsonl") and expected and isinstance(expected[0], str):
        assert found[2:] == ["the line is no JSON", {"a": 1}]
    elif expected and isinstance(expected[0], str):
        assert found[2:] == ["the line is no UTF-8 text", {"a": "1", "b": "2"}]
    else:
        assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (rb'{"a": "\ud83d"}', "half a character"),
        (rb'{"\uDE00": 1}', "half a character"),
        (rb'{"a": "\ud83d\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (rb'{"a": "\\ud83d"}', {"a": r"\ud83d"}),
    ],
    ids=["value", "name", "pair", "no escape"],
)
def test_text_that_no_utf8_can_hold_is_a_bad_row(tmp_path: Path, line: bytes, expected: Any) -> None:
    """
    A text that UTF-8 cannot hold can neither be sent nor be named in a receipt, and concerns its own row only.
    """
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b'\n{"a": 1}\n')

    first, second = RowFile.at(path)

    assert second.values == {"a": 1}
    assert first.values == expected if isinstance(expected, dict) else expected in first.problem


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{bad\n'),
        ("a.csv", b'\xef\xbb\xbfa,b\n"x\n y",\xff\n\n1\n'),
        ("a.csv", b'a,"b\nc"\n1,2\n'),
    ],
    ids=["jsonl", "csv", "header of two lines"],
)
def test_rows_can_be_written_as_they_stood(tmp_path: Path, name: str, content: bytes) -> None:
    """
    Header and rows make the file again, but for blank lines and the mark at its beginning.
    """
    path = tmp_path / name
    path.write_bytes(content)
    file = RowFile.at(path)

    written = file.header + b"".join(given.raw for given in file)

    assert written == content.removeprefix(b"\xef\xbb\xbf").replace(b"\n\n", b"\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"a": "x"}%s\n{"a": 1}\n'),
        ("a.jsonl", b'{"a": "%s"}\n{"a": 1}\n'),
        ("a.csv", b"a,b\n1,x%s\n1,\n"),
        ("a.csv", b'a,b\n1,"x\n%s"\n1,\n'),
    ],
    ids=["json and spaces", "json", "csv", "csv of two lines"],
)
def test_a_line_that_is_too_long_is_one_bad_row(tmp_path: Path, name: str, content: bytes) -> None:
    """
    No part of it becomes a row: neither with its last value cut, nor what comes after the cut.
    """
    path = tmp_path / name
    path.write_bytes(content % (b" " * (MAX_LINE_BYTES + 10)))

    first, second = RowFile.at(path)

    assert "16 MiB" in first.problem
    assert (first.number, first.values, first.raw) == (0, {}, b"")
    assert (second.number, second.values["a"] in (1, "1"), second.problem) == (1, True, "")


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    """
    An input whose name ends in ``.gz`` is unpacked.
    """
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a\n1\n"))

    assert rows(path) == [{"a": "1"}]


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("a.csv", b"", "name every column"),
        ("a.csv", b"a,,b\n", "name every column"),
        ("a.csv", b"a,b,a\n", "the column a is there twice"),
        ("a.csv", b"a;b;c\n1;2;3\n", r"separated by semicolons \('a;b;c'\); nothing was sent"),
        ("a.csv", b"a\tb\n1\t2\n", "separated by tabs"),
        ("a.json", b'[\n{"a": 1},\n{"a": 2}\n]\n', "it is one JSON value, and no JSON lines; nothing was sent"),
        ("a.jsonl", b'[{"a": 1}]', "it is one JSON value"),
        ("input", b'{\n  "rows": [\n    {"a": 1}\n  ]\n}\n', "it is one JSON value"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "its header is no UTF-8 text; nothing was sent"),
        ("a.csv", "a\tb\n1\t2\n".encode("utf-16"), "its header is no UTF-8 text; nothing was sent"),
        ("a.csv", "größe\n1\n".encode("latin-1"), "its header is no UTF-8 text; nothing was sent"),
        ("a.csv", b'{"a": 1}\n', "it holds JSON lines; nothing was sent"),
        ("a.csv.gz", b"no gzip", "is no gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 900)[:-9], "was cut off"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 900)[:20] + b"\xff" * 40, "cannot be read"),
    ],
    ids=[
        "empty",
        "no name",
        "twice",
        "semicolons",
        "tabs",
        "array",
        "array in a line",
        "printed object",
        "utf-16",
        "utf-16 tabs",
        "latin-1",
        "json lines",
        "no gzip",
        "cut gzip",
        "damaged gzip",
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, reported: str) -> None:
    """
    Is an error before anything is sent.
    """
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(UsageError, match=reported):
        RowFile.at(path)


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    """
    The digest that names the job would be another one's.
    """
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    file = RowFile.at(path)
    path.write_text('{"a": 1}\n{"a": 2}\n')

    with pytest.raises(UsageError, match="changed"):
        list(file)


@pytest.mark.parametrize(("name", "header"), [("a.jsonl", ""), ("a.csv", "a\n")], ids=["jsonl", "csv"])
def test_a_file_that_changes_while_it_is_read_is_not_read_on(tmp_path: Path, name: str, header: str) -> None:
    """
    After the last row that was read before the change, another part of the file may follow.
    """
    path = tmp_path / name
    lines = [f'{{"a": {number}}}\n' if not header else f"{number}\n" for number in range(5000)]
    path.write_text(header + "".join(lines))
    reading = iter(RowFile.at(path))
    first = next(reading)
    path.write_text(header + "".join(lines[100:]))

    assert first.number == 0
    with pytest.raises(UsageError, match="changed while it was read"):
        list(reading)


def test_the_parameters_of_the_command_line_are_one_row() -> None:
    """
    The parameters of the command line are one row, with which a file of refused rows can be made.
    """
    (given,) = SingleRow({"a": 1})

    assert (given.number, given.values, given.raw) == (0, {"a": 1}, b'{"a":1}\n')


def test_values_of_a_program_become_json() -> None:
    """
    Numbers exact, times in ISO 8601 also where their class is that of another library, addresses as their text. Half of
    a character can be in no request.
    """

    class Timestamp(datetime):
        def __str__(self) -> str:
            return "another form"

    lines: list[str] = []
    at = Timestamp(2026, 3, 2, 12, tzinfo=UTC)
    write_values(lines.append, [{"at": at, "price": Decimal("1.50"), "big": Decimal("1e400"), "ip": ip_address("::1")}])

    assert lines == ['{"at":"2026-03-02T12:00:00+00:00","price":1.50,"big":1E+400,"ip":"::1"}\n']
    with pytest.raises(UsageError, match="row 0: a text has half a character"):
        write_values(lines.append, [{"a": "\ud83d"}])
