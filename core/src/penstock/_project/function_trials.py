"""
A trial of what connectors declare as functions: each is called once, with the settings of the connector's sandbox.

The functions are pure, so nothing is sent. What they return is checked for ``penstock connectors`` and for the kit:
a wrong result would otherwise appear in the first run.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import FunctionType
from typing import Any

from attrs import evolve

from penstock._config.config import Config
from penstock._config.source import ConfiguredSource
from penstock._plugins.offers import Broken
from penstock._plugins.plugin_errors import FAILURES, describe_error, place_in_plugin
from penstock._plugins.registry import Registry
from penstock._plugins.validation.components import COMPONENTS, problems_in_component
from penstock.connector import Parent, Stream
from penstock.errors import ConfigError, PenstockError, PluginError, check_returned
from penstock.model import Answer, Request, Response, Slice
from penstock.names import nearest, source_line
from penstock.protocols import STATES, Grant, ReportState, Unsigned
from penstock.redact import MASK, SHORTEST_MASKED, Secret, clip
from penstock.settings import SourceSettings, info_of, keys_of
from penstock.verdicts import VERDICTS, Verdict

# Nothing answers there. A function that sends a request, against the rules, fails at once.
NOWHERE = "http://127.0.0.1:9"

DAY = date(2026, 3, 1)
EMPTY_OBJECT = Response(status=200, body=b"{}", received_at=datetime.combine(DAY, time(), UTC))

_SIGNS = tuple(name for name in vars(Unsigned) if not name.startswith("_"))


def trial_problems(registry: Registry) -> list[Broken]:
    """The problems of every connector, with its plugin."""
    return [
        Broken(registry.origin(name), f"connector {name}: {problem}")
        for name in registry.connectors()
        for problem in trial_problems_of(registry, name)
    ]


def trial_problems_of(registry: Registry, connector: str) -> list[str]:
    """The problems of one connector, in the order of its streams. Without a sandbox its functions are not called."""
    try:
        if not registry.streams(connector) and not registry.actions(connector):
            return [
                f"it has neither streams nor actions; penstock_record_streams(source) and penstock_actions(source) "
                f"return nothing for source={connector!r}"
            ]
    except PenstockError:
        return []  # the registry reports them as broken
    if connector not in registry.sandboxes():
        return []
    try:
        source = _source_of_sandbox(registry, connector)
    except ConfigError as error:
        return [f"its settings class refuses the settings of its sandbox: {problem}" for problem in error.problems]
    problems = list(_problems_in_parameters(source))
    if problems:
        return problems  # the calls below would fail for the same reason
    problems += _problems_in_connector(source)
    for stream in source.streams:
        if not stream.not_built and stream.derived is None:
            problems += [f"stream {stream.name}: {problem}" for problem in _problems_in_stream(source, stream)]
    return problems


def _source_of_sandbox(registry: Registry, connector: str) -> ConfiguredSource:
    """The connector with the settings of its sandbox. Raises ConfigError."""
    values = registry.sandbox(connector).source(NOWHERE)
    settings = Config().with_values(connector, values, "sandbox").source(connector, registry).settings
    return ConfiguredSource.of(registry, connector, settings)


def unstated_settings(registry: Registry, connector: str) -> list[str]:
    """
    The settings on which requests for days depend, and which do not state whether they affect the data: after a change
    of such a setting, final days would keep the rows of its former value. The connector has no other problem.
    """
    if connector not in registry.sandboxes():
        return []
    source = _source_of_sandbox(registry, connector)
    return [
        f"stream {stream.name}: its requests ({source_line(stream.requests)}) depend on the setting {name}; write "
        f"{name} = setting(..., affects_data=True), so that a changed value reads final days again, or "
        "affects_data=False if the rows are the same"
        for stream in source.streams
        if stream.requests is not None
        and stream.kind != "snapshot"
        and stream.parent is None  # the rows of its parent are not known
        and not stream.not_built
        for name in _settings_read(source, stream)
    ]


def _settings_read(source: ConfiguredSource, stream: Stream) -> Iterator[str]:
    """The settings that state nothing about ``affects_data``, and of which another value makes other requests."""
    account = next(iter(source.accounts_of(stream) or ()), "1") if stream.account is not None else None
    source = source.for_account(account)
    settings, slice_ = source.settings, _slice(source, stream, account)
    common = {attribute.name for attribute in keys_of(SourceSettings)}

    def requests(values: SourceSettings) -> list[tuple[object, ...]]:
        return [
            (request.method, request.full_url, request.headers, request.body)
            for request in stream.first_requests(values, slice_)
        ]

    for attribute in keys_of(type(settings)):
        value = getattr(settings, attribute.name)
        if attribute.name in common or info_of(attribute).affects_data is not None or isinstance(value, Secret):
            continue
        for other in _other_values(value):
            changed: dict[str, Any] = {attribute.name: other}
            try:
                is_read = requests(evolve(settings, **changed)) != requests(settings)
            except FAILURES:  # of a value that the connector refuses
                continue
            if is_read:
                yield attribute.name
                break


def _other_values(value: object) -> Sequence[object]:
    match value:
        case bool():
            return (not value,)
        case int() | float() | Decimal():
            return (value + 1,)
        case str():
            return (f"{value}x", "x")
        case tuple():
            return ((*value, "x"),)
        case None:
            return ("x", 2)
    return ()


_CALLED = {  # the values that the core passes to each function
    "authenticator": ("settings",),
    "check": ("settings", "slice_"),
    "requests": ("settings", "slice_"),
    "accounts": ("settings",),
    "earliest": ("today",),
    "extra_columns": ("settings",),
    "judge": ("response", "answer"),
}


def _problems_in_parameters(source: ConfiguredSource) -> Iterator[str]:
    """Functions that do not take what the core passes to them."""
    places = [("", source.connector), *((f"stream {stream.name}: ", stream) for stream in source.streams)]
    for where, declared in places:
        for name, values in _CALLED.items():
            function = getattr(declared, name, None)
            if function is None:
                continue
            if isinstance(function, type):
                written_as = f"{name}=lambda {', '.join(values)}: {function.__name__}(...)"
                yield f"{where}{name} is the class {function.__name__}; write a function, such as {written_as}"
                continue
            try:
                inspect.signature(function).bind(*values)
            except TypeError:
                written = getattr(function, "__name__", name)
                example = f"{name if written == '<lambda>' else written}({', '.join(values)})"
                yield (
                    f"{where}{name} ({source_line(function)}) takes {inspect.signature(function)}, and is called with "
                    f"{' and '.join(values)}; write {example}"
                )
            except ValueError:  # a function of C without a signature
                continue


def _problems_in_connector(source: ConfiguredSource) -> Iterator[str]:
    """What its authenticator and its check return."""
    connector, settings = source.connector, source.settings
    try:
        if connector.authenticator is not None:
            signer: Any = source.component("authenticator", connector.authenticator(settings))
            if isinstance(signer, type):
                yield f"authenticator returned the class {signer.__name__}; write {signer.__name__}(...)"
            elif isinstance(signer, str):
                place = source_line(connector.authenticator)
                yield f'authenticator ({place}) returned the text {signer!r}; write named("{signer}", ...)'
            elif lacking := [name for name in _SIGNS if not callable(getattr(signer, name, None))]:
                yield (
                    f"authenticator ({source_line(connector.authenticator)}) returned {type(signer).__name__} without "
                    f"{', '.join(lacking)}; write a class that extends Unsigned, and return an object of it"
                )
            elif (problem := _problem_of_sign(signer)) is not None:
                yield f"{type(signer).__name__}.sign ({source_line(type(signer).sign)}) {problem}"
            elif (problem := _problem_of_login(signer)) is not None:
                yield f"the login of authenticator ({source_line(connector.authenticator)}) {problem}"
    except FAILURES as error:
        yield f"authenticator failed with {_failure(error)}"
    yield from _problems_in_judge(connector.judge)
    if connector.check is None:
        return
    now = datetime.combine(DAY, time(12), UTC)
    account = next(iter(settings.account_tables), None)
    try:
        request: Any = connector.check(
            source.for_account(account).settings, Slice(now=now, account=account, days=(DAY,))
        )
    except FAILURES as error:
        yield f"check failed with {_failure(error)}"
    else:
        if not isinstance(request, Request):
            yield f"check ({source_line(connector.check)}) returned {type(request).__name__}; write return Request(...)"


def _problem_of_sign(signer: Any) -> str | None:
    """What is wrong with the request that ``sign`` returns. A signer that refuses this request has no problem."""
    try:
        grant = None if signer.grant_request() is None else Grant(token=Secret("a-token-of-the-trial"))
        signed = signer.sign(Request(url=f"{NOWHERE}/"), datetime.combine(DAY, time(12), UTC), grant)
    except TypeError as error:
        return f"failed: {error}" if "Secret" in str(error) else None
    except FAILURES:
        return None
    if not isinstance(signed, Request):
        return f"returned {_type_of(signed)}; write return request.with_headers(...)"
    return _problem_of_mask(signed)


def _problem_of_login(signer: Any) -> str | None:
    """What is wrong with the request that grants a token. A signer that refuses to make it has no problem."""
    try:
        login = signer.grant_request()
    except FAILURES:
        return None
    return _problem_of_mask(login) if isinstance(login, Request) else None


def _problem_of_mask(request: Request) -> str | None:
    """What is wrong with a request into which a Secret was formatted."""
    body = (request.body or b"").decode(errors="replace")
    for name, value in (*request.headers, *request.params, ("a body", body)):
        if MASK in value:
            return f"sends {name} with {clip(value, 100)!r}, which is how a Secret prints; write secret.reveal()"
    return None


def _problems_in_judge(judge: Any) -> Iterator[str]:
    """Whether a judge answers with a verdict or None. It gets an empty object, for which it may raise an error."""
    if judge is None:
        return
    try:
        verdict = judge(EMPTY_OBJECT, Answer())
    except FAILURES:
        return
    if not isinstance(verdict, Verdict | None):
        yield f"judge ({source_line(judge)}) returned {_type_of(verdict)}; write return {VERDICTS}"


def _type_of(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _problems_in_stream(source: ConfiguredSource, stream: Stream) -> Iterator[str]:
    try:
        accounts: Any = source.accounts_of(stream) if stream.account is not None else None
    except PluginError as error:
        yield str(error)
        return
    except FAILURES as error:
        yield f"accounts failed with {_failure(error)}"
        return
    if stream.account is not None and (problem := _problem_of_accounts(source, stream, accounts)):
        yield problem
        return
    yield from _problems_in_judge(stream.judge)
    yield from _problems_in_earliest(stream)
    account = next(iter(accounts or ()), "1") if stream.account is not None else None
    source = source.for_account(account)
    yield from _problems_in_components(source, stream)
    yield from _problems_in_poller(source, stream)
    yield from _problems_in_requests(source, stream, _slice(source, stream, account))


def _problems_in_earliest(stream: Stream) -> Iterator[str]:
    first = stream.earliest(DAY) if stream.earliest is not None else DAY
    if isinstance(first, datetime) or not isinstance(first, date):
        line = source_line(stream.earliest)
        yield f"earliest ({line}) returned {_type_of(first)}; write return today - timedelta(...)"


def _problems_in_requests(source: ConfiguredSource, stream: Stream, slice_: Slice) -> Iterator[str]:
    if stream.parent is not None:
        try:
            rows = _rows_of_parent(stream.parent)
        except PluginError as error:
            yield f"parent: links: {error}"
            return
        if stream.requests is not None or not rows:
            return  # the rows of its parent are not known
        slice_ = evolve(slice_, parents=tuple(rows))
    try:
        requests = stream.first_requests(source.settings, slice_)
    except PenstockError as error:
        yield str(error)
    except FAILURES as error:
        yield f"requests failed with {_failure(error)}"
    else:
        for request in requests[:1]:
            yield from _secrets_in(source, stream, request)
        stamped = set.intersection(*(set(request.columns) for request in requests)) if requests else set()
        yield from _problems_in_added_columns(source, stream, stamped)


def _problem_of_accounts(source: ConfiguredSource, stream: Stream, accounts: Any) -> str | None:
    """What is wrong with the accounts of a stream that is divided by them."""
    if not accounts:
        key = f"{stream.account}s"
        if stream.accounts_from is not None:
            return None
        return (
            f"it is read account by account ({stream.account}), and the settings of the sandbox name no account; write "
            f"{key}: tuple[str, ...] = setting(...), or accounts=lambda settings: "
            f"settings.{_similar_setting(source, key)}"
        )
    if isinstance(accounts, str) or not all(isinstance(account, str) for account in accounts):
        return f"the setting {stream.account}s is {accounts!r}; write tuple[str, ...] = setting(...)"
    return None


def _similar_setting(source: ConfiguredSource, key: str) -> str:
    """The setting that is a list and may hold the accounts; ``key`` itself where there is none."""
    lists = [setting.name for setting in keys_of(type(source.settings)) if "tuple[str" in str(setting.type)]
    return nearest(key, lists, cutoff=0.0) or key


def _rows_of_parent(parent: Parent) -> list[Mapping[str, Any]]:
    """What ``links`` makes of a row whose columns are all ``"1"``; none where it needs other values."""
    try:
        return parent.linked(dict.fromkeys(parent.columns, "1"))[:1]
    except PluginError:
        raise
    except FAILURES:
        return []


def _slice(source: ConfiguredSource, stream: Stream, account: str | None) -> Slice:
    now = datetime.combine(DAY + timedelta(days=2), time(12), UTC)
    if stream.kind == "snapshot":
        return Slice(now=now, account=account)
    start = datetime.combine(DAY, time(), source.zone)
    return Slice(now=now, account=account, days=(DAY,), start=start, end=start + timedelta(days=1))


def _secrets_in(source: ConfiguredSource, stream: Stream, request: Request) -> Iterator[str]:
    """Secrets of the settings in a request that is not signed yet: the ledger keeps the request of a report."""
    text = f"{request.full_url} {request.headers} {(request.body or b'').decode('utf-8', 'replace')}"
    where = f" ({source_line(stream.requests)})" if stream.requests is not None else ""
    if (problem := _problem_of_mask(request)) is not None:
        yield f"requests{where} {problem}, in an authenticator"
    for setting in keys_of(type(source.settings)):
        value = getattr(source.settings, setting.name, None)
        if isinstance(value, Secret) and len(value.reveal()) > SHORTEST_MASKED and value.reveal() in text:
            yield (
                f"requests{where} writes the secret {setting.name} into the request, which the ledger may keep; write "
                f'authenticator=lambda settings: named("param_tokens", params={{...: settings.{setting.name}}})'
            )


def _problems_in_added_columns(source: ConfiguredSource, stream: Stream, stamped: set[str]) -> Iterator[str]:
    """Columns that the provider does not send and that nothing fills."""
    try:
        envelope = source.component("decoder", stream.envelope)
    except FAILURES:
        return  # reported with the components
    if envelope is not None and not hasattr(envelope, "stamps"):
        return  # a decoder of the author's own may fill any column
    filled = {*stamped, *getattr(envelope, "stamps", ()), getattr(envelope, "keyed_by", None), stream.account}
    if source.day_of(stream) is not None or source.days_per_request(stream) == 1:
        filled.add(stream.day)
    for column in stream.columns:
        computed = column.derived_of is not None or bool(column.hash_of)
        if not column.added or computed or column.name in filled or (column.nullable and column.name != stream.day):
            continue
        fill = f'Request(..., columns={{"{column.name}": ...}})'
        if stream.parent is not None:
            first = stream.parent.columns[0] if stream.parent.columns else "id"
            fill = f'links=lambda row: [{{"{column.name}": row["{first}"]}}] in Parent(...)'
        yield (
            f"nothing fills the column {column.name}, which the provider does not send; write {fill}, or leave added() "
            "out where the provider sends it"
        )


def _problems_in_components(source: ConfiguredSource, stream: Stream) -> Iterator[str]:
    """What functions of the settings make: the components themselves are checked where they are declared."""
    for name in COMPONENTS:
        function = getattr(stream, name)
        if not isinstance(function, FunctionType):
            continue
        try:
            component = function(source.settings)
        except FAILURES as error:
            kind = COMPONENTS[name][0]
            yield (
                f"{name} failed with {_failure(error)}; a function there takes the settings and returns the {kind}, so "
                f"write {name}=lambda settings: {function.__name__} if it is the {kind} itself"
            )
            continue
        is_decoder = COMPONENTS[name][0] == "decoder"  # which may be a plain function
        if component is None or (isinstance(component, FunctionType) and not is_decoder):
            returned = "a function" if component is not None else "nothing"
            yield f"{name} ({source_line(function)}) returned {returned}; write return, and the {COMPONENTS[name][0]}"
        else:
            for problem in problems_in_component(name, component, source.registry.component):
                yield f"{problem} (returned by {source_line(function)})"


def _failure(error: BaseException) -> str:
    """An error of a connector's function, with its place and, where it is one that beginners meet, the remedy."""
    bare = re.match(r"(\w+)\(\) takes no arguments|(Unsigned|SinglePage)\.__init__\(\) got an unexpected", str(error))
    named = "" if bare is None else bare[1] or f"that extends {bare[2]}"
    remedy = f"; put @frozen(kw_only=True) above the class {named}" if named else ""
    return f"{describe_error(error)}{place_in_plugin(error)}{remedy}"


def _problems_in_poller(source: ConfiguredSource, stream: Stream) -> Iterator[str]:
    """Whether a poller answers with a state. It gets an empty object, for which most raise an error."""
    if stream.poller is None:
        return
    try:
        poller = source.component("poller", stream.poller)
        state = poller.state(EMPTY_OBJECT, 0.0)
    except FAILURES:
        return
    try:
        check_returned(poller.state, state, ReportState, STATES)
    except PluginError as error:
        yield str(error)
