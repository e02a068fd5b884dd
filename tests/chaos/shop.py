"""A tenant of a deployment and its client, who asks again until the API has answered."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from core.actor import CLI
from core.database import Database
from services.tenancy import api_keys, tenants
from tests.chaos.deployment import Deployment

PATIENCE_SECONDS: Final = 60
_RETRY_SECONDS: Final = 0.1


class Shop:
    """One tenant with a key that may do everything. Its client may be used by several threads."""

    def __init__(self, deployment: Deployment, known: tuple[UUID, str] | None = None) -> None:
        """Make a tenant; or take one that was restored there, by its id and its key."""
        self.deployment = deployment
        self.tenant_id, self.secret = known or deployment.run(_new_tenant(deployment.database_url))
        self._api = httpx.Client(
            base_url=f"{deployment.base_url}/v1", headers={"Authorization": f"Bearer {self.secret}"}, timeout=30
        )
        if known is None:
            self.call("PATCH", "/tenant", {"postal_address": "Weg 1, Bonn"})  # marketing mail names one

    def close(self) -> None:
        """Close the client's connections."""
        self._api.close()

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:  # noqa: ANN401 - JSON
        """Ask once; return whatever is answered.

        Raises:
            httpx.TransportError: nobody answered.
        """
        return self._api.request(method, path, json=body)

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask until it is done: the same request with the same key while nobody answers, or one is still at work.

        Raises:
            AssertionError: the API refused it, or nobody answered for a minute.
        """
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._api.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                problem = repr(error)
            else:
                if answer.is_success:
                    return answer.json()
                problem = f"{answer.status_code} {answer.text}"
                busy = answer.status_code == HTTPStatus.CONFLICT and "Idempotency-Key" in answer.text
                assert answer.is_server_error or busy, f"{method} {path}: {problem}"
            assert time.monotonic() < deadline, f"{method} {path}: {problem}"
            time.sleep(_RETRY_SECONDS)

    def upload(self, content: str, path: str) -> Any:  # noqa: ANN401 - JSON
        """Upload a CSV file; what the API answers."""
        answer = self._api.post(path, content=content.encode(), headers={"Content-Type": "text/csv"})
        assert answer.is_success, answer.text
        return answer.json()

    def people(self, count: int, *, without_consent: int = 0) -> list[UUID]:
        """Make people with an address and an opt-in; the attribute `n` counts from 0.

        With `without_consent`, every so-manieth has not opted in.
        """
        rows = self.deployment.fetch(
            """
            WITH made AS (
              INSERT INTO person (tenant_id, id, email, first_name, attributes)
              SELECT $1, id, id || '@chaos.example', 'Chaos', jsonb_build_object('n', n)
              FROM (SELECT tl_uuid7() AS id, n FROM generate_series(0, $2 - 1) AS n) AS fresh
              RETURNING tenant_id, id, (attributes ->> 'n')::int AS n
            ), opted AS (
              INSERT INTO consent (tenant_id, person_id, channel, topic, status)
              SELECT tenant_id, id, 'email', 'news', 'opted_in' FROM made WHERE $3 = 0 OR n % $3 <> 0
            )
            SELECT id FROM made ORDER BY n
            """,
            self.tenant_id,
            count,
            without_consent or 0,
        )
        return [row["id"] for row in rows]

    def template(self, key: str) -> str:
        """Make an e-mail template of topic `news`; return its id."""
        body = "<p>Hello {{ person.first_name }}</p>"
        made = self.call(
            "POST",
            "/templates",
            {"key": key, "channel": "email", "subject": key, "body": body, "topic": "news", "from": "a@chaos.example"},
            key=uuid4().hex,
        )
        return made["id"]

    def journey(self, key: str, definition: dict[str, Any]) -> None:
        """Make and publish a journey."""
        self.call("POST", "/journeys", {"key": key, "name": key, "definition": definition}, key=uuid4().hex)
        self.call("POST", f"/journeys/{key}/publish", {}, key=uuid4().hex)

    def enroll(self, journey: str, people: Sequence[UUID], **entry: object) -> None:
        """Enroll people in one request, as one cohort."""
        body = {"person_ids": [str(person_id) for person_id in people], "entry": entry}
        done = self.call("POST", f"/journeys/{journey}/enrollments", body, key=uuid4().hex)
        assert done["enrolled"] == len(people), done

    def events(self, kind: str, events: Sequence[tuple[UUID, dict[str, Any]]]) -> None:
        """Record an event (person, properties) of each; sent again, each counts once."""
        items = [
            {"type": kind, "person": {"id": str(person)}, "properties": given, "idempotency_key": uuid4().hex}
            for person, given in events
        ]
        done = self.call("POST", "/events/batch", {"events": items})
        assert not done["rejected"], done

    def open_passages(self) -> int:
        """How many people are in a journey."""
        return self.deployment.count(
            "SELECT count(*) FROM enrollment WHERE tenant_id = $1 AND ended_at IS NULL", self.tenant_id
        )


async def _new_tenant(database_url: str) -> tuple[UUID, str]:
    database = Database(database_url, pool_size=1)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.create(session, f"chaos-{uuid4().hex[:8]}", "Chaos")).id
        async with database.tenant(tenant_id) as session:
            _, secret = await api_keys.create(session, "chaos", [api_keys.ALL], by=CLI)
        return tenant_id, secret
    finally:
        await database.close()
