"""
What goes to stdout: tables for people, JSON for programs.
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from penstock._cli.stderr import harmless

WIDE = 10_000  # columns where nobody looks at them: nothing is wrapped


def print_json(value: Any) -> None:
    """Masked, indented."""
    from penstock.redact import mask_json

    print(harmless(json.dumps(mask_json(value), indent=2, ensure_ascii=False, default=str)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """
    Columns aligned, numbers to the right; on a terminal wrapped to its width. None is an empty cell.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from penstock.redact import mask

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], int) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(mask("" if cell is None else str(cell)))) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False, soft_wrap=False)
    if terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def fits(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    """Whether :func:`print_table` needs to wrap nothing; always when nobody looks at a terminal."""
    if not sys.stdout.isatty():
        return True
    import shutil

    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) <= shutil.get_terminal_size().columns


def ago(moment: datetime, now: datetime) -> str:
    """``3 h ago``"""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
