"""
The writes to Target Circle: codes for ads.
"""

from penstock import Action, Field

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
        # Probably harmless when sent twice, but the document does not state it.
        repeatable=False,
    ),
)
"""Source: publisher API, text and banner codes."""
