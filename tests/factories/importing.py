"""Files of people, uploaded and taken in as the API and the worker do it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from httpx import AsyncClient
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportProgress, ImportRef
from core.database import Database
from services.commerce import product_import
from services.crm import deal_import
from services.identity.import_kinds import KINDS, Kinds

ALL_KINDS: Kinds = {**KINDS, **deal_import.KINDS, **product_import.KINDS}


class Importing:
    """The imports of one tenant: of people, or of what the path says."""

    def __init__(self, client: AsyncClient, database: Database, tenant_id: UUID, of: str = "/people") -> None:
        self.of = of
        self.client = client
        self.database = database
        self.tenant_id = tenant_id

    async def call(self, method: str, path: str, status: int | None = None, **options: Any) -> Any:  # noqa: ANN401 - JSON
        """Call the API; the answer's JSON."""
        answer = await self.client.request(method, f"/v1{self.of}{path}", **options)
        assert answer.is_success if status is None else answer.status_code == status, answer.text
        return answer.json()

    async def upload(
        self,
        content: str | bytes,
        *,
        kind: str = "text/csv",
        status: int = 201,
        mapping: Mapping[str, str | None] | None = None,
        start: bool = False,
        **options: Any,  # noqa: ANN401 - of the import
    ) -> Any:  # noqa: ANN401 - JSON
        """Upload a file as the body; the import."""
        query = {"options": json.dumps(options), "start": str(start).lower()}
        if mapping is not None:
            query["mapping"] = json.dumps(mapping)
        body = content.encode() if isinstance(content, str) else content
        return await self.call("POST", "/imports", status, content=body, params=query, headers={"Content-Type": kind})

    async def work(self, import_id: str) -> ImportProgress:
        """Do what the worker does with an import that was started."""
        ref = ImportRef(tenant_id=self.tenant_id, import_id=UUID(import_id))
        return await ActivityEnvironment().run(ImportActivities(self.database, ALL_KINDS).run, ref)

    async def check(self, import_id: str) -> Any:  # noqa: ANN401 - JSON
        """Check an import as the worker does; its report."""
        await self.call("POST", f"/imports/{import_id}/check", 202, json={})
        ref = ImportRef(tenant_id=self.tenant_id, import_id=UUID(import_id))
        await ActivityEnvironment().run(ImportActivities(self.database, ALL_KINDS).check, ref)
        return (await self.call("GET", f"/imports/{import_id}"))["report"]

    async def take(self, content: str | bytes, **options: Any) -> Any:  # noqa: ANN401 - JSON
        """Upload a file and take it in; the import as it is then."""
        made = await self.upload(content, start=True, **options)
        assert (await self.work(made["id"])).done
        found = await self.call("GET", f"/imports/{made['id']}")
        assert found["status"] == "finished"
        return found

    async def rejects(self, found: Mapping[str, Any]) -> list[tuple[int, str | None, str]]:
        """The rows that were refused: line, field, reason."""
        page = await self.call("GET", f"/imports/{found['id']}/rejects")
        return [(row["line"], row["field"], row["reason"]) for row in page["items"]]

    async def person(self, **identifier: str) -> Any:  # noqa: ANN401 - JSON
        """The one person with this identifier."""
        (found,) = (await self.call("GET", "", params=identifier))["items"]
        return found


def counts(found: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """How many were created, updated, unchanged, rejected."""
    return found["created"], found["updated"], found["unchanged"], found["rejected"]


def csv_of(header: str, rows: Iterable[str]) -> str:
    """Return a file of these lines."""
    return "\n".join([header, *rows, ""])
