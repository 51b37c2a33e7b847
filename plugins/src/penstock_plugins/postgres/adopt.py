"""
Take over a table that has no mark: restored without comments, moved, or made anew by its owner.
"""

# Names in statements come from quoted(); values are parameters.
# ruff: noqa: S608

from collections.abc import Callable, Sequence

from penstock import Adoption, Layout, TargetError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import LedgerTable, PostgresLedger
from penstock_plugins.postgres.tables import Place, Tables, of_source
from penstock_plugins.postgres.verify import verified


def adopt(
    database: Database,
    ledger: PostgresLedger,
    source: str,
    places: Sequence[tuple[Layout, Place]],
    named: str,
    place_of: Callable[[Layout], Place],
    *,
    confirmed: bool,
) -> Adoption:
    """
    See :class:`penstock.Adopting`. ``places``: where each stream of the source is written by the settings.
    """
    layout, place = _named(source, places, named)
    tables = Tables(database, ledger, source, place_of)
    with database.explained():
        oid, shared = tables.check_adoptable(layout, place)
        known = LedgerTable(
            stream=layout.stream,
            of_stream=place.of_stream or layout.stream,
            oid=oid,
            schema=place.schema,
            table=place.table,
        )
        entries = [one for one in ledger.entries(source, known.of_stream).values() if one.delivered]
        where, values = of_source(source, shared=shared)
        rows = database.one(f"select count(*) from {place.sql} where {where}", values)
        differences = tuple(one for one in verified(database, source, known, entries) if not one.uncounted)
        if confirmed and not differences:
            tables.adopt(layout, place, known, shared=shared)
    derived = known.stream != known.of_stream
    counts = [one.derived_rows.get(known.stream, 0) if derived else one.rows for one in entries]
    return Adoption(
        place=place.name,
        stream=layout.stream,
        rows=rows,
        partitions=len(entries),
        delivered=sum(counts),
        differences=differences,
    )


def _named(source: str, places: Sequence[tuple[Layout, Place]], named: str) -> tuple[Layout, Place]:
    for layout, place in places:
        if named.replace('"', "") == place.name:
            return layout, place
    listed = ", ".join(f"{layout.stream} to {place.name}" for layout, place in places)
    raise TargetError(
        f"no stream of {source} is written to {named}. By the settings of the sink it writes {listed}. Set schema or "
        "table of the sink first, or rename the table."
    )
