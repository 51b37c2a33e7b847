"""
Policies of retries.
"""

from typing import Any

from penstock._fetch.retry_policy import RetryPolicy


def a_policy(**values: Any) -> RetryPolicy:
    return RetryPolicy(
        **{"retries": 3, "first_s": 1.0, "max_s": 60.0, "throttle_wait_s": 300.0, "cool_down_s": 60.0, **values}
    )
