"""Fixtures every test may ask for: real servers, shared by all test processes, and a database of one's own."""

import gc
import os
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import hypothesis
import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from core.database import Database
from core.settings import Settings
from core.temporal import connect
from services.tenancy import passwords, tenants
from stack.processes import StackError
from tests import servers, statements, written_events
from tests.contents import Contents
from tests.empty_databases import EmptyDatabases
from tests.factories.marketing import Marketing

# Speed is the benches' subject; on a busy machine a deadline only makes tests fail now and then.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("default"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

_running = ExitStack()


def pytest_configure() -> None:
    """Run the servers' process beside the controller, for it and all workers."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _running.enter_context(servers.running())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what stays until the end: all modules, and ten thousand tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Stop every server that was started."""
    _running.close()


@pytest.fixture(scope="session", autouse=True)
def _every_statement_binds_its_tenant() -> Generator[None]:
    """Hold all our statements to it, whichever test makes our code send them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        statements.guard(monkeypatch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _passwords_take_no_time() -> Generator[None]:
    """Hash with parameters nobody should keep a password with; the tests of passwords themselves take the real ones."""
    light = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(passwords, "_hasher", light)
        monkeypatch.setattr(passwords, "_DECOY", light.hash(secrets.token_hex()))
        yield


@pytest.fixture(scope="module", autouse=True)
async def _every_event_fits_the_catalogue(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    """Hold the catalogue of event types to all that the module's tests had written."""
    yield
    made_up = request.node.get_closest_marker("made_up_events") is not None
    for reader in written_events.readers:
        await reader.check(made_up=made_up)


@pytest.fixture(scope="session")
def template_url() -> str:
    """The migrated database that others are copied from; nobody connects to it."""
    return servers.ask("postgres")


@pytest.fixture(scope="session")
async def database_url(template_url: str) -> str:
    """This test process's own database, as a superuser; shared by its tests, so each test makes tenants of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    url = await servers.create_database(template_url, f"{servers.database_name(template_url)}_{worker}")
    written_events.readers.append(written_events.Reader(url))
    return url


@pytest.fixture(scope="session")
def empty_databases(template_url: str) -> EmptyDatabases:
    """Where `empty_database_url` comes from."""
    return EmptyDatabases(template_url)


@pytest.fixture
async def empty_database_url(empty_databases: EmptyDatabases) -> AsyncGenerator[str]:
    """A migrated database with nothing in it, for one test: where a cursor or a count spans tenants."""
    url = await empty_databases.take()
    yield url
    await empty_databases.give_back(url)


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncGenerator[Database]:
    """The application's connections to this test process's database."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def contents(database_url: str) -> AsyncGenerator[Contents]:
    """What this test process's database holds of a tenant."""
    contents = Contents(database_url)
    yield contents
    await contents.close()


@pytest.fixture
async def tenant_id(database: Database) -> UUID:
    """A tenant of this test's own."""
    async with database.system() as session:
        tenant = await tenants.create(session, f"test-{uuid4().hex}", "Test")
    return tenant.id


@pytest.fixture
def marketing(database: Database, tenant_id: UUID, database_url: str) -> Marketing:
    """The journeys, people and templates of the test's tenant."""
    return Marketing(database, tenant_id, database_url)


@pytest.fixture
async def other_tenant(database: Database, database_url: str) -> Marketing:
    """Another tenant's, of which the test's tenant must know nothing."""
    async with database.system() as session:
        tenant = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    return Marketing(database, tenant.id, database_url)


@pytest.fixture(scope="session")
def temporal_address() -> str:
    """The Temporal server's frontend, `host:port`; use a task queue and workflow ids of your own."""
    return servers.ask("temporal")


@pytest.fixture(scope="session")
def settings(database_url: str, temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What a process of the application would be told, with mail and state in temporary folders."""
    folder = tmp_path_factory.mktemp("process")
    return Settings(
        database_url=database_url,
        temporal_address=temporal_address,
        secret_key=SecretStr("a secret for tests, 32 letters or more"),
        mail_dir=folder / "mail",
        data_dir=folder / "data",
        allow_private_hosts=True,  # the providers of tests are on this machine
    )


@pytest.fixture(scope="session")
async def temporal_client(settings: Settings) -> Client:
    """The application's Temporal client."""
    return await connect(settings)


@pytest.fixture(scope="session")
async def time_skipping_env() -> AsyncGenerator[WorkflowEnvironment]:
    """A Temporal whose clock jumps over waits; one per test process, one test at a time."""
    try:
        program = Path(servers.ask("test-server"))
    except StackError as error:
        if os.environ.get("CI"):
            raise  # in CI the tests of long waits must run
        pytest.skip(f"tests of long waits need Temporal's time-skipping server: {error}")
    environment = await WorkflowEnvironment.start_time_skipping(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
        test_server_existing_path=str(program),
        test_server_startup_timeout=timedelta(seconds=60),
        data_converter=pydantic_data_converter,
    )
    yield environment
    await environment.shutdown()
