"""
Paging: every paginator sees a second page, and a record that moves between pages comes once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, evolve, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.call import Answered, Call, CallResult
from penstock._plan.selection import chosen_streams
from penstock._read.components import components_of
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from penstock.model import Items, Page, Request
from penstock.protocols import Paginator, SinglePage
from penstock.testing.conformance.findings import Finding
from penstock.testing.conformance.named_members import InMemoryLog
from penstock.testing.conformance.rows import Key, Rows, delivered_to, differing
from penstock.testing.conformance.subject import Subject
from penstock.testing.memory import MemorySink


@define(eq=False)
class _Pages:
    """What the paginators of a run received: the first page of each listing, and its last one with records."""

    paged: set[str] = field(factory=set)  # streams with a second page that had records
    firsts: dict[Any, Page] = field(factory=dict)  # identity of a further request -> the first page of its listing
    lasts: dict[Any, Any] = field(factory=dict)  # identity of a first request -> that of the last page with records
    shared: set[Any] = field(factory=set)  # identities of requests that accounts make alike, each with its own token

    def remember(self, identity: Any, first: Page) -> None:
        """Note the first page of the listing to which a further request belongs."""
        former = self.firsts.setdefault(identity, first)
        if former.response.body != first.response.body:
            self.shared.add(identity)
        self.firsts[identity] = first

    def first_of(self, identity: Any) -> Page | None:
        """The first page of the listing of which this request is the last one with records."""
        first = self.firsts.get(identity) if identity not in self.shared else None
        return first if first is not None and self.lasts.get(first.request.identity) == identity else None


@define(eq=False)
class _WatchedPaginator:
    """A paginator, and what it sees."""

    paginator: Paginator
    stream: str
    pages: _Pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self.paginator, name)

    def next(self, page: Page) -> Request | None:
        following = self.paginator.next(page)
        first = page if page.index == 0 else self.pages.firsts.get(page.request.identity)
        if first is not None and page.index and page.count:
            self.pages.paged.add(self.stream)
            self.pages.lasts[first.request.identity] = page.request.identity
        if first is not None and following is not None:
            self.pages.remember(following.identity, first)
        return following

    def rest(self, first: Page) -> Sequence[Request] | None:
        later = self.paginator.rest(first)
        if later and first.count:
            self.pages.paged.add(self.stream)
            self.pages.remember(later[-1].identity, first)
            self.pages.lasts[first.request.identity] = later[-1].identity
        return later


@define(eq=False)
class _MovedRecord(InMemoryLog):
    """Repeats the first record of a listing on its last page, as in one that moved meanwhile."""

    pages: _Pages
    streams: set[str] = field(factory=set)

    def exchange(
        self, source: ConfiguredSource, call: Call, send: Callable[[], CallResult], judge: Callable[..., Any]
    ) -> CallResult:
        result, first, stream = send(), self.pages.first_of(call.request.identity), call.stream
        if not isinstance(result, Answered) or first is None or stream is None:
            return result
        if stream.poller is not None:  # a report does not move while it is read
            return result
        former = next(iter(first.answer.items), None)
        items = tuple(result.answer.items)
        if former is None or former.format != "array" or not items:
            return result
        if any(column.hash_of for column in stream.columns if column.name in stream.key):
            return result  # equal records are several ones where the provider gives them no key
        elements = _elements(former)
        if sum(len(_elements(item)) for item in items if item.format == "array") >= len(elements):
            return result  # a page longer than the others is none of a listing that moved
        again = evolve(former, raw=b"[" + bytes(elements[0]) + b"]")
        self.streams.add(stream.name)
        return result._replace(answer=evolve(result.answer, items=(*items, again)))


def _elements(items: Items) -> list[msgspec.Raw]:
    return msgspec.json.decode(items.raw, type=list[msgspec.Raw])


def paging(subject: Subject, folder: Path, baseline: Rows) -> list[Finding]:
    """Every paginator sees a second page, and a record that moves from the first page to the last comes once."""
    pages = _Pages()
    declared: set[str] = set()

    def watch(source: ConfiguredSource, stream: Stream) -> Stream:
        paginator = components_of(source, stream, ()).paginator
        one_page = (SinglePage.next, SinglePage.rest)
        if (getattr(type(paginator), "next", None), getattr(type(paginator), "rest", None)) == one_page:
            return stream
        declared.add(stream.name)
        return evolve(stream, paginator=lambda settings: _WatchedPaginator(paginator, stream.name, pages))

    with subject.served() as (server, _):
        subject.run(server.base_url, MemorySink(folder / "watched.sqlite"), watch=watch)
        chosen = chosen_streams(subject.source(server.base_url), subject.streams)
        server.app = subject.make(server.base_url, subject.today)  # it responds as at first, from the same address
        moved, sink = _MovedRecord(pages), MemorySink(folder / "moved.sqlite")
        report = subject.run(server.base_url, sink, recording=moved)
    differ = sorted(key for key in differing(delivered_to(sink), baseline) if key[0] in moved.streams)
    unpaged = sorted(declared.intersection(chosen) - pages.paged)
    return [*map(_no_second_page, unpaged), *(_moved_record(key, report) for key in differ[:1])]


def _no_second_page(stream: str) -> Finding:
    return Finding(
        "second page",
        f"{stream}: its paginator saw no second page with records, so that paging was not tried. Let the sandbox "
        "send fewer records on a page than it has",
    )


def _moved_record(key: Key, report: RunReport) -> Finding:
    why = next((error["message"] for error in report.errors if error["stream"] == key[0]), "the rows differ")
    return Finding(
        "moved record",
        f"{key[0]} {key[1]}: a record of the first page that came again on the last one, as in a listing that moved "
        f"while it was read, was not delivered once ({why}). Name the columns that identify a record",
    )
