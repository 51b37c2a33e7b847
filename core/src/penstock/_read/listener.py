"""
What follows the reads of a source: notes, events, and what the provider sends that is not as declared.
"""

from typing import Protocol

from penstock.events import Event


class Listener(Protocol):
    """
    Implemented by the report of a source. A read may report the same thing for many pages; the listener decides how
    often it passes it on.
    """

    def note(self, text: str) -> None:
        """A notice that is no failure."""

    def emit(self, event: Event) -> None:
        """An event of the run."""

    def unread(self, stream: str, example: tuple[str, str]) -> None:
        """A value of the stream could not be read; ``example``: its path and the reason."""

    def unknown(self, stream: str, names: tuple[str, ...]) -> None:
        """The provider sends members that the record class does not have."""
