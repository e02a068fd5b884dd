"""GraphQL types made of the models that REST answers with, so that a thing has the same fields, with the same values.

A list of texts that a field is one of becomes an enumeration, a model within a model a type of its own, and what has no
fixed fields `JSON`. Objects of these types are never made: a field is read off the model.
"""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin
from uuid import UUID

import strawberry
from pydantic import AwareDatetime, BaseModel
from strawberry.scalars import JSON

ClassT = TypeVar("ClassT", bound=type)

_SCALARS: Final = frozenset({str, int, float, bool, UUID, datetime, date, Decimal})
_NAME: Final = re.compile(r"[A-Za-z][_0-9A-Za-z]*")
_RESERVED: Final = frozenset({"true", "false", "null"})

_types: Final[dict[type[BaseModel], type]] = {}
_names: Final[dict[str, object]] = {}
_enums: Final[dict[frozenset[str], type[Enum]]] = {}


def shaped(
    model: type[BaseModel], *, name: str | None = None, omit: Collection[str] = ()
) -> Callable[[ClassT], ClassT]:
    """Make a class a GraphQL type with the fields of a model, but for those in `omit`, beside its own."""

    def decorate(cls: ClassT) -> ClassT:
        called = name or cls.__name__
        _claim(called, model)
        own = dict(get_annotations(cls))
        cls.__annotations__ = _fields(cls, model, called, frozenset(omit) | own.keys()) | own
        made = strawberry.type(cls, name=called, description=_described(cls) or _described(model))
        _types.setdefault(model, made)
        return made

    return decorate


def named(annotation: Any, hint: str) -> Any:  # noqa: ANN401 - any annotation
    """Return what an annotation of a model or a route is in GraphQL; `hint` names an enumeration made of it."""
    plain, optional = _plain(annotation)
    found = _named(plain, hint)
    return found | None if optional else found


def _fields(cls: type, model: type[BaseModel], name: str, omit: Collection[str]) -> dict[str, Any]:
    annotations: dict[str, Any] = {}
    for field, info in model.model_fields.items():
        if field in omit or field in cls.__dict__:
            continue
        annotations[field] = named(info.annotation, name + pascal(field))
        if info.description:
            setattr(cls, field, strawberry.field(description=info.description))
    return annotations


def _named(plain: Any, hint: str) -> Any:  # noqa: ANN401 - as above
    origin = get_origin(plain)
    if origin is Literal:
        return enumeration(get_args(plain), hint)
    if origin is list:
        return list[named(get_args(plain)[0], hint)]
    if plain is AwareDatetime:
        return datetime
    if isinstance(plain, type) and plain in _SCALARS:
        return plain
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return _object(plain)
    return JSON


def _object(model: type[BaseModel]) -> type:
    if model not in _types:
        name = model.__name__.removesuffix("Out")
        _claim(name, model)
        cls = type(name, (), {"__doc__": model.__doc__, "__module__": model.__module__})
        cls.__annotations__ = _fields(cls, model, name, ())
        _types[model] = strawberry.type(cls, name=name, description=_described(model))
    return _types[model]


def enumeration(choices: Collection[object], hint: str) -> Any:  # noqa: ANN401 - a class, or `str`
    """Return the enumeration of these texts, the same for the same texts; `str` where one is no name."""
    if not all(isinstance(one, str) and _NAME.fullmatch(one) and one not in _RESERVED for one in choices):
        return str
    texts = [str(one) for one in choices]
    key = frozenset(texts)
    if key not in _enums:
        _claim(hint, key)
        made = cast("type[Enum]", Enum(hint, {text: text for text in texts}))
        _enums[key] = strawberry.enum(made)
    return _enums[key]


def _plain(annotation: Any) -> tuple[Any, bool]:  # noqa: ANN401 - as above
    """Return the annotation without what is said of it, and whether it may be null."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in {Union, UnionType}:
        return annotation, False
    rest = [part for part in get_args(annotation) if part is not NoneType]
    optional = len(rest) < len(get_args(annotation))
    if len(rest) == 1:
        return _plain(rest[0])[0], optional
    return Any, optional


def _claim(name: str, by: object) -> None:
    if _names.setdefault(name, by) is not by and _names[name] != by:
        raise TypeError(f"two GraphQL types would be called {name}")


def _described(cls: type) -> str | None:
    return cls.__doc__.strip().partition("\n\n")[0].replace("\n    ", " ") if cls.__doc__ else None


def pascal(name: str) -> str:
    """Return a name of words joined by `_` as GraphQL's types are called."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def plain_value(value: object) -> object:
    """Return an argument as a route takes it: an enumeration's member is its text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [plain_value(each) for each in cast("list[object]", value)]
    return value


def called(mapping: Mapping[type[BaseModel], str]) -> None:
    """Say what models are called whose own names are taken by others; before they are met first."""
    for model, name in mapping.items():
        shaped(model, name=name)(type(name, (), {"__doc__": model.__doc__, "__module__": model.__module__}))
