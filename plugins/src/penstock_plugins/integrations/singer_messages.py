"""
The messages of Singer: SCHEMA, RECORD, STATE and ACTIVATE_VERSION.

The specification: https://hub.meltano.com/singer/spec
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from attrs import field, frozen
from penstock import Layout, LedgerEntry

from penstock_plugins.integrations import stream_schema
from penstock_plugins.integrations.messages import RECORD, Texts, message, split_at_record


@frozen
class SingerMessages:
    """
    SCHEMA, RECORD, STATE and ACTIVATE_VERSION. ``version``: of full tables, larger in each run; milliseconds since
    1970.
    """

    whole_states: ClassVar[bool] = True
    version: int
    texts: Texts = field(factory=Texts)
    _versioned: set[str] = field(factory=set, init=False)

    def start(self, layouts: Sequence[Layout], states: Mapping[str, Any]) -> bytes:
        self._versioned.update(layout.stream for layout in layouts if is_full_table(layout))
        return b"".join(map(self._schema, layouts)) + self.state(states)

    def _schema(self, layout: Layout) -> bytes:
        """The SCHEMA of a stream. Without a key the key properties are an empty list, which some targets refuse."""
        day = layout.day_column
        return message(
            {
                "type": "SCHEMA",
                "stream": layout.stream,
                "schema": stream_schema.json_schema(layout, self.texts),
                "key_properties": list(layout.unique_columns),
                **({"bookmark_properties": [day]} if day else {}),
            }
        )

    def around_record(self, layout: Layout, entry: LedgerEntry) -> tuple[bytes, bytes]:
        read_at = (entry.read_at or datetime.now(UTC)).astimezone(UTC)
        version = {"version": self.version} if layout.stream in self._versioned else {}
        record = {"type": "RECORD", "stream": layout.stream, "record": RECORD, **version}
        return split_at_record({**record, "time_extracted": f"{read_at:%Y-%m-%dT%H:%M:%S.%fZ}"})

    def state(self, states: Mapping[str, Any]) -> bytes:
        return message({"type": "STATE", "value": {"bookmarks": states}})

    def end(self, complete: Mapping[str, bool], failed: Mapping[str, str], state: bytes) -> bytes:
        return b"".join(self.activate(stream) for stream, is_complete in complete.items() if is_complete) + state

    def activate(self, stream: str) -> bytes:
        """ACTIVATE_VERSION of a full table; nothing for another stream."""
        if stream not in self._versioned:
            return b""
        return message({"type": "ACTIVATE_VERSION", "stream": stream, "version": self.version})


def is_full_table(layout: Layout) -> bool:
    """
    Whether a run delivers every row of the stream, so that a target may delete the rows of former runs. A stream of
    several accounts is none: another tap, or a former configuration, may have written other accounts.
    """
    return layout.kind == "snapshot" and not layout.partition_columns
