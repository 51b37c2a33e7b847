"""
Sign each attempt: the stage that puts credentials on a request, innermost, so that a retry never carries a stale one.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeGuard

from attrs import define, evolve, field

from penstock._fetch.origin import sendable
from penstock._fetch.token_store import TokenStore
from penstock._util.clock import Clock
from penstock.errors import AuthenticationError, ParkedError, PluginError, check_returned
from penstock.model import Pairs, Request, Response
from penstock.protocols import GRANT, Authenticator, Grant, LoginSigning, Renewing
from penstock.redact import Secret, mask_temporarily

# A smaller difference between two clocks is no reason to refuse a signature.
TOLERATED_PROVIDER_SKEW = timedelta(seconds=60)

# A larger difference is an invalid date, not a wrong clock. Applying it could exceed the range of datetime.
MAX_PROVIDER_SKEW = timedelta(days=3650)

# A token is renewed after this share of its lifetime, so that it does not expire between two pages.
RENEWED_AT_SHARE = 0.8


def is_renewing(authenticator: Authenticator) -> TypeGuard[Renewing]:
    """
    Whether its grants keep something. No base class has the method: where it is, tokens are stored, and not shared with
    other machines, which is decided before the first login.
    """
    return hasattr(authenticator, "renew_request")


def is_login_signing(authenticator: Authenticator) -> TypeGuard[LoginSigning]:
    return hasattr(authenticator, "sign_login")


class Signed(NamedTuple):
    """A request as it is sent, and the grant and the skew with which it was signed."""

    request: Request
    grant: Grant | None = None
    skew: timedelta = timedelta(0)


@define(eq=False, repr=False)
class Signer:
    """
    Signs the attempts at requests with one authenticator.

    It holds what signing needs between attempts: the grant, renewed by one thread at a time, and the skew between
    the provider's clock and ours. ``send_login`` sends the authenticator's grant request, retries included. A login
    that is refused, or to which the provider states a long wait, is not repeated: every thread would repeat it, and
    providers lock accounts after a number of failed logins.
    """

    authenticator: Authenticator
    send_login: Callable[[Request], Response]
    clock: Clock
    store: TokenStore | None = None  # for an authenticator whose grants keep something
    account: str | None = None  # whose credentials these are, where accounts have their own
    shared_grant: Callable[[Grant | None], Grant] | None = None  # the grant that all processes of a divided run use
    headers: Pairs = ()  # of every request and login, unless it has one of that name
    skew: timedelta = field(default=timedelta(0), init=False)  # how far the provider's clock is ahead of ours
    _current: Grant | None = field(default=None, init=False)
    _renew_at: float | None = field(default=None, init=False)
    _final_error: AuthenticationError | ParkedError | None = field(default=None, init=False)
    _needs_grant: bool = field(default=True, init=False)  # until the authenticator names no login
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def sign(self, request: Request) -> Signed:
        """The request as one attempt sends it; unchanged where it carries no credentials."""
        if not request.credentials:
            return Signed(request)
        if (url := sendable(request.url)) != request.url:  # what is signed is what leaves
            request = evolve(request, url=url)
        grant, skew = self.grant(), self.skew
        if self.headers:
            request = self._with_headers(request)
        signed = self.authenticator.sign(request, self.clock.now() + skew, grant)
        check_returned(self.authenticator.sign, signed, Request, "request.with_headers(...)")
        for name, value in (*signed.params, *signed.headers):
            if name in signed.masked and (name, value) not in request.params:
                mask_temporarily(value)  # a provider may repeat it in a body, and it is valid for a while
        return Signed(signed, grant, skew)

    def now(self) -> datetime:
        """Our time, corrected to the provider's."""
        return self.clock.now() + self.skew

    def grant(self, expired: Grant | None = None) -> Grant | None:
        """
        The grant to sign with, renewed if its time is near, or if it is still the ``expired`` one, which the provider
        refused: another thread may have renewed that. None for an authenticator that needs none.
        """
        if not self._needs_grant:
            return None
        with self._lock:
            due = self._renew_at is not None and self.clock.monotonic() >= self._renew_at
            if self._current is None or self._current is expired or due:
                self._log_in()
            return self._current

    def lend(self, expired_token: str | None) -> Grant:
        """
        The grant for another process, which renews it as this one does; renewed first if it is still
        ``expired_token``, which was refused there. Raises PluginError if the authenticator needs none here.
        """
        current = self._current
        grant = self.grant(current if current is not None and expired_token == current.token.reveal() else None)
        if grant is None:
            authenticator = type(self.authenticator).__name__
            raise PluginError(f"{authenticator}.grant_request returned a request in a worker, and none here")
        if self._renew_at is None:
            return Grant(grant.token)
        return Grant(grant.token, max(0.0, self._renew_at - self.clock.monotonic()) / RENEWED_AT_SHARE)

    def correct_clock(self, response: Response, signed_skew: timedelta) -> bool:
        """
        Adopt the provider's time from its ``Date`` header. Returns whether it differs by more than
        ``TOLERATED_PROVIDER_SKEW`` from the time of the refused attempt, whose skew was ``signed_skew``: another
        thread may have corrected the skew meanwhile.

        The skew is whole seconds, as the header is: our fraction of a second stays in what is signed, so that two
        attempts of one second never carry the same time, which a provider would take for a replay.
        """
        provider_time = response.date
        if provider_time is None:
            return False
        skew = timedelta(seconds=round((provider_time - response.received_at).total_seconds()))
        if abs(skew - signed_skew) <= TOLERATED_PROVIDER_SKEW or abs(skew) > MAX_PROVIDER_SKEW:
            return False
        self.skew = skew
        return True

    def explain(self, request: Request) -> str:
        """What would be signed for this request now."""
        return self.authenticator.explain(request, self.now())

    def preview(self, request: Request, token: Secret | None = None) -> Request:
        """The request as it would be sent now, without a login: with ``token`` if one needs a grant."""
        grant = None if token is None or self.authenticator.grant_request() is None else Grant(token)
        return self.authenticator.sign(self._with_headers(request), self.now(), grant)

    def _with_headers(self, request: Request) -> Request:
        own = {name.lower() for name, _ in request.headers}
        return request.with_headers(*(pair for pair in self.headers if pair[0].lower() not in own))

    def _log_in(self) -> None:
        request = self.authenticator.grant_request()
        check_returned(self.authenticator.grant_request, request, Request | None, "Request(...), or None")
        if request is None:
            self._needs_grant = False
            return
        if self._final_error is not None:
            raise self._final_error.to_raise_again()
        try:
            if self.shared_grant is not None:
                self._current = self.shared_grant(self._current)
            elif is_renewing(self.authenticator):
                assert self.store is not None, "a source has a token store"
                self._current = self.store.log_in(self.account, self.authenticator, self._sign_and_send_login)
            else:
                granted = self.authenticator.read_grant(self._sign_and_send_login(request))
                self._current = grant = check_returned(self.authenticator.read_grant, granted, Grant, GRANT)
                if grant.keep:
                    raise PluginError(
                        f"{type(self.authenticator).__name__} returned Grant(keep=...) and has no renew_request, so "
                        "what is kept would never be used; write renew_request(kept)."
                    )
        except (AuthenticationError, ParkedError) as error:
            self._final_error = error.to_raise_again()
            raise
        life_s = self._current.life_s
        self._renew_at = None if life_s is None else self.clock.monotonic() + RENEWED_AT_SHARE * life_s

    def _sign_and_send_login(self, request: Request) -> Response:
        """The response to the login, which is signed first where the authenticator does that."""
        request = self._with_headers(request)
        if is_login_signing(self.authenticator):
            request = self.authenticator.sign_login(request, self.now())
        return self.send_login(request)
