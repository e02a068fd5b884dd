"""What the conditions of a tenant's journeys and segments may speak of, and what those fields hold."""

from typing import Final

from sqlalchemy import select

from core.database import TenantSession
from journeys.checking import ORGANIZATION_ALONE, Vocabulary
from models import Segment
from services.identity import field_types
from services.identity.field_types import PERSON_FIELDS
from services.objects import definitions
from services.shared.related import DEAL_FIELDS, ORDER_FIELDS

_TYPED: Final = {
    f"{root}.{name}": defined
    for root, fields in (("deal", DEAL_FIELDS), ("order", ORDER_FIELDS))
    for name, defined in fields.items()
}


async def load(session: TenantSession) -> Vocabulary:
    """Return it as it stands now."""
    segments = await session.scalars(select(Segment.key).where(Segment.tenant_id == session.tenant_id))
    typed = await field_types.known(session) | _TYPED
    related = {
        **ORGANIZATION_ALONE,
        "order": frozenset(ORDER_FIELDS),
        "deal": frozenset({*DEAL_FIELDS, "attributes.*"}),
    }
    for key, shape in (await definitions.known(session)).items():
        typed |= shape.typed(key)
        related[f"record:{key}"] = shape.names
    return Vocabulary(person_fields=PERSON_FIELDS, segments=frozenset(segments), typed=typed, related=related)
