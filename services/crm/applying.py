"""What changes make of deals, before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, PlatformError
from services.crm import deal_rows, rates, requirements, stages
from services.crm.deal_fields import DealChange, Line, Recurring, merged, total_of
from services.crm.rates import Amount
from services.crm.requirements import Beside
from services.crm.stages import Stage
from services.objects.telling import same

_PLAIN: Final = (
    "title",
    "organization_id",
    "owner_id",
    "probability",
    "close_date",
    "lost_reason",
    "competitors",
    "source",
    "external_id",
)
_PRICES: Final = ("lines", "currency", "amount_minor", "recurring")
"""Of a change, what it may say of what a deal costs."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of deals to change."""

    changed: list[UUID] = field(default_factory=list[UUID])
    unchanged: list[UUID] = field(default_factory=list[UUID])
    """Those that were so already."""
    refused: dict[UUID, PlatformError] = field(default_factory=dict[UUID, PlatformError])


class Written(NamedTuple):
    """A deal to write back."""

    before: deal_rows.Values
    after: deal_rows.Values
    lines: Sequence[Line] | None
    """None: they stay."""

    @property
    def external_id(self) -> str | None:
        """The one it gets; None where it keeps what it has, or has none from now on."""
        was, now = self.before["external_id"], self.after["external_id"]
        return None if was == now else now

    @property
    def people(self) -> set[UUID]:
        """Whose facts change: who was the primary person and who is, where that is another."""
        was, now = self.before["person_id"], self.after["person_id"]
        return set() if was == now else {person_id for person_id in (was, now) if person_id is not None}


@dataclass(frozen=True, slots=True)
class Judged:
    """What to write, and what becomes of each."""

    written: list[Written]
    """Those that are judged good; their fields are what `write_fields` writes."""
    result: Changed


@dataclass(frozen=True, slots=True)
class _Known:
    """What there is of what the changes name."""

    people: Mapping[UUID, UUID]
    organizations: set[UUID]
    owners: set[UUID]
    taken: Mapping[str, UUID]
    totals: Mapping[UUID, tuple[int, int]]
    lines: Mapping[UUID, Sequence[Line]]
    stages: Mapping[UUID, Stage]
    contacts: Mapping[UUID, Sequence[UUID]]


async def write_fields(session: TenantSession, judged: Judged) -> list[Written]:
    """Write the deals back; refuse those whose external id another took since they were judged. Return the others."""
    written = judged.written
    claimed = {one.external_id: one.after["id"] for one in written if one.external_id is not None}
    while written and claimed:
        try:
            async with session.begin_nested():
                await deal_rows.write_all(session, [(one.before, one.after) for one in written])
        except IntegrityError:
            owners = await deal_rows.external_ids(session, claimed)
            lost = {claimed[name]: owner for name, owner in owners.items() if owner != claimed[name]}
            if not lost:
                raise
            judged.result.refused.update({deal_id: taken(owner) for deal_id, owner in lost.items()})
            written = [one for one in written if one.after["id"] not in lost]
            judged.result.changed[:] = [one.after["id"] for one in written]
        else:
            return written
    if written:
        await deal_rows.write_all(session, [(one.before, one.after) for one in written])
    return written


def stale(version: int) -> ConflictError:
    """Return the refusal of a change to a deal that others have changed meanwhile."""
    return ConflictError(
        f"The deal was changed meanwhile: it is in version {version}.",
        errors=[FieldProblem("version", f"is {version} by now")],
        extra={"version": version},
    )


