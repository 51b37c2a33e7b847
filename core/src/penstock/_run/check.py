"""
Try a source's credentials.
"""

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._fetch.retry import Budget
from penstock._fetch.scheduler import Call
from penstock._util.clock import Clock
from penstock.errors import AuthenticationError, ServerError, ThrottledError
from penstock.model import Slice
from penstock.protocols import Refuse
from penstock.redact import mask
from penstock.report import RunReport


def check(source: ConfiguredSource, clock: Clock) -> str:
    """
    Try the credentials with one cheap request that records nothing, and say in a line what was seen.
    """
    if source.connector.check is None:
        return (
            f"{source.name}: the configuration is complete. {source.connector.title} has no request that would record "
            f"nothing, so the credentials were not tried."
        )
    report = RunReport(run_id="check")
    # One request and an answer at once: who waits for a check would rather hear that the provider is busy.
    client = SourceClient(source, clock=clock, budget=Budget(clock, retries=0), report=report)
    try:
        zone = source.zone
        slice_ = Slice(now=clock.now(), days=(clock.now().astimezone(zone).date(),))
        request = source.connector.check(source.settings, slice_)
        outcome = client.make(Call(request=request, read=None, lenient=True))
        if isinstance(outcome.error, AuthenticationError) and (signed := client.exchange.explain(request)):
            raise AuthenticationError(f"{outcome.error}\nSigned was: {signed}")
        if isinstance(outcome.error, (ThrottledError, ServerError)):
            return f"{source.name}: not disproved, the provider has no time for us now ({outcome.error})"
        if outcome.error is not None:
            raise outcome.error
        if isinstance(outcome.verdict, Refuse):
            raise outcome.verdict.error
        return f"{source.name}: credentials work ({request.method} {mask(request.url)} was answered)"
    finally:
        client.close()
