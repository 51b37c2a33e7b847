"""
What the provider refuses in one run: credentials, and accounts of streams.
"""

from collections import Counter

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._plan.plan import PlannedSlice, StreamAccount
from penstock._run_report.report import RunReport
from penstock.errors import AuthenticationError, ForbiddenError

# After 403 for so many accounts, and an accepted request of none in any process of the run, the credentials are refused
# and nothing more is requested.
MAX_FORBIDDEN_ACCOUNTS = 3


@define(eq=False, repr=False)
class Refusals:
    """The refusals of one source. An owner of credentials is an account that has its own; None: the source."""

    source: ConfiguredSource
    client: SourceClient
    _credentials: dict[str | None, AuthenticationError] = field(factory=dict, init=False)  # by owner
    _accounts: dict[StreamAccount, ForbiddenError] = field(factory=dict, init=False)
    _forbidden: Counter[str | None] = field(factory=Counter, init=False)  # the number of these accounts, by owner

    def check(self, planned: PlannedSlice) -> None:
        """Raises the refusal that makes a request for this slice pointless."""
        if self._credentials and (refused := self._credentials.get(self.source.credentials_of(planned.account))):
            raise refused.to_raise_again()
        if forbidden := self._accounts.get(planned.stream_account):
            raise forbidden.to_raise_again()

    def add(self, planned: PlannedSlice, error: BaseException) -> None:
        """Record the error of a slice, if it is a refusal. 403 is one of the account only: others may be accepted."""
        owner = self.source.credentials_of(planned.account)
        if isinstance(error, ForbiddenError):
            if planned.stream_account not in self._accounts:
                self._forbidden[owner] += 1
            self._accounts[planned.stream_account] = kept = error.to_raise_again()
            is_undecided = owner not in self._credentials and self._forbidden[owner] >= MAX_FORBIDDEN_ACCOUNTS
            if is_undecided and not self.client.has_working_credentials(owner):
                self._credentials[owner] = kept
        elif isinstance(error, AuthenticationError):
            self._credentials[owner] = error.to_raise_again()

    def add_credentials_to(self, run_report: RunReport) -> None:
        """
        Add the credentials that were refused, those with which an account was forbidden, and those that work: only all
        processes of a run together know whether every request with them was forbidden.
        """
        name = self.source.name
        run_report.refused |= {
            (name, owner) for owner, error in self._credentials.items() if not isinstance(error, ForbiddenError)
        }
        run_report.forbidden |= {(name, self.source.credentials_of(account)) for _, account in self._accounts}
        working = list(self.client.working_credentials)  # threads may add
        run_report.working_credentials |= {(name, owner) for owner in working}
