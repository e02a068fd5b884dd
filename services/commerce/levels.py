"""The levels of stock under lock, and who is told when a variant can be had again.

Whoever changes levels takes reservations first and then all levels of its variants, in the order of their keys, so
that nobody waits for somebody who waits for them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Uuid

from contracts.events import STOCK_BACK
from core.database import TenantSession
from services.commerce import watching

_LOCK: Final = text("""
    SELECT l.variant_id, l.location_id, l.on_hand, l.reserved, l.movements, p.active, p.position
    FROM stock_level l JOIN stock_location p ON p.tenant_id = :tenant AND p.id = l.location_id
    WHERE l.tenant_id = :tenant AND l.variant_id = ANY(:variants)
    ORDER BY l.variant_id, l.location_id
    FOR UPDATE OF l
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))
_OPEN: Final = text("""
    INSERT INTO stock_level (tenant_id, variant_id, location_id)
    SELECT :tenant AS tenant_id, k.variant_id, k.location_id
    FROM unnest(:variants, :locations) AS k(variant_id, location_id)
    ORDER BY 2, 3
    ON CONFLICT DO NOTHING
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)), bindparam("locations", type_=ARRAY(Uuid)))
_SAVE: Final = text("""
    UPDATE stock_level l
    SET on_hand = n.on_hand, reserved = n.reserved, movements = n.movements, updated_at = now()
    FROM unnest(:variants, :locations, :on_hand, :reserved, :movements)
         AS n(variant_id, location_id, on_hand, reserved, movements)
    WHERE l.tenant_id = :tenant AND l.variant_id = n.variant_id AND l.location_id = n.location_id
""").bindparams(
    bindparam("variants", type_=ARRAY(Uuid)),
    bindparam("locations", type_=ARRAY(Uuid)),
    bindparam("on_hand", type_=ARRAY(BigInteger)),
    bindparam("reserved", type_=ARRAY(BigInteger)),
    bindparam("movements", type_=ARRAY(BigInteger)),
)


@dataclass(slots=True)
class Level:
    """A level as it stands, held until the transaction ends."""

    variant_id: UUID
    location_id: UUID
    on_hand: int
    reserved: int
    movements: int
    active: bool
    """Its location's: pieces elsewhere are not sold."""
    position: int

    @property
    def available(self) -> int:
        """What may still be held."""
        return self.on_hand - self.reserved


class Levels:
    """All levels of some variants, held; changed in memory, then written at once."""

    def __init__(self, found: Sequence[Level]) -> None:
        """Take the levels that were found; `lock` finds them."""
        self._by_key = {(level.variant_id, level.location_id): level for level in found}
        self._before = self._totals()

    def of(self, variant_id: UUID) -> list[Level]:
        """Return the levels pieces of a variant are sold from, in the order they are taken in."""
        mine = [level for level in self._by_key.values() if level.variant_id == variant_id and level.active]
        return sorted(mine, key=lambda level: (level.position, level.location_id))

    def at(self, variant_id: UUID, location_id: UUID) -> Level:
        """Return a level that is there."""
        return self._by_key[variant_id, location_id]

    def _totals(self) -> dict[UUID, int]:
        totals: dict[UUID, int] = {}
        for level in self._by_key.values():
            if level.active:
                totals[level.variant_id] = totals.get(level.variant_id, 0) + level.available
        return totals

    def back(self) -> list[UUID]:
        """Return the variants of which there was nothing to be had, and is now, over all locations."""
        return sorted(
            variant for variant, total in self._totals().items() if total > 0 and self._before.get(variant, 0) <= 0
        )

    async def save(self, session: TenantSession) -> None:
        """Write all levels, and tell who waits for what is back."""
        levels = list(self._by_key.values())
        await session.execute(
            _SAVE,
            {
                "tenant": session.tenant_id,
                "variants": [level.variant_id for level in levels],
                "locations": [level.location_id for level in levels],
                "on_hand": [level.on_hand for level in levels],
                "reserved": [level.reserved for level in levels],
                "movements": [level.movements for level in levels],
            },
        )
        await watching.tell(session, STOCK_BACK, {variant: {} for variant in self.back()})


async def lock(
    session: TenantSession, variants: Iterable[UUID], *, opening: Iterable[tuple[UUID, UUID]] = ()
) -> Levels:
    """Hold all levels of the variants; those of `opening`, variant and location, are made where they are not there."""
    keys = sorted(set(opening))
    if keys:
        await session.execute(
            _OPEN,
            {
                "tenant": session.tenant_id,
                "variants": [variant for variant, _ in keys],
                "locations": [location for _, location in keys],
            },
        )
    rows = await session.execute(_LOCK, {"tenant": session.tenant_id, "variants": sorted(set(variants))})
    return Levels([Level(**row) for row in rows.mappings()])
