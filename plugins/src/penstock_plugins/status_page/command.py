"""
The command ``penstock page``: write the page to a file, or serve it to browsers on this machine.
"""

import errno
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import click
from attrs import define, field
from penstock import PenstockError, Project, SandboxRequest, SandboxResponse, UsageError
from penstock.commands import seconds_of
from penstock.commands.process import write_whole
from penstock.sandbox.server import serve

from penstock_plugins.status_page.content import content, read_facts
from penstock_plugins.status_page.render import policy, render

DAYS = 120
KEPT_TIMES = 10


@click.command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the page here; - prints it."
)
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="Serve it on this machine; 0: any free port.")
@click.option("--to", metavar="SINK", help="Only this target.  [default: the targets last used]")
@click.option("--days", type=click.IntRange(1, 1000), default=DAYS, metavar="N", help=f"Days shown.  [default: {DAYS}]")
@click.option("--max-age", metavar="TIME", help="Show accounts that were not read for so long: 26h.")
@click.pass_obj
def page(
    project: Project,
    name: str | None,
    html: Path | None,
    port: int | None,
    to: str | None,
    days: int,
    max_age: str | None,
) -> None:
    """
    A page with what was delivered, for a browser: problems, a calendar of accounts by days, totals, changes and runs.

    It is made from the ledgers, holds no record and no secret, and loads nothing from anywhere.
    """
    if (html is None) == (port is None):
        raise UsageError("name one of --html FILE and --port N")
    page = partial(_made, project, name, to, days, None if max_age is None else seconds(max_age))
    if html is not None and str(html) == "-":
        click.echo(page(), nl=False)
        return
    if html is not None:
        write(html, page())
        return
    assert port is not None
    _serve(port, PageServer(page))


def _made(project: Project, name: str | None, to: str | None, days: int, max_age_s: float | None) -> str:
    now = datetime.now(UTC)
    since: date = now.date() - timedelta(days=days - 1)
    return render(content(read_facts(project, name, to=to, since=since, now=now, max_age_s=max_age_s)))


def seconds(text: str) -> float:
    """The seconds of a time such as ``90min``, ``26h`` or ``2d``. Raises UsageError for any other text."""
    try:
        return seconds_of(text)
    except ValueError:
        raise UsageError(f"--max-age: found {text!r}, expected a time such as 26h") from None


def write(file: Path, text: str) -> None:
    """
    Write the file as :func:`penstock.commands.process.write_whole` does. Raises UsageError.
    """
    try:
        write_whole(file, text)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "Free some space" if full else "Name a file in a directory that this user may write"
        raise UsageError(f"--html {file}: cannot be written: {error.strerror}. {advice}") from None


# --- served -----------------------------------------------------------------------------------------------------------


@define(eq=False)
class PageServer:
    """
    Responds to requests with a page. Only for the names of this machine, so that no other site can read it through a
    name that leads here; only GET and HEAD.

    A page is shown again for :data:`KEPT_TIMES` times as long as it took to make, so that reloading a large one is no
    load on its target; it states when it was made. ``clock``: seconds.
    """

    _make: Callable[[], str]
    _clock: Callable[[], float] = time.monotonic
    _one: threading.Lock = field(factory=threading.Lock, init=False)  # a second request waits for the first page
    _text: str = field(default="", init=False)  # the last page
    _kept_until: float = field(default=0.0, init=False)

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if not _is_local(request.headers.get("host", "")):
            return _response(403, "this page is served to this machine only: open it at http://127.0.0.1")
        if request.method not in ("GET", "HEAD"):
            return _response(405, "this page can only be read")
        if request.path != "/":
            return _response(404, "the page is at /")
        try:
            with self._one:
                text = self._page()
        except PenstockError as error:
            return _response(503, f"the page cannot be made: {error}")
        return _response(200, text, "text/html")

    def _page(self) -> str:
        began = self._clock()
        if not self._text or began >= self._kept_until:
            self._text = self._make()
            made = self._clock()
            self._kept_until = made + KEPT_TIMES * (made - began)
        return self._text


def _is_local(host: str) -> bool:
    return host.rpartition(":")[0] in ("127.0.0.1", "localhost") or host in ("127.0.0.1", "localhost")


def _response(status: int, text: str, kind: str = "text/plain") -> SandboxResponse:
    return SandboxResponse(
        status=status,
        headers={
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
        body=text.encode(),
    )


def _serve(port: int, pages: PageServer) -> None:
    try:
        server = serve(pages, port=port, gzip=True, largest_body=0)
    except OSError as error:
        raise UsageError(f"--port {port}: cannot be used: {error.strerror}; --port 0 takes any free one") from None
    with server:
        try:
            click.echo(f"{server.base_url} until Ctrl-C")
            threading.Event().wait()
        except KeyboardInterrupt:
            return
