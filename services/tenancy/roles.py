"""What each role of a teammate may do, in the scopes that API keys have too."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from core.errors import FieldProblem, ForbiddenError
from services.tenancy.api_keys import ALL, NOUNS, Credential

_HIDDEN: Final = frozenset({"audit", "api_keys"})
"""What only those who run the tenant look at, and those who check on them."""


def _scopes(verb: str, *nouns: str) -> frozenset[str]:
    return frozenset(f"{noun}:{verb}" for noun in nouns)


_READ_DAILY: Final = _scopes("read", *(noun for noun in NOUNS if noun not in _HIDDEN))

SCOPES_OF: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "owner": frozenset({ALL}),
        # A key outlives whoever made it, so making one is the owner's.
        "admin": _scopes("read", *NOUNS) | _scopes("write", *(noun for noun in NOUNS if noun != "api_keys")),
        "marketer": _READ_DAILY
        | _scopes(
            "write",
            "people",
            "events",
            "forms",
            "objects",
            "segments",
            "templates",
            "journeys",
            "campaigns",
            "messages",
            "communications",
            "products",
            "discounts",
            "tasks",
        ),
        "sales": _READ_DAILY
        | _scopes(
            "write",
            "people",
            "organizations",
            "events",
            "objects",
            "messages",
            "communications",
            "deals",
            "carts",
            "orders",
            "tasks",
        ),
        "read_only": _scopes("read", *NOUNS),
    }
)
"""By role, one of `models.users.USER_ROLES`."""


def check_may_manage(credential: Credential | None, *roles: str) -> None:
    """Refuse to have anyone make, change or unmake a teammate who may do more than they may themselves.

    Args:
        credential: who does it; None for the operator's command line.
        roles: what the teammate is, and what they are to be.

    Raises:
        ForbiddenError: one of the roles has a scope that `credential` lacks.
    """
    for role in roles:
        if credential is not None and not credential.covers(SCOPES_OF[role]):
            raise ForbiddenError(
                f"Only who may do as much as the role {role} can manage its people.",
                errors=[FieldProblem("role", f"{role} may do more than you")],
            )
