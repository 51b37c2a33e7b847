"""
The interfaces of the exchangeable components: authenticator, judge, paginator, poller, decoder.

A component is a frozen value whose methods are pure: values in, value out. It never waits, loops, retries or does I/O;
the core does, and calls the component at each step.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from attrs import field, frozen

from penstock.model import Answer, Page, Request, Response
from penstock.redact import Secret
from penstock.verdicts import Verdict

Exchange = Callable[[Request], Response]


# --- the judge -------------------------------------------------------------------------------------------------------


class Judge(Protocol):
    """
    Decides whether one response is good. Called in the fetching thread, inside the retry.

    ``answer`` is what the envelope read, or None when the body did not fit it. None leaves the decision to the HTTP
    status: 2xx is accepted if the envelope was read, 401 and 403 are refused credentials, 404 is refused, 408, 425,
    429 and 5xx are tried again.
    """

    def __call__(self, response: Response, answer: Answer | None) -> Verdict | None: ...


# --- authentication -------------------------------------------------------------------------------------------------


@frozen
class Grant:
    """
    A token and how long it lives (None: until it is refused).

    ``keep``: what the next grant needs, by name, such as a refresh token that is good for one use. It is written to the
    source's token store before the grant is used; the authenticator is then a :class:`Renewing` one.
    """

    token: Secret = field()
    life_s: float | None = None
    keep: Mapping[str, Secret] = field(factory=dict)

    @token.validator
    def _is_secret(self, attribute: Any, token: object) -> None:
        if not isinstance(token, Secret):
            raise TypeError(f"Grant(token=...) is {type(token).__name__}; write Grant(token=Secret(...))")


GRANT = "Grant(token=Secret(...))"


class Authenticator(Protocol):
    """
    Puts credentials on one attempt. Called anew for every attempt; ``now`` is aware UTC, corrected for clock skew.
    """

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        """The request as it is sent; ``grant`` is None where ``grant_request`` is."""

    def grant_request(self) -> Request | None:
        """The login or token call, sent as it is; None when no token is needed: it is then not called again."""

    def read_grant(self, response: Response) -> Grant:
        """
        The token in the response to the login. Raises AuthenticationError when it was refused, which no login follows;
        BrokenBodyError when the response states nothing: the login is made again.
        """

    def explain(self, request: Request, now: datetime) -> str:
        """What was signed, for the message of a refused signature; secrets are masked by the caller."""


class Renewing(Authenticator, Protocol):
    """An authenticator whose grants keep something for the next one (``Grant.keep``)."""

    def renew_request(self, kept: Mapping[str, Secret]) -> Request:
        """The token call made with what the last grant kept, in place of ``grant_request``."""


class LoginSigning(Authenticator, Protocol):
    """An authenticator whose login carries a time, such as a JWT that its private key signs."""

    def sign_login(self, request: Request, now: datetime) -> Request:
        """The login or token call as it is sent at ``now``, which is aware UTC, corrected for clock skew."""


@frozen(eq=False, repr=False)
class Unsigned:
    """No credentials at all; also the base that spares an authenticator what it does not need."""

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request

    def grant_request(self) -> Request | None:
        return None

    def read_grant(self, response: Response) -> Grant:
        raise NotImplementedError("an authenticator with a grant_request must read its response")

    def explain(self, request: Request, now: datetime) -> str:
        return ""


# --- paging ---------------------------------------------------------------------------------------------------------


class Paginator(Protocol):
    """Gives the next requests of a listing."""

    def first(self, request: Request) -> Request:
        """The request of the first page (with page number and size, for example)."""

    def rest(self, first: Page) -> Sequence[Request] | None:
        """All other pages at once, in order, if the first states their number; they are fetched concurrently."""

    def next(self, page: Page) -> Request | None:
        """The page after this one; called only if ``rest`` returned None."""

    def beyond(self, last: Page) -> Request | None:
        """
        The page after the last one of ``rest``, if that names one all the same: the number that the first page stated
        is then too low. Called once, also where ``rest`` named no page.
        """

    def repeats(self, page: Page) -> bool:
        """Whether this page may be a repetition of the one before (dropped and counted); any other is an error."""

    def reached_ceiling(self, page: Page) -> bool:
        """
        Whether the listing, of which this is the last page, was truncated at the provider's ceiling. The core halves
        the requested period; where it cannot, the rows are delivered and marked truncated.
        """

    def restart(self, request: Request, response: Response) -> Request | None:
        """Another first request, if the provider refuses this one (a first page of 0, for example); called once."""

    def has_ceiling(self) -> bool:
        """Whether ``reached_ceiling`` can be true; then a slice's rows are kept in memory until it is complete."""

    def smaller(self, request: Request, response: Response) -> Request | None:
        """
        A request for a smaller page in place of one that the provider refused as too large; None: the refusal stands.
        Called for any page that is not fetched ahead, again and again as long as each request is another one.
        """

    def size_of(self, request: Request) -> int | None:
        """The page size in this request, None if it has none: :attr:`Page.longest` compares pages of one size."""

    def ends(self, request: Request, response: Response) -> bool:
        """Whether this refusal of a page from ``next`` means that there is no such page; else it is an error."""


