"""Nodes that command sales: deals, tasks, teammates, others' systems; and the one that lets into another journey."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, JsonValue, Tag

from journeys.conditions import Key, Strict
from journeys.durations import DurationText
from journeys.literals import storable
from journeys.texts import Note, Title

MAX_NOTIFIED: Final = 20
MAX_ROTATED: Final = 100
MAX_SET: Final = 50
MAX_URL: Final = 2_000
OWNER: Final = "owner"
"""Whoever owns the deal, or in a journey of people the person, when the node is reached."""

NodeId = Key
"""What a node is called in its graph, and in steps, statistics and dedupe keys."""


def _storable(value: object) -> object:
    storable(value)
    return value


def _address(text: str) -> str:
    return text.strip().lower()


Json = Annotated[JsonValue, BeforeValidator(_storable)]
Teammate = Annotated[str, Field(max_length=254, examples=["ann@example.com"]), AfterValidator(_address)]
"""The e-mail address that a teammate signs in with."""
OwnerOrTeammate = Annotated[str, Field(max_length=254, examples=[OWNER, "ann@example.com"]), AfterValidator(_address)]
Notified = Annotated[
    Annotated[Literal["owner"], Tag("<owner>")]
    | Annotated[tuple[Teammate, ...], Field(min_length=1, max_length=MAX_NOTIFIED), Tag("<some>")],
    Discriminator(lambda value: "<some>" if isinstance(value, list | tuple) else "<owner>"),
]
Decimals = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,3})?$", examples=["1200.00"])]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class CreateDealNode(Strict):
    """Open a deal with the person; in a journey of deals, another one with the same person and organization."""

    type: Literal["create_deal"]
    pipeline: Key
    stage: Key | None = None
    """The pipeline's first open stage unless given."""
    title: Title
    amount: Decimals | None = None
    currency: Currency | None = None
    """The tenant's base currency unless given."""
    owner: OwnerOrTeammate | None = None
    close_in: DurationText | None = None
    """Until the day it is expected to close."""
    next: NodeId


class MoveDealNode(Strict):
    """Move the deal to a stage; in a journey of people, the newest open deal of the person in `pipeline`."""

    type: Literal["move_deal"]
    pipeline: Key | None = None
    """In a journey of deals, only deals of this pipeline are moved; without it, the deal's own has the stage."""
    stage: Key
    lost_reason: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    next: NodeId


class CreateTaskNode(Strict):
    """Give a teammate something to do about the deal, or the person."""

    type: Literal["create_task"]
    title: Title
    kind: Literal["todo", "call", "email", "meeting"] = "todo"
    note: Note | None = None
    due_in: DurationText | None = None
    owner: OwnerOrTeammate = OWNER
    next: NodeId


class NotifyNode(Strict):
    """Tell teammates something."""

    type: Literal["notify"]
    to: Notified = OWNER
    title: Title
    body: Note | None = None
    next: NodeId


class AssignOwnerNode(Strict):
    """Give the deals, or people, who come by to these teammates in turns."""

    type: Literal["assign_owner"]
    among: Annotated[tuple[Teammate, ...], Field(min_length=1, max_length=MAX_ROTATED)]
    only_without: bool = False
    """Leave those alone that have an owner."""
    next: NodeId


class UpdateDealNode(Strict):
    """Set fields of the deal; `null` removes an attribute."""

    type: Literal["update_deal"]
    set: Annotated[dict[str, Json], Field(min_length=1, max_length=MAX_SET)]
    next: NodeId


class WebhookNode(Strict):
    """Post what the journey knows of the deal and the person to an address of somebody else's."""

    type: Literal["webhook"]
    url: Annotated[str, Field(max_length=MAX_URL, pattern=r"^https?://[^\s/?#\x00-\x1f\x7f]+[^\s\x00-\x1f\x7f]*$")]
    body: Annotated[dict[str, Json] | None, Field(max_length=MAX_SET)] = None
    """Sent along, as `data`."""
    next: NodeId
    failed: NodeId | None = None
    """Where those go whose call is given up. With it, members stay until their calls have ended."""


class EnrollNode(Strict):
    """Let into another journey, by its rules: a deal into one of deals, and its person into one of people."""

    type: Literal["enroll"]
    journey: Key
    next: NodeId


CommandNode = (
    CreateDealNode
    | MoveDealNode
    | CreateTaskNode
    | NotifyNode
    | AssignOwnerNode
    | UpdateDealNode
    | WebhookNode
    | EnrollNode
)
SALES: Final[tuple[type[Any], ...]] = (
    CreateDealNode,
    MoveDealNode,
    CreateTaskNode,
    NotifyNode,
    AssignOwnerNode,
    UpdateDealNode,
    WebhookNode,
)
"""Those that the sales domain carries out."""
