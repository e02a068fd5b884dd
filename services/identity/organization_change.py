"""What a caller may say of an organization, in the spelling the store has."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import JsonValue

from core import currency
from core.errors import FieldProblem, InvalidError
from models import Organization
from services.identity import attributes, normalize

MAX_WEBSITE: Final = 500


def _website(text: str, field: str) -> str:
    text = text.strip()
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and len(text) <= MAX_WEBSITE
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        raise InvalidError.of(field, f"must be an http or https address of at most {MAX_WEBSITE} characters")
    return text


_TEXTS: Final = {
    "name": normalize.line,
    "industry": normalize.line,
    "tax_id": normalize.line,
    "website": _website,
    "phone": normalize.phone,
    "external_id": normalize.external_id,
    "domain": normalize.domain,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationChange:
    """What a caller wants to be true of an organization; what is not named stays."""

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the texts `name`, `domain`, `external_id`, `industry`, `website`, `phone`, `tax_id`; the ids `parent_id` and
    `owner_id`; `is_customer`, `is_vendor`, `is_partner`; `currency` and `payment_terms_days`. None clears."""
    credit_limit: tuple[int, str] | None = None
    """In the smallest unit, and its currency. Counts where `limits` is true."""
    limits: bool = False
    """Whether the credit limit is to be set, or with None lifted."""
    attributes: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Merged key by key; None removes."""

    def normalized(self) -> "OrganizationChange":
        """Return the change in the spelling the store has.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        fields = dict(self.fields)
        for name in fields.keys() & _TEXTS.keys():
            try:
                fields[name] = None if fields[name] is None else _TEXTS[name](fields[name], name)
            except InvalidError as error:
                problems.extend(error.errors)
        problems += [
            FieldProblem(name, "must not be empty")
            for name in ("name", "currency")
            if name in fields and fields[name] is None and name not in {problem.field for problem in problems}
        ]
        try:
            attributes.check(self.attributes)
        except InvalidError as error:
            problems.extend(error.errors)
        if problems:
            raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
        return replace(self, fields=fields)


def shown(organization: Organization, name: str, value: object) -> object:
    """Return a value as the log shows it."""
    if name == "credit_limit_minor" and isinstance(value, int):
        return f"{currency.from_minor(value, organization.currency)} {organization.currency}"
    return str(value) if isinstance(value, UUID) else value


def same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON."""
    # Python holds true and 1 for equal.
    return one == other and json.dumps(one, sort_keys=True, default=str) == json.dumps(
        other, sort_keys=True, default=str
    )
