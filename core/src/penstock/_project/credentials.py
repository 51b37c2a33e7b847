"""
Try a source's credentials.
"""

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Call
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import RetryBudget
from penstock._util.clock import Clock
from penstock.errors import AuthenticationError, ParkedError, PenstockError, ServerError, ThrottledError
from penstock.model import Slice
from penstock.protocols import Refuse
from penstock.redact import mask


def check_credentials(source: ConfiguredSource, clock: Clock) -> str:
    """
    Try the credentials with one cheap request that records nothing; those of each account that has its own. Returns a
    line for each. Raises AuthenticationError for the first that is refused, after all were tried.
    """
    if source.connector.check is None:
        return (
            f"{source.name}: the configuration is complete. {source.connector.title} has no request that would record "
            f"nothing, so the credentials were not tried."
        )
    # One request without retries: a user who waits for a check prefers the message that the provider is busy.
    client = SourceClient(source, clock=clock, budget=RetryBudget(retries=0))
    with_credentials: list[str | None] = [
        account for account in source.settings.account_tables if source.credentials_of(account) is not None
    ]
    lines: list[str] = []
    refused: PenstockError | None = None
    try:
        for account in with_credentials or [None]:
            try:
                lines.append(_check_account(source.for_account(account), client, account, clock))
            except PenstockError as error:
                refused = refused or (error if account is None else error.at(partition=f"account {account}"))
    finally:
        client.close()
    if refused is not None:
        raise refused
    return "\n".join(lines)


def _check_account(source: ConfiguredSource, client: SourceClient, account: str | None, clock: Clock) -> str:
    assert source.connector.check is not None
    name = source.name if account is None else f"{source.name}, account {account}"
    slice_ = Slice(now=clock.now(), account=account, days=(clock.now().astimezone(source.zone).date(),))
    request = source.connector.check(source.settings, slice_)
    outcome = client.fetch(Call(request=request, envelope=None, lenient=True, account=account))
    if isinstance(outcome.error, AuthenticationError) and (signed := client.signer(account).explain(request)):
        raise AuthenticationError(f"{outcome.error}\nSigned was: {signed}")
    if isinstance(outcome.error, (ThrottledError, ServerError, ParkedError)):
        return f"{name}: not checked, the provider is busy ({outcome.error}). Try again later"
    if outcome.error is not None:
        raise outcome.error
    if isinstance(outcome.verdict, Refuse):
        raise outcome.verdict.error
    return f"{name}: credentials work ({request.method} {mask(request.url)} was answered)"
