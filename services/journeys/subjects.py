"""Whom or what a passage is about, as statements reach it from enrollments: the person, or the deal and its person.

A deal's person is the one it has now, whoever it was when the deal entered; a deal may have none.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import FromClause, Table, and_
from sqlalchemy.sql.elements import ColumnElement

from journeys.definition import JourneyDefinition
from models import Person
from services.journeys.members import ENROLLMENT
from services.shared.conditions_sql import Scope
from services.shared.related import DEALS

PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Enrollments joined with what their nodes may ask about."""

    source: FromClause
    person: FromClause
    """Its columns are NULL where a deal has no person."""
    deal: FromClause | None
    """None where the subject is a person."""
    scope: Scope

    @property
    def person_id(self) -> ColumnElement[Any]:
        """The person's id; NULL where a deal has none."""
        return self.person.c.id


def surroundings(definition: JourneyDefinition, tenant_id: UUID) -> Surroundings:
    """Return the enrollments of a journey with their subjects; one whose deal is gone is not among them."""
    person = PERSON.alias("p")
    if definition.subject == "person":
        met = and_(person.c.tenant_id == tenant_id, person.c.id == ENROLLMENT.c.person_id)
        scope = Scope(tenant_id=tenant_id, person=person, entry=ENROLLMENT.c.entry, subject_id=ENROLLMENT.c.subject_id)
        return Surroundings(ENROLLMENT.join(person, met), person, None, scope)
    deal = DEALS.alias("d")
    source = ENROLLMENT.join(deal, and_(deal.c.tenant_id == tenant_id, deal.c.id == ENROLLMENT.c.subject_id)).join(
        person, and_(person.c.tenant_id == tenant_id, person.c.id == deal.c.person_id), isouter=True
    )
    scope = Scope(
        tenant_id=tenant_id,
        person=person,
        person_may_lack=True,
        subject_id=person.c.id,
        entry=ENROLLMENT.c.entry,
        rows={"deal": deal},
    )
    return Surroundings(source, person, deal, scope)
