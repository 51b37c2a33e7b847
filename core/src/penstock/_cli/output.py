"""
Output to stdout: tables for people, JSON for programs.
"""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.stderr import harmless, wrapped
from penstock.commands.process import standard_output
from penstock.redact import mask, mask_json

if TYPE_CHECKING:
    from rich.table import Table

UNWRAPPED_WIDTH = 10_000  # width if stdout is not a terminal: nothing is wrapped
NARROW_COLUMN = 10  # characters of a column that is not wrapped: "12 min ago"
COLUMN_GAP = 2  # characters between two columns
SPACES_OF_SENTENCE = 4  # spaces in a cell that is a sentence
LONGEST_WORD = 16  # of sentences; a longer one may be broken


def print_json(value: Any) -> None:
    """Masked, indented."""
    print(_json_text(value))


@contextmanager
def printing_json(name: str) -> Iterator[Callable[[Any], None]]:
    """Print an object with one list of this name, each item when it is added; see :func:`print_json`."""
    before = f'{{\n  "{name}": ['

    def add(item: Any) -> None:
        nonlocal before
        print(before, _json_text(item).replace("\n", "\n    "), sep="\n    ", end="", file=standard_output())
        before = ","

    yield add
    print("\n  ]\n}" if before == "," else before + "]\n}")


def _json_text(value: Any) -> str:
    return harmless(json.dumps(mask_json(value), indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], styles: Sequence[str] = ()) -> None:
    """
    Columns aligned, numbers to the right, amounts of a column with as many digits after the point. None is an empty
    cell. ``styles``: one for each row.

    On a terminal, columns that hold texts of several words are wrapped to its width, between words; a column of single
    words is not. Where the words do not fit, each row is printed as a block with one cell per line: no cell is cut.
    """
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:  # Console would end the process with 1
            raise BrokenPipeError

    numeric = [any(isinstance(row[index], int | Decimal) for row in rows) for index in range(len(columns))]
    rows = list(zip(*map(_with_equal_digits, zip(*rows, strict=True)), strict=True)) if rows else rows
    texts = [[harmless(mask("" if cell is None else str(cell))) for cell in row] for row in rows]
    terminal = sys.stdout.isatty()
    console = Output(file=sys.stdout, width=None if terminal else UNWRAPPED_WIDTH, highlight=False, soft_wrap=False)
    widths = column_widths([columns, *texts], console.width)
    if widths is None:
        _print_blocks(columns, texts)
    elif terminal:
        console.print(_table(columns, texts, numeric, widths, styles))
    else:
        with console.capture() as capture:
            console.print(_table(columns, texts, numeric, widths, styles))
        for line in capture.get().splitlines():
            print(line.rstrip())


def _with_equal_digits(column: Sequence[Any]) -> Sequence[Any]:
    """A column in which all amounts have as many digits after the point as the longest."""
    digits = max((-int(cell.as_tuple().exponent) for cell in column if _is_amount(cell)), default=0)
    if digits <= 0:
        return column
    return [f"{cell:.{digits}f}" if _is_amount(cell) else cell for cell in column]


def _is_amount(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite()


def _table(
    columns: Sequence[str],
    texts: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    widths: Sequence[int],
    styles: Sequence[str],
) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for name, number, width in zip(columns, numeric, widths, strict=True):
        table.add_column(name, justify="right" if number else "left", overflow="fold", width=width)
    for row, style in zip_longest(texts, styles):
        table.add_row(*map(Text, row), style=style)
    return table


def column_widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """
    The width of each column of a table that is ``room`` characters wide; None if it does not fit. A column has at least
    the width of its longest word (of sentences, in which a URL may be long, :data:`LONGEST_WORD` at most); a column of
    short texts is not wrapped.
    """
    from rich.cells import cell_len

    columns = list(zip(*rows, strict=True))
    wanted = [max(map(cell_len, column)) for column in columns]
    least = []
    for column, width in zip(columns, wanted, strict=True):
        longest = max((cell_len(word) for cell in column for word in cell.split()), default=0)
        sentences = any(cell.count(" ") >= SPACES_OF_SENTENCE for cell in column)
        least.append(width if width <= NARROW_COLUMN else min(longest, LONGEST_WORD) if sentences else longest)
    left = room - COLUMN_GAP * (len(columns) - 1) - sum(least)
    if left < 0:
        return None
    widths = least
    for _ in range(min(left, sum(wanted) - sum(least))):
        short = max(range(len(columns)), key=lambda index: wanted[index] / max(1, widths[index]))
        widths[short] += 1
    return widths


def _print_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A block per row, a line per cell that is not empty."""
    name_width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            print()
        for name, cell in zip(columns, row, strict=True):
            if cell:
                print(f"{name:<{name_width}}  {cell}")


@contextmanager
def paged() -> Iterator[None]:
    """Show what is printed inside in a pager, if stdout is a terminal and has fewer lines."""
    if not sys.stdout.isatty():
        yield
        return
    printed = _Printed()
    with redirect_stdout(printed):
        yield
    text = printed.getvalue()
    if text.count("\n") < shutil.get_terminal_size().lines:
        print(text, end="")
    else:
        click.echo_via_pager(text)


class _Printed(io.StringIO):
    """What a terminal would get."""

    def isatty(self) -> bool:
        return True


def print_text(text: str) -> None:
    """A line, masked; on a terminal wrapped to its width, between words."""
    print(wrapped(harmless(mask(text)), sys.stdout))


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """
    Rows as CSV with a header, masked. ``columns``: those that come first, also where no row has them; after them those
    of the rows. None is an empty cell, an account its values.
    """
    listed = list(rows)
    names = list(dict.fromkeys([*columns, *(name for row in listed for name in row)]))
    write = csv.writer(sys.stdout, lineterminator="\n").writerow
    write(names)
    for row in listed:
        write([mask(_csv_cell(row.get(name))) for name in names])


def _csv_cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(map(str, value.values()))
    return "" if value is None else str(value)


def ago(moment: datetime, now: datetime) -> str:
    """``3 h ago``"""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
