"""
What the tests need of a sink: how it is made, how its rows are read, and where it may be killed.
"""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from penstock.sinks import Layout, Sink
from penstock.testing.sinks.rows import plain


class Suite:
    """What each group of tests needs of a sink. ``place`` is an empty directory per test."""

    commit_points: ClassVar[tuple[str, ...]] = ()
    merge_points: ClassVar[tuple[str, ...]] = ()
    erase_points: ClassVar[tuple[str, ...]] = ()
    """The fault points of an erasure. ``erase_merged_points``: those of a merged stream, where they are others."""
    erase_merged_points: ClassVar[tuple[str, ...]] = ()

    def sink(self, place: Path) -> Sink:
        raise NotImplementedError

    def rows(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        """Every row delivered of a stream, as typed values: any order."""
        raise NotImplementedError

    def found(self, place: Path, layout: Layout) -> list[dict[str, Any]]:
        return plain(layout, self.rows(place, layout))

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path / "target"
