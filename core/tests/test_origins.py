"""Further origins of a connector: where credentials may go besides base_url, and links with the wrong scheme."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from attrs import frozen
from penstock._config.config import load
from penstock._fetch.origin import Boundary
from penstock._plugins.registry import Registry
from penstock.connector import Connector, ConnectorPlugin, Stream
from penstock.errors import ConfigError, ForeignOriginError
from penstock.model import Request
from penstock.records import record
from penstock.settings import SourceSettings, setting

API, LOGIN = "https://api.example.com", "https://login.example.com:8443"


@record()
class Row:
    id: str


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = setting(API, help="where it answers")
    login_url: str | None = setting(LOGIN, help="where it grants tokens")


def a_stream() -> Iterable[Stream]:
    return [
        Stream(name="rows", summary="", record=Row, kind="snapshot", key="id", requests=lambda settings, slice_: ())
    ]


def plugin(*origins: str) -> ConnectorPlugin:
    return ConnectorPlugin(
        Connector(name="x", summary="", settings=Settings, origins=origins, streams=tuple(a_stream()))
    )


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        (f"{API}/v1", True),
        (f"{LOGIN}/token", True),
        ("https://login.example.com/token", False),
        ("http://login.example.com:8443/token", False),
        ("https://login.example.com.evil.example/token", False),
        ("https://other.example.com/", False),
    ],
)
def test_credentials_go_to_declared_origins_only(url: str, allowed: bool) -> None:
    """
    Scheme, host and port must all be those of a declared origin.
    """
    boundary = Boundary(API, allow_http=False, further=[LOGIN])
    request = Request(url=url)

    if allowed:
        assert boundary.allowed_origin(request, url, before=API) in boundary.trusted
    else:
        with pytest.raises(ForeignOriginError):
            boundary.allowed_origin(request, url, before=API)


def test_a_link_to_plain_http_of_the_same_host_is_named_as_such() -> None:
    """
    The message does not advise a base_url with plain http.
    """
    request = Request(url="http://api.example.com/v1?page=2")

    with pytest.raises(ForeignOriginError, match=r"keep_scheme=True") as caught:
        Boundary(API, allow_http=True).allowed_origin(request, request.url, before=API)
    assert "base_url" not in str(caught.value)


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("http://api.example.com/v1?page=2", f"{API}/v1"),
        ("/v1?page=2", f"{API}/v1"),
        ("http://other.example.com/v1", "http://other.example.com/v1"),
        ("http://api.example.com:8080/v1", "http://api.example.com:8080/v1"),
        ("http://api.example.com:x/v1", "http://api.example.com:x/v1"),
    ],
    ids=["http", "relative", "another host", "another port", "no port"],
)
def test_a_link_may_keep_the_scheme_of_its_source(link: str, url: str) -> None:
    """
    A link keeps the scheme of its source only for the same host and port; without ``keep_scheme`` it stays as it is.
    """
    assert Request.link(API, link, keep_scheme=True).url == url
    assert Request.link(API, "http://api.example.com/v1").url == "http://api.example.com/v1"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://login.example.com", "login_url: plain http to login.example.com"),
        ("login.example.com", "login_url: found 'login.example.com', expected a URL"),
        ("https://me:sesame@login.example.com", "login_url: credentials do not belong into the URL"),
    ],
    ids=["plain http", "no URL", "credentials"],
)
def test_a_declared_origin_is_checked_as_base_url_is(tmp_path: Path, url: str, problem: str) -> None:
    """
    When the configuration is read, with the place of the key.
    """
    file = tmp_path / "penstock.toml"
    file.write_text(f'[source.x]\nlogin_url = "{url}"\n')

    with pytest.raises(ConfigError) as caught:
        load(file).source("x", Registry([plugin("login_url")]))
    assert f"source.x.{problem}" in str(caught.value)


def test_origins_that_are_no_settings_break_the_connector() -> None:
    """
    The plugin is listed as broken, with the nearest key.
    """
    (broken,) = Registry([plugin("logn_url")]).broken()

    assert broken.reason == "connector x: origins names 'logn_url', which is no setting of Settings. " + (
        'Did you mean "login_url"?'
    )
