"""Any course of creating, identifying, merging, undoing and erasing: what must hold does, after every step."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from core.actor import CLI
from core.address_hashes import AddressHashes
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Tenant
from services.events import ingest
from services.events.incoming import check
from services.identity import aliases, anonymous, erasing, identifiers, lifecycle, merging, people, unmerging
from services.identity.consent import Choice
from services.identity.people import PersonChange
from tests.services.identity.merging import orphans

EMAILS = st.none() | st.sampled_from([f"{name}@shop.example" for name in "abcd"])
BROWSERS = st.none() | st.sampled_from(["phone", "laptop", "library"])
HASHES = AddressHashes("a secret for tests, 32 letters or more")
PICK = st.integers(0, 10_000)

_SHOWN = text("""
    SELECT count(*) FROM person p
    WHERE p.tenant_id = :tenant AND p.email IS DISTINCT FROM (
      SELECT i.value FROM person_identifier i
      WHERE i.tenant_id = :tenant AND i.kind = 'email' AND i.value = p.email AND i.person_id = p.id)
""")
_HIDDEN = text("""
    SELECT count(*) FROM person p
    WHERE p.tenant_id = :tenant AND p.email IS NULL AND EXISTS (
      SELECT FROM person_identifier i WHERE i.tenant_id = :tenant AND i.kind = 'email' AND i.person_id = p.id)
""")
_STAGES = text("""
    SELECT id, lifecycle_stage, is_customer, is_lead, is_contact FROM person WHERE tenant_id = :tenant ORDER BY id
