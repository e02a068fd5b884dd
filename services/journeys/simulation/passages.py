"""The passages that a simulation walks, each a slot: who, and what they enter by. Kept in tables of one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Integer, Table, Text, Uuid, and_, bindparam, case, column, func, select, table, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from core.errors import InvalidError
from journeys import members as member_sets
from models import Person, Tenant

PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]
PASSAGE: Final = table(
    "simulated_passage",
    column("slot", Integer),
    column("number", Integer),
    column("subject_id", Uuid),
    column("person_id", Uuid),
    column("entry", JSONB),
)
"""A passage: its slot, the number of its subject, that and its person, and the properties that it is entered by."""
AUDIENCE: Final = table(
    "simulated_subject", column("number", Integer), column("subject_id", Uuid), column("person_id", Uuid)
)
"""Who is simulated, by number: people, or deals with the person that each has, if any."""
MAX_PASSAGES: Final = 500_000
_WRITTEN_AT_ONCE: Final = 10_000

_TABLES: Final = (
    "CREATE TEMP TABLE simulated_subject (number int, subject_id uuid, person_id uuid) ON COMMIT DROP",
    """CREATE TEMP TABLE simulated_passage (slot int, number int, subject_id uuid, person_id uuid, entry jsonb)
    ON COMMIT DROP""",
)
_OF_SEGMENT: Final = """
    INSERT INTO simulated_subject
    SELECT row_number() OVER (ORDER BY person_id) - 1, person_id, person_id FROM marketing_segment_memberships
    WHERE tenant_id = :tenant AND segment_key = :segment
"""
_OF_PIPELINE: Final = text("""
    INSERT INTO simulated_subject
    SELECT row_number() OVER (ORDER BY id) - 1, id, person_id FROM crm_deal_facts
    WHERE tenant_id = :tenant AND pipeline_key = :pipeline AND stage_key = coalesce(:stage, stage_key)
""").bindparams(bindparam("stage", type_=Text))
_NAMED: Final = """
    INSERT INTO simulated_subject
    SELECT row_number() OVER (ORDER BY n) - 1, id, person_id
    FROM (SELECT s.id, {person} AS person_id, min(given.n) AS n
          FROM unnest(:subjects) WITH ORDINALITY AS given(id, n)
          JOIN {subjects} s ON s.tenant_id = :tenant AND s.id = given.id GROUP BY s.id, {person}) AS found
"""
_PEOPLE: Final = text(_NAMED.format(subjects="person", person="s.id")).bindparams(
    bindparam("subjects", type_=ARRAY(Uuid))
)
_DEALS: Final = text(_NAMED.format(subjects="crm_deal_facts", person="s.person_id")).bindparams(
    bindparam("subjects", type_=ARRAY(Uuid))
)
_EACH_ONCE: Final = text("""
    INSERT INTO simulated_passage SELECT number, number, subject_id, person_id, :entry FROM simulated_subject
""").bindparams(bindparam("entry", type_=JSONB))
_WRITE: Final = text("""
    INSERT INTO simulated_passage
    SELECT given.slot, given.number, s.subject_id, s.person_id, given.entry
    FROM unnest(:slots, :numbers, :entries) AS given(slot, number, entry)
    JOIN simulated_subject s ON s.number = given.number
""").bindparams(
    bindparam("slots", type_=ARRAY(Integer)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("entries", type_=ARRAY(JSONB)),
)


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom to simulate: the members of a segment, or people by name; of deals, those of a pipeline, or some by name."""

    segment: str | None = None
    """By key."""
    person_ids: Sequence[UUID] = ()
    pipeline: str | None = None
    """By key."""
    stage: str | None = None
    """By key: of the pipeline's deals those alone that stand there now."""
    deal_ids: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class Cast:
    """The audience, by number."""

    subject: Literal["person", "deal"]
    size: int
    person_of: Sequence[int] | None = None
    """Of deals: by number, which person it is, counted from 0; -1 where a deal has none. None of people, who are one
    each."""

    @property
    def people(self) -> int:
        """How many people there are."""
        return self.size if self.person_of is None else max(self.person_of, default=-1) + 1


