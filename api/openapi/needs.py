"""What each route needs of its caller, read from its dependencies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from api.dependencies import get_principal, get_resources, get_signed_in, scope_of


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route cannot answer without."""

    scopes: tuple[str, ...]
    """Of the key or session."""
    signed_in: bool
    """Somebody's session: no key will do."""
    store: bool
    """Postgres, or something else that this process holds open."""


NOTHING: Final = Needs((), signed_in=False, store=False)


def needs_of(app: FastAPI) -> Mapping[tuple[str, str], Needs]:
    """Return the needs of every route, by method in lower case and path."""
    found: dict[tuple[str, str], Needs] = {}
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and context.path_format is not None:
            calls = set(_calls(route.dependant))
            scopes = {scope for call in calls if (scope := scope_of(call)) is not None}
            needs = Needs(
                tuple(sorted(scopes)),
                signed_in=get_signed_in in calls,
                store=bool(scopes) or not calls.isdisjoint({get_principal, get_resources}),
            )
            found |= {(method.lower(), context.path_format): needs for method in route.methods or ()}
    return found


def _calls(dependant: Dependant) -> Iterator[object]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
