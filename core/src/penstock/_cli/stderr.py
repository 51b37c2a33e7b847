"""
Lines on stderr, for people or as JSON, and output streams whose reader is gone.

Imported with the command line itself, so nothing heavy is imported with it; see :mod:`penstock._cli`.
"""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, TextIO

import click

from penstock.commands.process import discard_output

# What a terminal would obey or hide: control characters, and marks that turn the direction of writing.
_UNSEEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"


def harmless(text: str) -> str:
    """A text that is safe for a terminal, with ``\\u001b`` for an escape and the like; JSON stays JSON."""
    return re.sub(_UNSEEN, lambda hit: f"\\u{ord(hit[0]):04x}", text)


def wrapped(text: str, stream: TextIO) -> str:
    """A text of one or more lines; for a terminal, wrapped to its width between words."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def to_stderr(line: str, color: str = "", *, prose: bool = False) -> None:
    """
    Write a line to stderr, made :func:`harmless`. If its reader is gone (``2>&1 | head``), the command continues.

    ``prose``: sentences, which a terminal gets :func:`wrapped`.
    """
    try:
        text = wrapped(harmless(line), sys.stderr) if prose else harmless(line)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        if color and sys.stderr.isatty() and not plain:
            text = click.style(text, fg=color, bold=True)
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard_output(sys.stderr)


def json_line(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON, masked, with the time of day."""
    import json
    from datetime import UTC, datetime

    from penstock.redact import mask_json

    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(mask_json({"time": now, **event}), ensure_ascii=False, default=str)