async def judge(
    session: TenantSession,
    changes: Mapping[UUID, DealChange],
    base: str,
    versions: Mapping[UUID, int],
    *,
    held: Mapping[UUID, deal_rows.Values] = MappingProxyType({}),
) -> Judged:
    """Lock the deals, but for those that are `held` already and are as it says; say what the changes make of each."""
    result = Changed()
    wanted: dict[UUID, Mapping[str, Any]] = {}
    normal: dict[int, Mapping[str, Any]] = {}
    for deal_id, change in changes.items():
        try:
            fields = normal.get(id(change))  # one change may be that of thousands
            wanted[deal_id] = normal[id(change)] = change.normalized().fields if fields is None else fields
        except InvalidError as error:
            result.refused[deal_id] = error
    rows = await deal_rows.locked(session, wanted.keys() - held.keys()) | dict(held)
    known = await _known(session, wanted, rows)
    written: list[Written] = []
    claimed: dict[str, UUID] = {}
    for deal_id, fields in wanted.items():
        try:
            one = _apply(rows.get(deal_id), fields, known, versions.get(deal_id))
            if one is not None and one.external_id is not None:
                owner = claimed.setdefault(one.external_id, deal_id)
                if owner != deal_id:
                    raise taken(owner)
        except PlatformError as error:
            result.refused[deal_id] = error
            continue
        if one is None:
            result.unchanged.append(deal_id)
        else:
            written.append(one)
    return Judged(await _valued(session, written, base, result), result)


async def _known(
    session: TenantSession, wanted: Mapping[UUID, Mapping[str, Any]], rows: Mapping[UUID, deal_rows.Values]
) -> _Known:
    different = list({id(fields): fields for fields in wanted.values()}.values())
    touched = {name for fields in different for name in fields}

    def named(name: str) -> set[Any]:
        return {fields[name] for fields in different if fields.get(name) is not None}

    def of(*names: str) -> list[UUID]:
        """Return the deals there are of which any of these is to change."""
        if touched.isdisjoint(names):
            return []
        return [
            deal_id for deal_id, fields in wanted.items() if deal_id in rows and not fields.keys().isdisjoint(names)
        ]

    organizations = await deal_rows.organizations(session, named("organization_id"))
    owners = await deal_rows.owners(session, named("owner_id"))
    taken = await deal_rows.external_ids(session, named("external_id"))
    # those who were the primary one too, in one go: people are locked by id
    were = {rows[deal_id]["person_id"] for deal_id in of("person_id")}
    people = await deal_rows.people(session, named("person_id") | (were - {None}))
    priced = of(*_PRICES)
    totals = await deal_rows.totals(session, priced) if priced else {}
    listed = of("lines")
    standing = await stages.known(session, {row["stage_id"] for row in rows.values()})
    with_contacts = [
        deal_id for deal_id in of("person_id") if "contacts" in standing[rows[deal_id]["stage_id"]].required_fields
    ]
    return _Known(
        people,
        organizations,
        owners,
        taken,
        totals,
        lines=await deal_rows.lines_of(session, listed) if listed else {},
        stages=standing,
        contacts=await deal_rows.contacts_of(session, with_contacts) if with_contacts else {},
    )


def _apply(
    row: deal_rows.Values | None, fields: Mapping[str, Any], known: _Known, version: int | None
) -> Written | None:
    """Return the deal as it will be; None where nothing changes."""
    if row is None:
        raise NotFoundError("No such deal.")
    if version is not None and version != row["version"]:
        raise stale(row["version"])
    _check_names(row, fields, known)
    after = dict(row) | {name: fields[name] for name in _PLAIN if name in fields}
    if after["lost_reason"] is not None and row["status"] != "lost":
        raise InvalidError.of("lost_reason", "is for lost deals alone")
    if "person_id" in fields:
        after["person_id"] = None if fields["person_id"] is None else known.people[fields["person_id"]]
    if fields["attributes"]:
        after["attributes"] = merged(row["attributes"], fields["attributes"])
    if not fields.keys().isdisjoint(_PRICES):
        _price(row, after, fields, known.totals.get(row["id"]))
    lines: Sequence[Line] | None = fields.get("lines")
    if lines is not None and list(lines) == list(known.lines.get(row["id"], ())):
        lines = None
    if lines is None and alike(row, after):
        return None
    if known.stages[row["stage_id"]].required_fields:
        _check_emptied(row, after, lines, known)
    return Written(row, after, lines)


def alike(before: deal_rows.Values, after: deal_rows.Values) -> bool:
    """Whether a deal is what it was."""
    # most of it is the very same object, and all in the same order
    return all(map(is_, before.values(), after.values())) or all(
        value is after[name] or same(value, after[name]) for name, value in before.items()
    )


