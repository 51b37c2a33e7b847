"""
Take over a table that has no mark: restored without comments, moved, or made anew by its owner.
"""

from collections.abc import Sequence

from penstock import Adoption, Layout, TargetError
from penstock.ledger import DeliveredEntries

from penstock_plugins.postgres.table_locations import source_condition
from penstock_plugins.postgres.tables import Tables
from penstock_plugins.postgres.verify import Verification


def adopt(tables: Tables, layouts: Sequence[Layout], table_name: str, *, confirmed: bool) -> Adoption:
    """
    See :class:`penstock.Adopting`. ``layouts``: of all streams of the source; ``table_name``: the table.
    """
    database, ledger, source = tables.database, tables.ledger, tables.source
    names = {layout.stream: tables.location_of(layout).name for layout in layouts}
    chosen = next((layout for layout in layouts if names[layout.stream] == table_name.replace('"', "")), None)
    if chosen is None:
        destinations = ", ".join(f"{stream} to {name}" for stream, name in names.items())
        raise TargetError(
            f"no stream of {source} is written to {table_name}. By the settings of the sink it writes {destinations}. "
            "Set schema or table of the sink first, or rename the table."
        )
    with database.explained():
        candidate = tables.adoptable(chosen)
        table = candidate.recorded
        entries = DeliveredEntries(ledger, source, table.of_stream)
        where, values = source_condition(source, shared=candidate.shared)
        rows = database.value(f"select count(*) from {table.sql} where {where}", values)
        differing = Verification(database, table).differences(entries)
        differences = tuple(difference for difference in differing if not difference.uncounted)
        if confirmed and not differences:
            tables.adopt(candidate)
        partitions, delivered = ledger.delivered_rows(table)
    return Adoption(
        place=table.name,
        stream=table.stream,
        rows=rows,
        partitions=partitions,
        delivered=delivered,
        differences=differences,
    )
