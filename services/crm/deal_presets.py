"""Which field of a deal each column of a file most likely is: as in an export from here, else by its name."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from core.errors import InvalidError
from services.crm.deal_columns import COMPUTED, ID, setter
from services.identity.import_presets import REJECTED

_EXPORT: Final = frozenset({ID, "external_id", "pipeline", "stage", "status", "stage_entered_at"})
"""Columns that an export of deals alone has together."""
_NAMES: Final[Mapping[str, str]] = {
    "id": "external_id",
    "record_id": "external_id",
    "deal_id": "external_id",
    "deal": "title",
    "deal_name": "title",
    "dealname": "title",
    "name": "title",
    "deal_pipeline": "pipeline",
    "deal_stage": "stage",
    "dealstage": "stage",
    "value": "amount",
    "deal_value": "amount",
    "deal_owner": "owner",
    "owner_email": "owner",
    "email": "person.email",
    "contact_email": "person.email",
    "person_email": "person.email",
    "phone": "person.phone",
    "person_external_id": "person.external_id",
    "person_id": "person.external_id",
    "company": "organization.name",
    "company_name": "organization.name",
    "account_name": "organization.name",
    "organization": "organization.name",
    "organization_name": "organization.name",
    "domain": "organization.domain",
    "company_domain": "organization.domain",
    "organization_domain": "organization.domain",
    "organization_external_id": "organization.external_id",
    "closedate": "close_date",
    "expected_close": "close_date",
    "expected_close_date": "close_date",
    "create_date": "created_at",
    "closed_lost_reason": "lost_reason",
    "recurring_amount": "recurring.amount",
    "recurring_interval": "recurring.interval",
    "recurring_term_months": "recurring.term_months",
}


def is_export(columns: Sequence[str]) -> bool:
    """Whether these are the columns of an export of deals."""
    return {column.strip() for column in columns} >= _EXPORT


def proposed(columns: Sequence[str]) -> dict[str, str | None]:
    """Return a target for every column, each at most once: by its name, else an attribute of that name."""
    exported = is_export(columns)
    found: dict[str, str | None] = {}
    for column in columns:
        target = _target(column, exported=exported)
        found[column] = None if target in found.values() else target
    return found


def _target(column: str, *, exported: bool) -> str | None:
    name = column.strip()
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if slug in COMPUTED or slug in REJECTED:
        return None
    if exported and name == ID:
        return ID
    if slug in _NAMES:
        return _NAMES[slug]
    for target in (name, slug):
        try:
            setter(target)
        except InvalidError:
            continue
        return target
    return f"attributes.{slug if slug[0].isalpha() else f'_{slug}'}"[:75] if slug else None
