"""Teammates by the command line: how the first one gets in, and who forgot the password."""

import asyncio
from uuid import UUID

import pytest
from httpx import AsyncClient
from typer.testing import CliRunner

import cli
from core.database import Database
from core.settings import Settings
from services.tenancy import tenants
from tests.factories.teammates import PASSWORD, address


async def throughline(*arguments: str, given: str) -> tuple[int, str]:
    """Run the command beside our loop, as it brings its own; return its exit code and output."""
    result = await asyncio.to_thread(CliRunner().invoke, cli.app, arguments, input=given)
    return result.exit_code, result.output


@pytest.fixture
async def tenant_key(database: Database, tenant_id: UUID, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cli, "settings", lambda: settings)
    async with database.tenant(tenant_id) as session:
        return (await tenants.get(session)).key


async def test_the_first_owner_is_made_and_a_forgotten_password_replaced(
    tenant_key: str, anonymous: AsyncClient
) -> None:
    email = address()
    for role in ("king", "owner"):
        code, output = await throughline(
            "user", "create", tenant_key, email, "--role", role, "--name", "Ann", "--password-stdin",
            given=PASSWORD + "\n",
        )  # fmt: skip
        assert code == (0 if role == "owner" else 1), output
        assert PASSWORD not in output
    body = {"email": email, "password": PASSWORD}
    answer = await anonymous.post("/v1/sessions", json=body)
    assert answer.json()["user"]["id"] == output.strip()
    assert (answer.json()["user"]["role"], answer.json()["user"]["name"]) == ("owner", "Ann")

    code, _ = await throughline("user", "create", tenant_key, email, given=f"{PASSWORD}\n{PASSWORD}\n")
    assert code == 1  # the address is taken

    wrong = body | {"password": "forgotten"}
    codes = [(await anonymous.post("/v1/sessions", json=wrong)).status_code for _ in range(6)]
    assert codes[-1] == 429
    new = "quite another sentence"
    code, output = await throughline("user", "password", tenant_key, email, given=f"{new}\n{new}\n")
    assert code == 0, output
    assert new not in output
    assert (await anonymous.post("/v1/sessions", json=body)).status_code == 401
    assert (await anonymous.post("/v1/sessions", json=body | {"password": new})).status_code == 201


@pytest.mark.parametrize(("email", "password"), [("ann@shop.example", "short"), ("nobody", PASSWORD)])
async def test_a_weak_password_or_a_wrong_address_makes_nobody(tenant_key: str, email: str, password: str) -> None:
    for command in ("create", "password"):
        code, _ = await throughline("user", command, tenant_key, email, "--password-stdin", given=password + "\n")
        assert code == 1