@frozen(eq=False, repr=False)
class SinglePage:
    """One response holds everything; also the base that spares a paginator what it does not need."""

    def first(self, request: Request) -> Request:
        return request

    def rest(self, first: Page) -> Sequence[Request] | None:
        return None

    def next(self, page: Page) -> Request | None:
        return None

    def beyond(self, last: Page) -> Request | None:
        return None

    def repeats(self, page: Page) -> bool:
        return False

    def reached_ceiling(self, page: Page) -> bool:
        return False

    def restart(self, request: Request, response: Response) -> Request | None:
        return None

    def has_ceiling(self) -> bool:
        return type(self).reached_ceiling is not SinglePage.reached_ceiling

    def smaller(self, request: Request, response: Response) -> Request | None:
        return None

    def size_of(self, request: Request) -> int | None:
        return None

    def ends(self, request: Request, response: Response) -> bool:
        return False


# --- asynchronous reports -------------------------------------------------------------------------------------------


@frozen
class Waiting:
    """The report is not ready. ``note`` is an unexpected state, in the provider's words, for the log."""

    note: str = ""


@frozen
class Ready:
    """
    Finished. The rows begin in the poll's own response; or in the responses to ``pages``, requests to the provider
    itself; or to ``downloads``, files which may be at another origin and are requested without credentials. A relative
    URL is relative to that of the poll.

    Wherever they begin, the stream's paginator goes on from there. Downloads are read by the stream's ``downloads``,
    the others by its envelope.
    """

    downloads: tuple[Request, ...] = ()
    pages: tuple[Request, ...] = ()


@frozen
class Empty:
    """Finished, and the provider states that there are no records."""


@frozen
class Gone:
    """The report failed, expired or is unknown at the provider: it is submitted again, once."""

    reason: str


ReportState = Waiting | Ready | Empty | Gone
STATES = "Waiting(), Ready(), Empty() or Gone(reason)"


class Poller(Protocol):
    """Decides whether a report is ready. The ledger keeps its handle, so that another process can continue from it."""

    def handle(self, response: Response) -> str:
        """The report's name (an id, a URL), from the response to the submission; raises ReportError without one."""

    def poll(self, submitted: Request, handle: str) -> Request:
        """The request for its state."""

    def state(self, response: Response, age_s: float) -> ReportState:
        """
        The state in the response to a poll; ``age_s`` is the report's age since it was submitted.

        Also called for a refused response with status 404 or 410 (any other refusal fails the partition): a report that
        an earlier run submitted may be :class:`Gone`.
        """

    def expired(self, response: Response) -> bool:
        """
        Whether this refused response to a page or download of a ready report means that the report has expired. The
        core then requests its state again.
        """


# --- bodies ---------------------------------------------------------------------------------------------------------


class BodyDecoder(Protocol):
    """
    Body to items: where in this body the elements are. Called in the fetching thread, inside the retry.

    Raises BrokenBodyError if the body is not what the envelope declares.
    """

    def __call__(self, response: Response) -> Answer: ...


@frozen(eq=False, repr=False)
class Named:
    """A component by name and options, looked up among those that plugins offer: ``named("page_number", size=100)``."""

    name: str
    options: dict[str, Any] = field(factory=dict)


def named(name: str, /, **options: Any) -> Named:
    """The component that a plugin offers under this name."""
    return Named(name, options)
