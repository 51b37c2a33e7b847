"""
How fast pages become typed records, against the untyped loop that nobody would call slow.

``orjson.loads`` and ``orjson.dumps`` per record is the floor: no types, no keys, no counts, money through floats.
Run it with ``uv run --with orjson python benchmarks/decode.py``. CPU time, variants interleaved, the best of rounds,
in microseconds per record; trust the ratios.
"""

import gc
import json
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from penstock import Envelope, Response, Stream, column, derived, record
from penstock._decode import Requested, compile_stream, sums

try:
    import orjson  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    raise SystemExit("needs orjson: uv run --with orjson python benchmarks/decode.py") from None

ROUNDS = 9
RECORDS = 1000


@record()
class Click:
    click_id: str
    bid_type: str | None
    price: str
    time: datetime = column(zone="naive")
    job_reference: str | None
    ip: str | None
    url: str | None
    tlr_sid: str | None
    platform: str | None
    job_id: int | None
    campaign_id: int | None
    campaign_name: str | None


@record(members="camel")
class RenamedClick:
    click_id: str
    bid_type: str | None
    price: str
    price_amount: Decimal | None = derived(of="price", scale=-2, additive=True)
    time: datetime = column(zone="naive")
    job_reference: str | None
    ip: str | None
    url: str | None
    tlr_sid: str | None
    platform: str | None
    job_id: int | None
    campaign_id: int | None
    campaign_name: str | None


@record(members="camel")
class Lead:
    id: str
    status: str | None
    created_ts: datetime | None
    payout: Decimal | None = column(additive=True)
    campaign: Any = None
    publisher: Any = None
    lead_data: Any = None


def click(number: int) -> dict[str, Any]:
    return {
        "click_id": f"{number:032x}",
        "bid_type": "cpc",
        "price": f"{10 + number % 89}",
        "time": f"2026-03-01 {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}",
        "job_reference": f"REF-{number % 5000:06}",
        "ip": f"198.51.100.{number % 250}",
        "url": f"https://jobs.example.com/apply/{number}?src=tlr&cid={number:016x}&t=1",
        "tlr_sid": f"sid_{number % 300}",
        "platform": "desktop",
        "job_id": 40_000_000 + number,
        "campaign_id": 7000 + number % 25,
        "campaign_name": f"Campaign {number % 25}, Köln",
    }


def lead(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:08}",
        "status": "valid",
        "createdTs": "2026-03-01T00:00:00+00:00",
        "payout": 2.5,
        "campaign": {"id": number % 40, "name": "Higher Education", "advertiser": {"id": 1, "name": "Example Ltd"}},
        "publisher": {"id": 500, "name": "Publisher", "country": "GB"},
        "leadData": [{"name": f"field{place}", "value": f"value {place} of {number}"} for place in range(12)],
    }


def camel(item: dict[str, Any]) -> dict[str, Any]:
    from penstock import camel as rule

    return {rule(name): value for name, value in item.items()}


def stream(cls: type, key: str, **more: Any) -> Stream:
    return Stream(name="clicks", summary="", record=cls, kind="report", key=key, **more)


def floor(body: bytes) -> bytes:
    return b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in orjson.loads(body)["items"])


def ours(cls: type, key: str, stamps: dict[str, Any] | None = None, **more: Any) -> Callable[[bytes], bytes]:
    compiled = compile_stream("bench", stream(cls, key, **more))
    envelope = Envelope(items="items", total="total")
    encoder = msgspec.json.Encoder(decimal_format="number")

    def run(body: bytes) -> bytes:
        answer = envelope(Response(status=200, body=body, received_at=datetime.now().astimezone()))
        written = []
        for decoded in compiled.decode(answer.items, Requested(stamps or {})):
            sums(decoded.batch)
            written.append(encoder.encode_lines(decoded.batch.rows))
        return b"".join(written)

    return run


def cpu_us(run: Callable[[bytes], bytes], body: bytes, count: int) -> float:
    start = time.process_time()
    for _ in range(10):
        run(body)
    return (time.process_time() - start) / 10 / count * 1e6


def main() -> None:
    clicks = [click(number) for number in range(RECORDS)]
    one_bad = [*clicks[:-1], {**clicks[-1], "time": "soon"}]
    one_lacking = [*clicks[:-1], {name: value for name, value in clicks[-1].items() if name != "click_id"}]
    numbers = [{**item, "click_id": index, "job_reference": index} for index, item in enumerate(clicks)]
    stamps = {"advertiser_id": "2112", "report_date": "2026-03-01"}
    partition = {"account": "advertiser_id", "day": "report_date"}
    cases: list[tuple[str, Callable[[bytes], bytes], list[dict[str, Any]]]] = [
        ("clean", ours(Click, "click_id"), clicks),
        (
            "renamed members, 3 added columns",
            ours(RenamedClick, "click_id", stamps, **partition),
            list(map(camel, clicks)),
        ),
        ("1 value in 1000 does not fit", ours(Click, "click_id"), one_bad),
        ("1 record in 1000 lacks its key", ours(Click, "click_id"), one_lacking),
        ("an unknown member in each", ours(Click, "click_id"), [{**item, "new": 1.5} for item in clicks]),
        ("every id a number", ours(Click, "click_id"), numbers),
        ("leads, nested parts kept raw", ours(Lead, "id"), [lead(number) for number in range(RECORDS)]),
        ("20,000 clicks in one body", ours(Click, "click_id"), [click(number) for number in range(20_000)]),
    ]
    gc.disable()
    print(f"{'case':36} {'floor':>6} {'ours':>6} {'ratio':>6}")
    for name, run, items in cases:
        body = json.dumps({"total": len(items), "items": items}, ensure_ascii=False).encode()
        best = [9e9, 9e9]
        for _ in range(ROUNDS if len(items) == RECORDS else 2):
            best[0] = min(best[0], cpu_us(floor, body, len(items)))
            best[1] = min(best[1], cpu_us(run, body, len(items)))
        print(f"{name:36} {best[0]:6.2f} {best[1]:6.2f} {best[1] / best[0]:6.2f}")


if __name__ == "__main__":
    main()
