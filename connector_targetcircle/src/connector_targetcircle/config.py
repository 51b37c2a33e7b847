"""
The configuration of a Target Circle source.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, frozen
from penstock import Secret, SourceSettings, fill_path, known_filters, setting

FILTERS: Mapping[str, tuple[str, ...]] = {
    "transactions": ("status", "offer", "adInventory", "reference", "country"),
    "clicks": ("adInventory", "country", "offer", "reference"),
    "trades": (
        "offer",
        "adInventory",
        "provider",
        "category",
        "conversionType",
        "engagementType",
        "vertical",
        "adType",
        "targetCountries",
    ),
    "offers": (
        "offerId",
        "offerName",
        "adInventory",
        "status",
        "startDateFrom",
        "startDateTo",
        "endDateFrom",
        "endDateTo",
        "provider",
        "category",
        "advertiser",
        "vertical",
        "country",
    ),
    "codes": (
        "deeplink",
        "type",
        "maxHeight",
        "minHeight",
        "maxWidth",
        "minWidth",
        "maxSize",
        "minSize",
        *(f"parameters[{name}]" for name in ("idfa", "gaid", "waid", "click_id", "source_id")),
        *(f"parameters[ref{number}]" for number in range(1, 6)),
    ),
}
"""Stream -> the optional members of its request, by the provider's names. Source: publisher API, options per call."""


def _currency(instance: Any, attribute: "Attribute[Any]", value: str) -> None:
    if not re.fullmatch("[A-Z]{3}", value):
        raise ValueError(f'found {value!r}, expected an ISO 4217 code such as "EUR"')


def _prefix(text: str) -> str:
    inner = text.strip("/")
    return f"/{inner}" if inner else ""


@frozen(kw_only=True, eq=False, repr=False)
class TargetCircleSettings(SourceSettings):
    base_url: str = setting(
        "https://api.targetcircle.com",
        help="where the provider answers; requests and credentials go to this origin only",
    )
    api_token: Secret = setting(help="the publisher account's token, sent as X-Api-Token")
    currency: str = setting(
        help="ISO code of the currency that transactions are reported in", affects_data=True, validator=_currency
    )
    period_end: Literal["second", "midnight"] = setting(
        "second",
        help="how a report's period ends: with the last second of its last day, as in the document's examples, or with "
        "the midnight after it",
        affects_data=True,
    )
    # As the path of base_url: a test system may have another.
    path_prefix: str = setting("/api", help="what the paths begin with", affects_data=True, converter=_prefix)
    filters: Mapping[str, Mapping[str, str]] = setting(
        factory=dict,
        help="a table per stream of the provider's own options; comma lists mean OR",
        affects_data=True,
        validator=known_filters(FILTERS),
    )
    codes_inventory_field: Literal["id", "name", "slug"] = setting(
        "id",
        help="what names an ad inventory in a request for codes: its id, name or slug",
        affects_data=True,
    )

    def url(self, path: str, /, **values: Any) -> str:
        """The absolute URL of a path below the prefix; each value is encoded as one segment."""
        return self.base_url.rstrip("/") + self.path_prefix + fill_path(path, values)
