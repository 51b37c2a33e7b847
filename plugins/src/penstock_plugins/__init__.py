"""
The plugin that comes with penstock: sinks, the components that connectors share, commands, engines and telemetry.

Sinks: ``files``, ``postgres`` and ``duckdb``, which share ``sink_support``, with ``arrow`` for typed columns; they are
listed in ``sink_kinds``. Components: ``tokens`` and ``signatures`` (authenticators), ``paging`` and ``polling``.
Further: ``integrations`` (other tools), ``scaffold`` (``penstock new``), ``status_page`` (``penstock page``),
``engines``, ``telemetry``; ``extras`` names the libraries that are missing.

This module is imported to find out what is offered, so it imports the marker only.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from penstock import hookimpl

if TYPE_CHECKING:
    from penstock import Command, Encoder, Event, Registration, SinkKind


@hookimpl
def penstock_sinks() -> "Iterable[SinkKind]":
    from penstock_plugins.sink_kinds import KINDS

    return KINDS


@hookimpl
def penstock_authenticators() -> "Iterable[Registration]":
    from penstock import Registration

    from penstock_plugins.signatures import HmacSigned, OAuth1, SignedJwt
    from penstock_plugins.tokens import (
        Basic,
        Bearer,
        GrantedToken,
        HeaderTokens,
        OAuthClient,
        OAuthJwt,
        OAuthRefresh,
        ParamTokens,
    )

    yield Registration(name="bearer", factory=Bearer, summary="a fixed token in Authorization: Bearer")
    yield Registration(name="header_tokens", factory=HeaderTokens, summary="fixed secrets in headers")
    yield Registration(name="param_tokens", factory=ParamTokens, summary="fixed secrets as query parameters")
    yield Registration(name="granted_token", factory=GrantedToken, summary="a token that a login call grants")
    yield Registration(name="basic", factory=Basic, summary="HTTP Basic: user name and password")
    yield Registration(name="oauth_client", factory=OAuthClient, summary="OAuth 2.0: a token for client credentials")
    yield Registration(name="oauth_refresh", factory=OAuthRefresh, summary="OAuth 2.0: a token for a refresh token")
    yield Registration(
        name="oauth_jwt", factory=OAuthJwt, summary="OAuth 2.0: a token for a JWT of a private key (extra: jwt)"
    )
    yield Registration(
        name="signed_jwt", factory=SignedJwt, summary="a JWT of a private key for each attempt (extra: jwt)"
    )
    yield Registration(name="oauth1", factory=OAuth1, summary="a signature of OAuth 1.0a (extra: oauth1)")
    yield Registration(name="hmac", factory=HmacSigned, summary="an HMAC over chosen parts of the request")


@hookimpl
def penstock_paginators() -> "Iterable[Registration]":
    from penstock import Registration

    from penstock_plugins.paging import Cursor, Link, Offset, PageNumber

    yield Registration(name="page_number", factory=PageNumber, summary="page=1, 2, 3, ...")
    yield Registration(name="offset", factory=Offset, summary="offset=0, 100, 200, ...")
    yield Registration(name="cursor", factory=Cursor, summary="cursor=..., which the former page names")
    yield Registration(name="link", factory=Link, summary="a link to the next page, in the body or the Link header")


@hookimpl
def penstock_pollers() -> "Iterable[Registration]":
    from penstock import Registration

    from penstock_plugins.polling import Polled

    yield Registration(name="polled", factory=Polled, summary="a report whose state is polled until it is ready")


@hookimpl
def penstock_decoders() -> "Iterable[Registration]":
    from penstock import Envelope, Registration, ReportFile

    yield Registration(name="json", factory=Envelope, summary="a JSON body: the paths of items, total, pages, head")

    yield Registration(
        name="report_file", factory=ReportFile, summary="a downloaded file: JSON, JSON lines or CSV, also gzipped"
    )


@hookimpl
def penstock_encoders() -> "Iterable[Registration]":
    from penstock import Registration

    yield Registration(name="arrow", factory=_arrow, summary="an Arrow stream of typed columns (extra: arrow)")


def _arrow(**options: int) -> "Encoder":
    from penstock_plugins.extras import installed

    with installed("arrow"):
        from penstock_plugins.arrow.columns import ArrowStream
    return ArrowStream(**options)


@hookimpl
def penstock_commands() -> "Iterable[Command]":
    from penstock import Command

    yield Command(
        name="new", target="penstock_plugins.scaffold.command:new", summary="Write a connector from a sample answer."
    )
    yield Command(
        name="page",
        target="penstock_plugins.status_page.command:page",
        summary="Show what was delivered as a page for a browser.",
    )
    yield Command(
        name="singer",
        target="penstock_plugins.integrations.singer:singer",
        summary="Be a Singer tap for targets and Meltano.",
    )
    yield Command(
        name="airbyte",
        target="penstock_plugins.integrations.airbyte:airbyte",
        summary="Be an Airbyte source for PyAirbyte.",
    )


@hookimpl
def penstock_engines() -> "Iterable[Registration]":
    from penstock import Registration

    from penstock_plugins.engines.processes import Processes

    yield Registration(name="processes", factory=Processes.make, summary="processes of this machine (--workers)")
    yield Registration(
        name="dask",
        factory=_dask,
        summary="workers of a Dask cluster: dask://HOST:PORT, with TLS dask:tls://HOST:PORT (extra: dask)",
    )


def _dask(**options: Any) -> Any:
    from penstock_plugins.extras import installed

    with installed("dask"):
        from penstock_plugins.engines.dask import Dask
    return Dask.make(**options)


@hookimpl
def penstock_event(event: "Event") -> None:
    import penstock_plugins.telemetry

    penstock_plugins.telemetry.follow(event)
