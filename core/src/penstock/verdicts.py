"""
Verdicts on a response, and rules by which a status gives one.
"""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from penstock.errors import ProviderError, RefusedError, ServerError, ThrottledError
from penstock.model import Answer


@frozen
class Accept:
    """The response is good. ``answer``, if given, replaces what the envelope read."""

    answer: Answer | None = None


def _is_error(verdict: Any, attribute: Any, error: ProviderError) -> None:
    if not isinstance(error, ProviderError):
        raise TypeError(f"{type(verdict).__name__}({error!r}): write an error, such as RefusedError({str(error)!r})")


@frozen
class Retry:
    """
    Send the request again, signed anew. ``error`` is raised when the attempts are used up.

    ``wait_s``
        wait at least this long, up to the setting ``throttle_wait_s``;
    ``throttle``
        the whole source waits, not only this request;
    ``renew``
        log in again first. The second time in one request, ``error`` is raised;
    ``correct_clock``
        sign with the time of the response's ``Date`` header, if it is more than 60 s from ours. If it is not, and the
        second time in one request, ``error`` is raised.
    """

    error: ProviderError = field(validator=_is_error)
    wait_s: float | None = None
    throttle: bool = False
    renew: bool = False
    correct_clock: bool = False


@frozen
class Refuse:
    """The response is final and bad."""

    error: ProviderError = field(validator=_is_error)


@frozen
class Skip:
    """No records, and no failure (a 404 of a detail read). The run notes the reason."""

    reason: str


Verdict = Accept | Retry | Refuse | Skip
VERDICTS = "None, which leaves the decision to the status, or a verdict: Accept(), Retry(...), Refuse(...), Skip(...)"


@frozen(eq=False)
class Refusal:
    """
    What a status means: the provider refuses, for good. ``advice`` states what the user should do.

    ``error``
        the kind of the error: ``AuthenticationError`` for credentials;
    ``renew``
        log in again first, once; of credentials refused with 401 always so;
    ``quoted``
        whether the message quotes the body. False where the body repeats a credential.
    """

    advice: str
    error: type[ProviderError] = RefusedError
    renew: bool = False
    quoted: bool = True

    def verdict(self, seen: str) -> Verdict:
        """The verdict; ``seen`` is the start of the message."""
        error = self.error(seen, self.advice)
        return Retry(error, renew=True) if self.renew else Refuse(error)


@frozen(eq=False)
class Throttle:
    """
    What a status means: too many requests. The whole source waits: for the longer of ``wait_s`` and the wait that a
    header of the response states, where there is one.
    """

    advice: str = "Lower requests_per_second."
    wait_s: float | None = None
    quoted: bool = True

    def verdict(self, seen: str) -> Verdict:
        """The verdict; ``seen`` is the start of the message."""
        return Retry(ThrottledError(seen, self.advice), wait_s=self.wait_s, throttle=True)


@frozen(eq=False)
class Unavailable:
    """
    What a status means: the provider cannot respond now. The request is tried again.
    """

    advice: str = "It may be better later."
    quoted: bool = True

    def verdict(self, seen: str) -> Verdict:
        """The verdict; ``seen`` is the start of the message."""
        return Retry(ServerError(seen, self.advice))


StatusRule = Refusal | Throttle | Unavailable | Skip
"""What one HTTP status means, in ``statuses`` of a connector, a stream or an action."""


def check_statuses(instance: Any, attribute: Any, table: Mapping[int, StatusRule]) -> None:
    """The attrs validator of ``statuses``. TypeError for what is no table, no status, or no rule."""
    if not isinstance(table, Mapping):
        raise TypeError(f"statuses is {table!r}; write a table, {{404: Refusal(...)}}")
    for status, rule in table.items():
        if not isinstance(status, int) or not isinstance(rule, StatusRule):
            raise TypeError(
                f"statuses[{status!r}] is {rule!r}; write a number, and Refusal(...), Throttle(), Unavailable() or "
                "Skip(...)"
            )
