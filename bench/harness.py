"""What every bench uses: real servers of its own, a tenant with people, and ratios against a named reference.

Only ratios are judged, measured side by side in one run; absolute figures are printed for orientation.
"""

import os
import statistics
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.client import Client

from core.actor import CLI
from core.database import Database
from core.settings import Settings
from core.temporal import connect
from migrations.run import upgrade
from services.journeys import journeys, versions
from services.marketing import templates
from services.tenancy import tenants
from stack.dev import CACHE
from stack.postgres import EmbeddedPostgres
from stack.temporal import DevTemporal

FULL = os.environ.get("SCALE") == "full"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A measured ratio and the bound it has to keep."""

    name: str
    value: float
    bound: float
    at_least: bool

    @property
    def good(self) -> bool:
        """Whether the bound is kept."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"RATIO {self.name} {self.value:.2f} (target {sign} {self.bound:g})"


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses of the servers a bench runs on."""

    settings: Settings
    folder: Path


@contextmanager
def servers() -> Generator[Servers]:
    """Run a Postgres and a file-backed Temporal for one bench, in a folder that goes away."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="throughline-bench-")))
        folder.chmod(0o755)  # PostgreSQL's own account goes through it
        postgres = EmbeddedPostgres(folder)
        cleanup.callback(postgres.stop)
        temporal = DevTemporal(folder, cache=CACHE, ui=False)
        cleanup.callback(temporal.stop)
        yield Servers(
            Settings(
                database_url=postgres.start(),
                temporal_address=temporal.start(),
                secret_key=SecretStr("only for benches, thirty-two letters"),
                mail_dir=folder / "mail",
                data_dir=folder / "data",
            ),
            folder,
        )


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant to measure with."""

    id: UUID
    database: Database
    client: Client
    url: str

    async def people(self, count: int) -> list[UUID]:
        """Make people with an address, an attribute and an opt-in; return their ids."""
        async with self.database.tenant(self.id) as session:
            rows = await session.execute(
                text("""
                WITH made AS (
                  INSERT INTO person (tenant_id, id, email, first_name, attributes)
                  SELECT :tenant, id, id || '@bench.example', 'Bench', jsonb_build_object('n', n)
                  FROM (SELECT tl_uuid7() AS id, n FROM generate_series(1, :count) AS n) AS fresh
                  RETURNING tenant_id, id
                ), opted AS (
                  INSERT INTO consent (tenant_id, person_id, channel, topic, status)
                  SELECT tenant_id, id, 'email', 'news', 'opted_in' FROM made
                )
                SELECT id FROM made
                """),
                {"tenant": self.id, "count": count},
            )
            ids = [row.id for row in rows]
        await self.analyze()
        return ids

    async def analyze(self) -> None:
        """Bring the planner's statistics up to date, as autovacuum soon would."""
        connection = await asyncpg.connect(self.url)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()

    async def template(self, key: str) -> None:
        """Make an e-mail template."""
        async with self.database.tenant(self.id) as session:
            text = templates.Text(
                name=key,
                subject="Hello {{ person.first_name }}",
                body="<p>Hello {{ person.first_name }}, this is a bench.</p>",
                text_body=None,
                from_address="bench@bench.example",
                purpose="marketing",
                topic="news",
            )
            await templates.create(session, key=key, channel="email", text=text, by=CLI)

    async def journey(self, key: str, definition: dict[str, Any]) -> versions.LoadedVersion:
        """Publish a journey."""
        async with self.database.tenant(self.id) as session:
            journey = await journeys.create(session, key=key, name=key, definition=definition, by=CLI)
            version = await journeys.publish(session, journey, by=CLI)
            return await versions.load(session, version.id)


@asynccontextmanager
async def tenant(running: Servers, key: str) -> AsyncGenerator[Tenant]:
    """Migrate, make a tenant, connect."""
    await upgrade(running.settings.database_url)
    database = Database(running.settings.database_url, pool_size=16)
    try:
        async with database.system() as session:
            made = await tenants.create(session, key, key)
        yield Tenant(made.id, database, await connect(running.settings), running.settings.database_url)
    finally:
        await database.close()


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


Report = Callable[[str], None]
