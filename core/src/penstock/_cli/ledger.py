"""
``status``, ``forget`` and ``rejected``: what the ledgers of the targets know.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from penstock._cli.output import ago, fits, print_json, print_table
from penstock._cli.session import Session, as_json, command
from penstock._cli.stderr import harmless
from penstock._cli.types import DAY
from penstock._run.history import History
from penstock._util.clock import Clock
from penstock._util.text import counted, did_you_mean
from penstock.errors import UsageError
from penstock.redact import mask

if TYPE_CHECKING:
    from penstock._config import SinkChoice
    from penstock.model import Partition
    from penstock.sinks import AccountCounts, Ledger

_COUNTS = ("final", "open", "missing", "failed", "rows", "rejected")  # of a stream's account, as status tells them

SHOWN_RAW = 1000  # characters of a rejected record

TO = click.option("--to", metavar="SINK", help="The target.  [default: those last used from this configuration]")


# --- status ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False)
@TO
@as_json
def status(session: Session, name: str | None, to: str | None, json_: bool) -> None:
    """
    What was delivered: per stream and account the days that are final, open, missing or failed, and the last runs.

    Missing are days between the first and the last one that were never delivered. `penstock plan` says what a run
    would do about it.
    """
    now = Clock().now()
    found: list[dict[str, Any]] = []
    for choice, wanted in targets(session, name, to):
        sources = []
        with ledgers(choice, wanted) as opened:
            for source, ledger in opened:
                streams = [_as_dict(one, now) for one in ledger.counts(source)]
                runs = [
                    {
                        "run_id": run.run_id,
                        "started_at": run.started_at.isoformat(),
                        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
                        "exit_code": run.exit_code,
                        "records": sum(one.get("records", 0) for one in run.report.get("streams", {}).values()),
                    }
                    for run in ledger.runs(source, 5)
                ]
                sources.append({"source": source, "streams": streams, "runs": runs})
        found.append({"target": choice.shown, "sources": sources})
    if json_:
        print_json({"targets": found})
        return
    for number, target in enumerate(found):
        if number:
            print()
        print(f"target {target['target']}")
        if not target["sources"]:
            print("  nothing was delivered yet")
        for source in target["sources"]:
            print()
            _print_status(source, now)


def _print_status(source: Mapping[str, Any], now: datetime) -> None:
    columns = ["source", "stream", "account", "days", *_COUNTS, "last read"]
    rows = [
        [
            source["source"],
            one["stream"],
            ", ".join(f"{column}={value}" for column, value in one["account"].items()),
            f"{one['first_day']} to {one['last_day']}" if one["first_day"] else "",
            *(one[name] for name in _COUNTS),
            ago(datetime.fromisoformat(one["last_read"]), now) if one["last_read"] else "never",
        ]
        for one in source["streams"]
    ]
    if fits(columns, rows):
        print_table(columns, rows)
    else:
        for owner, stream, account, days, *counts, read in rows:
            print("  ".join(part for part in (f"{owner}.{stream}", account, days) if part))
            told = [f"{count} {name}" for name, count in zip(_COUNTS, counts, strict=True) if count or name == "rows"]
            print(f"  {', '.join(told)}; last read: {read}")
    for text in dict.fromkeys(
        f"{one['stream']}: last error: {one['error']}" for one in source["streams"] if one["error"]
    ):
        print(harmless(mask(text)))
    if source["runs"]:
        print()
        print_table(
            ["last runs", "started", "took", "exit", "records"],
            [
                [
                    run["run_id"],
                    run["started_at"][:19].replace("T", " "),
                    _took(run),
                    "not finished" if run["exit_code"] is None else run["exit_code"],
                    run["records"],
                ]
                for run in source["runs"]
            ],
        )


def _took(run: Mapping[str, Any]) -> str:
    if run["finished_at"] is None:
        return ""
    took = datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])
    return f"{took.total_seconds():.0f} s"


def _as_dict(counts: "AccountCounts", now: datetime) -> dict[str, Any]:
    read = counts.last_read
    return {
        "stream": counts.stream,
        "account": dict(counts.account),
        "first_day": counts.first_day.isoformat() if counts.first_day else None,
        "last_day": counts.last_day.isoformat() if counts.last_day else None,
        "final": counts.final,
        "open": counts.open,
        "missing": counts.missing,
        "failed": counts.failed,
        "rows": counts.rows,
        "rejected": counts.rejected,
        "unread_values": counts.unread_values,
        "last_read": read.isoformat() if read else None,
        "age_s": int((now - read).total_seconds()) if read else None,
        "error": counts.last_error,
    }


# --- forget ---------------------------------------------------------------------------------------------------------


@command()
@click.argument("source")
@click.argument("stream")
@TO
@click.option("--since", type=DAY, metavar="DAY", help="First day; needed for a stream that is divided by days.")
@click.option("--until", type=DAY, metavar="DAY", help="Last day, included; needed for the same.")
def forget(session: Session, source: str, stream: str, to: str | None, since: date | None, until: date | None) -> None:
    """
    Let the next run read days again as if they had never been read. What was delivered stays until then.
    """
    from penstock._run.runner import run_id

    if since is not None and until is not None and since > until:
        raise UsageError(f"--since {since} is after --until {until}")
    with ExitStack() as opened:
        # Every target is locked and asked before anything is forgotten in one.
        found: list[tuple[SinkChoice, Ledger]] = []
        for choice, _ in targets(session, source, to, used_by_source=True):
            sink = choice.kind.open(choice.settings)
            if (look := sink.open_readonly(source)) is None:
                continue
            look.close()
            target = sink.open(source, run_id(Clock().now()))
            opened.callback(target.close)
            if target.ledger is None:
                raise UsageError(f"{choice.shown} keeps no ledger: every run reads everything anyway")
            found.append((choice, target.ledger))
        known = sorted({name for _, ledger in found for owner, name in ledger.sources() if owner == source})
        if not known:
            where = ", ".join(choice.shown for choice, _ in found)
            raise UsageError(f"nothing of {source} was delivered{' to ' if where else ''}{where} yet")
        if stream not in known:
            raise UsageError(
                f"no {source}.{stream} was delivered yet.{did_you_mean(stream, known)} There is {', '.join(known)}; a "
                "stream that travels with its parent is forgotten with it"
            )
        chosen = [(choice, ledger, _chosen(ledger, source, stream, since, until)) for choice, ledger in found]
        for choice, ledger, partitions in chosen:
            for report in ledger.pending(source, stream):
                if any(partition in partitions for partition in report.partitions):
                    ledger.drop(report)  # else the next run would adopt a report that was made before
            count = ledger.forget(source, partitions)
            print(f"{choice.shown}: {counted(count, 'partition')} of {source}.{stream} forgotten")


def _chosen(ledger: "Ledger", source: str, stream: str, since: date | None, until: date | None) -> "list[Partition]":
    unbounded = since is None or until is None
    if unbounded and any(counts.first_day is not None for counts in ledger.counts(source, stream)):
        raise UsageError(f"{stream} is divided by days: say which, such as --since 2026-01-01 --until 2026-01-31")
    return list(ledger.entries(source, stream, since=since, until=until))


# --- rejected -------------------------------------------------------------------------------------------------------


@command()
@click.argument("what", type=click.Choice(["list", "show"]), metavar="list|show", required=False)
@click.argument("name", metavar="[PIPELINE|SOURCE]", required=False)
@TO
@click.option("--stream", help="Only of this stream.")
@as_json
def rejected(
    session: Session, what: str | None, name: str | None, to: str | None, stream: str | None, json_: bool
) -> None:
    """
    Records that could not be delivered as they came: `list` counts them by reason, `show` prints them.

    A long record is cut; with --json it is whole.
    """
    if what is None:
        raise UsageError(
            "say how: `penstock rejected list` counts them by reason, `penstock rejected show` prints them"
        )
    found: list[dict[str, Any]] = []
    for choice, wanted in targets(session, name, to):
        with ledgers(choice, wanted) as opened:
            for source, ledger in opened:
                found += [
                    {
                        "target": choice.shown,
                        "source": source,
                        "stream": one.stream,
                        "partition": entry.partition.as_dict(),
                        "path": one.path,
                        "reason": one.reason,
                        "raw": one.raw,
                    }
                    for entry, one in ledger.rejected(source, stream)
                ]
    if json_ and what == "show":
        print_json({"rejected": found})
        return
    if what == "show":
        for one in found:
            part = ", ".join(f"{column}={value}" for column, value in one["partition"].items())
            print(harmless(f"{one['source']}.{one['stream']}[{part}] {one['path']}: {one['reason']}"))
            print(harmless(f"  {cut(_plain(one['raw']))}"))
        if not found:
            print("no record is set aside")
        return
    counts: dict[tuple[Any, ...], int] = {}
    for one in found:
        # Not the element's place in its page: [3].price and [7].price are one reason.
        path = re.sub(r"\[\d+\]", "[]", one["path"])
        key = (one["target"], one["source"], one["stream"], path, one["reason"])
        counts[key] = counts.get(key, 0) + 1
    names = ("target", "source", "stream", "path", "reason")
    if json_:
        print_json({"rejected": [{**dict(zip(names, key, strict=True)), "count": counts[key]} for key in counts]})
        return
    if counts:
        print_table(
            ["count", "source", "stream", "path", "reason", "target"],
            [[count, *key[1:], key[0]] for key, count in sorted(counts.items(), key=lambda item: -item[1])],
        )
    else:
        print("no record is set aside")


def cut(text: str) -> str:
    """As much of a record as a person looks at."""
    return text if len(text) <= SHOWN_RAW else f"{text[:SHOWN_RAW]}… ({len(text):,} characters; --json shows all)"


def _plain(raw: str) -> str:
    """A record on one line, its letters as they are and its numbers with the provider's digits."""
    from penstock._decode.page import EXACT_JSON, PLAIN

    try:
        return mask(EXACT_JSON.encode(PLAIN.decode(raw)).decode())
    except ValueError:
        return mask(raw)


