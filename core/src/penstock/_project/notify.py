"""
Send the result of a run to the receivers of its pipeline: one JSON each, masked, bounded in time.

A failure to do so is in the result, and never fails the run.
"""

import json
import shlex
import string
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from penstock._config.pipeline import Notification
from penstock._fetch.transport import Transport
from penstock._project.run_result import RunResult
from penstock._util.clock import Clock
from penstock._util.text import listed
from penstock.errors import PenstockError
from penstock.model import Request, origin_of, plain_http_problem
from penstock.names import counted
from penstock.redact import mask, mask_json

RECEIVER_TIME_S = 10.0  # for each receiver
ERRORS_SENT = 10

OCCASIONS: Mapping[str, str] = {
    "failed": "failed",
    "refused": "failed",
    "not started": "failed",
    "interrupted": "failed",
    "rejected": "rejected",
    "deadline": "deadline",
    "locked": "locked",
    "parked": "parked",
    "delivered": "delivered",
    "closed": "delivered",
}


def notify(receivers: Iterable[Notification], pipeline: str, result: RunResult) -> list[str]:
    """Send the result to each receiver whose ``on`` names it; return a message for each that did not take it."""
    message = message_of(pipeline, result)
    happened = {"always", OCCASIONS[result.status]}
    if message["restated"]:
        happened.add("restated")
    if message["parked"]:
        happened.add("parked")
    if message["rejected"]:
        happened.add("rejected")
    failures = []
    for receiver in receivers:
        if not happened & set(receiver.on):
            continue
        try:
            _send(receiver, body(receiver, message))
        except (PenstockError, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            failures.append(f"pipeline.{pipeline}.notify: {_name(receiver)} did not take the result: {error}")
    return failures


def message_of(pipeline: str, result: RunResult) -> dict[str, Any]:
    """
    The message, masked. ``text`` has all of it in words, for chat services.
    """
    streams = [stream for source in result.report["sources"].values() for stream in source["streams"].values()]
    # A failure of one account may concern all its streams: by source and message, the streams in their order.
    reasons: dict[tuple[str | None, str], dict[str | None, None]] = {}
    for error in result.errors:
        reasons.setdefault((error["source"], error["reason"]), {})[error["stream"]] = None
    failures = [f"{_place(source, [*concerned])}{message}" for (source, message), concerned in reasons.items()]
    restated = sum(len(stream.get("restated", ())) for stream in streams)
    lines = [f"penstock {pipeline}: {result.summary}"]
    lines += failures[:ERRORS_SENT] if result.status != "not started" else []  # its summary is the failure
    lines += [f"and {len(failures) - ERRORS_SENT} more reasons"] if len(failures) > ERRORS_SENT else []
    parked: Mapping[str, str] = result.report.get("parked", {})
    lines += [f"{source} is parked: {why}" for source, why in parked.items()]
    if restated and result.run_id:  # it begins with the day on which the run started
        command = f"penstock changes {pipeline} --since {date.fromisoformat(result.run_id[:8])}"
        lines.append(f"{counted(restated, 'delivered day')} restated: {command}")
    masked: dict[str, Any] = mask_json(
        {
            "text": "\n".join(lines),
            "pipeline": pipeline,
            "run_id": result.run_id,
            "status": result.status,
            "exit_code": result.exit_code,
            "summary": result.summary,
            "rejected": sum(stream.get("rejected", 0) for stream in streams),
            "restated": restated,
            "parked": sorted(parked),
            "errors": list(result.errors[:ERRORS_SENT]),
        }
    )
    return masked


def _place(source: str | None, streams: Sequence[str | None]) -> str:
    """``shop.sales: ``, ``shop (sales, items): ``, ``shop: `` for an error of no stream, or nothing."""
    names = [name for name in streams if name is not None]
    subject = f"{source} ({listed(names)})" if len(names) > 1 else ".".join(filter(None, (source, *names)))
    return f"{subject}: " if subject else ""


def body(receiver: Notification, message: Mapping[str, Any]) -> bytes:
    """The JSON for one receiver. Raises KeyError or ValueError for a template that names something else."""
    if not receiver.template:
        return json.dumps(message, ensure_ascii=False).encode()
    # Inside quotes of the template: each value as JSON writes it, without its own quotes.
    values = {name: json.dumps("" if value is None else str(value))[1:-1] for name, value in message.items()}
    return string.Template(receiver.template).substitute(values).encode()


def _send(receiver: Notification, content: bytes) -> None:
    if receiver.url is None:
        command = shlex.split(receiver.command)  # of the user's own configuration
        try:
            done = subprocess.run(command, input=content, capture_output=True, timeout=RECEIVER_TIME_S, check=False)  # noqa: S603
        except FileNotFoundError:
            # cron's PATH is short.
            raise OSError("there is no such program on the PATH of this process; write its full path") from None
        if done.returncode:
            output = mask(done.stderr.decode(errors="replace").strip())[-200:]
            raise OSError(f"it ended with {done.returncode}{f': {output}' if output else ''}")
        return
    url = receiver.url.reveal()
    if plain_http_problem(url, allow_http=False):
        raise ValueError("url is plain http, on which others could read the message. Write https, or use a command")
    transport = Transport(
        timeout_s=RECEIVER_TIME_S,
        total_timeout_s=RECEIVER_TIME_S,
        max_body_bytes=1 << 20,
        connections=1,
        proxy=None,
        ca_file=None,
        allow_http=False,
        base_origin=origin_of(url),
        setting="url of notify",
        clock=Clock(),
    )
    try:
        headers = (("content-type", "application/json"),)
        response = transport(Request(method="POST", url=url, headers=headers, body=content, is_write=True))
    finally:
        transport.close()
    if response.status >= 300:
        raise OSError(f"it responded with HTTP {response.status}")


def _name(receiver: Notification) -> str:
    """A receiver for a message, without the parts of its address that may be secret."""
    return origin_of(receiver.url.reveal()) if receiver.url is not None else shlex.split(receiver.command)[0]
