"""
The sink ``singer:COMMAND``: any Singer target.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from penstock import Sink, SinkKind, UsageError, setting


@frozen(kw_only=True, eq=False, repr=False)
class SingerTargetSettings:
    command: str = setting(help='the program of the target, such as "target-postgres"; arguments may follow')
    config: Mapping[str, Any] = setting(
        factory=dict,
        repr=False,
        help='the configuration of the target; a value may be { env = "NAME" } or { file = "/run/secrets/..." }',
    )
    ledger: Path = setting(help="the directory of the ledger, which a Singer target does not keep itself")
    may_change: tuple[str, ...] = setting(
        (), help="keys of config that do not say where the data is: a change of any other needs another ledger"
    )
    decimals_as_text: bool = setting(False, help="for a target that makes a binary float of a number")
    nested_as_text: bool = setting(False, help="for a target that takes objects and lists badly")


def _singer_settings(text: str) -> SingerTargetSettings:
    """``singer:COMMAND``: the ledger is in the current directory."""
    command = text.partition(":")[2].strip()
    if not command:
        raise UsageError('singer: names no target: write singer:COMMAND, such as "singer:target-jsonl"')
    program = Path(shlex.split(command)[0]).name
    return SingerTargetSettings(command=command, ledger=Path(".penstock") / f"singer-{program}")


def _singer(settings: SingerTargetSettings) -> Sink:
    from penstock_plugins.integrations.singer_target import SingerSink

    return SingerSink(settings)


SINGER = SinkKind(
    name="singer",
    summary="any Singer target: BigQuery, Snowflake, S3 and others",
    promise=(
        "at least once: a partition counts as delivered when the target ended with 0 and returned the state; rows of a "
        "restated day are sent again and replaced by key, a row that vanished stays in the target"
    ),
    scheme="singer",
    example="singer:COMMAND",
    settings=SingerTargetSettings,
    parse=_singer_settings,
    open=_singer,
)
