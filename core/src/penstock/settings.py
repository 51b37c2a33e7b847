"""
Declarations of configuration: the keys of a section, and the settings that every source has.

Frozen values, keyword-only. A class with the settings of a connector or a sink declares its keys by :func:`setting`.
"""

import os
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

import attrs
from attrs import field, frozen, validators

from penstock.filters import KnownFilters
from penstock.model import plain_http_problem
from penstock.redact import shown_url
from penstock.templates import fill_path

_METADATA = "penstock"


@frozen(kw_only=True, eq=False, repr=False)
class SettingInfo:
    """What a configuration key states about itself; see :func:`setting`."""

    help: str = ""
    affects_data: bool | None = None
    per_account: bool = False
    secret: bool | None = None


def setting(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    affects_data: bool | None = None,
    per_account: bool = False,
    secret: bool | None = None,
    **more: Any,
) -> Any:
    """
    One configuration key. Without ``default`` it is required.

    ``secret``: False states that a key is no secret, although its name looks like one; a secret is a ``Secret``.
    ``per_account``: an account may have a value of its own, in ``[source.NAME.accounts.ACCOUNT]``.

    ``affects_data``: whether the provider's response depends on it; then a changed value makes the next run read
    delivered partitions again. A key that a template of a request names needs no such statement. For a key that
    ``requests`` of a stream with days reads, the kit requires one, also False (a page size).
    ``more`` goes to :func:`attrs.field` (``validator``; ``converter``, which must leave its own results unchanged).
    """
    if default is not attrs.NOTHING:
        more["default"] = default
    if isinstance(more.get("validator"), KnownFilters):
        affects_data = True
    info = SettingInfo(help=help, affects_data=affects_data, per_account=per_account, secret=secret)
    return attrs.field(metadata={_METADATA: info}, **more)


def info_of(attribute: "attrs.Attribute[Any]") -> SettingInfo:
    """What a key states about itself; nothing, for a field that :func:`setting` did not make."""
    info: SettingInfo = attribute.metadata.get(_METADATA, SettingInfo())
    return info


def keys_of(settings: type) -> tuple["attrs.Attribute[Any]", ...]:
    """The configuration keys of a settings class, in the order of their declaration."""
    return tuple(
        attribute for attribute in attrs.fields(settings) if attribute.init and attribute.name != "account_tables"
    )


def zone_exists(name: str) -> bool:
    """Whether this is the IANA name of a time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a directory of the zone database, such as "Europe"
        return False
    return True


def _is_zone(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not zone_exists(value):
        raise ValueError(f'found "{value}", expected an IANA name such as "Europe/Berlin" or "UTC"')


def is_base_url(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """A URL with neither credentials nor a query. Plain http beyond this machine needs ``allow_http``."""
    if not value:
        return
    address = _split_url(value)
    if address.username or address.password:
        raise ValueError("credentials do not belong into the URL; the connector has keys for them")
    if problem := plain_http_problem(value, allow_http=instance.allow_http):
        raise ValueError(problem)


def _is_proxy(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    _split_url(value)


def _split_url(url: str) -> SplitResult:
    """An http(s) URL without ? and #. The messages mask credentials in it."""
    expected = "expected a URL such as https://api.example.com"
    try:
        address = urlsplit(url)
        host, _ = address.hostname, address.port
    except ValueError as error:
        why = "" if "@" in url else f" ({error})"  # it would quote the password that was taken for a port
        raise ValueError(f"found {shown_url(url)!r}{why}, {expected}") from None
    if address.scheme not in ("https", "http") or not host or any(char.isspace() for char in url):
        raise ValueError(f"found {shown_url(url)!r}, {expected}")
    if address.query or address.fragment:
        raise ValueError(f"found {shown_url(url)!r}, expected a URL without ? and #")
    return address


