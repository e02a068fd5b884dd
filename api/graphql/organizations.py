"""Organizations, and what leads on from them."""

from api.graphql.fields import many, one
from api.graphql.loads import commerce, crm
from api.graphql.loads import people as loads
from api.graphql.names import ASSOCIATION, DEAL, ORDER, ORGANIZATION, TASK
from api.graphql.objects import associated
from api.graphql.people import DEAL_STATUS, ORDER_STATUS, TASK_STATUS, OrganizationLink
from api.graphql.shapes import shaped
from api.rest.organization_shapes import OrganizationOut


@shaped(OrganizationOut)
class Organization:
    """A company, or another group of people."""

    parent = one(ORGANIZATION, loads.organizations, "parent_id", "organizations:read")
    people = many(
        OrganizationLink,
        loads.links_of_organizations,
        "organizations:read",
        filters={"current": bool},
        description="What people are to the organization, the last link first.",
    )
    deals = many(
        DEAL,
        crm.deals_of_organizations,
        "deals:read",
        filters={"status": DEAL_STATUS},
        description="Newest first.",
    )
    tasks = many(
        TASK, crm.tasks_of_organizations, "tasks:read", filters={"status": TASK_STATUS}, description="Newest first."
    )
    orders = many(
        ORDER,
        commerce.orders_of_organizations,
        "orders:read",
        filters={"status": ORDER_STATUS},
        description="Newest first.",
    )
    associations = associated(ASSOCIATION, "organization")
