"""
When a read is final: after its day closed, by the current settings and by this machine's clock.

In the ledger, ``fingerprint`` stands for the settings of a read, and ``reader_version`` for what decoded it.
"""

import hashlib
import json
from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

import attrs

from penstock._config.source import ConfiguredSource
from penstock.connector import Stream
from penstock.model import Partition, is_loopback
from penstock.redact import Secret
from penstock.settings import SourceSettings, info_of

MAX_HOST_SKEW = timedelta(minutes=5)  # the most by which the clocks of two machines that share a target may differ


def open_until(source: ConfiguredSource, stream: Stream, partition: Partition) -> datetime | None:
    """The moment from which a read of this partition is final; None: never."""
    if stream.kind == "snapshot":
        return None
    day = partition.day
    assert day is not None
    return closes_at(source, stream, day)


def closes_at(source: ConfiguredSource, stream: Stream, day: date) -> datetime:
    """
    The moment from which a read of this day is final. A child's day is open as long as its parent's: it is requested by
    the rows that the parent has.
    """
    if stream.kind == "changes":
        closes = datetime.combine(day + timedelta(days=1), time(), source.zone) + max(stream.lookback, stream.lag)
    else:
        closes = (source.settings.open_for or stream.open_for).until(day, source.zone)
    parent = parent_with_days(source, stream) if stream.parent is not None else None
    return closes if parent is None else max(closes, closes_at(source, parent, day))


def parent_with_days(source: ConfiguredSource, stream: Stream) -> Stream | None:
    """The stream by whose rows of a day the same day of this one is requested."""
    parent = source.stream(stream.parent.stream) if stream.parent is not None else None
    return None if parent is None or "snapshot" in (stream.kind, parent.kind) else parent


def fingerprint(settings: SourceSettings, stream: Stream, in_requests: Collection[str] = ()) -> str:
    """
    A hash of the settings that affect the provider's response. Changing one of them makes delivered days be read again.
    ``in_requests``: names in the templates of the requests: a setting of such a name affects the response, too, unless
    it is a secret.

    Settings at their default are left out: a new setting of a later version changes no fingerprint. Host, port and path
    of ``base_url`` are added after ``@``: a test system, a gateway, or an imitation on this machine, has
    other rows. Those of the provider are ``default``, so that a connector may follow it to another host.
    """
    values: dict[str, Any] = {}
    for attribute in attrs.fields(type(settings)):
        value = getattr(settings, attribute.name)
        is_named = attribute.name in in_requests and not isinstance(value, Secret)
        if (info_of(attribute).affects_data or is_named) and value != attribute.default and value not in ((), {}, None):
            values[attribute.name] = value
    text = json.dumps([stream.name, values], sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    if settings.base_url == attrs.fields_dict(type(settings))["base_url"].default:
        return f"{digest}@default"
    address = urlsplit(settings.base_url)
    host = address.hostname or ""
    if is_loopback(host):
        return f"{digest}@this machine"
    port = address.port if address.port not in (None, 80, 443) else ""
    return f"{digest}@{host}/{port}{address.path.rstrip('/')}"


# Development versions (decision 72).
def same_settings(stored: str, current: str) -> bool:
    """
    Whether a stored fingerprint is that of the current settings. One without a host, or without port and path, is of a
    version that stored none: it is believed to be of any.
    """
    return stored == current or stored in (current.partition("/")[0], current.partition("@")[0])


def reader_version(source: ConfiguredSource, stream: Stream) -> str:
    """
    The version of the reader of a stream: a hash of its record class, those of streams derived from it and of those by
    whose rows it is requested, and the connector's version. A day with rejected records, or values that could not be
    read, is read again when it changes.
    """
    read = [stream, *source.derived_from(stream.name)]
    while stream.parent is not None:
        stream = source.stream(stream.parent.stream)
        read.append(stream)
    columns = [attrs.asdict(column) for read_stream in read for column in source.columns_of(read_stream)]
    text = json.dumps([source.version, columns], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
