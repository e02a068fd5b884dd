"""What happens, as it happens: server-sent events."""

from contextlib import suppress
from typing import Annotated, Final
from uuid import UUID

from fastapi import Header, Query, Request, Response

from api.dependencies import DatabaseDep, PrincipalDep, ResourcesDep, requires
from api.routing import Router
from api.stream import looks
from api.stream.progress import Thing
from api.stream.serving import EventStream
from api.stream.streams import SCOPE
from core.errors import ForbiddenError, InvalidError
from services.events.stream.listening import Subject, Wanted
from services.events.wanting import ALL, checked_types
from services.identity import aliases

router = Router(prefix="/stream", tags=["events"])

MOST_TYPES: Final = 100
MOST_WATCHED: Final = 20
_LONGEST: Final = 10_000


@router.get(
    "",
    dependencies=[requires(SCOPE)],
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events (docs/stream.md): `id`, `event` and `data`, which is what webhooks are "
            "told; besides them `progress`, `reset` and `end`, and comments as signs of life.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: TOKEN\nevent: order.placed\ndata: {"type":"order.placed"}\n\n',
                }
            },
        },
        404: {},
        429: {},
    },
)
async def stream(  # noqa: PLR0913 - parameters
    request: Request,
    principal: PrincipalDep,
    resources: ResourcesDep,
    database: DatabaseDep,
    *,
    types: Annotated[str, Query(max_length=_LONGEST, examples=["order.*,person.created"])] = ALL,
    subject: Annotated[str | None, Query(max_length=200)] = None,
    progress: Annotated[str | None, Query(max_length=_LONGEST)] = None,
    follow: bool = True,
    last_event_id: Annotated[str | None, Query(max_length=_LONGEST)] = None,
    in_header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=_LONGEST)] = None,
) -> EventStream:
    """Tell the tenant's events as they are committed, each once, those of a subject in order.

    `types` are types, first words as `order.*`, or `*`, parted by commas. `subject`, as `person:UUID`, lets through
    what is about it, of a person also what is about something else of theirs. `progress` names what to watch, as
    `import:UUID`, `campaign:UUID` or `journey:KEY`. With `Last-Event-ID`, or `last_event_id` in the query, it goes on
    behind the event of that `id`. With `follow=false` it ends once it has told what there is.
    """
    token = in_header if in_header is not None else last_event_id
    after = resources.hub.place(token or None, field="last_event_id")
    chosen = checked_types(_listed("types", types, MOST_TYPES), field="types")
    watched = [looks.parse(each) for each in _listed("progress", progress, MOST_WATCHED)] if progress else []
    about = None if subject is None else _subject(subject)
    async with database.tenant(principal.tenant_id) as session:
        for thing in watched:
            _check(await looks.scope_of(session, thing), thing, principal)
        if about is not None and about[0] == "person":
            about = ("person", await aliases.living(session, about[1]))
    return EventStream(
        resources.hub,
        resources.progress,
        principal.tenant_id,
        Wanted(tuple(chosen), about),
        after=after,
        watched=tuple(watched),
        follow=follow,
        keeping=resources.streams.keeping,
        authorization=request.headers["authorization"],
    )


def _listed(field: str, text: str, most: int) -> list[str]:
    given = [each.strip() for each in text.split(",")]
    if len(given) > most:
        raise InvalidError.of(field, f"at most {most}")
    return given


def _subject(text: str) -> Subject:
    kind, _, key = text.partition(":")
    with suppress(ValueError):
        if kind:
            return kind, UUID(key)
    raise InvalidError.of("subject", "is a type and an id, as person:UUID")


def _check(scope: str, thing: Thing, principal: PrincipalDep) -> None:
    if not principal.allows(scope):
        raise ForbiddenError(
            f"To watch {thing.kind}:{thing.key} takes the scope {scope}.", extra={"required_scope": scope}
        )
