"""Files of deals: what their columns are taken for, and pages of them taken in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, PlatformError, UnavailableError
from services.crm import deal_import_options, deal_names, deal_presets, deals, moving, rates
from services.crm.deal_columns import ID, Columns, DealRow, Product, read_item
from services.crm.deal_fields import DealChange, Line, NewDeal, Recurring
from services.crm.deal_import_options import DealOptions
from services.crm.deal_names import Meant, Names
from services.crm.stages import Stage
from services.identity.import_files import Detected, Reading
from services.identity.import_kinds import Contents, Kinds, Served
from services.identity.import_rows import RawRow
from services.identity.import_target import Kind, Mapped, Refused, Tally
from services.identity.import_write import VanishedError
from services.shared.starts import CRM

DEAL: Final = "deal"
OF_DEALS: Final = Contents(DEAL)
ATTEMPTS: Final = 5
"""How often a page is written again without the rows whose moves were refused."""


@dataclass(slots=True)
class _Outcome:
    """What writing some rows came to."""

    tally: Tally = field(default_factory=Tally)
    undone: list[Refused] = field(default_factory=list[Refused])
    """Rows that were refused when part of them was written: that must be taken back."""


class Deals:
    """Takes deals in."""

    def __init__(self, reader: Columns | None, options: DealOptions) -> None:
        """Read rows of CSV by `reader`, of NDJSON without."""
        self._reader = reader
        self._options = options

    def change(self, row: RawRow) -> DealRow:
        """Return what a row says; see `import_target.Target`."""
        return read_item(row.line, row.item or {}) if self._reader is None else self._reader.row(row.line, row.cells)

    async def take(self, session: TenantSession, changes: Sequence[DealRow], *, by: Actor) -> Tally:
        """Take a page in; see `import_target.Target`. Rows of one deal are taken one after the other."""
        tally = Tally()
        if not changes:
            return tally
        base = await rates.hold(session)
        rest: Sequence[DealRow] = changes
        while rest:
            names = await deal_names.find(session, rest)
            first, rest = _parted(rest, names)
            _add(tally, await self._take(session, first, names, base, by=by))
        return tally

    async def look(self, session: TenantSession, changes: Sequence[DealRow]) -> Tally:
        """Say what would be: take the page in, and take that back."""
        async with session.begin_nested() as savepoint:
            tally = await self.take(session, changes, by=Actor("check"))
            await savepoint.rollback()
        return tally

    async def _take(
        self, session: TenantSession, rows: Sequence[DealRow], names: Names, base: str, *, by: Actor
    ) -> Tally:
        refused: list[Refused] = []
        meant: list[Meant] = []
        skipped = 0
        for row in rows:
            if self._options.existing == "skip" and names.deal_of(row) is not None:
                skipped += 1
                continue
            try:
                meant.append(names.meant(row, self._options.pipeline))
            except InvalidError as error:
                refused.append(_refused(row, error))
        for _ in range(ATTEMPTS):
            lines = {each.line for each in refused}
            good = [one for one in meant if one.row.line not in lines]
            async with session.begin_nested() as savepoint:
                outcome = await self._write(session, good, base, by=by)
                if not outcome.undone:
                    tally = outcome.tally
                    tally.refused = [*refused, *tally.refused]
                    tally.unchanged += skipped
                    return tally
                await savepoint.rollback()
            refused += outcome.undone
        raise UnavailableError("The same deals keep being changed.")

    async def _write(self, session: TenantSession, meant: Sequence[Meant], base: str, *, by: Actor) -> _Outcome:
        outcome = _Outcome()
        await self._create(session, [one for one in meant if one.deal is None], base, outcome.tally, by=by)
        await _change(session, [one for one in meant if one.deal is not None], outcome, by=by)
        return outcome

    async def _create(
        self, session: TenantSession, meant: Sequence[Meant], base: str, tally: Tally, *, by: Actor
    ) -> None:
        wanted: list[tuple[DealRow, NewDeal]] = []
        for one in meant:
            try:
                wanted.append((one.row, _new(one, base)))
            except InvalidError as error:
                tally.refused.append(_refused(one.row, error))
        if not wanted:
            return
        fresh: list[list[tuple[str, str]]] = []
        created = await deals.create_many(session, [new for _, new in wanted], by=by, live=self._options.live)
        for number, (row, _) in enumerate(wanted):
            error = created.refused.get(number)
            if error is None:
                tally.created += 1
                fresh.append([("external_id", row.fields["external_id"])] if "external_id" in row.fields else [])
            elif isinstance(error, ConflictError):
                raise VanishedError  # somebody made a deal with this external id since we looked
            else:
                tally.refused.append(_refused(row, error))
        tally.fresh = fresh


async def _change(session: TenantSession, meant: Sequence[Meant], outcome: _Outcome, *, by: Actor) -> None:
    """Change the fields of deals, and then move those that are to stand elsewhere."""
    by_id: dict[UUID, tuple[Meant, DealChange]] = {}
    for one in meant:
        if one.deal is not None:
            try:
                by_id[one.deal["id"]] = one, _changed(one, one.deal)
            except InvalidError as error:
                outcome.tally.refused.append(_refused(one.row, error))
    if not by_id:
        return
    written = await deals.update_many(session, {deal_id: change for deal_id, (_, change) in by_id.items()}, by=by)
    changed = set(written.changed)
    for deal_id, error in written.refused.items():
        outcome.tally.refused.append(_refused(by_id[deal_id][0].row, error))
    there = {*written.changed, *written.unchanged}
    going: dict[UUID, tuple[Stage, list[Meant]]] = {}
    for deal_id, (one, _) in by_id.items():
        if deal_id in there and one.deal is not None and one.stage is not None:
            going.setdefault(one.stage.id, (one.stage, []))[1].append(one)
    for stage, moving_there in going.values():
        moved = await moving.move(
            session,
            [one.deal["id"] for one in moving_there if one.deal is not None],
            stage.id,
            by=by,
            pipeline_id=stage.pipeline_id,
            lost_reason=_reasons(moving_there) if stage.kind == "lost" else None,
        )
        changed.update(moved.moved)
        for deal_id, error in moved.refused.items():
            refused = _refused(by_id[deal_id][0].row, error)
            # of a deal that was changed, the change has to go too
            (outcome.undone if deal_id in changed else outcome.tally.refused).append(refused)
            there.discard(deal_id)
    outcome.tally.updated += len(changed & there)
    outcome.tally.unchanged += len(there - changed)


def _reasons(meant: Sequence[Meant]) -> dict[UUID, str]:
    return {
        one.deal["id"]: one.row.fields["lost_reason"]
        for one in meant
        if one.deal is not None and "lost_reason" in one.row.fields
    }


def _parted(rows: Sequence[DealRow], names: Names) -> tuple[list[DealRow], list[DealRow]]:
    """Return the first row of each deal, and the rows to take after those."""
    first: list[DealRow] = []
    rest: list[DealRow] = []
    seen: set[object] = set()
    for row in rows:
        deal = names.deal_of(row)
        key: object = row.fields.get("external_id") if deal is None else deal["id"]
        (rest if key is not None and key in seen else first).append(row)
        seen.add(key)
    return first, rest


def _add(tally: Tally, more: Tally) -> None:
    tally.created += more.created
    tally.updated += more.updated
    tally.unchanged += more.unchanged
    tally.refused += more.refused
    tally.fresh = [*tally.fresh, *more.fresh]


def _refused(row: DealRow, error: PlatformError) -> Refused:
    if not error.errors:
        return Refused(row.line, "", error.detail)
    return Refused(row.line, error.errors[0].field, error.errors[0].reason)


def _new(meant: Meant, base: str) -> NewDeal:
    """Return the deal to make.

    Raises:
        InvalidError: the row lacks a title, or an amount is finer than its currency.
    """
    row, stage = meant.row, meant.stage
    if stage is None:
        raise AssertionError("a new deal has a stage")
    fields = dict(row.fields)
    if "title" not in fields:
        raise InvalidError.of("title", "is needed for a deal that is not there yet")
    if "closed_at" in fields:
        fields.setdefault("created_at", fields["closed_at"])
    code = row.currency or base
    named: dict[str, Any] = {**meant.named, "pipeline_id": stage.pipeline_id, "stage_id": stage.id}
    return NewDeal(**(fields | _money(row, code) | named), currency=code)


def _changed(meant: Meant, deal: Mapping[str, Any]) -> DealChange:
    """Return what is to be true of a deal that is there; when it was made and closed stays.

    Raises:
        InvalidError: an amount is finer than its currency.
    """
    row = meant.row
    fields = {name: value for name, value in row.fields.items() if name not in {"created_at", "closed_at"}}
    if meant.stage is not None and meant.stage.id != deal["stage_id"] and meant.stage.kind == "lost":
        fields.pop("lost_reason", None)  # the move takes it
    if row.currency is not None:
        fields["currency"] = row.currency
    return DealChange(fields | dict(meant.named) | _money(row, row.currency or deal["currency"]))


def _money(row: DealRow, code: str) -> dict[str, Any]:
    """Return what the row says of money, in smallest units."""
    found: dict[str, Any] = {}
    if "amount" in row.amounts:
        found["amount_minor"] = _minor(row.amounts["amount"], code, "amount")
    if row.interval is not None:
        again = row.amounts.get("recurring.amount")
        found["recurring"] = Recurring(
            minor=None if again is None else _minor(again, code, "recurring.amount"),
            interval=row.interval,
            term_months=row.term_months,
        )
    if row.products is not None:
        found["lines"] = [_line(each, code, f"products.{number}") for number, each in enumerate(row.products)]
    return found


def _line(product: Product, code: str, path: str) -> Line:
    return Line(
        name=product.name,
        sku=product.sku,
        quantity=product.quantity,
        unit_minor=_minor(product.unit_price, code, f"{path}.unit_price"),
        discount_minor=0 if product.discount is None else _minor(product.discount, code, f"{path}.discount"),
        recurring=product.recurring,
    )


def _minor(amount: Decimal, code: str, target: str) -> int:
    try:
        return currency.to_minor(amount, code)
    except ValueError as error:
        raise InvalidError.of(target, str(error)) from error


class DealFiles:
    """What a file of deals may be asked for; see `import_target.Kind`."""

    def options(self, given: Mapping[str, Any]) -> DealOptions:
        """Return the options."""
        return deal_import_options.parse(given)

    def recognized(self, columns: Sequence[str]) -> str | None:
        """Return `throughline` for an export of deals."""
        return "throughline" if deal_presets.is_export(columns) else None

    def mapping(self, detected: Detected, given: Mapped | None, options: Reading) -> dict[str, str | None]:
        """Return what each column is taken for."""
        del options
        if detected.format == "ndjson":
            if given:
                raise InvalidError.of("mapping", "is for CSV files; the objects of NDJSON name their fields")
            return {}
        proposal = deal_presets.proposed(detected.columns)
        mapping = proposal if given is None else {**dict.fromkeys(detected.columns), **given}
        Columns(detected.columns, mapping)
        return mapping

    def check_startable(self, mapping: Mapped) -> None:
        """Check that rows can mean a deal."""
        if not {"title", "external_id", ID} & set(mapping.values()):
            raise InvalidError.of("mapping", "takes no column for title, external_id or id")

    async def target(self, session: TenantSession, detected: Detected, mapping: Mapped, options: Reading) -> Deals:
        """Return what takes the deals in."""
        del session
        reader = Columns(detected.columns, mapping) if detected.format == "csv" else None
        return Deals(reader, cast("DealOptions", options))


async def _load(session: TenantSession, contents: Contents) -> Kind:
    del session, contents
    return DealFiles()


KINDS: Final[Kinds] = {DEAL: Served(_load, CRM)}
"""The kinds of files that the sales domain takes in."""
