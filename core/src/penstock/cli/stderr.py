"""
Lines on stderr, for people or as JSON, and streams that nobody reads any more.

Imported with the command line itself, so nothing heavy is imported with it; see :mod:`penstock.cli`.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO


def to_stderr(line: str) -> None:
    """A line on stderr. That nobody reads it any more (``2>&1 | head``) is no reason to end what is under way."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Let all that is written to ``stream`` go nowhere, also what is still buffered and would fail again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def json_line(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON, masked, with the time of day."""
    import json
    from datetime import UTC, datetime

    from penstock.redact import mask_json

    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(mask_json({"time": now, **event}), ensure_ascii=False, default=str)