@dataclass(slots=True)
class Passages:
    """What is known of the passages without asking again."""

    cast: Cast
    size: int
    """How many slots there are."""
    once: bool
    """Whether everybody has one, whose slot is their number."""
    slots_of: Sequence[Sequence[int]]
    """Each subject's slots, by number; empty where `once`."""
    number_of: Sequence[int]
    """Each slot's subject; empty where `once`."""
    entries: Sequence[Mapping[str, Any]]
    """What each slot is entered by, or one for all."""
    person_of: Sequence[int] | None = None
    """Each slot's person, -1 of a deal that has none; None where everybody has one slot, whose number they are."""
    alone: int = 0
    """The slots of deals that have no person."""
    _of_person: Sequence[list[int]] = field(default_factory=list[list[int]])
    """Of deals: the slots of each person."""

    def __post_init__(self) -> None:
        """Find out whose slots are whose."""
        whose = self.cast.person_of
        if whose is None:
            self.person_of = None if self.once else self.number_of
            return
        self.person_of = whose if self.once else [whose[number] for number in self.number_of]
        self._of_person = [[] for _ in range(self.cast.people)]
        for slot, person in enumerate(self.person_of):
            if person >= 0:
                self._of_person[person].append(slot)
        self.alone = member_sets.from_slots(slot for slot, person in enumerate(self.person_of) if person < 0)

    @property
    def everyone(self) -> int:
        """All slots."""
        return member_sets.everyone(self.size)

    def entry(self, slot: int) -> Mapping[str, Any]:
        """Return the properties a passage is entered by."""
        return self.entries[slot] if len(self.entries) > 1 else self.entries[0]

    def of_subject(self, number: int) -> Sequence[int]:
        """Return the slots of a subject."""
        return (number,) if self.once else self.slots_of[number]

    def numbers(self, members: int) -> list[int]:
        """Return the subjects that have these slots."""
        slots = member_sets.slots(members)
        return slots if self.once else sorted({self.number_of[slot] for slot in slots})

    def with_siblings(self, members: int) -> int:
        """Return all slots of the people who have these."""
        if self.cast.person_of is not None and self.person_of is not None:
            whose = {self.person_of[slot] for slot in member_sets.slots(members)} - {-1}
            return member_sets.from_slots(slot for person in whose for slot in self._of_person[person])
        if self.once:
            return members
        return member_sets.from_slots(slot for number in self.numbers(members) for slot in self.slots_of[number])


async def gather(session: TenantSession, subject: Literal["person", "deal"], audience: Audience) -> Cast:
    """Find the audience, and number it from 0.

    Raises:
        InvalidError: it is more than a simulation takes.
    """
    for statement in _TABLES:
        await session.execute(text(statement))
    tenant = {"tenant": session.tenant_id}
    if audience.segment is not None:
        await session.execute(text(_OF_SEGMENT), tenant | {"segment": audience.segment})
    elif audience.pipeline is not None:
        await session.execute(_OF_PIPELINE, tenant | {"pipeline": audience.pipeline, "stage": audience.stage})
    elif subject == "deal":
        await session.execute(_DEALS, tenant | {"subjects": list(audience.deal_ids)})
    else:
        await session.execute(_PEOPLE, tenant | {"subjects": list(audience.person_ids)})
    size = await session.scalar(select(func.count()).select_from(AUDIENCE)) or 0
    if size > MAX_PASSAGES:
        named, what = ("segment_id", "people") if subject == "person" else ("pipeline_id", "deals")
        raise InvalidError.of(named, f"holds {size:,} {what}; a simulation takes {MAX_PASSAGES:,} at most")
    await session.execute(text("ANALYZE simulated_subject"))
    if subject == "person":
        return Cast(subject, size)
    whose = await session.scalars(
        select(
            case(
                (AUDIENCE.c.person_id.is_(None), -1),
                else_=func.dense_rank().over(order_by=AUDIENCE.c.person_id.nulls_last()) - 1,
            )
        ).order_by(AUDIENCE.c.number)
    )
    return Cast(subject, size, whose.all())


