"""
The members that envelopes and paginators name, looked for in the answers of a run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Answered, Call, CallResult
from penstock._read.components import components_of
from penstock.envelope import Envelope
from penstock.names import did_you_mean
from penstock.testing.conformance.findings import Finding
from penstock.verdicts import Accept


class InMemoryLog:
    """The methods of an ExchangeRecording that one that keeps nothing on disk does not need."""

    until: None = None

    def begin(self, started_at: datetime, sources: Iterable[ConfiguredSource]) -> None: ...

    def finish(self) -> Sequence[str]:
        return ()


@define(eq=False)
class NamedMembers(InMemoryLog):
    """An ExchangeRecording that notes which of the members that envelopes and paginators name are in an answer."""

    named: dict[str, dict[str, tuple[str, ...]]] = field(factory=dict)  # stream -> option -> its paths
    present: set[tuple[str, str]] = field(factory=set)  # stream and option
    members: dict[str, set[str]] = field(factory=dict)  # stream -> the paths of the members of its answers

    def exchange(
        self, source: ConfiguredSource, call: Call, send: Callable[[], CallResult], judge: Callable[..., Any]
    ) -> CallResult:
        result, stream, envelope = send(), call.stream, call.decoder
        if not isinstance(result, Answered) or not isinstance(result.verdict, Accept) or result.answer.problem:
            return result
        if stream is None or not isinstance(envelope, Envelope):
            return result
        paginator = components_of(source, stream, ()).paginator
        options: dict[str, Any] = {"total": envelope.total, "pages": envelope.pages}
        members = ("more",) if getattr(paginator, "header", None) else ("more", "member")
        options |= {name: getattr(paginator, name, None) or () for name in members}
        paths = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in options.items()}
        self.named[stream.name] = {name: value for name, value in paths.items() if value}
        if self.named[stream.name]:
            in_answer = set(_member_paths(result.response.members() or {}))
            self.members.setdefault(stream.name, set()).update(in_answer)
            self.present |= {(stream.name, name) for name, value in paths.items() if not in_answer.isdisjoint(value)}
        return result

    def findings(self, streams: Iterable[str]) -> list[Finding]:
        """The options whose members no answer had."""
        return [
            Finding(
                "paths",
                f"{name}: no answer of the sandbox has the member {' or '.join(map(repr, paths))}, which {option}= "
                f"names, so that it was not tried.{did_you_mean(paths[0], self.members[name])} Correct the "
                "path, or let the sandbox send the member",
            )
            for name in streams
            for option, paths in self.named.get(name, {}).items()
            if (name, option) not in self.present
        ]


def _member_paths(members: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """The dotted paths of all members, nested ones too; an array is one member."""
    for name, value in members.items():
        yield f"{outer}{name}"
        if isinstance(value, Mapping):
            yield from _member_paths(value, f"{outer}{name}.")
