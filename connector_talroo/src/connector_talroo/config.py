"""
The configuration of a Talroo source.
"""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import frozen
from penstock import Secret, SourceSettings, setting

# Characters that every query encoding leaves as they are. With any other one (a space is "+" or "%20") the signed
# string might differ from the string that Talroo checks.
_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")
_PLAIN_HELP = "expected letters, digits and . _ ~ - only"


def _report_url(url: str) -> str:
    """The URL of the report: a URL without a path gets the documented one; any other text is kept."""
    if not urlsplit(url).netloc:
        return url  # it is refused, as it was written
    return f"{url.rstrip('/')}/" if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/reporting/"


def _plain(settings: Any, attribute: Any, value: str) -> None:
    """A validator. Its message does not show the value, which is a part of the credentials."""
    if not _PLAIN.fullmatch(value):
        raise ValueError(f"{_PLAIN_HELP} (the value is not shown)")


def _plain_ids(settings: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError('found none, expected at least one advertiser, such as ["2112"]')
    for id_ in value:
        if not _PLAIN.fullmatch(id_):
            raise ValueError(f"found {id_!r}, {_PLAIN_HELP}")


@frozen(kw_only=True, eq=False, repr=False)
class TalrooSettings(SourceSettings):
    """
    One customer of Talroo and those of its advertisers that are read.

    Source: Reporting API, authentication; the advertiser ids are those of the ``advertiser_id`` tag in the job feed.
    """

    base_url: str = setting(
        "https://www.jobs2careers.com/reporting/",
        help="where the report is; requests and credentials go to this origin only",
        converter=_report_url,
    )
    # Advertiser ids are the customer's own, so that two customers may have the same.
    customer_reference: str = setting(help="names the customer; Talroo issues it", affects_data=True, validator=_plain)
    customer_secret: Secret = setting(help="signs the requests; Talroo issues it with the reference")
    advertiser_ids: tuple[str, ...] = setting(
        help="the advertisers to read, as in the advertiser_id tag of the jobs in the feed", validator=_plain_ids
    )
    price_unit: Literal["cents", "dollars"] | None = setting(
        None,
        help="unit of price; default: a whole number is cents, and any other price has no price_amount and is counted",
        affects_data=True,
    )
    secret_encoding: Literal["utf8", "hex"] = setting(
        "utf8", help="whether the secret is the key as text, or hex digits of its bytes"
    )

    def __attrs_post_init__(self) -> None:
        try:
            self.key()
        except ValueError:
            raise ValueError('secret_encoding is "hex", but customer_secret is not pairs of hex digits') from None

    def key(self) -> bytes:
        """The key of the signature; ValueError when the secret is not in ``secret_encoding``."""
        text = self.customer_secret.reveal()
        return text.encode() if self.secret_encoding == "utf8" else bytes.fromhex(text)  # noqa: S105
