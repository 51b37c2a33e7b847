"""
The writes to Target Circle: codes for ads.
"""

from collections.abc import Sequence

from penstock import Action, Field, Receipt, Response, Retry, ServerError, Values, Verdict


def judge(response: Response, rows: Sequence[Values]) -> Sequence[Receipt] | Verdict | None:
    """
    The codes are an array. HTTP 200 without one is not the provider's: the outcome is unknown.
    """
    if response.status != 200 or (isinstance(codes := response.json(exact=True), list) and codes):
        return None
    seen = response.text(120) or "an empty body"
    return Retry(ServerError(f"Target Circle answered HTTP 200 without codes: {seen}"))


ACTIONS = (
    Action(
        name="generate_ad_codes",
        summary="make text or banner codes for ads of an offer",
        method="POST",
        path="/api/codes/{type}",
        endpoint=lambda settings: ("POST", f"{settings.path_prefix}/codes/{{type}}"),
        fields=(
            Field(name="type", place="path", required=True, choices=("banner", "text")),
            Field(name="offer", required=True, description="slug of the offer"),
            Field(
                name="ad_inventory",
                member="adInventory",
                required=True,
                description="slug of the inventory: general.adInventory[].slug of offer_details",
            ),
            Field(
                name="ads", type="list", required=True, description="slugs of offer_ads, all of the type in the path"
            ),
        ),
        judge=judge,
        # Probably harmless when sent twice, but the document does not state it.
        repeatable=False,
    ),
)
"""Source: publisher API, text and banner codes."""
