"""What rows of a file call things: deals, pipelines, stages, owners, people, organizations, found by their names."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from core.errors import InvalidError
from models import Pipeline, UserAccount
from services.crm import deal_rows, stages
from services.crm.deal_columns import ORGANIZATION_BY, PERSON_BY, DealRow
from services.crm.stages import Stage, Stages
from services.identity import aliases

_DEALS: Final = text("""
    SELECT d.id, d.external_id FROM deal d WHERE d.tenant_id = :tenant AND d.id = ANY(:ids)
    UNION
    SELECT d.id, d.external_id FROM deal d WHERE d.tenant_id = :tenant AND d.external_id = ANY(:names)
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("names", type_=ARRAY(Text)))
_IDENTIFIED: Final = text("""
    SELECT i.kind, i.value, i.person_id
    FROM unnest(:kinds, :names) AS n(kind, value)
    JOIN person_identifier i ON i.tenant_id = :tenant AND i.kind = n.kind AND i.value = n.value
""").bindparams(bindparam("kinds", type_=ARRAY(Text)), bindparam("names", type_=ARRAY(Text)))
_PEOPLE: Final = text("""
    SELECT p.id FROM person p WHERE p.tenant_id = :tenant AND p.id = ANY(:ids)
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
_ORGANIZATIONS: Final = {
    "id": "SELECT 'id' AS kind, o.id::text AS name, o.id FROM organization o"
    " WHERE o.tenant_id = :tenant AND o.id = ANY(CAST(:id AS uuid[]))",
    "external_id": "SELECT 'external_id', o.external_id, o.id FROM organization o"
    " WHERE o.tenant_id = :tenant AND o.external_id = ANY(CAST(:external_id AS text[]))",
    "domain": "SELECT 'domain', o.domain, o.id FROM organization o"
    " WHERE o.tenant_id = :tenant AND o.domain = ANY(CAST(:domain AS text[]))",
    "name": "SELECT 'name', o.name_key, o.id FROM organization o"
    " WHERE o.tenant_id = :tenant AND o.name_key = ANY(CAST(:name AS text[]))",
}
_BY_NAME: Final = text(" UNION ALL ".join(_ORGANIZATIONS.values()))


@dataclass(frozen=True, slots=True)
class Meant:
    """What a row means."""

    row: DealRow
    deal: deal_rows.Values | None
    """As it is now, locked; None for one to make."""
    stage: Stage | None
    """Where it is to stand; None to leave it where it is."""
    named: Mapping[str, UUID]
    """`owner_id`, `person_id` and `organization_id`, those that are named."""


@dataclass(slots=True)
class Names:
    """What there is of what the rows of a page name."""

    stages: Stages
    pipelines: Mapping[str, UUID]
    """By key, and by name in lower case where only one is called so."""
    deals: dict[UUID, deal_rows.Values] = field(default_factory=dict[UUID, deal_rows.Values])
    external_ids: dict[str, UUID] = field(default_factory=dict[str, UUID])
    owners: Mapping[str, UUID] = field(default_factory=dict[str, UUID])
    people: Mapping[tuple[str, str], UUID] = field(default_factory=dict[tuple[str, str], UUID])
    organizations: Mapping[tuple[str, str], set[UUID]] = field(default_factory=dict[tuple[str, str], set[UUID]])

    def deal_of(self, row: DealRow) -> deal_rows.Values | None:
        """Return the deal that a row means; an id of no deal here says nothing, as in a file from elsewhere."""
        if row.id is not None and row.id in self.deals:
            return self.deals[row.id]
        return self.deals.get(self.external_ids.get(row.fields.get("external_id", ""), UUID(int=0)))

    def meant(self, row: DealRow, default: str | None) -> Meant:
        """Return what a row means; `default` is the pipeline of new deals that name none.

        Raises:
            InvalidError: it names what there is not.
        """
        deal = self.deal_of(row)
        named: dict[str, UUID] = {}
        if "owner" in row.names:
            if row.names["owner"] not in self.owners:
                raise InvalidError.of("owner", "there is no user with this address")
            named["owner_id"] = self.owners[row.names["owner"]]
        person_id = self._person(row)
        if person_id is not None:
            named["person_id"] = person_id
        organization_id = self._organization(row)
        if organization_id is not None:
            named["organization_id"] = organization_id
        return Meant(row, deal, self._stage(row, deal, default), named)

    def _stage(self, row: DealRow, deal: deal_rows.Values | None, default: str | None) -> Stage | None:
        pipeline_id = self._pipeline(row, deal, default)
        called = row.names.get("stage")
        if called is None:
            if deal is not None and deal["pipeline_id"] == pipeline_id:
                return None
            return self.stages.chosen(pipeline_id, None)
        of_pipeline = [stage for stage in self.stages.by_id.values() if stage.pipeline_id == pipeline_id]
        found = [stage for stage in of_pipeline if stage.key == called] or [
            stage for stage in of_pipeline if stage.name.lower() == called.lower()
        ]
        if len(found) != 1:
            raise InvalidError.of("stage", "several stages are called so" if found else "there is no such stage")
        return found[0]

    def _pipeline(self, row: DealRow, deal: deal_rows.Values | None, default: str | None) -> UUID:
        called = row.names.get("pipeline")
        if called is None:
            if deal is not None:
                return deal["pipeline_id"]
            called = default
        if called is None:
            ids = set(self.pipelines.values())
            if len(ids) != 1:
                raise InvalidError.of("pipeline", "is needed: there are several" if ids else "is needed: there is none")
            return ids.pop()
        found = self.pipelines.get(called) or self.pipelines.get(called.lower())
        if found is None:
            raise InvalidError.of("pipeline", "there is no such pipeline")
        return found

    def _person(self, row: DealRow) -> UUID | None:
        given = [(kind, row.names[f"person.{kind}"]) for kind in PERSON_BY if f"person.{kind}" in row.names]
        for pair in given:
            if pair in self.people:
                return self.people[pair]
        if given:
            raise InvalidError.of(f"person.{given[0][0]}", "there is no such person")
        return None

    def _organization(self, row: DealRow) -> UUID | None:
        given = [(kind, _called(row, kind)) for kind in ORGANIZATION_BY if f"organization.{kind}" in row.names]
        for pair in given:
            found = self.organizations.get(pair, set())
            if len(found) > 1:
                raise InvalidError.of("organization.name", "several organizations are called so")
            if found:
                return next(iter(found))
        if given:
            raise InvalidError.of(f"organization.{given[0][0]}", "there is no such organization")
        return None


def _called(row: DealRow, kind: str) -> str:
    text = row.names[f"organization.{kind}"]
    return text.lower() if kind == "name" else text


async def find(session: TenantSession, rows: Sequence[DealRow]) -> Names:
    """Return what there is of what rows name, in as many statements as one takes.

    Pipelines are held against changes, then the deals that are there are locked; people come later, by who writes.
    """
    pipelines = (
        await session.execute(
            select(Pipeline.id, Pipeline.key, Pipeline.name).where(
                Pipeline.tenant_id == session.tenant_id, Pipeline.deleted_at.is_(None)
            )
        )
    ).all()
    called: dict[str, set[UUID]] = defaultdict(set)
    for pipeline in pipelines:
        called[pipeline.name.lower()].add(pipeline.id)
    by_name = {name: next(iter(ids)) for name, ids in called.items() if len(ids) == 1}
    names = Names(
        await stages.hold(session, {pipeline.id for pipeline in pipelines}),
        by_name | {pipeline.key: pipeline.id for pipeline in pipelines},
    )
    await _find_deals(session, rows, names)
    names.owners = await _owners(session, _named(rows, "owner"))
    names.people = await _people(session, rows)
    names.organizations = await _organizations(session, rows)
    return names


def _named(rows: Iterable[DealRow], target: str) -> set[str]:
    return {row.names[target] for row in rows if target in row.names}


async def _find_deals(session: TenantSession, rows: Sequence[DealRow], names: Names) -> None:
    ids = deal_rows.given(row.id for row in rows)
    external = {row.fields["external_id"] for row in rows if "external_id" in row.fields}
    if not ids and not external:
        return
    values = {"tenant": session.tenant_id, "ids": sorted(ids), "names": sorted(external)}
    found = (await session.execute(_DEALS, values)).all()
    names.deals = await deal_rows.locked(session, [deal.id for deal in found])
    # as they are now that they are locked
    names.external_ids = {
        deal["external_id"]: deal_id for deal_id, deal in names.deals.items() if deal["external_id"] is not None
    }


async def _owners(session: TenantSession, addresses: Collection[str]) -> dict[str, UUID]:
    if not addresses:
        return {}
    rows = await session.execute(
        select(UserAccount.email, UserAccount.id).where(
            UserAccount.tenant_id == session.tenant_id, UserAccount.email.in_(sorted(addresses))
        )
    )
    return {row.email: row.id for row in rows}


async def _people(session: TenantSession, rows: Sequence[DealRow]) -> dict[tuple[str, str], UUID]:
    found: dict[tuple[str, str], UUID] = {}
    pairs = sorted((kind, name) for kind in PERSON_BY[1:] for name in _named(rows, f"person.{kind}"))
    if pairs:
        values = {
            "tenant": session.tenant_id,
            "kinds": [kind for kind, _ in pairs],
            "names": [name for _, name in pairs],
        }
        found |= {(row.kind, row.value): row.person_id for row in await session.execute(_IDENTIFIED, values)}
    ids = sorted(UUID(name) for name in _named(rows, "person.id"))
    if ids:
        there = await session.scalars(_PEOPLE, {"tenant": session.tenant_id, "ids": ids})
        found |= {("id", str(person_id)): person_id for person_id in there}
        found |= {("id", str(gone)): living for gone, living in (await aliases.among(session, ids)).items()}
    return found


async def _organizations(session: TenantSession, rows: Sequence[DealRow]) -> dict[tuple[str, str], set[UUID]]:
    wanted: dict[str, list[str]] = {
        kind: sorted({_called(row, kind) for row in rows if f"organization.{kind}" in row.names})
        for kind in ORGANIZATION_BY
    }
    found: dict[tuple[str, str], set[UUID]] = defaultdict(set)
    if any(wanted.values()):
        for row in await session.execute(_BY_NAME, {"tenant": session.tenant_id, **wanted}):
            found[row.kind, row.name].add(row.id)
    return dict(found)