""")
_EVENTS = text("SELECT count(*) FROM event WHERE tenant_id = :tenant AND type = 'a.b' AND person_id = ANY(:people)")
_ALL_EVENTS = text("SELECT count(*) FROM event WHERE tenant_id = :tenant AND type = 'a.b' AND person_id IS NOT NULL")


class Identity(RuleBasedStateMachine):
    """One tenant, and what its people should come to."""

    url: str

    def __init__(self) -> None:
        """Make the tenant."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = Database(self.url, pool_size=2)
        self.tenant_id = new_id()
        self.known: list[UUID] = []
        """Every id that somebody ever had."""
        self.erased: set[UUID] = set()
        self.merges: list[UUID] = []
        self.events = 0
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.database.close())
        self.runner.close()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def _begin(self) -> None:
        async with self.database.system() as session:
            session.add(Tenant(id=self.tenant_id, key=f"machine-{self.tenant_id.hex}", name="Machine"))

    def pick(self, number: int) -> UUID:
        return self.known[number % len(self.known)]

    async def _note_new(self) -> None:
        async with self.session() as session:
            found = await session.scalars(
                text("SELECT id FROM person WHERE tenant_id = :tenant ORDER BY id"), {"tenant": self.tenant_id}
            )
            self.known += [person_id for person_id in found if person_id not in self.known]
            merges = await merging.page(session, limit=100, before=None, person_id=None)
            self.merges = [merged.id for merged in reversed(merges)]

    @rule(email=EMAILS, browser=BROWSERS, lead=st.booleans(), agrees=st.none() | st.booleans())
    def create(self, email: str | None, browser: str | None, *, lead: bool, agrees: bool | None) -> None:
        """Create or find somebody by both at once, which may make a visitor known."""
        change = PersonChange(
            identifiers={"email": email, "anonymous_id": browser},
            fields={"first_name": email or browser or "Ann"},
            roles={"contact": lead},
            consent=() if agrees is None else [Choice("email", "news", "opted_in" if agrees else "opted_out")],
        )

        async def work() -> None:
            try:
                async with self.session() as session:
                    await people.upsert(session, change, by=CLI)
            except ConflictError as error:
                assert "different people" in error.detail  # noqa: PT017 - both outcomes are right
            await self._note_new()

        self.run(work())

    @precondition(lambda self: self.known)
    @rule(who=st.none() | PICK, email=EMAILS, browser=BROWSERS, form=st.booleans())
    def happen(self, who: int | None, email: str | None, browser: str | None, *, form: bool) -> None:
        """An event, by id, by identifiers, or by both."""
        if who is None and email is None and browser is None:
            return
        events = [
            check(
                event_type=event_type,
                person_id=None if who is None else self.pick(who),
                identifiers={"email": email, "anonymous_id": browser},
                properties={},
                now=datetime.now(UTC),
            )
            for event_type in (["a.b", "form.submitted"] if form else ["a.b"])
        ]

        async def unite(groups: Any) -> bool:  # noqa: ANN401 - as ingest asks it
            async with self.session() as session:
                return await anonymous.unite(session, groups, by=CLI)

        async def work() -> None:
            async with self.database.hot(self.tenant_id) as connection:
                lent = cast("ingest.Connection", connection)
                written = await ingest.accept_batch(lent, self.tenant_id, events, by=CLI, unite=unite)
            if written[0].error is None:
                self.events += 1
            else:
                assert isinstance(written[0].error, ConflictError | InvalidError)
            async with self.session() as session:
                living = list(
                    await session.scalars(
                        text("SELECT id FROM person WHERE tenant_id = :tenant"), {"tenant": self.tenant_id}
                    )
                )
                await lifecycle.recompute(session, living)  # what the relay would have done
            await self._note_new()

        self.run(work())

    @precondition(lambda self: self.known)
    @rule(who=PICK, email=EMAILS.filter(bool), primary=st.booleans())
    def attach(self, who: int, email: str, *, primary: bool) -> None:
        """One more address."""

        async def work() -> None:
            try:
                async with self.session() as session:
                    await identifiers.attach(
                        session, self.pick(who), kind="email", value=email, primary=primary, by=CLI
                    )
            except (ConflictError, NotFoundError):
                pass
            await self._note_new()

        self.run(work())

    @precondition(lambda self: self.known)
    @rule(who=PICK, email=EMAILS.filter(bool))
    def detach(self, who: int, email: str) -> None:
        """One address less."""

        async def work() -> None:
            try:
                async with self.session() as session:
                    await identifiers.detach(session, self.pick(who), kind="email", value=email, by=CLI)
            except NotFoundError:
                pass

        self.run(work())

    @precondition(lambda self: len(self.known) > 1)
    @rule(one=PICK, other=PICK)
    def merge(self, one: int, other: int) -> None:
        """Two become one."""

        async def work() -> None:
            try:
                async with self.session() as session:
                    await merging.merge(session, self.pick(one), self.pick(other), by=CLI)
            except ConflictError as error:
                assert "the same person" in error.detail  # noqa: PT017 - both outcomes are right
            except NotFoundError:
                assert self.erased & {self.pick(one), self.pick(other)}
            await self._note_new()

        self.run(work())

    @precondition(lambda self: self.merges)
    @rule(number=PICK)
    def undo(self, number: int) -> None:
        """One become two again."""

        async def work() -> None:
            try:
                async with self.session() as session:
                    await unmerging.undo(session, self.merges[number % len(self.merges)], by=CLI)
            except ConflictError as error:
                assert "before" in error.detail  # noqa: PT017 - both outcomes are right

        self.run(work())

    @precondition(lambda self: len(self.known) > 2)
    @rule(who=PICK)
    def erase(self, who: int) -> None:
        """Somebody is forgotten, with all whose ids mean the same."""

        async def work() -> None:
            try:
                async with self.session() as session:
                    ids = await aliases.ids_of(session, await aliases.resolve(session, self.pick(who)))
                    values = {"tenant": self.tenant_id, "people": ids}
                    self.events -= await session.scalar(_EVENTS, values) or 0
                    await erasing.erase(session, self.pick(who), by=CLI, hashes=HASHES)
                    self.erased |= set(ids)
            except NotFoundError:
                assert self.pick(who) in self.erased
            await self._note_new()

        self.run(work())

    @invariant()
    def all_is_well(self) -> None:
        """Every reference is at a living person, every address at whom shows it, every stage as computed."""
        self.run(self._look())

    async def _look(self) -> None:
        values = {"tenant": self.tenant_id}
        async with self.session() as session:
            assert await orphans(session, gone=self.erased) == {}
            for person_id in self.known:
                if person_id in self.erased:
                    continue
                living = await aliases.resolve(session, person_id)
                assert living not in self.erased
                assert living == (await people.get(session, person_id)).id
            for question in (_SHOWN, _HIDDEN):
                assert await session.scalar(question, values) == 0, question.text
            assert await session.scalar(_ALL_EVENTS, values) == self.events
            stored = (await session.execute(_STAGES, values)).all()
            await lifecycle.recompute(session, [row.id for row in stored])
            assert (await session.execute(_STAGES, values)).all() == stored


@pytest.mark.timeout(400)
def test_whatever_happens_to_identities_every_reference_is_at_a_living_person(database_url: str) -> None:
    class Here(Identity):
        url = database_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
