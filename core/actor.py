"""Who does something: passed keyword-only through every verb, and kept with the change."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Actor:
    """The doer, as `kind:id` (`api_key:...`, `user:...`, `journey:...`), `system` or `cli`, and its request."""

    name: str
    request_id: str | None = None

    @classmethod
    def api_key(cls, key_id: UUID, request_id: str | None) -> "Actor":
        """Return the actor behind an API key."""
        return cls(f"api_key:{key_id}", request_id)

    @classmethod
    def user(cls, user_id: UUID, request_id: str | None) -> "Actor":
        """Return a teammate as actor."""
        return cls(f"user:{user_id}", request_id)

    @classmethod
    def journey(cls, journey_id: UUID) -> "Actor":
        """Return a journey as actor."""
        return cls(f"journey:{journey_id}")


SYSTEM = Actor("system")
CLI = Actor("cli")
