"""
The HTML file: the content, the style sheet and the script in one page that loads nothing.

The policy in the page allows exactly this style sheet and this script, by their checksums, and no request at all. The
data is JSON in elements that a browser does not run; no sign of HTML in it stays as it is.
"""

import base64
import hashlib
import json
from importlib import resources
from string import Template
from typing import Any

from penstock import __version__

from penstock_plugins.status_page.content import Content

SCRIPTS = ("model.js", "calendar.js", "panel.js", "page.js")
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(content: Content) -> str:
    """The whole file."""
    style, script = _asset("page.css"), _script()
    blocks = [_data("summary", {**content.summary, "version": __version__})]
    blocks += [_data(f"block-{number}", block) for number, block in enumerate(content.blocks)]
    return Template(_asset("page.html")).substitute(policy=policy(), style=style, script=script, data="\n".join(blocks))


def policy() -> str:
    """The Content-Security-Policy of the page."""
    return (
        f"default-src 'none'; style-src '{_checksum(_asset('page.css'))}'; "
        f"script-src '{_checksum(_script())}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    return "".join(map(_asset, SCRIPTS))


def _asset(name: str) -> str:
    return (resources.files("penstock_plugins.status_page") / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(name: str, value: Any) -> str:
    """JSON as an inert element of the page."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for sign, escaped in _ESCAPED.items():
        text = text.replace(sign, escaped)
    return f'<script type="application/json" id="{name}">{text}</script>'
