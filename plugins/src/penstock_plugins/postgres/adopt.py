"""
Take over a table that has no mark: restored without comments, moved, or made anew by its owner.
"""

from collections.abc import Callable, Sequence

from penstock import Adoption, Layout, TargetError
from penstock.ledger import DeliveredEntries

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import PostgresLedger
from penstock_plugins.postgres.table_locations import TableLocation, source_condition
from penstock_plugins.postgres.tables import Tables
from penstock_plugins.postgres.verify import Verification


def adopt(
    database: Database,
    ledger: PostgresLedger,
    source: str,
    layouts: Sequence[Layout],
    named: str,
    location_of: Callable[[Layout], TableLocation],
    *,
    confirmed: bool,
) -> Adoption:
    """
    See :class:`penstock.Adopting`. ``layouts``: of all streams of the source; ``named``: the table.
    """
    chosen = next((layout for layout in layouts if named.replace('"', "") == location_of(layout).name), None)
    if chosen is None:
        listed = ", ".join(f"{layout.stream} to {location_of(layout).name}" for layout in layouts)
        raise TargetError(
            f"no stream of {source} is written to {named}. By the settings of the sink it writes {listed}. Set schema "
            "or table of the sink first, or rename the table."
        )
    tables = Tables(database, ledger, source, location_of)
    with database.explained():
        candidate = tables.adoptable(chosen)
        table = candidate.recorded
        entries = DeliveredEntries(ledger, source, table.of_stream)
        where, values = source_condition(source, shared=candidate.shared)
        rows = database.one(f"select count(*) from {table.sql} where {where}", values)
        differing = Verification(database, source, table).differences(entries)
        differences = tuple(difference for difference in differing if not difference.uncounted)
        if confirmed and not differences:
            tables.adopt(candidate)
        partitions, delivered = ledger.delivered_rows(source, table)
    return Adoption(
        place=table.name,
        stream=table.stream,
        rows=rows,
        partitions=partitions,
        delivered=delivered,
        differences=differences,
    )
