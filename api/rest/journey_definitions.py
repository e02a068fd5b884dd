"""The definition of a journey as a document: saved, read as JSON or YAML, checked, and drawn."""

from typing import Annotated, Any, Final, Literal

from fastapi import Header, Response
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Name, Strict
from api.openapi.answers import Responses, text
from api.rest.journeys import Journey, JourneyPath
from api.routing import Router
from api.yaml_bodies import YAML, DefinitionRoute, wants_yaml
from core.errors import InvalidError
from core.yaml_text import dump
from journeys.definition import JourneyDefinition
from journeys.picture import Counts, svg
from services.journeys import journeys, passages

router = Router(prefix="/journeys", tags=["journeys"], route_class=DefinitionRoute)

_NAP: Final[dict[str, Any]] = {
    "entry": {"api": True},
    "start": "nap",
    "nodes": {"nap": {"type": "wait", "for": "P1D", "next": "done"}, "done": {"type": "exit", "reason": "finished"}},
}
_AS_YAML: Final[dict[str, Any]] = {
    "requestBody": {"content": {YAML: {"schema": {"type": "object"}, "example": _NAP}}},
}
_IN_YAML: Final[Responses] = {200: {"content": {YAML: {"schema": {"type": "string"}, "example": dump(_NAP)}}}}
_DRAWN: Final[Responses] = {200: text("The picture", **{"image_svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"})}
# A picture that is opened by itself must not do anything.
_HARMLESS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

AcceptHeader = Annotated[str | None, Header(description="`application/yaml` for YAML.")]


class Draft(Strict):
    """A new draft. As `application/yaml` the body is the definition itself."""

    name: Name | None = None
    definition: dict[str, Any]


class Checking(Strict):
    """A definition to check. As `application/yaml` the body is the definition itself."""

    definition: dict[str, Any]
    key: Annotated[str, Field(max_length=63)] = ""
    """The key of the journey that it is to be, which it may name itself."""


class DefinitionProblem(Strict):
    """What keeps a definition from being published."""

    field: str
    """Its place: `definition.nodes.big.branches.0.when`."""
    reason: str


class CheckedDefinition(Strict):
    """What was found."""

    problems: list[DefinitionProblem]
    """Empty where it could be published."""


@router.put("/{journey}/draft", dependencies=[requires("journeys:write")], openapi_extra=_AS_YAML)
async def save_draft(journey: JourneyPath, body: Draft, session: SessionDep, actor: ActorDep) -> Journey:
    """Replace the draft; nothing changes for anybody inside before it is published."""
    found = await journeys.authored(session, journey)
    saved = await journeys.save_draft(session, found, definition=body.definition, name=body.name, by=actor)
    return Journey.model_validate(saved)


@router.get(
    "/{journey}/draft",
    dependencies=[requires("journeys:read")],
    response_model=dict[str, Any],
    responses=_IN_YAML,
)
async def get_draft(journey: JourneyPath, session: SessionDep, accept: AcceptHeader = None) -> Any:  # noqa: ANN401 - JSON or a response
    """Return the definition of the draft, as JSON or YAML."""
    draft = (await journeys.find(session, journey)).draft
    return Response(dump(draft), media_type=YAML) if wants_yaml(accept) else draft


@router.post("/check", dependencies=[requires("journeys:read")], openapi_extra=_AS_YAML)
async def check(body: Checking, session: SessionDep) -> CheckedDefinition:
    """Say what keeps a definition from being published, with its place; nothing is kept."""
    try:
        await journeys.checked(session, body.definition, key=body.key)
    except InvalidError as error:
        return CheckedDefinition(problems=[DefinitionProblem.model_validate(each) for each in error.errors])
    return CheckedDefinition(problems=[])


@router.get(
    "/{journey}/graph.svg",
    dependencies=[requires("journeys:read")],
    response_class=Response,
    responses=_DRAWN,
)
async def draw(
    journey: JourneyPath, session: SessionDep, *, version: Literal["draft", "active"] = "draft", counts: bool = True
) -> Response:
    """Return the graph as a picture, with how many came to each node and went each way, over all versions."""
    found = await journeys.find(session, journey)
    raw = found.draft
    if version == "active":
        if found.active_version_id is None:
            raise InvalidError.of("version", "is `active`, but the journey was never published")
        raw = (await journeys.version(session, found, found.active_version_id)).definition
    counted = None
    if counts:
        stats = await passages.stats(session, found.id)
        counted = {
            name: Counts(entered=node.entered, waiting=node.waiting, failed=node.failed, left=node.left)
            for name, node in stats.nodes.items()
        }
    picture = svg(JourneyDefinition.model_validate(raw), counted, title=found.name)
    return Response(picture, media_type="image/svg+xml", headers=_HARMLESS)
