"""
Sources and requests as a recording describes them: without credentials.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

from penstock._config.source import ConfiguredSource
from penstock._recording.masking import Masking
from penstock.model import Request
from penstock.redact import MASK, Secret, mask
from penstock.settings import OpenFor, keys_of


def described_source(source: ConfiguredSource, masking: Masking) -> dict[str, Any]:
    """A source, with those of its settings that differ from their defaults."""
    settings = {
        key.name: plain
        for key in keys_of(type(source.settings))
        if (value := getattr(source.settings, key.name)) != key.default
        and (plain := plain_setting(value, masking)) is not None
    }
    accounts = {
        account: {key: plain for key, value in table.items() if (plain := plain_setting(value, masking)) is not None}
        for account, table in source.settings.account_tables.items()
    }
    return {
        "connector": source.connector.name,
        "version": source.version,
        "settings": {**settings, **({"accounts": accounts} if accounts else {})},
    }


def plain_setting(value: Any, masking: Masking) -> Any:
    """A setting as JSON, a secret as ``***``; None for a path of this machine."""
    if isinstance(value, Secret):
        return MASK if value else None
    if isinstance(value, str):
        if "@" in value and not masking.full:  # an account, perhaps: then requests have it, too
            return masking.linked.setdefault(value, masking.alias(value))
        return masking.alias(value) if value in masking.hidden else value
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain for item in value if (plain := plain_setting(item, masking)) is not None]
    if isinstance(value, Mapping):
        return {name: plain for name, inner in value.items() if (plain := plain_setting(inner, masking)) is not None}
    if isinstance(value, OpenFor):
        month = f", {value.month_day}th of next month" if value.month_day else ""
        return f"{value.days} days{month}"
    return value.isoformat() if isinstance(value, date) else None


def described_request(request: Request, account: str | None) -> dict[str, Any]:
    """A request as it is kept, and as it is found again: without credentials."""
    params = [[name, MASK if name in request.masked else mask(value)] for name, value in request.params]
    headers = [[name, MASK if name in request.masked else mask(value)] for name, value in request.headers]
    about: dict[str, Any] = {"method": request.method, "url": mask(request.url), "params": params}
    if headers:
        about["headers"] = headers
    if request.body is not None:
        about["body"] = mask(request.body.decode("utf-8", "replace"))
    if account is not None:
        about["account"] = mask(account)
    return about
