"""
The text that names a target (``jsonl:DIR``, ``postgresql://...``): its secrets, and the forms shown and stored.

``SinkKind.parse`` makes settings of the text.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from penstock.redact import MASK

_NAME = r"[\w-]*(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key)"

# Of libpq, with spaces; of a query or of the options of a command: ``?motherduck_token=X``, ``--password X``.
_NAMED_SECRET = re.compile(
    rf"""(\b(?:(?:ssl)?password|oauth_client_secret)\s*=\s*|(?<=[?&;\s]){_NAME}=|(?<=\s)--{_NAME}\s+)"""
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&]+)""",
    re.IGNORECASE,
)


def secrets_in(text: str) -> Iterator[str]:
    """Every secret in the text of a target, as it stands there and decoded."""
    for match in _NAMED_SECRET.finditer(text):
        yield from {match[2].strip("'\""), unquote(match[2])}
    userinfo = _userinfo(text)
    if userinfo and ":" in userinfo:
        password = userinfo.partition(":")[2]
        yield from {password, unquote(password)} - {""}


def shown_target(text: str) -> str:
    """The text of a target with ``***`` for every secret."""
    shown = _NAMED_SECRET.sub(rf"\1{MASK}", text)
    userinfo = _userinfo(text)
    if userinfo and ":" in userinfo:
        shown = shown.replace(f"{userinfo}@", f"{userinfo.partition(':')[0]}:{MASK}@", 1)
    return shown


def _userinfo(text: str) -> str:
    """``user:password`` of ``scheme://user:password@host/...``; a password may hold an unescaped @ or /."""
    _, slashes, rest = text.partition("://")
    if not slashes or "@" not in rest:
        return ""
    before_path = rest.partition("/")[0]
    return (before_path if "@" in before_path else rest).rpartition("@")[0]


def findable(text: str, settings: object = None) -> str:
    """
    The text of a target without its secrets and with an absolute path, so that it can be found again later.

    ``settings``: what the sink made of the text. A command whose program is found on the PATH stays as it is.
    """
    if "://" in text:
        userinfo = _userinfo(text)
        bare = text.replace(f"{userinfo}@", f"{userinfo.partition(':')[0]}@", 1) if userinfo else text
        place, _, query = bare.partition("?")
        pairs = [pair for pair in query.split("&") if pair and not re.match(f"{_NAME}=", pair, re.IGNORECASE)]
        return f"{place}?{'&'.join(pairs)}" if pairs else place
    scheme, colon, path = _NAMED_SECRET.sub("", text).partition(":")
    if getattr(settings, "command", None) == text.partition(":")[2].strip():
        program = path.split(maxsplit=1)[0]
        if "/" not in program:
            return f"{scheme}{colon}{path}"
    return f"{scheme}:{Path(path).absolute()}" if colon and path else f"{scheme}{colon}{path}"
