"""SQL criteria that have been understood: what they read, and the statement that finds their people."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlglot import exp
from sqlglot.expressions.core import Expression

from services.marketing.criteria.catalog import PEOPLE, PERSON_ID, PERSONS, VIEWS, Kind
from services.marketing.criteria.literals import Parameters
from services.marketing.criteria.queries import RULES, of_view, query, view_source
from services.marketing.criteria.scope import Names, Query, Scope
from services.marketing.criteria.site import Site
from services.marketing.criteria.source import Source, read

_PERSONS: Final = f"SELECT {PERSON_ID} FROM {PERSONS} WHERE tenant_id = $1"  # noqa: S608 - names of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Criteria that may be run."""

    views: frozenset[str]
    """The views that are read, by the names that users give them."""
    segments: frozenset[str]
    """The keys of the segments whose members decide."""
    sql: str
    """Selects `person_id`, each of the tenant's people once; `$1` is the tenant, the literals follow."""
    literals: tuple[object, ...]

    def statement(self, tenant_id: UUID) -> tuple[str, list[object]]:
        """Return the statement and what to bind to it, for asyncpg as `tl_reader`."""
        return self.sql, [tenant_id, *self.literals]


def parse(sql: str) -> Criteria:
    """Return what a condition over people, or a SELECT of `person_id`, asks for. No I/O.

    Raises:
        InvalidError: of the field `sql`: what is not allowed or not understood, and where, if that is known.
    """
    source, tree = read(sql)
    names, parameters = Names(), Parameters(None)
    at = Site(source, names, parameters, Scope(), RULES, query)
    try:
        statement = _of_select(tree, at) if isinstance(tree, exp.Query) else None
        if statement is None:
            statement = _of_condition(tree, at)
    except RecursionError:
        source.refuse("is nested too deep")
    views = {alias: (relation.view or "", relation.used) for alias, relation in names.views.items()}
    return Criteria(
        views=frozenset(view for view, _ in views.values()),
        segments=frozenset(names.segments),
        sql=statement.format_map({alias: view_source(view, used) for alias, (view, used) in views.items()}),
        literals=tuple(parameters.values[1:]),
    )


def _of_condition(tree: Expression, at: Site) -> str:
    people = of_view(PEOPLE, PEOPLE, VIEWS[PEOPLE], at)
    people.used.add(PERSON_ID)
    condition = at.within(Scope(Scope(), [people])).condition(tree)
    return f"SELECT {people.alias}.{PERSON_ID} FROM {{{people.alias}}} AS {people.alias} WHERE {condition}"  # noqa: S608 - written by the rules, no word of the user's


def _of_select(tree: Expression, at: Site) -> str:
    found = query(tree, Scope(), at)
    _require_person(found, at.source)
    return f"SELECT DISTINCT c.c1 AS {PERSON_ID} FROM ({found.sql}) AS c WHERE c.c1 IN ({_PERSONS})"  # noqa: S608 - as above


def _require_person(found: Query, source: Source) -> None:
    if found.names != (PERSON_ID,):
        shown = ", ".join(name or "a column without a name" for name in found.names)
        source.refuse(f"must select one column, {PERSON_ID} (AS gives a column its name); it selects {shown}")
    if found.kinds != (Kind.UUID,):
        source.refuse(f"{PERSON_ID} must be an id; it is {found.kinds[0]}")
