"""The caller's tenant and its settings."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Response
from pydantic import ConfigDict, Field, StrictBool
from sqlalchemy import event
from sqlalchemy.orm import Session

from api.dependencies import ActorDep, PrincipalDep, ResourcesDep, SessionDep, requires
from api.fields import LEFT_OUT, Name, Strict
from api.routing import Router
from integrations.webhooks.signing import WebhookSecrets
from services.crm import rates
from services.tenancy import tenants
from services.tenancy.origins import MAX_ORIGINS

router = Router(prefix="/tenant", tags=["tenant"])

HourOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", examples=["21:00"])]


class QuietHours(Strict):
    """When nothing but transactional messages goes out, in the recipient's zone; may span midnight."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    start: HourOfDay = Field(alias="from")
    end: HourOfDay = Field(alias="to")


class FrequencyCap(Strict):
    """At most so many marketing messages on a channel in so many calendar days of the recipient's zone."""

    channel: Literal["email", "sms", "push", "social"]
    messages: Annotated[int, Field(ge=1, le=1000)]
    days: Annotated[int, Field(ge=1, le=365)]


class SendLimit(Strict):
    """At most so many messages a minute on a channel, or of these to one domain of recipients."""

    channel: Literal["email", "sms", "push", "social"]
    domain: Annotated[str | None, Field(max_length=253, examples=["gmail.com"])] = None
    """Of email alone; null: the limit is for the whole channel."""
    per_minute: Annotated[int, Field(ge=1, le=tenants.MAX_PER_MINUTE)]


class Breaker(Strict):
    """The shares of complaints and bounces among what a campaign sent that pause it."""

    complaints: Annotated[float, Field(ge=0.0001, le=1)] = 0.003
    bounces: Annotated[float, Field(ge=0.0001, le=1)] = 0.1
    minimum: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Messages that must have been sent before shares say anything."""


class AttributionHours(Strict):
    """Hours after a touch in which an order is credited to it; a channel left out keeps its own."""

    email: Annotated[int | None, Field(ge=1, le=2160)] = None
    sms: Annotated[int | None, Field(ge=1, le=2160)] = None
    push: Annotated[int | None, Field(ge=1, le=2160)] = None
    social: Annotated[int | None, Field(ge=1, le=2160)] = None


class TenantSettings(Strict):
    """What can be changed; a field left out stays as it is."""

    name: Annotated[Name | None, LEFT_OUT] = None
    time_zone: Annotated[str | None, Field(max_length=64, examples=["Europe/Amsterdam"]), LEFT_OUT] = None
    """IANA name."""
    base_currency: Annotated[str | None, Field(max_length=3, examples=["EUR"]), LEFT_OUT] = None
    """ISO 4217; reports convert to it."""
    postal_address: Annotated[str | None, Field(max_length=1000)] = None
    from_address: Annotated[str | None, Field(max_length=320, examples=["Shop <hello@shop.example>"])] = None
    quiet_hours: QuietHours | None = None
    frequency_caps: Annotated[list[FrequencyCap] | None, Field(max_length=20), LEFT_OUT] = None
    send_limits: Annotated[list[SendLimit] | None, Field(max_length=200), LEFT_OUT] = None
    breaker: Breaker | None = None
    """Null: just the shares that are its defaults."""
    attribution_hours: AttributionHours | None = None
    qualify_at_score: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Who has at least this score is qualified; null leaves it to people."""
    allowed_origins: Annotated[
        list[str] | None, Field(max_length=MAX_ORIGINS, examples=[["https://shop.example"]]), LEFT_OUT
    ] = None
    """Websites whose pages may send events and forms: `https://host` or `https://host:port`."""
    prices_include_tax: Annotated[StrictBool | None, LEFT_OUT] = None
    """Of goods and shipping; else it comes on top."""


class Tenant(Strict):
    """A tenant."""

    id: UUID
    key: str
    name: str
    time_zone: str
    base_currency: str
    postal_address: str | None
    from_address: str | None
    quiet_hours: QuietHours | None
    frequency_caps: list[FrequencyCap]
    send_limits: list[SendLimit]
    breaker: Breaker | None
    attribution_hours: AttributionHours | None
    qualify_at_score: int | None
    allowed_origins: list[str]
    prices_include_tax: bool
    created_at: datetime


@router.get("", dependencies=[requires("tenant:read")])
async def get(session: SessionDep) -> Tenant:
    """Return the tenant the key belongs to."""
    return Tenant.model_validate(await tenants.get(session))


class WebhookSecret(Strict):
    """What receivers of our calls check their signatures with."""

    secret: str
    """As Standard Webhooks has it: `whsec_`, then 32 bytes in base64."""


@router.get("/webhook-secret", dependencies=[requires("tenant:write")])
async def get_webhook_secret(principal: PrincipalDep, resources: ResourcesDep, response: Response) -> WebhookSecret:
    """Return the secret that calls of others' addresses are signed with; give it to their receivers."""
    response.headers["Cache-Control"] = "no-store"
    secrets = WebhookSecrets(resources.settings.secret_key.get_secret_value())
    return WebhookSecret(secret=secrets.of(principal.tenant_id))


@router.patch("", dependencies=[requires("tenant:write")])
async def update(body: TenantSettings, session: SessionDep, actor: ActorDep, resources: ResourcesDep) -> Tenant:
    """Change settings; null clears one that may be empty.

    Another base currency needs a rate to it for every currency that deals are in.
    """
    changes = body.model_dump(exclude_unset=True, by_alias=True)
    if body.breaker is not None:
        changes["breaker"] = body.breaker.model_dump()  # as a whole, so that defaults of ours may change
    if body.attribution_hours is not None:
        changes["attribution_hours"] = body.attribution_hours.model_dump(exclude_none=True)
    if body.send_limits is not None:
        changes["send_limits"] = [limit.model_dump() for limit in body.send_limits]
    tenant_id = session.tenant_id

    def forget(_committed: Session) -> None:
        resources.websites.forget(tenant_id)

    event.listen(session.sync_session, "after_commit", forget, once=True)
    if body.base_currency is not None:
        await rates.change_base(session, body.base_currency)
    return Tenant.model_validate(await tenants.update(session, changes, by=actor))
