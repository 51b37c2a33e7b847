"""
The server's catalog for the locations of tables, existing or not: one query for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.ledger import LedgerTable
from penstock_plugins.postgres.sql_text import short
from penstock_plugins.postgres.table_locations import TableLocation

# The type of a column. Texts that are equal though they differ (by letter case, say) are of another type, and so are
# values that the server generates.
TYPE = (
    "format_type(atttypid, atttypmod) || coalesce((select ' collate ' || quote_ident(collname) from pg_collation l "
    "where l.oid = attcollation and not collisdeterministic), '') "
    "|| case when attgenerated <> '' or attidentity = 'a' then ' generated always' else '' end"
)

# The columns by which an index is unique; it may include others.
UNIQUE_BY = "a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])"

# The triggers and rules of users that apply to writes to a table, or to a partition of it at any depth. Whether an
# enabled one fires depends on the session's replication role, too.
ALTERING = (
    "array(with recursive parts (part) as (select t.oid union select inhrelid from pg_inherits "
    "join parts on inhparent = part) "
    "select g.oid from pg_trigger g join parts on tgrelid = part where not tgisinternal and tgenabled <> 'D' union all "
    "select r.oid from pg_rewrite r where ev_class = t.oid and ev_type <> '1' and ev_enabled <> 'D' order by 1)"
)

# The catalog shows rights to every user. The query locks nothing.
_LOOK = f"""
    select s.oid is not null,
        case when s.oid is null then has_database_privilege(current_database(), 'create')
            else has_schema_privilege(s.oid, 'create') end,
        s.oid is null or has_schema_privilege(s.oid, 'usage'),
        has_database_privilege(current_database(), 'temporary'),
        current_user::text, current_database()::text,
        t.oid::bigint,
        coalesce(pg_get_userbyid(t.relowner)::text, ''),
        coalesce(pg_has_role(t.relowner, 'usage'), false),
        coalesce(obj_description(t.oid, 'pg_class'), ''),
        array(select r from unnest(array['select', 'insert', 'update', 'delete']) r
            where not has_table_privilege(t.oid, r)),
        (select jsonb_object_agg(attname, {TYPE}) from pg_attribute
            where attrelid = t.oid and attnum > 0 and not attisdropped),
        array(select attname::text from pg_attribute
            where attrelid = t.oid and attnum > 0 and not attisdropped
            and attnotnull and not atthasdef and attidentity = '' order by attnum),
        (select jsonb_agg(k.names) from (
            select jsonb_agg(a.attname) as names from pg_index i
            join pg_attribute a on a.attrelid = i.indrelid and {UNIQUE_BY}
            where i.indrelid = t.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
            group by i.indexrelid) k),
        coalesce(row_security_active(t.oid), false),
        coalesce(t.relkind in ('r', 'p'), false),
        coalesce(t.relkind = 'r', false),
        array(select split_part(o, '=', 1) from unnest(t.reloptions) o),
        array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid
            and a.attnum = i.indkey[0] where i.indrelid = t.oid and i.indisvalid and i.indpred is null),
        coalesce(array_length({ALTERING}, 1), 0) > 0
    from unnest(%s::text[], %s::text[]) with ordinality as location (schema, name, number)
    left join pg_namespace s on s.nspname = location.schema
    left join pg_class t on t.relnamespace = s.oid and t.relname = location.name
    order by number"""


@frozen(kw_only=True)
class CatalogTable:
    """
    One location as this user sees it. The facts of the table are empty if there is none (``oid`` None).
    """

    schema: bool  # is there
    may_create: bool  # a table in the schema; where there is none, the schema itself
    may_use: bool  # the schema
    may_make_temporary: bool  # tables
    user: str
    database: str
    oid: int | None
    owner: str
    owned: bool  # by this user, or a role that it is a member of
    comment: str
    lacking: frozenset[str]  # of select, insert, update, delete
    types: Mapping[str, str] = field(repr=False)  # by column, as format_type names them
    required: tuple[str, ...]  # columns that need a value in each row
    keys: tuple[frozenset[str], ...]  # the columns of each unique index
    guarded: bool  # row-level security holds for this user
    table: bool  # it is a table, be it divided into partitions, and no view or the like
    plain: bool  # a table that is not divided into partitions
    options: frozenset[str]  # names of its storage settings
    indexed: frozenset[str]  # the first columns of its indexes
    altering: bool  # it has triggers or rules, which may alter what is written


def look_up(database: Database, locations: Sequence[TableLocation | LedgerTable]) -> list[CatalogTable]:
    """The facts of each of these locations, in their order."""
    schemas, names = (
        [short(location.schema) for location in locations],
        [short(location.table) for location in locations],
    )
    return [_seen(*row) for row in database.run(_LOOK, (schemas, names)).fetchall()]


def _seen(*row: Any) -> CatalogTable:
    there, create, use, temporary, user, name, oid, owner, owned, comment, lacking, types, required, keys, *more = row
    guarded, table, plain, options, indexed, altering = more
    return CatalogTable(
        schema=there,
        may_create=create,
        may_use=use,
        may_make_temporary=temporary,
        user=user,
        database=name,
        oid=oid,
        owner=owner,
        owned=owned,
        comment=comment,
        lacking=frozenset(lacking),
        types=types or {},
        required=tuple(required),
        keys=tuple(map(frozenset, keys or ())),
        guarded=guarded,
        table=table,
        plain=plain,
        options=frozenset(options),
        indexed=frozenset(indexed),
        altering=altering,
    )


def size_of(database: Database, table: CatalogTable) -> int:
    """The bytes of a table, without its indexes. Waits for the lock of a session that changes the table."""
    return int(database.one("select coalesce(pg_relation_size(%s::bigint::oid), 0)", (table.oid,)))


def is_altering(database: Database, oid: int) -> bool:
    """Whether a table has triggers or rules, which may alter what is written."""
    return bool(database.one(f"select {ALTERING} <> '{{}}' from pg_class t where t.oid = %s::bigint::oid", (oid,)))


def definition_of(database: Database, oid: int, columns: Sequence[str]) -> str:
    """The types of these columns of a table, and its triggers and rules, as a text to compare."""
    definition: str | None = database.one(
        f"select coalesce((select string_agg(concat_ws(' ', attname, {TYPE}), ', ' order by attnum) "
        f"from pg_attribute where attrelid = t.oid and not attisdropped and attname::text = any(%s)), '') "
        f"|| {ALTERING}::text from pg_class t where t.oid = %s::bigint::oid",
        ([short(name) for name in columns], oid),
    )
    return definition or ""
