"""A tenant's accounts with payment gateways."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import status
from pydantic import Field, JsonValue, StrictBool

from api.dependencies import ActorDep, DatabaseDep, GatewaysDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.settings import Settings
from core.tokens import AccountRef, Tokens
from integrations.payments.port import PaymentError
from models import PaymentAccount
from services.commerce import payment_accounts
from services.commerce.payment_accounts import GatewayName

router = Router(prefix="/payment-accounts", tags=["payments"])

READ = [requires("payments:read")]
WRITE = [requires("payments:write")]

Part = Annotated[dict[Annotated[str, Field(max_length=100)], JsonValue], Field(max_length=20)]


class PaymentAccountIn(Strict):
    """An account with a gateway; what belongs into `config` and `secret` depends on it."""

    gateway: GatewayName
    config: Annotated[Part, Field(default_factory=dict)]
    secret: Annotated[Part, Field(default_factory=dict)]
    """Keys: never shown again."""
    active: StrictBool = True
    """Whether new payments go by it; one account is."""


class PaymentAccountPatch(Strict):
    """What to change; a field left out, or null, stays. `config` and `secret` are replaced as a whole."""

    config: Part | None = None
    secret: Part | None = None
    active: StrictBool | None = None


class PaymentAccountOut(Strict):
    """An account, without its secret."""

    id: UUID
    gateway: GatewayName
    config: dict[str, Any]
    active: bool
    webhook_url: str
    """Where the gateway is to post what happens to payments and refunds."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, account: PaymentAccount, settings: Settings) -> Self:
        """Return the answer for an account."""
        token = Tokens(settings.secret_key.get_secret_value()).account(AccountRef(account.tenant_id, account.id))
        shown = {name: getattr(account, name) for name in cls.model_fields if name != "webhook_url"}
        hook = f"{settings.public_url.rstrip('/')}/v1/payments/notices/{token}"
        return cls.model_validate(shown | {"webhook_url": hook})


class PaymentAccountTested(Strict):
    """Whether the gateway takes the credentials."""

    ok: bool
    detail: str
    """Whose account it is, or what the gateway says."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    body: PaymentAccountIn, session: SessionDep, actor: ActorDep, gateways: GatewaysDep, settings: SettingsDep
) -> PaymentAccountOut:
    """Add an account; its secret is kept encrypted and never shown."""
    account = await payment_accounts.create(
        session,
        body.gateway,
        config=body.config,
        secret=body.secret,
        active=body.active,
        seal=gateways.seal,
        by=actor,
    )
    return PaymentAccountOut.of(account, settings)


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, settings: SettingsDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[PaymentAccountOut]:
    """List accounts, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await payment_accounts.page(session, limit=limit + 1, after=after)
    return Page(
        items=[PaymentAccountOut.of(account, settings) for account in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{payment_account_id}", dependencies=READ)
async def get(payment_account_id: UUID, session: SessionDep, settings: SettingsDep) -> PaymentAccountOut:
    """Return an account."""
    return PaymentAccountOut.of(await payment_accounts.get(session, payment_account_id), settings)


@router.patch("/{payment_account_id}", dependencies=WRITE)
async def update(
    payment_account_id: UUID,
    body: PaymentAccountPatch,
    session: SessionDep,
    actor: ActorDep,
    gateways: GatewaysDep,
    settings: SettingsDep,
) -> PaymentAccountOut:
    """Change an account. Another account with the gateway is an account of its own: payments stay with theirs."""
    fields = body.model_dump(exclude_none=True)
    account = await payment_accounts.update(session, payment_account_id, fields, seal=gateways.seal, by=actor)
    return PaymentAccountOut.of(account, settings)


@router.delete("/{payment_account_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(payment_account_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Forget an account by which nothing was paid, and its secret."""
    await payment_accounts.delete(session, payment_account_id, by=actor)


@router.post("/{payment_account_id}/test", dependencies=WRITE)
async def test(
    payment_account_id: UUID, principal: PrincipalDep, database: DatabaseDep, gateways: GatewaysDep
) -> PaymentAccountTested:
    """Try an account's credentials with its gateway; no money moves."""
    # Not in the request's transaction, which would be held open while the gateway thinks.
    async with database.tenant(principal.tenant_id) as session:
        gateway = gateways.by(await payment_accounts.get(session, payment_account_id))
    try:
        return PaymentAccountTested(ok=True, detail=await gateway.check())
    except PaymentError as error:
        return PaymentAccountTested(ok=False, detail=str(error)[:500])
