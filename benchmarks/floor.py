"""
The floor: what a loop written by hand costs that promises nothing: no types, checks, ledger; money through floats.

urllib3 with keep-alive, ``orjson.loads``, then ``orjson.dumps`` per record, ``csv.writer`` or COPY, one write per page.

    python floor.py leads|jobs|clicks jsonl:FILE|csv:FILE|postgresql://... URL [--days N] [--threads N] [--merge]
"""

import argparse
import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import urllib3
from sizes import FIRST_DAY, JOBS_PER_PAGE, LEADS_PER_PAGE

CLICK = {
    "click_id": "text",
    "bid_type": "text",
    "price": "numeric",
    "time": "timestamp",
    "job_reference": "text",
    "ip": "text",
    "url": "text",
    "tlr_sid": "text",
    "platform": "text",
    "job_id": "bigint",
    "campaign_id": "bigint",
    "campaign_name": "text",
}
Rows = Iterable[list[dict[str, Any]]]

_pool = urllib3.PoolManager(maxsize=16, headers={"Accept-Encoding": "gzip"})


def get(url: str) -> bytes:
    response = _pool.request("GET", url, timeout=60)
    if response.status != 200:
        raise SystemExit(f"{url}: {response.status}")
    return response.data


def bodies(urls: Iterable[str], threads: int) -> Iterator[bytes]:
    """In order; with threads, up to two for each are requested ahead."""
    if threads == 1:
        yield from map(get, urls)
        return
    with ThreadPoolExecutor(threads) as executor:
        ahead: deque[Any] = deque()
        for url in urls:
            ahead.append(executor.submit(get, url))
            if len(ahead) >= 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def paged(url: str, items: str, total: tuple[str, ...], size: int, threads: int) -> Iterator[list[dict[str, Any]]]:
    first = orjson.loads(get(f"{url}&page=1"))
    yield first[items]
    count = first
    for name in total:
        count = count[name]
    for body in bodies((f"{url}&page={page}" for page in range(2, -(-count // size) + 1)), threads):
        yield orjson.loads(body)[items]


def clicks(base: str, days: int, threads: int) -> Iterator[list[dict[str, Any]]]:
    shown = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in range(days)]
    for body in bodies((f"{base}/clicks?start={day}&end={day}" for day in shown), threads):
        yield from orjson.loads(body)["clicks_report"].values()


def to_jsonl(pages: Rows, path: str) -> None:
    with Path(path).open("wb", buffering=0) as file:
        for page in pages:
            file.write(b"".join([orjson.dumps(row, None, orjson.OPT_APPEND_NEWLINE) for row in page]))


def to_csv(pages: Rows, path: str) -> None:
    values = itemgetter(*CLICK)
    with Path(path).open("wb", buffering=0) as file:
        file.write((",".join(CLICK) + "\r\n").encode())
        for page in pages:
            text = io.StringIO()
            csv.writer(text).writerows(map(values, page))
            file.write(text.getvalue().encode())


def to_postgres(pages: Rows, dsn: str, merge: bool) -> None:
    """COPY as text, one block a page; the characters that must be escaped are looked for once a page."""
    import psycopg

    values = itemgetter(*CLICK)
    line = "\t".join(["{}"] * len(CLICK)) + "\n"
    columns = ", ".join(f"{name} {type_}" for name, type_ in CLICK.items())
    others = ", ".join(f"{name} = excluded.{name}" for name in list(CLICK)[1:])
    with psycopg.connect(dsn) as session:
        session.execute("drop schema if exists floor cascade")
        session.execute("create schema floor")
        session.execute(f"create table floor.clicks ({columns}{', primary key (click_id)' if merge else ''})")
        if merge:
            session.execute("create temp table stage (like floor.clicks) on commit drop")
        with session.cursor().copy(f"copy {'stage' if merge else 'floor.clicks'} from stdin") as copy:
            for page in pages:
                block = "".join([line.format(*row) for row in map(values, page)])
                if "\\" in block or "None" in block or block.count("\n") != len(page):
                    raise SystemExit("the floor knows no escapes")
                copy.write(block.encode())
        if merge:
            session.execute(
                f"insert into floor.clicks select * from stage on conflict (click_id) do update set {others}"
            )


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("stream")
    words.add_argument("to")
    words.add_argument("url")
    words.add_argument("--days", type=int, default=10)
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--merge", action="store_true")
    given = words.parse_args()
    if given.stream == "leads":
        url = f"{given.url}/hydra/leads?itemsPerPage={LEADS_PER_PAGE}"
        pages = paged(url, "hydra:member", ("hydra:totalItems",), LEADS_PER_PAGE, given.threads)
    elif given.stream == "jobs":
        pages = paged(
            f"{given.url}/jobs?limit={JOBS_PER_PAGE}", "data", ("summary", "total"), JOBS_PER_PAGE, given.threads
        )
    else:
        pages = clicks(given.url, given.days, given.threads)
    kind, _, path = given.to.partition(":")
    if kind == "jsonl":
        to_jsonl(pages, path)
    elif kind == "csv":
        to_csv(pages, path)
    else:
        to_postgres(pages, given.to, given.merge)


if __name__ == "__main__":
    main()
