"""What each role may do. The whole table stands here: a new noun needs a decision for each role."""

from uuid import uuid4

import pytest

from core.errors import ForbiddenError
from models.users import USER_ROLES
from services.tenancy.api_keys import NOUNS, Credential
from services.tenancy.roles import SCOPES_OF, check_may_manage

# people, organizations, events, forms, objects, segments, templates, journeys, campaigns, messages, channels,
# communications, pipelines, deals, products, inventory, carts, discounts, orders, payments, tasks, webhooks, audit,
# users, tenant, api_keys
TABLE = {
    "owner": "rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw",
    "admin": "rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw rw r-",
    "marketer": "rw r- rw rw rw rw rw rw rw rw r- rw r- r- rw r- r- rw r- r- rw r- -- r- r- --",
    "sales": "rw rw rw r- rw r- r- r- r- rw r- rw r- rw r- r- rw r- rw r- rw r- -- r- r- --",
    "read_only": "r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r- r-",
}


def credential(role: str) -> Credential:
    return Credential(uuid4(), SCOPES_OF[role], user_id=uuid4(), role=role)


@pytest.mark.parametrize("role", USER_ROLES)
def test_a_role_may_do_what_the_table_says(role: str) -> None:
    granted = credential(role)
    rights = "".join(
        letter if granted.allows(f"{noun}:{verb}") else "-"
        for noun in NOUNS
        for letter, verb in (("r", "read"), ("w", "write"))
    )
    assert rights == TABLE[role].replace(" ", "")


@pytest.mark.parametrize("who", USER_ROLES)
@pytest.mark.parametrize("role", USER_ROLES)
def test_nobody_manages_people_who_may_do_more(who: str, role: str) -> None:
    rank = {"owner": 3, "admin": 2, "marketer": 1, "sales": 1, "read_only": 1}
    if rank[who] >= 2:
        assert credential(who).covers(SCOPES_OF[role]) == (rank[who] >= rank[role])
    if rank[who] < rank[role]:
        with pytest.raises(ForbiddenError):
            check_may_manage(credential(who), "read_only" if who != "marketer" else who, role)


def test_the_command_line_may_manage_all() -> None:
    check_may_manage(None, *USER_ROLES)
