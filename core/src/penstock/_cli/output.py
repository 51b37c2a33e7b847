"""
Output to stdout: tables for people, JSON for programs.
"""

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from penstock._cli.stderr import harmless

WIDE = 10_000  # width if stdout is not a terminal: nothing is wrapped


def print_json(value: Any) -> None:
    """Masked, indented."""
    from penstock.redact import mask_json

    print(harmless(json.dumps(mask_json(value), indent=2, ensure_ascii=False, default=str)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], styles: Sequence[str] = ()) -> None:
    """
    Columns aligned, numbers to the right. On a terminal, columns that hold texts of several words are wrapped to its
    width, between words; a column of single words is not. None is an empty cell. ``styles``: one for each row.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from penstock.redact import mask

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], int) for row in rows)
        words = any(" " in str(row[index]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=not words)
    for row, style in zip_longest(rows, styles):
        table.add_row(*(Text(harmless(mask("" if cell is None else str(cell)))) for cell in row), style=style)
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False, soft_wrap=False)
    if terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def print_text(text: str) -> None:
    """A line, masked; on a terminal wrapped to its width, between words."""
    from penstock.redact import mask

    text = harmless(mask(text))
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(text)


def print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV with a header, masked; None is an empty cell."""
    from penstock.redact import mask

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if row.get(name) is None else mask(str(row[name])) for name in columns] for row in rows)
    print(text.getvalue(), end="")


def ago(moment: datetime, now: datetime) -> str:
    """``3 h ago``"""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
