"""
The targets used from a configuration, so that ``plan``, ``status`` and ``rejected`` find them without ``--to``.

They are in a JSON file beside the configuration, ``.penstock/targets.json``, without secrets. A run continues
without the file if it cannot be written.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from attrs import field, frozen

from penstock.commands.process import write_whole
from penstock.errors import UsageError


@frozen(eq=False, repr=False)
class UsedTargets:
    """The targets used from the configuration in ``folder``; None: remembered by this object only."""

    folder: Path | None
    _unsaved: dict[str, dict[str, str]] = field(factory=dict, init=False)

    @property
    def file(self) -> Path:
        """The file, if ``folder`` is set."""
        assert self.folder is not None
        return self.folder / ".penstock" / "targets.json"

    def targets(self, sources: Iterable[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Target -> the sources it was used for, the target used last first; only for ``sources``, if given."""
        only = None if sources is None else set(sources)
        used: dict[str, dict[str, str]] = {
            target: {source: used_at for source, used_at in by_source.items() if only is None or source in only}
            for target, by_source in self._read().items()
        }
        newest = sorted((target for target in used if used[target]), key=lambda target: max(used[target].values()))
        return {target: tuple(used[target]) for target in reversed(newest)}

    def remember(self, target: str, sources: Iterable[str], now: datetime) -> None:
        """
        Record that ``target`` is used for these sources, unless that is what was recorded last. Raises OSError if the
        file cannot be written.
        """
        by_target = self._read()
        times = dict.fromkeys(sources, now.isoformat())
        last = max((used_at for used in by_target.values() for used_at in used.values()), default="")
        if all(by_target.get(target, {}).get(source) == last for source in times):
            return  # the order stays the same, and a write waits twice for the disk
        by_target.setdefault(target, {}).update(times)
        self._write(by_target)

    def forget(self, target: str) -> None:
        """Remove a target. Raises UsageError for one that was not used, OSError as :meth:`remember` does."""
        by_target = self._read()
        if by_target.pop(target, None) is None:
            raise UsageError(
                f"no target {target!r} was used from this configuration: {', '.join(by_target) or 'none was'}"
            )
        self._write(by_target)

    def _write(self, by_target: dict[str, dict[str, str]]) -> None:
        if self.folder is None:
            return
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(self.file, json.dumps({"targets": by_target}, indent=1) + "\n", mode=0o600)

    def _read(self) -> dict[str, dict[str, str]]:
        if self.folder is None:
            return self._unsaved
        try:
            targets = json.loads(self.file.read_text())["targets"]
            return {
                str(target): {str(source): str(used_at) for source, used_at in used.items()}
                for target, used in targets.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # absent or damaged: it is written anew