# --- targets --------------------------------------------------------------------------------------------------------


def targets(
    session: Session, name: str | None, to: str | None, *, used_by_source: bool = False
) -> "list[tuple[SinkChoice, tuple[str, ...] | None]]":
    """
    The targets a command looks at, each with the sources wanted of it (None: all that its ledger has).
    """
    config = session.config
    sources: tuple[str, ...] | None = None if name is None else (name,)
    if name is not None and name in config.pipelines and not used_by_source:
        pipeline = config.pipeline(name)
        sources, to = pipeline.sources, to or pipeline.sink
    if to is not None:
        texts: dict[str, tuple[str, ...] | None] = {to: sources}
    else:
        texts = dict(History(config.folder).targets(sources))
        for pipeline in () if texts else config.pipelines.values():
            if sources is None or set(sources) & set(pipeline.sources):
                texts[pipeline.sink] = sources
    if not texts:
        known = [*config.sources, *(() if used_by_source else config.pipelines)]
        if name is not None and name not in known and name not in session.registry.connectors():
            raise UsageError(f"no source or pipeline {name!r} is known here.{did_you_mean(name, known)}".rstrip("."))
        whose = f" for {name}" if name is not None else ""
        raise UsageError(f"no target was used{whose} from this configuration yet; name one with --to")
    found: list[tuple[SinkChoice, tuple[str, ...] | None]] = []
    for text, wanted in texts.items():
        choice = config.sink_for(text, session.registry)
        for notice in choice.notices:
            session.notice(notice)
        found.append((choice, wanted))
    return found


@contextmanager
def ledgers(choice: "SinkChoice", sources: Sequence[str] | None) -> "Iterator[list[tuple[str, Ledger]]]":
    """(source, ledger) for the sources wanted that the target knows, for reading only; closed at the end."""
    sink = choice.kind.open(choice.settings)
    opened = []
    try:
        found: list[tuple[str, Ledger]] = []
        for name in sources if sources is not None else ("",):
            target = sink.open_readonly(name)
            if target is None:
                continue
            opened.append(target)
            if target.ledger is None:
                continue
            known = dict.fromkeys(source for source, _ in target.ledger.sources())
            if name and name not in known and target.ledger.runs(name, 1):
                known[name] = None  # it ran, and delivered nothing
            found += [(source, target.ledger) for source in known if sources is None or source == name]
        yield found
    finally:
        for target in opened:
            target.close()
