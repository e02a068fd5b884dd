"""What a caller can say about an import besides the mapping."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import text

from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from services.identity import consent
from services.identity.consent import MAX_WORDING, Channel, Choice, Chosen

OptionsT = TypeVar("OptionsT", bound=BaseModel)

_KIND: Final = text("SELECT kind FROM marketing_segments WHERE tenant_id = :tenant AND segment_key = :key")

_ENTRANCE: Final = text("""
SELECT domain, status, subject FROM journey_entrances WHERE tenant_id = :tenant AND journey_key = :key
""")


class ConsentOption(BaseModel):
    """A choice that everybody in the file made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: Channel
    topic: str
    status: Chosen
    source: Annotated[str | None, Field(max_length=200)] = None
    """Where they chose; `import` unless given."""
    wording: Annotated[str | None, Field(max_length=MAX_WORDING)] = None
    """What they were told; the topic's wording unless given."""

    def choice(self) -> Choice:
        """Return it as the ledger takes it."""
        return Choice(self.channel, self.topic, self.status, self.source or "import", self.wording)


class Options(BaseModel):
    """How a file is to be read and taken in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str | None = None
    """The system the file comes from: `hubspot`, `mautic`, `listmonk`, `mailchimp`; recognised where not given."""
    delimiter: Literal[",", ";", "\t"] | None = None
    """Of CSV; recognised where not given."""
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"
    """UTF-16 is recognised by itself."""
    existing: Literal["update", "fill_empty", "skip"] = "update"
    """What becomes of people who are there already: changed, filled in where nothing stands, or left as they are."""
    live: bool = False
    """Whether the events of new and changed people start journeys."""
    resubscribe: bool = False
    """Whether an opt-in of the file outdoes an opt-out that stands here."""
    consent: Annotated[tuple[ConsentOption, ...], Field(max_length=100)] = ()
    segment: Annotated[str | None, Field(max_length=100)] = None
    """The key of the static segment that everybody in the file is put into, also who is skipped."""

    journey: Annotated[str | None, Field(max_length=100)] = None
    """The key of the journey that everybody in the file enters, by its rules for callers, also who is skipped."""

    def choices(self) -> list[Choice]:
        """Return the choices of all."""
        return [option.choice() for option in self.consent]

    def stored(self) -> dict[str, Any]:
        """Return all options as JSON."""
        return self.model_dump(mode="json")


async def check_targets(session: TenantSession, options: object) -> None:
    """Check that people can be put into the segment, and let into the journey, that are asked for.

    Raises:
        InvalidError: there is no such segment or journey, rules say who is in the segment, or the journey takes in
            nobody now, or deals.
    """
    if not isinstance(options, Options):
        return
    if options.segment is not None:
        await _check_segment(session, options.segment)
    if options.journey is not None:
        await _check_journey(session, options.journey)


async def _check_journey(session: TenantSession, key: str) -> None:
    found = (await session.execute(_ENTRANCE, {"tenant": session.tenant_id, "key": key})).one_or_none()
    if found is None or found.domain != "marketing":
        raise InvalidError.of("options.journey", f"there is no journey {key}")
    if found.status != "active":
        raise InvalidError.of("options.journey", f"is {found.status}: only an active journey takes people in")
    if found.subject != "person":
        raise InvalidError.of("options.journey", "must be a journey of people; deals walk this one")


async def _check_segment(session: TenantSession, key: str) -> None:
    kind = await session.scalar(_KIND, {"tenant": session.tenant_id, "key": key})
    if kind is None:
        raise InvalidError.of("options.segment", f"there is no segment {key}")
    if kind != "static":
        raise InvalidError.of("options.segment", "must be a static segment; its rules say who is in a dynamic one")


def validated(model: type[OptionsT], given: Mapping[str, Any]) -> OptionsT:
    """Return options of any import.

    Raises:
        InvalidError: naming each one that is not acceptable, as `options.NAME`.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = [
            FieldProblem(".".join(map(str, ("options", *each["loc"]))), each["msg"].lower()) for each in error.errors()
        ]
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems) from error


def parse(given: Mapping[str, Any]) -> Options:
    """Return the options.

    Raises:
        InvalidError: naming each one that is not acceptable, as `options.NAME`.
    """
    options = validated(Options, given)
    try:
        consent.check(options.choices())
    except InvalidError as error:
        problems = [FieldProblem(f"options.{each.field}", each.reason) for each in error.errors]
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems) from error
    return options
