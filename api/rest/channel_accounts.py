"""A tenant's accounts with providers, by which the messages of a channel go."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, status
from pydantic import Field, JsonValue, StrictBool, StrictInt

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.sealing import Seal
from core.settings import Settings
from core.tokens import AccountRef, Tokens
from models import ChannelAccount
from services.marketing import account_channels, accounts
from services.marketing.accounts import Keeping
from services.marketing.providers import REPORTING, Provider

router = Router(prefix="/channel-accounts", tags=["channels"])

READ = [requires("channels:read")]
WRITE = [requires("channels:write")]

Part = Annotated[dict[Annotated[str, Field(max_length=100)], JsonValue], Field(max_length=20)]
Rate = Annotated[StrictInt, Field(ge=1, le=1_000_000)]


def get_keeping(settings: SettingsDep) -> Keeping:
    """Return how this deployment keeps accounts."""
    return Keeping(Seal(settings.secret_key.get_secret_value()), settings.allow_private_hosts)


KeepingDep = Annotated[Keeping, Depends(get_keeping)]


class AccountIn(Strict):
    """An account with a provider; what belongs into `config` and `secret` depends on it."""

    key: Key
    provider: Provider
    name: Name | None = None
    config: Part
    secret: Annotated[Part, Field(default_factory=dict)]
    """Passwords and tokens: never shown again."""
    rate_per_minute: Rate | None = None
    """How many messages may go by it in a minute; null: as many as it takes."""
    active: StrictBool = True
    """Whether the channel's messages go by it; one account of a channel is."""


class AccountPatch(Strict):
    """What to change; a field left out stays. `config` and `secret` are replaced as a whole."""

    name: Name | None = None
    config: Part | None = None
    secret: Part | None = None
    rate_per_minute: Rate | None = None
    active: StrictBool | None = None


class ChannelAccountOut(Strict):
    """An account, without its secret."""

    id: UUID
    key: str
    channel: str
    provider: Provider
    name: str | None
    config: dict[str, Any]
    rate_per_minute: int | None
    active: bool
    webhook_url: str | None
    """Where the provider is to report: a mail provider events of messages, Twilio answers (`A message comes in`)."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, account: ChannelAccount, settings: Settings) -> Self:
        """Return the answer for an account."""
        hook = None
        if account.provider in REPORTING:
            tokens = Tokens(settings.secret_key.get_secret_value())
            named = AccountRef(account.tenant_id, account.id)
            hook = account_channels.hook_url(named, account.provider, tokens=tokens, public_url=settings.public_url)
        shown = {name: getattr(account, name) for name in cls.model_fields if name != "webhook_url"}
        return cls.model_validate(shown | {"webhook_url": hook})


class CheckedAccount(Strict):
    """Whether the provider takes the credentials."""

    ok: bool
    detail: str
    """Whose account it is, or what the provider says."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    body: AccountIn, session: SessionDep, actor: ActorDep, keeping: KeepingDep, settings: SettingsDep
) -> ChannelAccountOut:
    """Add an account; its secret is kept encrypted and never shown."""
    fields = body.model_dump(exclude={"provider"})
    return ChannelAccountOut.of(
        await accounts.create(session, body.provider, fields, keeping=keeping, by=actor), settings
    )


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, settings: SettingsDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ChannelAccountOut]:
    """List accounts, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await accounts.page(session, limit=limit + 1, after=after)
    return Page(
        items=[ChannelAccountOut.of(account, settings) for account in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{account_id}", dependencies=READ)
async def get(account_id: UUID, session: SessionDep, settings: SettingsDep) -> ChannelAccountOut:
    """Return an account."""
    return ChannelAccountOut.of(await accounts.get(session, account_id), settings)


@router.patch("/{account_id}", dependencies=WRITE)
async def update(
    account_id: UUID,
    body: AccountPatch,
    session: SessionDep,
    actor: ActorDep,
    keeping: KeepingDep,
    settings: SettingsDep,
) -> ChannelAccountOut:
    """Change an account. `name` and `rate_per_minute` may be null; the others, if given, must not be."""
    nullable = {"name", "rate_per_minute"}
    given = body.model_dump(exclude_unset=True)
    fields = {name: value for name, value in given.items() if value is not None or name in nullable}
    return ChannelAccountOut.of(await accounts.update(session, account_id, fields, keeping=keeping, by=actor), settings)


@router.delete("/{account_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(account_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Forget an account and its secret."""
    await accounts.delete(session, account_id, by=actor)


@router.post("/{account_id}/check", dependencies=WRITE)
async def check(
    account_id: UUID, principal: PrincipalDep, database: DatabaseDep, keeping: KeepingDep
) -> CheckedAccount:
    """Try an account's credentials with its provider; nothing is sent to anybody."""
    # Not in the request's transaction, which would be held open while the provider thinks.
    async with database.tenant(principal.tenant_id) as session:
        account = await accounts.get(session, account_id)
        credentials = accounts.credentials(account, keeping=keeping)
    found = await account_channels.check(credentials, private_hosts=keeping.private_hosts)
    return CheckedAccount(ok=found.ok, detail=found.detail[:500])
