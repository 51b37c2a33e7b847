"""
The configuration of a Sensis source.
"""

import re
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from attrs import Attribute, frozen
from penstock import Secret, SourceSettings, setting

Environment = Literal["test", "prod"]

OLDER = "ob-20110511"


def _environment(instance: Any, attribute: "Attribute[Any]", value: str) -> None:
    if value not in get_args(Environment):
        raise ValueError(f"found {value!r}, wanted one of {', '.join(get_args(Environment))}")


def _version(instance: Any, attribute: "Attribute[Any]", value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError(f'found {value!r}, wanted a version such as "{OLDER}" or "v1"')


@frozen(kw_only=True)
class SensisSettings(SourceSettings):
    base_url: str = setting(
        "http://api.sensis.com.au",
        help="where the provider answers; its documents name no https address, set one if your account has it",
    )
    key: Secret = setting(help="the application's API key; those of test and prod differ")
    environment: Environment = setting("test", help="test or prod: whether events count", validator=_environment)
    version: str = setting(
        OLDER, help=f"of the API, as in its paths; {OLDER} is asked by GET, any other (v1) by POST", validator=_version
    )
    events_requiring_content: tuple[str, ...] = setting(
        ("dial", "sendEmail"),
        help="events that are not sent without content: the number dialled, the address written to; [] for none",
    )
    allow_http: bool = setting(
        True, help="whether plain http is allowed beyond this machine: the only address that is documented is http"
    )

    def notices(self) -> tuple[str, ...]:
        parts = urlsplit(self.base_url)
        if parts.scheme != "http" or parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return ()
        return (
            f"events go to {self.base_url} by plain http, the only address Sensis documents: the key and your users' "
            "IP addresses can be read on the way. Set base_url to an https address if your account has one.",
        )

    @property
    def method(self) -> str:
        """The newer edition of the document wants POST and declares GET as deprecated; the older one knows only GET."""
        return "GET" if self.version == OLDER else "POST"
