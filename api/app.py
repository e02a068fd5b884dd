"""The API: every router in one place, the middleware around them, and what the process holds open."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from api import errors, join
from api.graphql import routes as graphql
from api.graphql.execution import Engine
from api.hot import HotRoutes
from api.middleware.bodies import BodyLimitMiddleware
from api.middleware.idempotency import IdempotencyMiddleware
from api.middleware.requests import RequestMiddleware
from api.openapi.document import DocumentedApp
from api.resources import Resources
from api.rest import (
    addresses,
    api_keys,
    association_definitions,
    associations,
    attributes,
    attribution,
    audit,
    campaign_reports,
    campaigns,
    carts,
    categories,
    channel_accounts,
    checkout,
    communications,
    consent,
    dead_events,
    deal_export,
    deal_imports,
    deal_timeline,
    deals,
    devices,
    discounts,
    duplicates,
    enrollments,
    erasures,
    event_types,
    events,
    exchange_rates,
    forecasts,
    forms,
    health,
    identifiers,
    inbound,
    inventory,
    invitations,
    journey_control,
    journey_definitions,
    journey_explaining,
    journey_results,
    journey_stuck,
    journey_versions,
    journeys,
    mail_hooks,
    me,
    merges,
    messages,
    notifications,
    objects,
    orders,
    organization_timeline,
    organizations,
    outgoing_calls,
    payment_accounts,
    payments,
    people,
    people_export,
    people_imports,
    pipelines,
    product_export,
    product_imports,
    products,
    rate_limits,
    record_imports,
    records,
    refunds,
    sales_reports,
    score_rules,
    segments,
    sender_domains,
    sessions,
    shipping_methods,
    simulations,
    stock_locations,
    tasks,
    tax_rates,
    template_partials,
    templates,
    tenant,
    topics,
    twilio_hooks,
    users,
    variants,
    watches,
    webhooks,
    write_keys,
)
from api.stream import routes as stream
from api.stream.direct import SERVERS
from api.stream.ending import on_end
from api.tracking import choices, collect
from api.tracking import forms as public_forms
from api.tracking import routes as tracking
from core import exporting, logging, memory
from core.domains import DOMAINS, Domain
from core.presence import present
from core.settings import Settings
from core.settings import settings as process_settings

IDENTITY: tuple[APIRouter, ...] = (
    tenant.router,
    api_keys.router,
    audit.router,
    users.router,
    invitations.router,
    sessions.router,
    me.router,
    duplicates.router,  # before people, whose ids stand in the same place
    # before people: their paths would be ids of persons
    people_imports.router,
    people_export.router,
    merges.router,
    people.router,
    identifiers.router,
    devices.router,
    erasures.router,
    organizations.router,
    organization_timeline.router,
    association_definitions.router,
    associations.router,
    objects.router,
    record_imports.router,  # before records, whose ids stand in the same place as `export`
    records.router,
    attributes.router,
    score_rules.router,
    consent.router,
    topics.router,
    addresses.router,
    events.router,
    event_types.router,
    dead_events.router,
    webhooks.router,
    stream.router,
    write_keys.router,
    forms.router,
)
MARKETING: tuple[APIRouter, ...] = (
    segments.router,
    templates.router,
    template_partials.router,
    journeys.router,
    journey_definitions.router,
    journey_results.router,
    journey_control.router,
    journey_stuck.router,
    simulations.router,
    journey_explaining.router,
    rate_limits.router,
    journey_versions.router,
    campaigns.router,
    campaign_reports.router,
    attribution.router,
    enrollments.router,
    messages.router,
    communications.router,
    inbound.router,
    sender_domains.router,
    channel_accounts.router,
)
CRM: tuple[APIRouter, ...] = (
    pipelines.router,
    # before deals: their paths would be ids of deals
    forecasts.router,
    sales_reports.router,
    deal_imports.router,
    deal_export.router,
    deals.router,
    deal_timeline.router,
    exchange_rates.router,
    tasks.router,
    outgoing_calls.router,
    notifications.router,
)
COMMERCE: tuple[APIRouter, ...] = (
    # before products: their paths would be ids of products
    product_imports.router,
    product_export.router,
    products.router,
    variants.router,
    watches.router,
    categories.router,
    inventory.router,
    stock_locations.router,
    carts.router,
    checkout.router,
    discounts.router,
    tax_rates.router,
    shipping_methods.router,
    orders.router,
    orders.parcels,
    refunds.router,
    payments.router,
    payment_accounts.router,
)

V1: Final[Mapping[Domain, tuple[APIRouter, ...]]] = {
    "identity": IDENTITY,
    "marketing": MARKETING,
    "crm": CRM,
    "commerce": COMMERCE,
}
"""Routers below `/v1`."""

ROOT: Final[Mapping[Domain, tuple[APIRouter, ...]]] = {
    "identity": (collect.router, public_forms.router, join.router, graphql.router),
    "marketing": (tracking.router, choices.router, twilio_hooks.router, mail_hooks.router),
    "crm": (),
    "commerce": (payments.told,),
}
"""Routers that need no key, but for GraphQL; besides them each process tells its health."""


class App(DocumentedApp):
    """The application, which lets an answer without end write to its connection itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope.setdefault("state", {})[SERVERS] = send
        await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the API for these settings, the process's own where none are given; run its lifespan to open it.

    Of the domain that the settings name it has the routes of that alone.
    """
    settings = settings or process_settings()
    logging.configure(settings.log_level)
    resources = Resources.of(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        memory.settle()
        async with exporting.traces("throughline-api"):
            resources.temporal.start()
            try:
                async with present("api", resources.database, settings, temporals=True):
                    with on_end(resources.part):
                        yield
            finally:
                await resources.close()

    app = App(
        title="Throughline",
        version="1",
        summary="One record per person; CRM, marketing, commerce and automation on it.",
        openapi_url="/v1/openapi.json",
        docs_url="/v1/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.resources = resources
    app.state.graphql = Engine(settings.graphql_max_depth, settings.graphql_max_cost)
    app.include_router(health.router)
    for domain in DOMAINS if settings.domain is None else (settings.domain,):
        for router in V1[domain]:
            app.include_router(router, prefix="/v1")
        for router in ROOT[domain]:
            app.include_router(router)
    errors.install(app)
    # The last one added is the outermost.
    if settings.domain in {None, "identity"}:
        app.add_middleware(HotRoutes, prefix="/v1", routes=[(events.router, events.HOT)])
    app.add_middleware(IdempotencyMiddleware, resources=resources)
    app.add_middleware(
        BodyLimitMiddleware,
        limit=settings.max_body_bytes,
        uploads=r"/v1/(people|deals|products|objects/[^/]+)/imports",
        upload_limit=settings.max_import_bytes,
    )
    app.add_middleware(RequestMiddleware)
    return app
