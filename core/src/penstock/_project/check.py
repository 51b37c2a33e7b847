"""
``check``: try credentials and targets.
"""

import shlex
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from penstock._config.config import Config
from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Call, Failed
from penstock._fetch.client import SourceClient
from penstock._fetch.limits import RetryBudget
from penstock._plan.selection import chosen_streams
from penstock._plugins.plugin_errors import connector_errors
from penstock._plugins.sink_calls import open_readonly
from penstock._project.selected_jobs import Selection, check_missed_columns, jobs_for
from penstock._project.setup import AddNotice, Notices, Setup
from penstock._run_report.log import RunLog
from penstock._util.clock import Clock
from penstock.errors import (
    AuthenticationError,
    ConfigError,
    ParkedError,
    PenstockError,
    ServerError,
    ThrottledError,
    UsageError,
)
from penstock.model import Slice
from penstock.redact import mask
from penstock.results import Checked, CheckedKind, CheckResult
from penstock.verdicts import Refuse


class _CheckAttempt(NamedTuple):
    """A source, target or pipeline to be checked. ``attempt`` returns the message of success."""

    name: str
    kind: CheckedKind
    attempt: Callable[[], str]


def check(setup: Setup, name: str | None, clock: Clock) -> CheckResult:
    """See :meth:`penstock.Project.check`."""
    config = setup.config
    sources, sinks = tuple(config.sources), tuple(config.sinks)
    pipelines = tuple(config.pipelines)
    if name is not None:
        pipeline = config.pipelines.get(name)
        sources, sinks = (pipeline.source, (pipeline.sink,)) if pipeline is not None else ((name,), ())
        if name in config.sinks and pipeline is None and name not in config.sources:
            sources, sinks = (), (name,)
        pipelines = (name,) if pipeline is not None else ()
    if not sources and not sinks:
        hint = config.absent or ": `penstock init CONNECTOR` prints a source"
        raise UsageError(f"nothing is configured that could be checked{hint}")
    notices = Notices()
    of_file: list[Checked] = []
    if config.problems and len(sources) + len(sinks) > 1:
        of_file = [_problems_of_file(config)]
        setup = setup.without_problems_of_file()
    tries = [
        _CheckAttempt(source, "source", partial(_check_source, setup, source, notices.add, clock)) for source in sources
    ]
    tries += [_CheckAttempt(sink, "target", partial(_check_sink, setup, sink, notices.add)) for sink in sinks]
    if len(tries) == 1:
        return CheckResult(checked=(_try_check(tries[0], alone=True),), notices=tuple(notices.texts))
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="check") as pool:
        checked = [*of_file, *pool.map(_try_check, tries)]
    refused = {tried.name for tried in checked if tried.exit_code == UsageError.exit_code}
    for piped in pipelines:
        if refused.isdisjoint((*config.pipelines[piped].source, config.pipelines[piped].sink)):  # else it was named
            tried = _try_check(_CheckAttempt(piped, "pipeline", partial(_check_pipeline, setup, piped, clock)))
            checked += [tried] if tried.exit_code else []
    return CheckResult(checked=tuple(checked), notices=tuple(notices.texts))


def _problems_of_file(config: Config) -> Checked:
    """The problems that every source and sink would repeat."""
    error = ConfigError(config.problems)
    return Checked(name=config.where, kind="file", message=error.as_list, exit_code=error.exit_code)


def _check_pipeline(setup: Setup, name: str, clock: Clock) -> str:
    """
    Select its streams and read its receivers, as a run does before anything is requested, and look for the programs of
    the receivers. A run whose receiver has none goes on, with a notice.
    """
    jobs_for(setup, name, Selection(), clock.now(), lambda _: None)
    receivers = setup.config.notifications(name, setup.registry)
    programs = [shlex.split(receiver.command)[0] for receiver in receivers if receiver.command]
    if missing := [program for program in programs if shutil.which(program) is None]:
        place = f"{setup.config.where}: pipeline.{name}.notify"
        raise ConfigError([f"{place}: there is no program {program!r} that could be executed" for program in missing])
    return name


def _check_source(setup: Setup, name: str, add_notice: AddNotice, clock: Clock) -> str:
    configured = setup.source(name, add_notice)
    check_missed_columns(setup.config, [configured], {name: chosen_streams(configured, None)})
    with connector_errors(configured.connector.name):
        return check_credentials(configured, clock)


def _check_sink(setup: Setup, name: str, add_notice: AddNotice) -> str:
    sink = setup.usable([], name, strict=True, add_notice=add_notice).sink
    assert sink is not None
    target = open_readonly(sink.open(), "")
    if target is None:
        return f"{sink.name}: nothing was written yet, and whether a run may write is not tried"
    try:
        advice = target.advice()
    finally:
        target.close()
    return "\n".join((f"{sink.name}: can be read", *(f"{sink.name}: {text}" for text in advice)))


def _try_check(to_try: _CheckAttempt, *, alone: bool = False) -> Checked:
    """The result of one try. ``alone``: a usage or configuration error is raised."""
    try:
        return Checked(name=to_try.name, kind=to_try.kind, message=to_try.attempt())
    except PenstockError as error:
        if alone and isinstance(error, UsageError):
            raise
        message = error.as_list if isinstance(error, ConfigError) else str(error)
        return Checked(name=to_try.name, kind=to_try.kind, message=message, exit_code=error.exit_code)


# --- credentials ------------------------------------------------------------------------------------------------------


def check_credentials(source: ConfiguredSource, clock: Clock) -> str:
    """
    Try the credentials with one cheap request that records nothing; those of each account that has its own. Returns a
    line for each. Raises AuthenticationError for the first that is refused, after all were tried.
    """
    if source.connector.check is None:
        return (
            f"{source.name}: the configuration is complete. The connector {source.connector.name} declares no request "
            "that records nothing, so the credentials were not tried."
        )
    # One request without retries: a user who waits for a check prefers the message that the provider is busy.
    client = SourceClient(source, RunLog.without_run(source.name), clock=clock, retry_budget=RetryBudget(retries=0))
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
    result = client.fetch(Call(request=request, decoder=None, lenient=True, account=account))
    if isinstance(result, Failed):
        if isinstance(result.error, AuthenticationError) and (signed := client.signer(account).explain(request)):
            raise AuthenticationError(f"{result.error}\nSigned was: {signed}")
        if isinstance(result.error, (ThrottledError, ServerError, ParkedError)):
            return f"{name}: not checked, the provider is busy ({result.error}). Try again later"
        raise result.error
    if isinstance(result.verdict, Refuse):
        raise result.verdict.error
    return f"{name}: credentials work ({request.method} {mask(request.url)} was answered)"
