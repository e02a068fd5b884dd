"""The whole stack on one machine: up with one word, whole again when a part dies, gone with another word."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from stack.dev import CACHE, DevInfo
from stack.temporal import has_poller
from tests.stack.waiting import is_gone, wait_for

THROUGHLINE = [sys.executable, "-m", "cli"]


@pytest.fixture
def folder() -> Generator[Path]:
    """A cache of its own, with the programs that were installed already."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own temporary folders are closed to PostgreSQL's account
        if (CACHE / "bin").exists():
            (folder / "bin").symlink_to(CACHE / "bin")
        yield folder
        throughline(folder, "down")


def throughline(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**known, "THROUGHLINE_CACHE": str(folder)}
    return subprocess.run([*THROUGHLINE, *arguments], env=environment, capture_output=True, text=True, check=False)


def children(pid: int) -> dict[str, int]:
    """The stack's processes by what they run."""
    found: dict[str, int] = {}
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            command = child.cmdline()
            words = [word for word in command if word in {"start-dev", "uvicorn", "worker.py"}]
            name = words[0] if words else Path(*command[:1]).name  # a process that just ended has no command
            found[name] = child.pid
    return found


def test_the_stack_comes_up_heals_and_goes(folder: Path) -> None:
    up = throughline(folder, "dev", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    info = DevInfo.model_validate_json((folder / "dev.json").read_text())
    assert (folder / "dev.json").stat().st_mode & 0o777 == 0o600
    assert info.api_key in up.stdout
    assert info.api_key not in (folder / "dev.log").read_text()
    headers = {"Authorization": f"Bearer {info.api_key}"}
    assert httpx.get(f"{info.base_url}/v1/tenant", headers=headers).json()["key"] == "demo"

    again = throughline(folder, "dev")
    assert again.returncode == 1
    assert "runs already" in again.stderr

    before = children(info.pid)
    assert set(before) == {"postgres", "start-dev", "uvicorn", "worker.py"}
    killed = ("worker.py", "postgres", "start-dev")
    for part in killed:
        os.kill(before[part], signal.SIGKILL)
    wait_for(lambda: all(children(info.pid).get(part, before[part]) != before[part] for part in killed), seconds=60)
    wait_for(lambda: httpx.get(f"{info.base_url}/readyz").is_success, seconds=60)
    healed = children(info.pid)
    wait_for(lambda: asyncio.run(has_poller(info.temporal_address, healed["worker.py"])), seconds=60)

    assert throughline(folder, "down").returncode == 0
    wait_for(lambda: all(is_gone(pid) for pid in (info.pid, *healed.values())))

    assert throughline(folder, "dev", "--detach").returncode == 0
    second = DevInfo.model_validate_json((folder / "dev.json").read_text())
    assert (second.api_key, second.database_url) == (info.api_key, info.database_url)


def test_the_demo_does_the_main_job_and_does_it_again(folder: Path) -> None:
    for _ in range(2):
        shown = throughline(folder, "demo")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "`abandoned_cart` completed: goal." in shown.stdout
        assert "The page he saw before is in his record: True" in shown.stdout
        assert "The thank-you mail is out" in shown.stdout
        profile = json.loads(shown.stdout[shown.stdout.index("\n{\n") : shown.stdout.index("\n}\n") + 3])
        assert profile["customer"]["total_spent"] == {"amount": "212.95", "currency": "EUR"}
        assert profile["identity"]["lifecycle_stage"] == "customer"
        assert set(profile["campaigns"]["enrolled"]) == {
            "welcome",
            "onboarding",
            "abandoned_cart",
            "customer_retention",
            "priority",
        }
        assert profile["campaigns"]["email_engagement"] == {"sent": 4, "opens": 1, "clicks": 1}
        assert "clicked 1, in doubt 0, revenue 60.00 EUR, spend 0.0" in shown.stdout
        assert "order.placed, order.fulfilled, order.completed, order.refunded." in shown.stdout
        assert "events about him since the demo began" in shown.stdout
        assert "One GraphQL query across the domains: {" in shown.stdout
        assert shown.stdout.count("  curl ") == 3


def test_a_part_that_cannot_start_ends_the_whole_with_its_reason(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "secret-key").write_text("too short")
    failed = throughline(folder, "dev")
    assert failed.returncode == 1
    assert "API ended at once" in failed.stderr
    assert "secret_key" in failed.stderr
    assert "Stopping PostgreSQL" in failed.stdout
