"""`python -m stack.clients`: put the two clients together, ready to be packed, below `.cache/clients`."""

from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from api.app import create_app
from core.settings import Settings
from stack.clients import assembling

TARGET: Final = Path(__file__).parents[2] / ".cache" / "clients"


def document() -> dict[str, Any]:
    """Return the API's OpenAPI document; nothing is connected for it."""
    settings = Settings(database_url="postgresql://nobody@localhost/none", secret_key=SecretStr("no secret " * 4))
    return create_app(settings).openapi()


def main() -> None:
    """Put both together, and pack the TypeScript one."""
    found = document()
    assembling.python_client(found, TARGET / "python")
    assembling.typescript_client(found, TARGET / "typescript")
    assembling.pack(TARGET / "typescript", TARGET)


if __name__ == "__main__":
    main()
