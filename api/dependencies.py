"""What routes ask for: who calls, a session of their tenant, Temporal, and the scope they need.

All are `async`, though few await: FastAPI would run a plain function in a thread, which costs more than all of them.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, cast
from uuid import UUID

from fastapi import Depends, Request, params
from fastapi.security import HTTPBearer
from temporalio.client import Client

from api.authentication import Authenticator, Principal
from api.resources import Resources
from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import ForbiddenError, UnavailableError
from core.settings import Settings
from services.commerce.gateways import Gateways
from services.tenancy.api_keys import SCOPES

# Declared for the OpenAPI document alone: get_principal reads the header itself.
_bearer = HTTPBearer(
    auto_error=False, scheme_name="apiKey", description="An API key `tl_live_...`, or a session's token `tl_sess_...`"
)


async def get_resources(request: Request) -> Resources:
    """Return what this process holds open."""
    return cast("Resources", request.app.state.resources)


ResourcesDep = Annotated[Resources, Depends(get_resources)]


async def get_database(resources: ResourcesDep) -> Database:
    """Return the store's connections."""
    return resources.database


async def get_settings(resources: ResourcesDep) -> Settings:
    """Return the process's settings."""
    return resources.settings


async def get_authenticator(resources: ResourcesDep) -> Authenticator:
    """Return the keys this process knows."""
    return resources.authenticator


async def get_gateways(resources: ResourcesDep) -> Gateways:
    """Return the payment gateways."""
    return resources.gateways


DatabaseDep = Annotated[Database, Depends(get_database)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
GatewaysDep = Annotated[Gateways, Depends(get_gateways)]
AuthenticatorDep = Annotated[Authenticator, Depends(get_authenticator)]


async def get_principal(
    request: Request, authenticator: AuthenticatorDep, _documented: Annotated[object, Depends(_bearer)]
) -> Principal:
    """Return who calls; 401 without a valid key or session."""
    principal = await authenticator.authenticate(request.headers.get("authorization"))
    request.state.principal = principal
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]


async def get_actor(request: Request, principal: PrincipalDep) -> Actor:
    """Return the caller as the activity log names it."""
    return principal.actor(request.state.request_id)


ActorDep = Annotated[Actor, Depends(get_actor)]


async def get_session(request: Request, principal: PrincipalDep, database: DatabaseDep) -> AsyncIterator[TenantSession]:
    """Lend the request's one transaction: committed before the answer is sent, rolled back when the route raises.

    With an `Idempotency-Key` it is the transaction that holds the claim, which its middleware commits.
    """
    async with _lent(request, principal, database) as session:
        yield session


@asynccontextmanager
async def _lent(request: Request, principal: Principal, database: Database) -> AsyncGenerator[TenantSession]:
    claimed: TenantSession | None = getattr(request.state, "claimed_session", None)
    if claimed is not None:
        yield claimed
        return
    async with database.tenant(principal.tenant_id) as session:
        yield session


SessionDep = Annotated[TenantSession, Depends(get_session, scope="function")]
"""`scope="function"`: the default would commit after the answer is sent, and a failing commit would go unseen."""


async def get_claim(request: Request) -> UUID | None:
    """Return what names the request, the same when it is sent again; None without an `Idempotency-Key`."""
    return getattr(request.state, "claim", None)


ClaimDep = Annotated[UUID | None, Depends(get_claim)]


async def get_now() -> datetime:
    """Return the time, for what compares it with times it keeps; tests give another."""
    return datetime.now(UTC)


NowDep = Annotated[datetime, Depends(get_now)]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody with a session of their own."""

    user_id: UUID
    session_id: UUID
    actor: Actor
    _request: Request
    _principal: Principal
    _database: Database

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[TenantSession]:
        """Lend a transaction of the tenant, for routes that must not hold one while they compute."""
        async with _lent(self._request, self._principal, self._database) as session:
            yield session


async def get_signed_in(request: Request, principal: PrincipalDep, actor: ActorDep, database: DatabaseDep) -> SignedIn:
    """Return who is signed in; 403 for an API key, which is nobody."""
    if principal.user_id is None or principal.session_id is None:
        raise ForbiddenError("This is for people who signed in; an API key is nobody.")
    return SignedIn(principal.user_id, principal.session_id, actor, request, principal, database)


SignedInDep = Annotated[SignedIn, Depends(get_signed_in)]


async def get_temporal(resources: ResourcesDep) -> Client:
    """Return the Temporal client; 503 while it could not connect yet."""
    if resources.temporal.client is None:
        raise UnavailableError("The workflow engine is not reachable yet; try again in a moment.")
    return resources.temporal.client


TemporalDep = Annotated[Client, Depends(get_temporal)]


def requires(scope: str) -> params.Depends:
    """Return the dependency that refuses a key without `scope` (`people:write`, ...) with 403 naming it."""
    if scope not in SCOPES:
        raise ValueError(f"{scope!r} is not a scope")

    async def check(principal: PrincipalDep) -> None:
        principal.require(scope)

    note_scope(check, scope)
    return params.Depends(check)


_SCOPES: Final[dict[object, str]] = {}


def note_scope(call: object, scope: str) -> None:
    """Have the OpenAPI document say that what depends on `call` needs `scope`."""
    _SCOPES[call] = scope


def scope_of(call: object) -> str | None:
    """Return the scope that a dependency asks for, if it asks for one."""
    return _SCOPES.get(call)
