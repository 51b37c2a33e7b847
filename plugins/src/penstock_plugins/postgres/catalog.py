"""
What the server's catalog states of tables, existing or not, and of the rights of this user and of other roles.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from penstock import EXTRA, TargetError

from penstock_plugins.postgres.database import Database
from penstock_plugins.postgres.sql_text import quoted, short, table_sql
from penstock_plugins.postgres.table_locations import SOURCE_COLUMN, LedgerTable, TableLocation, mark_for
from penstock_plugins.sink_support.sql_tables import identifier

# The type of a column. Texts that are equal though they differ (by letter case, say) are of another type, and so are
# values that the server generates.
TYPE = (
    "format_type(atttypid, atttypmod) || coalesce((select ' collate ' || quote_ident(collname) from pg_collation l "
    "where l.oid = attcollation and not collisdeterministic), '') "
    "|| case when attgenerated <> '' or attidentity = 'a' then ' generated always' else '' end"
)

# The triggers and rules of users that apply to writes to a table, or to a partition of it at any depth, and a default
# of the one column that COPY leaves out where no row has a value. Whether an enabled trigger fires depends on the
# session's replication role, too.
ALTERING = (
    "array(with recursive parts (part) as (select t.oid union select inhrelid from pg_inherits "
    "join parts on inhparent = part) "
    f"select d.oid from pg_attrdef d join pg_attribute on attrelid = adrelid and attnum = adnum "
    f"where adrelid = t.oid and attname = '{EXTRA}' union all "
    "select g.oid from pg_trigger g join parts on tgrelid = part where not tgisinternal and tgenabled <> 'D' union all "
    "select r.oid from pg_rewrite r where ev_class = t.oid and ev_type <> '1' and ev_enabled <> 'D' order by 1)"
)

# The facts of a CatalogTable, each under its name. The catalog shows rights to every user. The query locks nothing.
_LOOK = f"""
    select
        location.schema as schema,
        location.name as table,
        s.oid is not null as schema_exists,
        case when s.oid is null then has_database_privilege(current_database(), 'create')
            else has_schema_privilege(s.oid, 'create') end as may_create,
        s.oid is null or has_schema_privilege(s.oid, 'usage') as may_use,
        has_database_privilege(current_database(), 'temporary') as may_make_temporary,
        current_user::text as user,
        current_database()::text as database,
        t.oid::bigint as oid,
        coalesce(pg_get_userbyid(t.relowner)::text, '') as owner,
        coalesce(pg_has_role(t.relowner, 'usage'), false) as owned,
        coalesce(obj_description(t.oid, 'pg_class'), '') as comment,
        array(select r from unnest(array['select', 'insert', 'update', 'delete']) r
            where not has_table_privilege(t.oid, r)) as lacking,
        coalesce((select jsonb_object_agg(attname, {TYPE}) from pg_attribute
            where attrelid = t.oid and attnum > 0 and not attisdropped), '{{}}') as types,
        array(select attname::text from pg_attribute
            where attrelid = t.oid and attnum > 0 and not attisdropped
            and attnotnull and not atthasdef and attidentity = '' order by attnum) as required,
        coalesce((select jsonb_agg(k.names) from (
            select jsonb_agg(a.attname) as names from pg_index i
            join pg_attribute a on a.attrelid = i.indrelid
                and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
            where i.indrelid = t.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
            group by i.indexrelid) k), '[]') as keys,
        coalesce(row_security_active(t.oid), false) as guarded,
        coalesce(t.relkind in ('r', 'p'), false) as is_table,
        coalesce(t.relkind = 'r', false) as is_plain,
        coalesce(t.relkind = 'r' and exists (select from pg_inherits where inhparent = t.oid), false) as inherited,
        array(select split_part(o, '=', 1) from unnest(t.reloptions) o) as options,
        array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid
            and a.attnum = i.indkey[0] where i.indrelid = t.oid and i.indisvalid and i.indpred is null) as indexed,
        coalesce(array_length({ALTERING}, 1), 0) > 0 as altering
    from unnest(%s::text[], %s::text[]) with ordinality as location (schema, name, number)
    left join pg_namespace s on s.nspname = location.schema
    left join pg_class t on t.relnamespace = s.oid and t.relname = location.name
    order by number"""


@frozen(kw_only=True)
class CatalogTable:
    """
    A table, existing or not, as this user sees it. The facts of the table are empty if there is none (``oid`` None).
    """

    schema: str
    table: str
    schema_exists: bool
    may_create: bool  # a table in the schema; where there is none, the schema itself
    may_use: bool  # the schema
    may_make_temporary: bool  # tables
    user: str
    database: str
    oid: int | None
    owner: str
    owned: bool  # by this user, or a role that it is a member of
    comment: str
    lacking: frozenset[str] = field(converter=frozenset)  # of select, insert, update, delete
    types: Mapping[str, str] = field(repr=False)  # by column, as format_type names them
    required: Sequence[str]  # columns that need a value in each row
    keys: Sequence[Sequence[str]]  # the columns of each unique index; it may include others
    guarded: bool  # row-level security holds for this user
    is_table: bool  # also a partitioned one; no view or the like
    is_plain: bool  # a table that is not partitioned
    inherited: bool  # other tables inherit from it, whose rows its indexes do not have
    options: frozenset[str] = field(converter=frozenset)  # names of its storage settings
    indexed: frozenset[str] = field(converter=frozenset)  # the first columns of its indexes
    altering: bool  # it has triggers or rules, which may alter what is written

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.table)}".replace("%", "%%")

    @property
    def shared(self) -> bool:
        """Whether several sources share it."""
        return SOURCE_COLUMN in self.types

    @property
    def readable(self) -> bool:
        """Whether this user reads all of its rows."""
        return self.may_use and "select" not in self.lacking and not self.guarded

    def is_recognised(self, recorded: LedgerTable) -> bool:
        """Whether it is the recorded table, at whose location it is: by the mark or the oid."""
        return self.oid == recorded.oid or self.is_marked(recorded)

    def is_marked(self, recorded: LedgerTable) -> bool:
        return self.has_mark(mark_for(recorded.source, recorded.stream, shared=self.shared))

    def has_mark(self, mark: str) -> bool:
        return mark in (line.strip() for line in self.comment.splitlines())

    def check_readable(self, label: str) -> None:
        """Raises TargetError if this user may not read all rows of the table, with the statements that help."""
        if self.readable:
            return
        user = identifier(self.user)
        if self.may_use and "select" not in self.lacking:
            raise TargetError(f"{label}: {guarded_text(self.sql, user)}")
        raise TargetError(
            f"{label}: {user} may not read the table {self.sql}. Its owner must run: grant usage on schema "
            f"{identifier(self.schema)} to {user}; grant select on {self.sql} to {user}; or name another user."
        )


def look_up(database: Database, locations: Sequence[TableLocation | LedgerTable | CatalogTable]) -> list[CatalogTable]:
    """The facts of each of these locations, in their order: one query."""
    schemas = [short(location.schema) for location in locations]
    tables = [short(location.table) for location in locations]
    cursor = database.run(_LOOK, (schemas, tables))
    facts = [column.name for column in cursor.description or ()]
    return [CatalogTable(**dict(zip(facts, row, strict=True))) for row in cursor.fetchall()]


def locate(database: Database, recorded: Sequence[LedgerTable]) -> list[CatalogTable | None]:
    """
    Each table at its recorded location, or at another one if it has the mark; None: it was dropped.
    """
    return [
        table if table.is_table else _moved(database, known)
        for known, table in zip(recorded, look_up(database, recorded), strict=True)
    ]


def _moved(database: Database, recorded: LedgerTable) -> CatalogTable | None:
    """A recorded table at another location."""
    name = database.run(
        "select nspname::text, relname::text from pg_class c join pg_namespace n on n.oid = relnamespace "
        "where c.oid = %s::bigint::oid and relkind in ('r', 'p')",
        (recorded.oid,),
    ).fetchone()
    if name is None:
        return None
    (table,) = look_up(database, [recorded._replace(schema=name[0], table=name[1])])
    return table if table.is_marked(recorded) else None


def size_of(database: Database, table: CatalogTable) -> int:
    """The bytes of a table, without its indexes. Waits for the lock of a session that changes the table."""
    return int(database.value("select coalesce(pg_relation_size(%s::bigint::oid), 0)", (table.oid,)))


def definition_of(database: Database, name: str, oid: int, columns: Sequence[str]) -> str:
    """
    The types of these columns of a table, and its triggers and rules, as a text to compare; empty where ``name``, as
    it is in statements, is not that table: somebody put another one, or a view, in its place.
    """
    definition: str | None = database.value(
        f"select coalesce((select string_agg(concat_ws(' ', attname, {TYPE}), ', ' order by attnum) "
        f"from pg_attribute where attrelid = t.oid and not attisdropped and attname::text = any(%s)), '') "
        f"|| {ALTERING}::text from pg_class t where t.oid = %s::bigint::oid and t.oid = to_regclass(%s)",
        ([short(name) for name in columns], oid, name),
    )
    return definition or ""


# --- rights -----------------------------------------------------------------------------------------------------------


def guarded_text(table: str, user: str) -> str:
    """The message about a table with row-level security. Both names are quoted."""
    return (
        f"row-level security of the table {table} holds for {user}: rows that are there may be hidden from it. Its "
        f"owner must run: alter table {table} disable row level security; or a superuser must run: alter role {user} "
        "bypassrls."
    )


def grant(database: Database, role: str, schema: str, tables: Sequence[str]) -> None:
    """
    Let a role read these tables. No statement is run for rights that it has.

    Raises TargetError if the role does not exist.
    """
    if not database.value("select exists (select from pg_roles where rolname = %s)", (role,)):
        raise TargetError(f"grant_to: {database.label} has no role {role}. Create it, or correct the name.")
    if not database.value("select has_schema_privilege(%s, %s, 'usage')", (role, short(schema))):
        database.run(f"grant usage on schema {quoted(schema)} to {quoted(role)}")
    for table in tables:
        name = table_sql(schema, table)
        if not database.value("select has_table_privilege(%s, %s, 'select')", (role, name)):
            database.run(f"grant select on {name} to {quoted(role)}")