def _is_readable_file(instance: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not (Path(value).is_file() and os.access(value, os.R_OK)):
        raise ValueError(f'found "{value}", expected a file that can be read')


_positive = validators.gt(0)
_not_negative = validators.ge(0)
_positive_or_none = validators.optional(_positive)


@frozen
class OpenFor:
    """
    How long a provider may restate a day: ``days`` after its end, and at least through day ``month_day`` of the month
    after it. A reading made after that is final.
    """

    days: int = 0
    month_day: int | None = None

    def until(self, day: date, zone: tzinfo) -> datetime:
        """The moment from which a reading of ``day`` is final."""
        closes = day + timedelta(days=1 + self.days)
        if self.month_day is not None:
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=self.month_day)
            closes = max(closes, following + timedelta(days=1))
        return datetime.combine(closes, time(), zone)

    @classmethod
    def parse(cls, text: "str | OpenFor") -> "OpenFor":
        """From ``3 days`` or ``40 days, 8th of next month``; ValueError otherwise."""
        if isinstance(text, OpenFor):
            return text
        match = re.fullmatch(
            r"\s*(\d+)\s*(?:d|days?)?(?:\s*,?\s*(\d+)(?:st|nd|rd|th)? of (?:the )?next month)?\s*", text
        )
        if match is None or (match[2] and not 1 <= int(match[2]) <= 28):
            raise ValueError(f'found {text!r}, expected a time such as "3 days" or "40 days, 8th of next month"')
        return cls(int(match[1]), int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        months = f", until day {self.month_day} of the next month at least" if self.month_day else ""
        return f"{self.days} day{'' if self.days == 1 else 's'}{months}"


@frozen(kw_only=True, eq=False, repr=False)
class SourceSettings:
    """
    The keys of every source. A connector's settings extend this class and may set other defaults; the checks of a key
    hold for the redefined one too.

    A default of None for a rate or a bound means the value that the connector declares in its ``Limits``.
    ``account_tables`` is no key: it holds the tables ``[source.NAME.accounts.ACCOUNT]``, by account.
    """

    base_url: str = setting(
        help="the provider's origin; requests and credentials go to this origin only", validator=is_base_url
    )
    start: date | None = setting(
        None, help="the first day to read; default: the provider's retention, else 90 days ago"
    )
    timezone: str = setting(
        "UTC",
        help="IANA name of the zone in which days are cut",
        affects_data=True,
        per_account=True,
        validator=_is_zone,
    )
    open_for: OpenFor | None = setting(
        None,
        help='how long a day stays open, such as "3 days"; default: per stream',
        converter=attrs.converters.optional(OpenFor.parse),
    )
    requests_per_second: float | None = setting(
        None, help="rate of requests; default: what the provider allows", validator=_positive_or_none
    )
    concurrency: int | None = setting(
        None,
        help="requests in flight at once; default: what the provider allows",
        validator=_positive_or_none,
    )
    timeout_s: float = setting(60.0, help="seconds without a byte before a request counts as lost", validator=_positive)
    poll_first_s: float | None = setting(
        None,
        help="seconds before the first poll of a report; default: per stream",
        validator=_positive_or_none,
    )
    poll_max_s: float | None = setting(
        None,
        help="longest pause between two polls, in seconds; default: per stream",
        validator=_positive_or_none,
    )
    poll_deadline_s: float | None = setting(
        None,
        help="seconds until a report that is not ready has failed; default: per stream",
        validator=_positive_or_none,
    )
    retry_first_s: float = setting(
        1.0, help="upper bound of the first pause before a retry, in seconds; it doubles", validator=_positive
    )
    retry_max_s: float = setting(
        60.0, help="longest pause before a retry, in seconds, where the provider names none", validator=_positive
    )
    retries: int = setting(5, help="retries of a request before its partition fails", validator=_not_negative)
    throttle_wait_s: float = setting(
        300.0,
        help="longest wait, in seconds, that a provider may state (Retry-After; when throttled also RateLimit-Reset, "
        "X-RateLimit-Reset); a longer one parks the source",
        validator=_not_negative,
    )
    max_body_mib: int = setting(256, help="largest body, decompressed, in MiB", validator=_positive)
    max_report_mib: int = setting(4096, help="largest report file, unpacked, in MiB", validator=_positive)
    max_pages: int = setting(100_000, help="most pages of one listing", validator=_positive)
    include_personal: bool = setting(True, help="whether columns with personal data are delivered", affects_data=True)
    extra: bool | None = setting(
        None,
        help="whether members that no column declares are kept in _extra; default: as include_personal",
        affects_data=True,
    )
    exclude: tuple[str, ...] = setting(
        (), help='columns to leave out, as "column" or "stream.column"', affects_data=True
    )
    allow_writes: bool = setting(False, help="whether actions may be sent")
    allow_http: bool = setting(False, help="whether plain http is allowed beyond this machine")
    proxy: str | None = setting(
        None,
        help="URL of a proxy; default: HTTPS_PROXY and the like in the environment",
        validator=validators.optional(_is_proxy),
    )
    ca_file: str | None = setting(
        None,
        help="CA bundle; default: SSL_CERT_FILE, else the system's",
        validator=validators.optional(_is_readable_file),
    )

    token_store: Path | None = setting(
        None, help="file for tokens that change with every grant; default: .penstock/tokens/SOURCE.json"
    )

    account_tables: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)

    def url(self, path: str, /, **values: Any) -> str:
        """
        The absolute URL of a path below ``base_url``; each value replaces its name in braces, encoded as one segment.
        """
        return self.base_url.rstrip("/") + fill_path(path, values)

    def for_account(self, account: str | None) -> Self:
        """These settings with the values of the account's own table; unchanged for an account without one."""
        table = self.account_tables.get(account) if account is not None else None
        return attrs.evolve(self, **table) if table else self

    def notices(self) -> tuple[str, ...]:
        """Notices for the user of these settings; every command prints each once, before it sends anything."""
        return ()
