"""
The streams of a source as Dagster assets (extra ``dagster``): days as partitions, what the run reports as metadata.

penstock keeps its ledger at the target; Dagster decides when a day is read, and shows what came of it.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from penstock import Layout, Project

from penstock_plugins.extras import installed
from penstock_plugins.integrations import stream_schema

RETRY_S = 600
"""Seconds until a run that stopped at a deadline, or at the provider's quota, is tried again."""


def dagster_assets(
    project: Project,
    source: str,
    streams: Sequence[str] | None = None,
    *,
    to: str,
    since: date | str,
    timezone: str = "UTC",
    deadline_s: float | None = None,
) -> list[Any]:
    """
    One asset for each stream, with the key ``[source, stream]`` and the group ``source``, delivered into the sink
    ``to``.

    ``streams``: names or patterns; None: those that are on by default. A report and a stream of changes are partitioned
    by day from ``since`` on, in ``timezone``; a range of days is one run. A materialization reads its days, also where
    they are final; the days that the provider may still restate are read again by materializing them again. A stream
    that is derived from another is materialized together with it.

    Exit codes: 0 is a success; 4, and 6 (another run of the source into this sink), make Dagster retry; all others
    fail the step with the errors of the run, and what was delivered stays.
    """
    with installed("dagster"):
        import dagster
    layouts_by_stream = stream_schema.groups(project.layouts(source, streams))
    return [
        _asset(dagster, project, source, layouts, to=to, since=since, timezone=timezone, deadline_s=deadline_s)
        for layouts in layouts_by_stream.values()
    ]


def _asset(
    dagster: Any,
    project: Project,
    source: str,
    layouts: Sequence[Layout],
    *,
    to: str,
    since: date | str,
    timezone: str,
    deadline_s: float | None,
) -> Any:
    """The asset, or the assets of streams that are delivered together, which one step materializes."""
    read = layouts[0]
    dated = read.day_column is not None

    def materialize(context):  # type: ignore[no-untyped-def]  # Dagster takes no annotation but its own
        days = _window(context) if dated else {}
        delivered: list[Mapping[str, Any]] = []

        def collect(event: Mapping[str, Any]) -> None:
            if event["event"] == "partition_delivered":
                delivered.append(event)
            _log(context, event)

        result = project.run(
            source, to=to, streams=[read.stream], full=dated, deadline_s=deadline_s, on_event=collect, **days
        )
        _check(dagster, result)
        for layout in layouts:
            for day in context.partition_keys if dated else ():
                day_events = [event for event in delivered if event["partition"][read.day_column] == day]
                context.add_asset_metadata(_counted(layout, day_events), dagster.AssetKey([source, layout.stream]), day)
            yield _result(dagster, source, layout, result, {} if dated else _counted(layout, delivered))

    return dagster.multi_asset(
        specs=[_spec(dagster, source, layout) for layout in layouts],
        name=f"{source}_{read.stream}".replace("-", "_"),
        partitions_def=dagster.DailyPartitionsDefinition(start_date=str(since), timezone=timezone) if dated else None,
        backfill_policy=dagster.BackfillPolicy.single_run() if dated else None,
    )(materialize)


def _spec(dagster: Any, source: str, layout: Layout) -> Any:
    return dagster.AssetSpec(
        [source, layout.stream],
        group_name=source,
        description=layout.summary or None,
        kinds={"penstock"},
        metadata={"dagster/column_schema": _columns(dagster, layout), "penstock/key": list(layout.unique_columns)},
    )


def _window(context: Any) -> dict[str, Any]:
    """The days of the step's partitions, as a run takes them."""
    first, end = context.partition_time_window
    return {"since": first.date(), "until": (end - timedelta(seconds=1)).date()}


def _check(dagster: Any, result: Any) -> None:
    """Raises what makes Dagster retry the step, or fail it, where the run did not end with 0."""
    if result.exit_code in (4, 6):
        raise dagster.RetryRequested(max_retries=3, seconds_to_wait=RETRY_S)
    if result.exit_code:
        messages = [
            result.rejected_line or "",
            result.missing_measures_line or "",
            *(error["message"] for error in result.errors[:10]),
        ]
        raise dagster.Failure(
            description=f"{result.summary}. {'; '.join(filter(None, messages))}",
            metadata={"exit_code": result.exit_code, "run_id": result.run_id or "none"},
            allow_retries=result.exit_code == 1,
        )


def _result(dagster: Any, source: str, layout: Layout, result: Any, counted: Mapping[str, Any]) -> Any:
    """What the step reports of one stream; ``counted``: what was delivered of it, where that is not by day."""
    counts = result.report["sources"][source]["streams"].get(layout.stream, {})
    return dagster.MaterializeResult(
        asset_key=[source, layout.stream],
        metadata={
            **counted,
            "requests": counts.get("requests", 0),
            "retries": counts.get("retries", 0),
            "run_id": result.run_id,
        },
    )


def _counted(layout: Layout, delivered: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was delivered of a stream in these partitions, by their events; a derived one is in those of its parent."""
    mine = [event for event in delivered if event["stream"] == layout.stream]
    derived_rows = sum(event.get("derived", {}).get(layout.stream, 0) for event in delivered)
    return {
        "dagster/row_count": derived_rows + sum(event["records"] for event in mine),
        "partitions": len(delivered),
        "rejected": sum(event["rejected"] for event in mine),
        "restated": sum("restated" in event for event in mine),
    }


def _columns(dagster: Any, layout: Layout) -> Any:
    """Names, types, units and descriptions of the columns."""
    return dagster.TableSchema(
        [
            dagster.TableColumn(
                column.name,
                column.type,
                description=stream_schema.described(column) or None,
                constraints=dagster.TableColumnConstraints(nullable=column.nullable),
            )
            for column in layout.columns
        ]
    )


def _log(context: Any, event: Mapping[str, Any]) -> None:
    """Write what a person needs to Dagster's log of the step."""
    if event["event"] in ("notice", "note", "retry"):
        context.log.info(event["message"])
    elif event["event"] in ("partition_failed", "defect"):
        context.log.error(event["message"])
