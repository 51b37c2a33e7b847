"""
What the parts alone cost: http.client, msgspec and a file, with nothing between them.

The types are those of the connector's record classes, and each page is written at once; there are no checks of the
envelope, no counts, no ledger, no connectors and no command line. What penstock takes above this is the price of what
it promises. ``parts.py leads|jobs|clicks FILE URL``, as a whole process; see README.md for the comparison.
"""

import argparse
import http.client
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw
from sizes import FIRST_DAY, JOBS_PER_PAGE, LEADS_PER_PAGE

NULL = Raw(b"null")


class Lead(msgspec.Struct, gc=False):
    id: int
    id_: str = msgspec.field(name="@id")
    type: str = msgspec.field(name="@type")
    uuid: str
    status: str
    created_at: datetime = msgspec.field(name="createdAt")
    updated_at: datetime = msgspec.field(name="updatedAt")
    processed: bool
    score: Decimal
    return_reason: str | None = msgspec.field(name="returnReason", default=None)
    campaign: Raw = NULL
    publisher: Raw = NULL
    link: Raw = NULL
    address: Raw = NULL
    validation: Raw = NULL
    fields: Raw = NULL
    comment: str | None = msgspec.field(name="_comment", default=None)


class Job(msgspec.Struct, gc=False):
    id: int
    guid: str
    title: str
    remote: bool
    posted_at: datetime
    url: str
    description: str
    company: Raw = NULL
    location: Raw = NULL
    salary: Raw = NULL
    cpc: Decimal | None = None
    expires_at: datetime | None = None
    tags: Raw = NULL


class Click(msgspec.Struct, gc=False):
    click_id: str
    bid_type: str
    price: Decimal
    time: datetime
    job_reference: str
    url: str
    tlr_sid: str
    platform: str
    job_id: int
    campaign_id: int
    campaign_name: str
    ip: str | None = None


class Leads(msgspec.Struct):
    rows: list[Lead] = msgspec.field(name="hydra:member")
    total: int = msgspec.field(name="hydra:totalItems")


class Summary(msgspec.Struct):
    total: int


class Jobs(msgspec.Struct):
    rows: list[Job] = msgspec.field(name="data")
    summary: Summary


class Clicks(msgspec.Struct):
    clicks_report: dict[str, list[Click]]


def pages(stream: str, get: Callable[[str], bytes]) -> Iterator[list[Lead] | list[Job] | list[Click]]:
    """The typed rows of each page of a stream."""
    if stream == "clicks":
        clicks = msgspec.json.Decoder(Clicks)
        for day in (FIRST_DAY + timedelta(days=number) for number in range(10)):
            yield from clicks.decode(get(f"/clicks?start={day}&end={day}")).clicks_report.values()
    elif stream == "jobs":
        jobs = msgspec.json.Decoder(Jobs)
        listing = jobs.decode(get(f"/jobs?limit={JOBS_PER_PAGE}&page=1"))
        yield listing.rows
        for page in range(2, -(-listing.summary.total // JOBS_PER_PAGE) + 1):
            yield jobs.decode(get(f"/jobs?limit={JOBS_PER_PAGE}&page={page}")).rows
    else:
        leads = msgspec.json.Decoder(Leads)
        first = leads.decode(get(f"/hydra/leads?itemsPerPage={LEADS_PER_PAGE}&page=1"))
        yield first.rows
        for page in range(2, -(-first.total // LEADS_PER_PAGE) + 1):
            yield leads.decode(get(f"/hydra/leads?itemsPerPage={LEADS_PER_PAGE}&page={page}")).rows


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for word in ("stream", "file", "url"):
        words.add_argument(word)
    given = words.parse_args()
    connection = http.client.HTTPConnection(urlsplit(given.url).netloc)

    def get(target: str) -> bytes:
        connection.request("GET", target)
        return connection.getresponse().read()

    encoder = msgspec.json.Encoder(decimal_format="number")
    with Path(given.file).open("wb", buffering=0) as file:
        for rows in pages(given.stream, get):
            file.write(encoder.encode_lines(rows))


if __name__ == "__main__":
    main()
