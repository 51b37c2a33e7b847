"""
The Python API: a configuration and the plugins as one object, with a method for each command.

Methods print nothing and set no signal handler. They return frozen results, and report events to a callback. They may
be called from any thread, several at a time. Each imports the module that carries it out when it is called, so that a
run starts without the other commands.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from penstock._project.setup import Notices, Setup, names_in, number_in, unfailing, window_of
from penstock._util.clock import Clock
from penstock.errors import PenstockError
from penstock.events import OnEvent, ignore

if TYPE_CHECKING:
    from penstock._project.plan import PlanResult
    from penstock._project.read import Records
    from penstock._project.run_result import RunResult
    from penstock._project.target_query import Days, TargetQuery
    from penstock.model import Receipt
    from penstock.results import (
        ActResult,
        AdoptResult,
        ChangesResult,
        CheckResult,
        ForgetResult,
        PartitionsResult,
        RejectedRecord,
        RejectedResult,
        RunsResult,
        StatusResult,
        TotalsResult,
        VerifyResult,
    )
    from penstock.sinks import Layout, Sink

Clocks = Callable[[threading.Event | None], Clock]


class Project:
    """
    The sources, sinks and pipelines of a ``penstock.toml``, for Python programs.

    ``config``: the file; the same as a mapping (``{"source": {"talroo": {...}}}``, with nothing remembered on disk); or
    None for ``./penstock.toml``, which may be absent. ``sets``: single values, ``"source.talroo.timeout_s=30"``.
    ``plugins``: objects with hook functions, instead of the installed plugins. ``environ``: instead of the process's
    environment. ``clock``: makes the clock of each call, for tests.

    The file is read on first use. Every method raises UsageError, or its subclasses ConfigError, PluginError and
    TargetError, for a call that cannot be carried out. Failures of a provider or a target during a call are in the
    result.
    """

    def __init__(
        self,
        config: "str | os.PathLike[str] | Mapping[str, Any] | None" = None,
        *,
        sets: Sequence[str] = (),
        plugins: Iterable[object] | None = None,
        environ: Mapping[str, str] | None = None,
        strict_plugins: bool = False,
        clock: Clocks = Clock,
    ) -> None:
        self._setup = Setup(
            file=config,
            sets=tuple(sets),
            plugins=plugins if plugins is None else tuple(plugins),
            environ=os.environ if environ is None else environ,
            strict_plugins=strict_plugins,
        )
        self._clock = clock

    def __repr__(self) -> str:
        file = self._setup.file
        return f"Project({'{...}' if isinstance(file, Mapping) else repr(str(file or 'penstock.toml'))})"

    @classmethod
    def of(cls, setup: Setup, clock: Clocks = Clock) -> Self:
        """The object of a setup that is there already."""
        project = cls(clock=clock)
        project._setup = setup
        return project

    def with_source(
        self, source: str, values: Mapping[str, Any], *, where: str = "values", exclude: Sequence[str] = ()
    ) -> "Project":
        """
        A project in which these keys of a source replace the configured ones, as for a program with a configuration of
        its own. A text is parsed as the type of its key; None leaves a key as it is. ``where``: the origin of the
        values, for messages. ``exclude``: columns to leave out besides the configured ones.
        """
        replaced = {key: value for key, value in values.items() if value is not None}
        setup = self._setup.with_values(source, replaced, where) if replaced else self._setup
        if exclude:
            left_out = [*setup.source(source).settings.exclude, *exclude]
            setup = setup.with_values(source, {"exclude": left_out}, where)
        return Project.of(setup, self._clock)

    def settings_schema(self, source: str) -> dict[str, Any]:
        """
        The JSON Schema (draft 7) of the configuration of this source, or of a source of this connector. Secrets are
        marked with ``writeOnly``.
        """
        from penstock._config.json_schema import settings_schema

        return settings_schema(self._setup.registry.connector(self._setup.config.connector_of(source)))

    def layouts(self, source: str, streams: Sequence[str] | None = None) -> "tuple[Layout, ...]":
        """
        The columns, key and kind of a source's streams, in the order of their declaration, as sinks receive them.

        ``streams``: names or patterns (``"*"``: all that can be read); None: those that are on by default. A stream
        is delivered with those that are derived from it.
        """
        from penstock._plan.selection import select_streams
        from penstock._project.read import layouts_of

        configured = self._setup.source(source)
        chosen = select_streams([configured], names_in("streams", streams))[source]
        return layouts_of(configured, chosen)

    def read(
        self,
        source: str,
        stream: str,
        *,
        since: date | str | None = None,
        until: date | str | None = None,
        accounts: Sequence[str] | None = None,
        allow_rejected: bool = False,
        on_event: OnEvent = ignore,
    ) -> "Records":
        """
        The records of one stream, read from the provider each time they are iterated over; no target is needed.

        The default of ``since`` and ``until`` is that of a run. ``accounts``: names or patterns (``"21*"``).
        """
        from penstock._project.read import read

        return read(
            self._setup,
            source,
            stream,
            names_in("accounts", accounts),
            since,
            until,
            clock=self._clock,
            allow_rejected=allow_rejected,
            on_event=unfailing(on_event),
        )

    # --- runs -----------------------------------------------------------------------------------------------------

    def plan(
        self,
        name: str,
        *,
        to: str | None = None,
        streams: Sequence[str] | None = None,
        exclude_streams: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        full: bool = False,
        shards: int | None = None,
    ) -> "PlanResult":
        """
        The partitions that a run of this pipeline or source would fetch, each with its reason. Makes no request.

        Without ``to``, the target that was used last for the source decides what is final; if that one cannot be read,
        the one before it, with exit code 1. ``shards``: each partition also has the number of the shard, of so many,
        that reads it.
        """
        from penstock._project.plan import plan
        from penstock._project.selected_jobs import Selection

        selection = Selection(
            to=to,
            streams=names_in("streams", streams),
            exclude_streams=names_in("exclude_streams", exclude_streams),
            accounts=names_in("accounts", accounts),
            since=since,
            until=until,
            full=full,
        )
        shards = number_in("shards", shards, "a number such as 16")
        return plan(self._setup, name, selection, shards, self._clock(None).now())

    def run(
        self,
        name: str,
        *,
        to: "str | Sink | None" = None,
        streams: Sequence[str] | None = None,
        exclude_streams: Sequence[str] | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        full: bool = False,
        strict: bool = False,
        allow_rejected: bool | int | str | None = None,
        deadline_s: float | None = None,
        shard: str | None = None,
        workers: int | None = None,
        engine: str | None = None,
        record: "str | os.PathLike[str] | None" = None,
        record_full: "str | os.PathLike[str] | None" = None,
        replay: "str | os.PathLike[str] | None" = None,
        on_event: OnEvent = ignore,
        stop: threading.Event | None = None,
    ) -> "RunResult":
        """
        Fetch what is not final yet and deliver it, as ``penstock run`` does.

        ``name``: a pipeline, or a source with ``to``: a sink's name or place, or a sink that the caller made, which is
        not remembered for ``plan`` and ``status``. ``since``, ``until``: days, both included, or a text such as
        ``"-3d"``, ``"2026-10"`` or ``"last-month"``, in each account's time zone. ``on_event``: called with each event,
        from the threads of the run, one call at a time; its exceptions are logged. ``allow_rejected``: how many
        records may be rejected without exit code 5: True, a number, or a share such as "1%"; None: as the pipeline
        states. ``shard``: ``"3/16"`` reads the third of sixteen shards of the accounts and days. ``workers``: divide
        the run among so many processes of this machine, or of the ``engine`` (``"dask://HOST:PORT"``); None: as the
        pipeline states. A script that calls this with workers keeps its own code below
        ``if __name__ == "__main__":``. ``stop``: when it is set, the run ends cleanly.

        ``record``: a new directory for every exchange, with secrets and all that may be personal masked;
        ``record_full``: the same with credentials masked only. ``replay``: a recording that replaces the provider, at
        the time of the recorded run; what this call leaves out (streams, accounts, days) is as it was there. A masked
        one is refused for a target with a ledger.

        Failed partitions, sources that cannot be used as configured, and a lock that another run holds, are in the
        result. Where no source can be used, the call raises.
        """
        from penstock._project.recordings import RecordingOptions
        from penstock._project.run import DivisionOptions, run
        from penstock._project.selected_jobs import Selection

        selection = Selection(
            to=to,
            streams=names_in("streams", streams),
            exclude_streams=names_in("exclude_streams", exclude_streams),
            accounts=names_in("accounts", accounts),
            since=since,
            until=until,
            full=full,
            strict=strict,
            allow_rejected=allow_rejected,
        )
        return run(
            self._setup,
            name,
            selection,
            DivisionOptions(shard=shard, workers=number_in("workers", workers, "a number such as 4"), engine=engine),
            RecordingOptions(record=record, record_full=record_full, replay=replay),
            clock=self._clock(stop),
            deadline_s=number_in("deadline_s", deadline_s, "a number of seconds, such as 7200"),
            on_event=unfailing(on_event),
        )

    def check(self, name: str | None = None) -> "CheckResult":
        """
        Try credentials with one cheap request per source that records nothing at the provider, and open targets.

        ``name``: a source; a sink; a pipeline, with its sources and its sink; None: every source and sink of the
        configuration, side by side. A configuration error of one of several is in the result, and so is that of a
        pipeline, such as a stream that none of its sources has.
        """
        from penstock._project.check import check

        return check(self._setup, name, self._clock(None))

    # --- writes ---------------------------------------------------------------------------------------------------

    def act(
        self,
        source: str,
        action: str,
        values: Mapping[str, Any] | Sequence[str] = (),
        *,
        rows: Iterable[Mapping[str, Any]] | None = None,
        file: str | os.PathLike[str] | BinaryIO | None = None,
        sink: str | None = None,
        query: str | None = None,
        dry_run: bool = False,
        resume: bool = False,
        retry_unknown: bool = False,
        confirmed: bool = False,
        receipts: str | os.PathLike[str] | None = None,
        refused: str | os.PathLike[str] | None = None,
        on_receipt: "Callable[[Receipt], None] | None" = None,
        on_request: Callable[[Mapping[str, Any]], None] | None = None,
        on_event: OnEvent = ignore,
        stop: threading.Event | None = None,
    ) -> "ActResult":
        """
        Write to a provider, as ``penstock act`` does: one receipt for each row, in the order of the rows.

        ``values``: the one row, or, with one of the following, defaults for every row; as a mapping, or as texts
        ``KEY=VALUE``. ``rows``: mappings. ``file``: JSON lines or CSV, as a path or a binary stream. ``query``: the
        rows that ``sink``, a sink's name or place, returns for it.

        Nothing is sent unless the source has ``allow_writes = true``. ``confirmed``: confirms a destructive action, and
        another address of an unfinished job. ``dry_run``: only prepare the requests; sends and records nothing.
        What was sent is recorded in ``.penstock`` beside the configuration: the rows of a call that was interrupted are
        sent with ``resume``, those of unknown outcome with ``retry_unknown``. Without either, an unfinished job of the
        same rows raises UsageError.

        ``receipts``: a file for the receipts, as JSON lines. ``refused``: one for the refused rows. ``on_receipt``,
        ``on_request``: called with each receipt, and each request of a dry run, as soon as it is known; the result has
        none of them then. What they raise ends the call, and ``resume`` continues it. ``stop``: when it is set, the
        call ends after the response to the request under way.

        An error of the provider during the call is in the result. Raises LockHeldError if another process sends the
        same rows, and SinkError where ``receipts`` cannot be written.
        """
        from penstock._project.act import ActOptions, Callbacks, act, action_of, input_of

        on_event = unfailing(on_event)
        notices = Notices(on_event)
        options = ActOptions(
            dry_run=dry_run,
            resume=resume,
            retry_unknown=retry_unknown,
            confirmed=confirmed,
            receipts=None if receipts is None else Path(receipts),
            refused=None if refused is None else Path(refused),
        )
        return act(
            self._setup,
            action_of(self._setup, source, action),
            input_of(self._setup, rows, file, sink, query, notices),
            options,
            Callbacks(on_receipt=on_receipt, on_request=on_request, on_event=on_event),
            source=source,
            values=values,
            clock=self._clock(stop),
            notices=notices,
        )

    # --- what was delivered -----------------------------------------------------------------------------------------

    def status(
        self,
        name: str | None = None,
        *,
        to: str | None = None,
        accounts: Sequence[str] | None = None,
        max_age_s: float | None = None,
    ) -> "StatusResult":
        """
        The state of delivery: per stream and account the days that are final, open, missing or failed; problems that
        need attention; and the last runs.

        ``name``: a pipeline or a source; None: all sources in the targets' ledgers. ``to`` None: the targets last used.
        ``accounts``: names or patterns; a source that has none of them is left out. ``max_age_s``: an account whose
        last reading is older is overdue, and makes the exit code 1; accounts and sources that left the configuration
        never count as overdue. A source that was never read into the target is overdue, too, if it is named or, without
        a name, in a pipeline of the target; so is an account that was never read, of a source in such a pipeline.
        """
        from penstock._project.status import status

        max_age_s = number_in("max_age_s", max_age_s, "a number of seconds, such as 93600")
        return status(self._query(name, to, accounts=accounts), names_in("accounts", accounts), max_age_s)

    def totals(
        self,
        name: str | None = None,
        *,
        to: str | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        daily: bool = False,
    ) -> "TotalsResult":
        """
        Rows and sums of every measure per account and month, or day, from the ledger: to compare with an invoice.
        """
        from penstock._project.totals import totals_of
        from penstock.results import TotalsResult

        query = self._query(name, to, accounts=accounts)
        days = self._days(since, until, accounts, sources=query.sources)
        totals = tuple(query.each(partial(totals_of, days=days, daily=daily)))
        return query.with_notices(TotalsResult(totals=totals))

    def partitions(
        self,
        name: str | None = None,
        *,
        to: str | None = None,
        accounts: Sequence[str] | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
    ) -> "PartitionsResult":
        """
        The ledger's row of every partition: state, counts and sums. A stream that is not divided by days is always
        within ``since`` and ``until``.
        """
        from penstock._project.totals import partitions_of
        from penstock.results import PartitionsResult

        query = self._query(name, to, accounts=accounts)
        days = self._days(since, until, accounts, sources=query.sources)
        partitions = tuple(query.each(partial(partitions_of, days=days)))
        return query.with_notices(PartitionsResult(partitions=partitions))

    def forget(
        self,
        source: str,
        stream: str | None = None,
        *,
        to: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        accounts: Sequence[str] | None = None,
        rows: bool = False,
        dry_run: bool = False,
    ) -> "ForgetResult":
        """
        Let the next run read days again as if they had never been read. What was delivered stays until then, unless
        ``rows``: then the rows are deleted, too, one partition after the other.

        ``stream`` None: all that were delivered; those that cannot be chosen so are left, with a notice.
        ``since`` and ``until`` are required for a stream that is divided by days, except with ``rows`` and
        ``accounts``. ``dry_run``: only count the partitions. A target of several that cannot be used is left out; the
        exit code is 1 then, and a notice names it.
        """
        from penstock._project.forget import forget

        query = self._query(source, to, used_by_source=True, accounts=accounts)
        days = self._days(since, until, accounts, sources=query.sources)
        return query.with_notices(forget(query, source, stream, days, rows=rows, dry_run=dry_run))

    def forget_target(self, target: str) -> None:
        """
        Remove a target that is not used any more from those that are looked at without ``to``. What lies there stays,
        with its ledger. ``target``: as ``to`` had it. Raises UsageError for one that was not used.
        """
        from penstock._config.target_text import findable

        absolute = findable(target)  # a directory is remembered by its absolute path
        self._setup.used_targets.forget(absolute if absolute in self._setup.used_targets.targets() else target)

    def erase_personal(
        self, source: str, stream: str | None = None, *, to: str | None = None, dry_run: bool = False
    ) -> "ForgetResult":
        """
        Erase, in rows that were delivered before ``include_personal = false``, what the source leaves out since.

        These are columns that the record class declares personal, personal members of nested values, members that no
        column declares unless ``extra`` keeps them, and all of these in rejected records. Rows, their order
        and their sums stay, and nothing is read again. ``stream`` None: all that were delivered. ``dry_run``: only
        count the partitions. The exit code is 1 if something was left, with the reason in ``notices``.
        """
        from penstock._project.erase import erase_personal

        query = self._query(source, to, used_by_source=True)
        return query.with_notices(erase_personal(query, source, stream, dry_run=dry_run))

    def verify(
        self,
        name: str | None = None,
        *,
        to: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        accounts: Sequence[str] | None = None,
        repair: bool = False,
    ) -> "VerifyResult":
        """
        Compare what the targets hold with their ledgers: rows and sums of a database, size and checksum of files.

        ``repair``: readings that differ are dropped, so that the next run reads them again; a day that the provider
        does not serve any more is left as it is. Days whose rows ``forget`` deleted are no difference.
        """
        from penstock._project.verify import verify

        query = self._query(name, to, accounts=accounts)
        days = self._days(since, until, accounts, sources=query.sources)
        return query.with_notices(verify(query, days, repair=repair))

    def adopt(
        self, name: str | None = None, place: str | None = None, *, to: str | None = None, confirmed: bool = False
    ) -> "AdoptResult":
        """
        Let streams be written to existing tables that the target does not recognise: restored without comments, moved,
        or made anew by their owner.

        ``name``: a source, or a pipeline; None: all sources. ``place``: ``SCHEMA.TABLE``, of the source ``name``; None:
        every table that the targets do not recognise, and that the ledger has a stream for. The rows of a table must be
        those that the ledger counts; otherwise the result has the differences, and nothing of it is changed. Without
        ``confirmed`` nothing is changed, either.
        """
        from penstock._project.adopt import adopt

        query = self._query(name, to, used_by_source=place is not None)
        return query.with_notices(adopt(query, name, place, confirmed=confirmed))

    def rejected(
        self,
        name: str | None = None,
        *,
        to: str | None = None,
        stream: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        accounts: Sequence[str] | None = None,
        on_record: "Callable[[RejectedRecord], None] | None" = None,
    ) -> "RejectedResult":
        """
        The rejected records, with path and reason. ``on_record``: called with each of them; the result has none then.
        """
        from penstock._project.history import rejected_records
        from penstock.results import RejectedResult

        query, collected = self._query(name, to, stream=stream, accounts=accounts), list["RejectedRecord"]()
        days = self._days(since, until, accounts, sources=query.sources)
        for record in query.each(partial(rejected_records, stream=stream, days=days)):
            (on_record or collected.append)(record)
            del record  # else the next one is read while this one is held
        return query.with_notices(RejectedResult(rejected=tuple(collected)))

    def runs(
        self, name: str | None = None, *, to: str | None = None, limit: int = 20, run_id: str | None = None
    ) -> "RunsResult":
        """The last runs, newest first, at most ``limit`` of each source; ``run_id``: only the run of this id."""
        from penstock._project.history import runs_of
        from penstock.results import RunsResult

        query = self._query(name, to)
        runs = query.each(partial(runs_of, limit=limit, run_id=run_id))
        newest_first = sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)
        return query.with_notices(RunsResult(runs=tuple(newest_first)))

    def changes(
        self, name: str | None = None, *, since: date | str, to: str | None = None, merged: bool = True
    ) -> "ChangesResult":
        """
        The changes to delivered partitions since that day (UTC): rows and sums before and after, per account and day.

        ``merged``: one for each partition, from before the first to after the last; else one for each reading. As far
        back as the ledger keeps restatements.
        """
        from penstock._project.history import changes_of
        from penstock.results import ChangesResult

        query = self._query(name, to)
        first = self._days(since, None).since
        assert first is not None
        changes = tuple(query.each(partial(changes_of, since=first, merged=merged)))
        return query.with_notices(ChangesResult(changes=changes))

    # --- shared -----------------------------------------------------------------------------------------------------

    def _days(
        self,
        since: date | str | None,
        until: date | str | None,
        accounts: Sequence[str] | None = None,
        *,
        sources: Sequence[str] | None = None,
    ) -> "Days":
        """``sources``: today is in the zone that they share, where they can be used; else in UTC."""
        from penstock._project.target_query import Days

        now = self._clock(None).now()
        if sources and (isinstance(since, str) or isinstance(until, str)):
            with suppress(PenstockError):
                zone, *others = {self._setup.source(source).zone for source in sources}
                now = now if others else now.astimezone(zone)
        first, last = window_of(since, until, now.date())
        return Days(since=first, until=last, accounts=names_in("accounts", accounts))

    def _query(
        self,
        name: str | None,
        to: str | None,
        *,
        used_by_source: bool = False,
        stream: str | None = None,
        accounts: Sequence[str] | None = None,
    ) -> "TargetQuery":
        from penstock._project.target_query import TargetQuery

        patterns = names_in("accounts", accounts)
        return TargetQuery(self._setup, name, to, self._clock(None), used_by_source, stream, patterns)
