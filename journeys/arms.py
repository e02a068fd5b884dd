"""Splits: nodes that part people by chance, and by what chance.

Where somebody falls is a number from 0 to 9,999, a hash of journey, subject and node: the same for the same one at each
visit, in each version, in SQL and here. `services.journeys.splitting` has the SQL of it.
"""

from collections.abc import Sequence
from hashlib import md5
from typing import Annotated, Final, Literal, Protocol
from uuid import UUID

from pydantic import Field, model_validator

from journeys.command_nodes import NodeId
from journeys.conditions import Key, Strict

MAX_ARMS: Final = 20
WHOLE: Final = 100
"""What the shares of a split add up to: percent."""
PLACES: Final = 10_000
"""Numbers that a hash may become."""
ARM: Final = "arm_"
"""Begins the outcomes of a split, before the arm's key."""

Share = Annotated[int, Field(ge=0, le=WHOLE)]
"""Whole percents."""


class Shared(Protocol):
    """Something that a share of people gets."""

    @property
    def key(self) -> str:
        """What tells it from the others."""
        ...

    @property
    def share(self) -> int:
        """Percent."""
        ...


class Arm(Strict):
    """One way out of a split."""

    key: Key
    share: Share
    """Of newcomers; 0 closes it to them, and whoever came by before keeps it."""
    next: NodeId
    holdout: bool = False
    """What the other arms are compared with: people who are left alone."""


class SplitNode(Strict):
    """Part people by chance. Whoever came by before, in this version or another, goes the same way again."""

    type: Literal["split"]
    arms: Annotated[tuple[Arm, ...], Field(min_length=2, max_length=MAX_ARMS)]

    @model_validator(mode="after")
    def _whole(self) -> "SplitNode":
        check_shares(self.arms, "arms")
        if sum(arm.holdout for arm in self.arms) > 1:
            raise ValueError("only one of the arms can be the holdout")
        return self

    @property
    def ways(self) -> dict[str, str]:
        """Where each outcome leads."""
        return {f"{ARM}{arm.key}": arm.next for arm in self.arms}

    @property
    def holdout(self) -> Arm | None:
        """The arm that others are compared with, if there is one."""
        return next((arm for arm in self.arms if arm.holdout), None)


def check_shares(parts: Sequence[Shared], name: str) -> None:
    """Hold `parts`, called `name`, to having keys of their own and shares that make a whole.

    Raises:
        ValueError: they do not.
    """
    keys = [part.key for part in parts]
    double = next((key for key in keys if keys.count(key) > 1), None)
    if double is not None:
        raise ValueError(f"two of the {name} have the key {double}")
    total = sum(part.share for part in parts)
    if total != WHOLE:
        raise ValueError(f"the shares of the {name} add up to {total}, not to {WHOLE}")


def place_of(journey_id: UUID, subject_id: UUID, node: str) -> int:
    """Return where chance puts a subject at a node of a journey: from 0 to 9,999."""
    # No secret hangs on it; Postgres has this hash too, and it spreads evenly.
    digest = md5(f"{journey_id}:{subject_id}:{node}".encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % PLACES


def bounds(parts: Sequence[Shared]) -> list[int]:
    """Return for each part the place at which it ends: it has those before, back to the end of the one before."""
    ends: list[int] = []
    end = 0
    for part in parts:
        end += part.share * (PLACES // WHOLE)
        ends.append(end)
    return ends


def chosen(parts: Sequence[Shared], place: int) -> str:
    """Return the key of the part that has a place."""
    return next(part.key for part, end in zip(parts, bounds(parts), strict=True) if place < end)
