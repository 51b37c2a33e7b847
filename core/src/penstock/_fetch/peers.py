"""
What the clients of a divided run exchange with its other processes.
"""

from typing import ClassVar

from penstock.errors import ParkedError
from penstock.protocols import Grant


class Peers:
    """
    The other processes of a run: none, unless a subclass knows some. Methods are called from fetching threads.

    ``is_divided``: whether there are others. ``shares_tokens``: whether :meth:`grant` may be called; else each process
    gets grants of its own.
    """

    is_divided: ClassVar[bool] = False
    shares_tokens: bool = False

    def grant(self, source: str, account: str | None, used: Grant | None) -> Grant:
        """The grant that all processes use, renewed if it is still ``used``; see :meth:`Signer.grant`."""
        raise NotImplementedError

    def cooled_down(self, source: str, seconds: float) -> None:
        """The provider throttles: no process makes a request for so many seconds."""

    def parked(self, source: str, error: ParkedError) -> None:
        """The provider states a long wait: no process makes a further request."""

    def credentials_worked(self, source: str, owner: str | None) -> None:
        """The provider accepted a request with the credentials of this owner."""

    def have_working_credentials(self, source: str, owner: str | None) -> bool:
        """Whether it did so in another process."""
        return False
