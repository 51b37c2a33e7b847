"""
The configuration of a Convertr source.
"""

import re
from typing import Any, Literal

import attrs
from attrs import frozen
from penstock import Secret, SourceSettings, known_filters, setting

from connector_convertr.filters import NAMES, problems

_ENTERPRISE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def _enterprise(settings: Any, attribute: Any, value: str | None) -> None:
    """Only a sub-domain: anything else (a dot, a slash, an @) could send the credentials to another host."""
    if value is not None and not _ENTERPRISE.fullmatch(value):
        raise ValueError(f"found {value!r}, expected the sub-domain alone, such as acme for https://acme.cvtr.io")


def _base_url(settings: "ConvertrSettings") -> str:
    return f"https://{settings.enterprise}.cvtr.io" if settings.enterprise else ""


@frozen(kw_only=True, eq=False, repr=False)
class ConvertrSettings(SourceSettings):
    """
    One enterprise (customer) of Convertr, read as one of its users.

    ``base_url`` is always the final one: as configured, else made from ``enterprise``.
    """

    enterprise: str | None = setting(
        None,
        help="the enterprise's sub-domain: acme for https://acme.cvtr.io",
        affects_data=True,
        validator=_enterprise,
    )
    base_url: str = setting(
        attrs.Factory(_base_url, takes_self=True),
        help="where Convertr answers; default: https://ENTERPRISE.cvtr.io",
        converter=lambda url: url.rstrip("/"),
    )
    username: str | None = setting(None, help="e-mail address of the user who logs in")
    password: Secret | None = setting(None, help="password of the user who logs in")
    access_token: Secret | None = setting(None, help="a token obtained elsewhere, in place of username and password")
    auth_style: Literal["bearer", "query"] = setting(
        "bearer", help="how the token is sent: in a header, or in the query as older editions require it"
    )
    login_style: Literal["current", "oauth"] = setting(
        "current", help="which login is used: /api/login, or /oauth/v2/token of older editions"
    )
    client_id: str | None = setting(None, help='OAuth client, for login_style = "oauth"')
    client_secret: Secret | None = setting(None, help='OAuth client\'s secret, for login_style = "oauth"')
    cursor_field: Literal["updatedTs", "createdTs"] = setting(
        "updatedTs", help="the time by which leads are read; createdTs misses later changes", affects_data=True
    )
    filters: dict[str, dict[str, Any]] = setting(
        attrs.Factory(dict),
        help='documented filters per stream: { campaigns = { "status[]" = ["Active"] } }',
        affects_data=True,
        validator=known_filters(NAMES, problems),
    )

    def __attrs_post_init__(self) -> None:
        if not self.base_url:
            raise ValueError("enterprise is missing: the sub-domain of your Convertr, acme for https://acme.cvtr.io")
        if self.access_token is not None and (self.username or self.password is not None):
            raise ValueError("access_token: given together with username or password; keep one of the two ways")
        if self.access_token is None and not (self.username and self.password):
            raise ValueError("username and password are missing, or access_token in place of both")
        if self.login_style == "oauth" and self.access_token is None and not (self.client_id and self.client_secret):
            raise ValueError('client_id and client_secret are missing: login_style = "oauth" needs them')
