"""Which fields of a person a condition may ask about, and what those hold whose type is known."""

from typing import Final

from core.database import TenantSession
from journeys.attributes import Defined
from services.identity import attribute_definitions
from services.shared.computed import COMPUTED

PERSON_FIELDS: Final = frozenset(
    {
        "id",
        "email",
        "phone",
        "external_id",
        "first_name",
        "last_name",
        "time_zone",
        "locale",
        "source",
        "lifecycle_stage",
        "is_customer",
        "is_lead",
        "is_contact",
        "is_vendor",
        "is_employee",
        "owner_id",
        "score",
        "created_at",
        "updated_at",
        "last_seen_at",
        "qualified_at",
        *COMPUTED,
    }
)
"""Beside attributes."""


async def known(session: TenantSession) -> dict[str, Defined]:
    """Return what fields hold, by path, where it is known: the tenant's definitions, and what is computed."""
    typed = {f"person.{name}": defined for name, defined in COMPUTED.items()}
    typed["person.score"] = Defined("number")
    for subject in ("person", "organization"):
        for key, defined in (await attribute_definitions.load(session, subject)).items():
            typed[f"{subject}.attributes.{key}"] = defined
    return typed
