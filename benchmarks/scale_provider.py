"""
A connector with as many accounts as you like, and its provider: every account's day has the same rows.
"""

import argparse
import asyncio
import gzip
import json
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from attrs import frozen
from penstock import (
    Connector,
    Envelope,
    Limits,
    ReportFile,
    Request,
    Slice,
    SourceSettings,
    Stream,
    column,
    hookimpl,
    record,
    setting,
)
from provider import Connection


@record()
class Row:
    """A row of a day."""

    id: str
    name: str
    price: Decimal
    count: int
    at: str
    url: str
    city: str | None


@record()
class Line:
    """A row of a report in a file."""

    day: date = column(member="Day", default=...)
    campaign: str = column(member="Campaign", default=...)
    spend: Decimal = column(member="Spend", default=..., additive=True)


@record()
class Named:
    """The same row in JSON."""

    day: date
    campaign: str
    spend: Decimal = column(additive=True)


@frozen(kw_only=True)
class ScaleSettings(SourceSettings):
    base_url: str = setting(help="where the provider answers")
    accounts_count: int = setting(10, help="how many accounts there are")
    rows: int = setting(20, help="rows of each day")
    changed: int = setting(20, help="rows that are changed on each day")


def _requests(settings: ScaleSettings, slice_: Slice) -> Iterable[Request]:
    params = [("account", slice_.account or ""), ("day", str(slice_.since)), ("rows", str(settings.rows))]
    return [Request(url=f"{settings.base_url}/rows", params=params)]


@hookimpl
def penstock_sources() -> Iterable[Connector]:
    yield Connector(name="scale", summary="many accounts", settings=ScaleSettings, limits=Limits(concurrency=8))


@hookimpl
def penstock_record_streams(source: str) -> Iterable[Stream]:
    if source == "scale":
        yield Stream(
            name="rows",
            summary="rows by account and day",
            record=Row,
            kind="report",
            key="id",
            account="account",
            accounts=lambda settings: [f"a{number:05}" for number in range(settings.accounts_count)],
            day="day",
            requests=_requests,
            envelope=Envelope(items="rows", total="total"),
        )
        yield Stream(
            name="changes",
            summary="rows by the day of their last change; each day has the first ones again",
            record=Row,
            kind="changes",
            key="id",
            day="changed_on",
            lag=timedelta(0),
            lookback=timedelta(0),
            requests=lambda settings, slice_: [
                Request(url=f"{settings.base_url}/rows", params=[("rows", str(settings.changed))])
            ],
            envelope=Envelope(items="rows", total="total"),
        )
        for name, record_class, envelope, summary in (
            ("report", Line, ReportFile(), "a packed file of CSV"),
            ("lines", Named, ReportFile(), "the same rows in a packed file of JSON lines"),
            ("body", Named, Envelope(items="rows"), "the same rows in one body"),
        ):
            yield Stream(
                name=name,
                summary=summary,
                record=record_class,
                kind="report",
                key="campaign",
                day="day",
                path=f"/{name}",
                params={"rows": "{rows}"},
                envelope=envelope,
            )


class Provider:
    """The rows as a body; every body is kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], bytes] = {}

    def __call__(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        number = int(dict(parse_qsl(query))["rows"])
        if path in ("/report", "/lines", "/body"):
            if (path, number) not in self._kept:
                self._kept[path, number] = same_rows(path, number)
            return self._kept[path, number]
        if (path, number) not in self._kept:
            rows = [
                {
                    "id": f"{one:032x}",
                    "name": f"Campaign {one % 25}, ürban",
                    "price": one % 90 + 0.25,
                    "count": one,
                    "at": f"2026-03-01 {one % 24:02}:00:00",
                    "url": f"https://jobs.example.com/apply/{one}?src=tlr&cid={one:016x}&t=1",
                    "city": None if one % 3 else "Köln",
                }
                for one in range(number)
            ]
            self._kept[path, number] = json.dumps({"rows": rows, "total": number}, ensure_ascii=False).encode()
        return self._kept[path, number]


def same_rows(path: str, number: int) -> bytes:
    """The rows of a report: as a packed CSV file, as packed JSON lines, as one body."""
    if path == "/report":
        cells = (f"2020-01-01,campaign {one:08},{one % 90}.25\n".encode() for one in range(number))
        return gzip.compress(b"Day,Campaign,Spend\n" + b"".join(cells), compresslevel=1)
    rows = (
        f'{{"day":"2020-01-01","campaign":"campaign {one:08}","spend":{one % 90}.25}}'.encode() for one in range(number)
    )
    return gzip.compress(b"\n".join(rows), compresslevel=1) if path == "/lines" else b'{"rows":[%b]}' % b",".join(rows)


async def serve(latency_s: float) -> None:
    provider: Any = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider, latency_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--latency-ms", type=int, default=0)
    asyncio.run(serve(words.parse_args().latency_ms / 1000))
