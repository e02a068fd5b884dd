"""One deployment for all chaos tests, a tenant for each. The tests are sync: starting a Temporal runs its own loop."""

import os
import random
import secrets
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.chaos.deployment import Deployment, say
from tests.chaos.mail_sink import MailSink
from tests.chaos.shop import Shop


@pytest.fixture(scope="session")
def deployment() -> Generator[Deployment]:
    """Real processes, to be killed."""
    with (
        tempfile.TemporaryDirectory(prefix="throughline-chaos-") as folder,  # pytest's own is closed to PostgreSQL
        MailSink() as sink,
        Deployment(Path(folder), sink) as running,
    ):
        yield running


@pytest.fixture
def shop(deployment: Deployment) -> Generator[Shop]:
    """A tenant of this test's own, on a deployment that is all up."""
    deployment.revive()
    deployment.kills.clear()
    deployment.sink.accepted.clear()
    deployment.wait_for("the API answers", deployment.api_answers, seconds=60)
    made = Shop(deployment)
    yield made
    made.close()


@pytest.fixture
def chance() -> random.Random:
    """What is killed when; the seed is told with a failure, and CHAOS_SEED gives the same again."""
    seed = int(os.environ.get("CHAOS_SEED", secrets.randbelow(1_000_000)))
    say(f"CHAOS_SEED={seed}")
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log with a test that failed."""
    report = yield
    running = item.funcargs.get("deployment")
    if report.failed and isinstance(running, Deployment):
        report.sections += running.log_tails()
    return report