def _check_emptied(row: deal_rows.Values, after: deal_rows.Values, lines: Sequence[Line] | None, known: _Known) -> None:
    """Refuse to take from a deal what the stage requires that it stands in.

    Raises:
        InvalidError: naming the fields.
    """
    # what was not looked up does not change
    contacts = set(known.contacts.get(row["id"], ()))
    before = Beside(products=row["id"] in known.lines, contacts=bool(contacts))
    now = Beside(
        products=before.products if lines is None else bool(lines), contacts=bool(contacts - {after["person_id"]})
    )
    problem = requirements.emptied(known.stages[row["stage_id"]], (row, before), (after, now))
    if problem is not None:
        raise problem


def _check_names(row: deal_rows.Values, fields: Mapping[str, Any], known: _Known) -> None:
    problems = [
        FieldProblem(field_name, f"there is no such {what}")
        for name, field_name, there, what in (
            ("person_id", "primary_person_id", known.people, "person"),
            ("organization_id", "organization_id", known.organizations, "organization"),
            ("owner_id", "owner_id", known.owners, "user"),
        )
        if (named := fields.get(name)) is not None and named not in there
    ]
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    owner = known.taken.get(fields.get("external_id") or "")
    if owner is not None and owner != row["id"]:
        raise taken(owner)


def taken(deal_id: UUID) -> ConflictError:
    """Return the refusal of an external id that is another deal's."""
    return ConflictError(
        f"Another deal has this external id: {deal_id}.",
        errors=[FieldProblem("external_id", f"is of deal {deal_id}")],
        extra={"deal_id": str(deal_id)},
    )


def _price(
    row: deal_rows.Values, after: deal_rows.Values, fields: Mapping[str, Any], totals: tuple[int, int] | None
) -> None:
    """Set what the deal costs. An amount that was what its products cost goes on being so."""
    lines: Sequence[Line] | None = fields.get("lines")
    code = after["currency"] = fields.get("currency", row["currency"])
    if code != row["currency"]:
        for name, path, had in (
            ("amount_minor", "amount", row["amount_minor"] > 0),
            ("recurring", "recurring", row["recurring_minor"] is not None),
            ("lines", "products", totals is not None),
        ):
            if had and name not in fields:
                raise InvalidError.of(path, f"must be given in {code} too")
    before = totals or (0, 0)
    now = before if lines is None else (total_of(lines), total_of(lines, recurring=True))
    amount: int | None = fields.get("amount_minor")
    if amount is None and ("amount_minor" in fields or row["amount_minor"] == before[0]):
        amount = now[0] if lines is not None or "amount_minor" in fields else None
    if amount is not None:
        after["amount_minor"] = amount
    if "recurring" in fields:
        _recur(after, fields["recurring"], now[1])
    elif lines is not None and row["recurring_minor"] is not None and row["recurring_minor"] == before[1]:
        after["recurring_minor"] = now[1]


def _recur(after: deal_rows.Values, recurring: Recurring | None, total: int) -> None:
    after["recurring_minor"] = None
    after["recurring_interval"] = None if recurring is None else recurring.interval
    after["recurring_term_months"] = None if recurring is None else recurring.term_months
    if recurring is not None:
        after["recurring_minor"] = total if recurring.minor is None else recurring.minor
        if recurring.minor is None and not total:
            raise InvalidError.of("recurring.amount", "is needed where no product is recurring")


async def _valued(session: TenantSession, written: Sequence[Written], base: str, result: Changed) -> list[Written]:
    """Give the rows their worth in the base currency; refuse those whose currency has no rate."""
    amounts = [
        Amount(one.after["amount_minor"], one.after["currency"], rates.day_of(one.after["closed_at"]))
        for one in written
    ]
    good: list[Written] = []
    for one, worth in zip(written, await rates.values(session, base, amounts), strict=True):
        if isinstance(worth, int):
            one.after["base_minor"] = worth
            good.append(one)
            result.changed.append(one.after["id"])
        else:
            result.refused[one.after["id"]] = worth
    return good
