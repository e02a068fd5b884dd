"""What one API process holds open: the store, Temporal and the keys it knows."""

import asyncio
from dataclasses import dataclass

from temporalio.client import Client

from api.authentication import Authenticator
from api.declared import DeclaredTypes
from api.graphql.sockets import Sockets
from api.stream.progress import Progress
from api.stream.streams import Streams
from api.tracking.rates import Buckets
from api.tracking.websites import Websites
from core import temporal
from core.database import Database
from core.logging import get_logger
from core.settings import Settings
from core.tokens import Tokens
from services.commerce.gateways import Gateways
from services.events.stream.hub import Hub

FIRST_RETRY = 0.2
LONGEST_RETRY = 5.0
VISITS_PER_SECOND = 50
VISITS_AT_ONCE = 200
"""Requests of one address with one write key."""
SUBMISSIONS_PER_SECOND = 5
SUBMISSIONS_AT_ONCE = 50
"""Submissions of one address by one form."""
SIGN_INS_PER_SECOND = 0.5
SIGN_INS_AT_ONCE = 20
"""Attempts of one address, whomever it claims to be."""

_log = get_logger(__name__)


class TemporalLink:
    """Connects to Temporal in the background, so that the API serves what it can while Temporal is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self.client: Client | None = None
        """Set once connected; it reconnects by itself from then on."""

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        delay = FIRST_RETRY
        while self.client is None:
            try:
                self.client = await temporal.connect(self._settings)
            except RuntimeError as error:
                _log.warning("temporal_unavailable", error=str(error), retry_in=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY)

    async def close(self) -> None:
        """Stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Resources:
    """Made with the app and opened by its lifespan; nothing connects before that."""

    settings: Settings
    database: Database
    authenticator: Authenticator
    temporal: TemporalLink
    gateways: Gateways
    declared: DeclaredTypes
    websites: Websites
    hub: Hub
    """Tells whoever listens what happens."""
    streams: Streams
    progress: Progress
    sockets: Sockets
    """Those that GraphQL is asked over."""
    visits: Buckets
    """What an address may send with a write key."""
    submissions: Buckets
    """What an address may send to a form."""
    sign_ins: Buckets
    """How often an address may try to sign in."""

    @classmethod
    def of(cls, settings: Settings) -> "Resources":
        """Return the resources that the settings name."""
        database = Database(settings.database_url, pool_size=settings.database_pool_size)
        authenticator = Authenticator(database)
        hub = Hub(
            database,
            Tokens(settings.secret_key.get_secret_value()),
            per_tenant=settings.streams_per_tenant,
            in_all=settings.streams,
        )
        return cls(
            settings=settings,
            database=database,
            authenticator=authenticator,
            temporal=TemporalLink(settings),
            gateways=Gateways(settings),
            declared=DeclaredTypes(database),
            websites=Websites(database),
            hub=hub,
            streams=Streams(hub, authenticator),
            progress=Progress(database),
            sockets=Sockets(authenticator, per_tenant=settings.streams_per_tenant, in_all=settings.streams),
            visits=Buckets(rate=VISITS_PER_SECOND, burst=VISITS_AT_ONCE),
            submissions=Buckets(rate=SUBMISSIONS_PER_SECOND, burst=SUBMISSIONS_AT_ONCE),
            sign_ins=Buckets(rate=SIGN_INS_PER_SECOND, burst=SIGN_INS_AT_ONCE),
        )

    def part(self) -> None:
        """Send away who would stay for ever, as the process is about to end."""
        self.sockets.end()
        self.progress.close()
        self.streams.end()

    async def close(self) -> None:
        """Close all connections."""
        self.sockets.end()
        self.progress.close()
        await self.streams.close()
        await self.hub.close()
        await self.temporal.close()
        await self.gateways.close()
        await self.database.close()