async def each_once(session: TenantSession, cast: Cast, entry: Mapping[str, Any]) -> Passages:
    """Give everybody one passage, entered by the same properties."""
    await session.execute(_EACH_ONCE, {"entry": dict(entry)})
    await _ready(session)
    return Passages(cast, size=cast.size, once=True, slots_of=(), number_of=(), entries=(entry,))


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots that are kept for those who may enter, in their order."""

    entering: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list[tuple[int, Mapping[str, Any]]])
    """Of each slot: whose it is, and the properties that it is entered by."""

    def keep(self, number: int, entry: Mapping[str, Any]) -> int:
        """Return a new slot.

        Raises:
            InvalidError: they are more than a simulation takes.
        """
        if len(self.entering) == MAX_PASSAGES:
            raise InvalidError.of(
                "enter", f"may be more than {MAX_PASSAGES:,} times by then; a simulation takes so many passages at most"
            )
        self.entering.append((number, entry))
        return len(self.entering) - 1


async def written(session: TenantSession, cast: Cast, slots: Slots) -> Passages:
    """Make the passages that slots are kept for."""
    entering = slots.entering
    slots_of: list[list[int]] = [[] for _ in range(cast.size)]
    for slot, (number, _) in enumerate(entering):
        slots_of[number].append(slot)
    for start in range(0, len(entering), _WRITTEN_AT_ONCE):
        page = entering[start : start + _WRITTEN_AT_ONCE]
        await session.execute(
            _WRITE,
            {
                "slots": list(range(start, start + len(page))),
                "numbers": [number for number, _ in page],
                "entries": [dict(entry) for _, entry in page],
            },
        )
    await _ready(session)
    return Passages(
        cast,
        size=len(entering),
        once=False,
        slots_of=slots_of,
        number_of=[number for number, _ in entering],
        entries=[entry for _, entry in entering] or ({},),
    )


async def _ready(session: TenantSession) -> None:
    await session.execute(text("CREATE UNIQUE INDEX ON simulated_passage (slot)"))
    await session.execute(text("ANALYZE simulated_passage"))


def zone_of(person: Any) -> ColumnElement[str]:  # noqa: ANN401 - a table or an alias
    """Return whose clock a passage goes by: the person's, else the tenant's; `TENANT` must be joined."""
    return func.coalesce(person.c.time_zone, TENANT.c.time_zone, type_=Text)


async def zones(session: TenantSession) -> dict[str, int]:
    """Return the passages by the name of their zone."""
    person = PERSON.alias("p")
    zone = zone_of(person).label("zone")
    whose = and_(person.c.tenant_id == session.tenant_id, person.c.id == PASSAGE.c.person_id)
    rows = await session.execute(
        select(zone, func.array_agg(PASSAGE.c.slot).label("slots"))
        .select_from(PASSAGE.join(person, whose, isouter=True).join(TENANT, TENANT.c.id == session.tenant_id))
        .group_by(zone)
    )
    return {row.zone: member_sets.from_slots(row.slots) for row in rows}


async def subjects_at(session: TenantSession, slots: Sequence[int]) -> dict[int, UUID]:
    """Return who has these slots."""
    rows = await session.execute(
        select(PASSAGE.c.slot, PASSAGE.c.subject_id).where(
            PASSAGE.c.slot == func.any(bindparam("slots", list(slots), type_=ARRAY(Integer)))
        )
    )
    return {row.slot: row.subject_id for row in rows}
