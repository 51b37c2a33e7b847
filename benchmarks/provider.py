"""
The provider of the benchmarks, imitated in a process of its own: prints its port, answers until it is killed.

Three listings: nested leads (100 a page, 1.5 kB each), jobs (1,000 a page, 0.6 kB), flat clicks by day (as many as you
like in one body, 0.35 kB). Bodies are made before they are requested; with ``--endless`` all days hold the same clicks
and a page of jobs is made from a pattern, so that a billion records need no memory.
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from sizes import FIRST_DAY, JOBS_PER_PAGE, LEADS_PER_PAGE

_CITIES = ("Köln", "Portland", "Kraków", "Malmö", "Dijon")


def lead(number: int) -> dict[str, Any]:
    made = datetime(2026, 1, 1) + timedelta(seconds=37 * number)  # noqa: DTZ001
    campaign = 1000 + number % 40
    pairs = {
        "firstName": ("Zoë", "James", "Олена")[number % 3],
        "lastName": ("O'Brien", "Müller", "Łaska")[number % 3],
        "email": f"lead.{number}@example.org",
        "phone": f"+44 20 7946 {number % 10000:04}",
        "courseOfInterest": f"BSc (Hons) Subject {number % 60}",
        "consent": "yes" if number % 2 else None,
        "ipAddress": f"203.0.113.{number % 250}",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
        "referrer": f"https://landing.example.org/c/{campaign}?utm_source=news&utm_term={number:08x}",
    }
    return {
        "@id": f"/api/leads/{number}",
        "@type": "Lead",
        "id": number,
        "uuid": f"{number:08x}-0000-4000-8000-{number:012x}",
        "status": ("new", "valid", "invalid", "sent", "returned")[number % 5],
        "createdAt": made.isoformat() + "+00:00",
        "updatedAt": (made + timedelta(minutes=number % 90)).isoformat() + "+00:00",
        "processed": number % 3 != 0,
        "score": (number % 1000) / 1000,
        "returnReason": None if number % 4 else "Duplicate e-mail",
        "campaign": {
            "@id": f"/api/campaigns/{campaign}",
            "id": campaign,
            "name": f"Q1, Higher Education {campaign}",
            "advertiser": {"id": campaign % 9, "name": "Example Advertiser Ltd"},
        },
        "publisher": {"@id": f"/api/publishers/{number % 17}", "id": number % 17, "country": "GB"},
        "link": {"id": number % 211, "cpl": f"{2 + number % 30}.50", "currency": "GBP", "source": {"name": "news"}},
        "address": {"city": _CITIES[number % 5], "postcode": f"AB{number % 90} 1CD", "country": "GB"},
        "validation": {"valid": number % 5 != 2, "checks": number % 12, "lastCheckedAt": made.isoformat() + "+00:00"},
        "fields": [{"name": name, "value": value} for name, value in pairs.items()],
        "_comment": f'line one\nline two, "quoted", tab\there {number}',
    }


def job(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "guid": f"{number:032x}",
        "title": ("Warehouse Associate", "Data Engineer", 'Sous Chef, "The Anchor"')[number % 3],
        "company": {"id": number % 900, "name": f"Company {number % 900} & Söhne"},
        "location": {"city": _CITIES[number % 5], "state": "TX", "country": "US", "lat": 30.25, "lon": -97.5},
        "salary": {"min": 30000, "max": 45000, "currency": "USD", "period": "year"},
        "cpc": f"0.{10 + number % 89}",
        "remote": number % 7 == 0,
        "posted_at": "2026-01-01T00:00:00Z",
        "expires_at": None,
        "url": f"https://jobs.example.com/j/{number:032x}",
        "tags": ["full-time", f"cat-{number % 30}"],
        "description": f"We are hiring in {_CITIES[number % 5]}. Benefits: health, dental, 401(k). No experience "
        f"needed; we train you. Shift {number % 3}. Ref {number:08x}.",
    }


def click(number: int) -> dict[str, Any]:
    return {
        "click_id": f"{number:032x}",
        "bid_type": ("cpc", "cpa")[number % 2],
        "price": f"0.{10 + number % 89}",
        "time": f"2026-03-01 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}",
        "job_reference": f"REF-{number % 5000:06}",
        "ip": f"198.51.100.{number % 250}",
        "url": f"https://jobs.example.com/apply/{number}?src=tlr&cid={number:016x}&t=1",
        "tlr_sid": f"sid_{number % 300}",
        "platform": ("desktop", "mobile", "tablet")[number % 3],
        "job_id": 40_000_000 + number,
        "campaign_id": 7000 + number % 25,
        "campaign_name": f"Campaign {number % 25}, {_CITIES[number % 5]}",
    }


def listed(records: list[dict[str, Any]]) -> bytes:
    return b",".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() for one in records)


class Provider:
    """What is requested, as a body; every body is kept."""

    def __init__(self, *, leads: int, jobs: int, days: int, clicks_per_day: int, endless: bool) -> None:
        self._leads, self._jobs, self._endless = leads, jobs, endless
        self._clicks_per_day = clicks_per_day
        self._clicks = listed([click(number) for number in range(clicks_per_day)]) if endless else b""
        pattern = listed([{**job(7), "id": "@"}]).replace(b"%", b"%%").replace(b'"@"', b"%d")
        self._pattern = b",".join([pattern] * JOBS_PER_PAGE)
        self._kept: dict[str, bytes] = {}
        if not endless:
            for page in range(1, -(-leads // LEADS_PER_PAGE) + 1):
                self(f"/hydra/leads?itemsPerPage={LEADS_PER_PAGE}&page={page}")
            for page in range(1, -(-jobs // JOBS_PER_PAGE) + 1):
                self(f"/jobs?limit={JOBS_PER_PAGE}&page={page}")
            for day in range(days):
                shown = (FIRST_DAY + timedelta(days=day)).isoformat()
                self(f"/clicks?start={shown}&end={shown}")

    def __call__(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        requested = dict(parse_qsl(query))
        key = f"{path} {requested.get('page', '1')} {requested.get('start', '')}"
        if key in self._kept:
            return self._kept[key]
        make: Callable[[dict[str, str]], bytes] = {
            "/hydra/leads": self.leads,
            "/jobs": self.jobs,
            "/clicks": self.clicks,
        }[path]
        body = make(requested)
        if not self._endless:
            self._kept[key] = body
        return body

    def leads(self, requested: dict[str, str]) -> bytes:
        first = (int(requested.get("page", 1)) - 1) * LEADS_PER_PAGE
        members = listed([lead(number) for number in range(first, min(first + LEADS_PER_PAGE, self._leads))])
        return b'{"@type":"hydra:Collection","hydra:member":[%s],"hydra:totalItems":%d}' % (members, self._leads)

    def jobs(self, requested: dict[str, str]) -> bytes:
        first = (int(requested.get("page", 1)) - 1) * JOBS_PER_PAGE
        numbers = range(first, min(first + JOBS_PER_PAGE, self._jobs))
        jobs = self._pattern % tuple(numbers) if self._endless else listed([job(number) for number in numbers])
        return b'{"data":[%s],"summary":{"total":%d}}' % (jobs, self._jobs)

    def clicks(self, requested: dict[str, str]) -> bytes:
        day = requested["start"]
        first = (date.fromisoformat(day) - FIRST_DAY).days * self._clicks_per_day
        clicks = self._clicks or listed([click(first + number) for number in range(self._clicks_per_day)])
        return b'{"status":1,"clicks_report":{"%s":[%s]}}' % (day.encode(), clicks)


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as a GET needs it."""

    def __init__(self, provider: Provider, latency_s: float) -> None:
        self._provider, self._latency_s = provider, latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            body = self._provider(head.split(b" ", 2)[1].decode())
            answer = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            if self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._send, answer)
            else:
                self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]


async def serve(provider: Provider, latency_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider, latency_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("leads", 0), ("jobs", 0), ("days", 0), ("clicks-per-day", 20_000), ("latency-ms", 0)):
        words.add_argument(f"--{name}", type=int, default=number)
    words.add_argument("--endless", action="store_true")
    given = vars(words.parse_args())
    latency_s = given.pop("latency_ms") / 1000
    asyncio.run(serve(Provider(**given), latency_s))


if __name__ == "__main__":
    main()
