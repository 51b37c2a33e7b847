"""
The configuration of a Sensis source.
"""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import Attribute, frozen
from penstock import Secret, SourceSettings, setting

OLDER = "ob-20110511"


def _version(instance: Any, attribute: "Attribute[Any]", value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError(f'found {value!r}, expected a version such as "{OLDER}" or "v1"')


@frozen(kw_only=True, eq=False, repr=False)
class SensisSettings(SourceSettings):
    base_url: str = setting(
        "http://api.sensis.com.au",
        help="where the provider answers; its documents name no https address, set one if your account has it",
    )
    key: Secret = setting(help="the application's API key; those of test and prod differ")
    environment: Literal["test", "prod"] = setting("test", help="test or prod: whether events count")
    version: str = setting(
        OLDER, help=f"of the API, as in its paths; {OLDER} is sent by GET, any other (v1) by POST", validator=_version
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
        """The newer edition of the document requires POST and deprecates GET; the older one has GET only."""
        return "GET" if self.version == OLDER else "POST"
