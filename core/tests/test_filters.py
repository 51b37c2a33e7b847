"""
The table of documented filters, and what a configuration may not write into it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from penstock import known_filters

DOCUMENTED = {"clicks": ("country", "device"), "offers": ("status", "provider")}


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"click": {}}, 'click: no stream of this name takes filters. Did you mean "clicks"?'),
        ({"zzz": {}}, "zzz: no stream of this name takes filters. There are clicks, offers"),
        ({"clicks": {"contry": "no"}}, 'clicks."contry": no documented filter. Did you mean "country"?'),
        ({"clicks": {"zzz": "no"}}, 'clicks."zzz": no documented filter. There are country, device'),
        ({"clicks": "no"}, "clicks: expected a table of names and values, found 'no'"),
        ({"clicks": {"x": 1}, "offer": {}}, 'clicks."x": no documented filter. There are country, device; offer:'),
        ({"offers": {"status": "down"}}, 'offers."status": down is no status'),
    ],
    ids=["stream, near", "stream, far", "name, near", "name, far", "no table", "two at once", "own check"],
)
def test_a_filter_that_is_not_documented_is_refused(filters: Any, problem: str):
    """
    All problems are stated at once, each with what is documented.
    """

    def check(settings: Any, stream: str, name: str, value: Any) -> Iterator[str]:
        if value == "down":
            yield f"{value} is no {name}"

    with pytest.raises(ValueError) as refused:
        known_filters(DOCUMENTED, check)(None, None, filters)

    assert str(refused.value).startswith(problem)


def test_documented_filters_pass():
    """
    Without a check of values, any value of a documented name passes.
    """
    check = known_filters(DOCUMENTED)

    check(None, None, {"clicks": {"country": ["no", "se"]}, "offers": {}})

    with pytest.raises(ValueError):  # the same function, where a name is none that is documented
        check(None, None, {"clicks": {"countries": ["no", "se"]}})
