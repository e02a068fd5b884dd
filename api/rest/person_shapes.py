"""What people look like in requests and answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool

from api.fields import Strict
from services.identity import consent, directory, lifecycle, people, scoring, timeline

Stage = Literal["visitor", "subscriber", "lead", "qualified", "opportunity", "customer"]
Role = Literal["customer", "lead", "contact", "vendor", "employee"]

_IDENTIFIERS = ("email", "phone", "external_id", "anonymous_id")
_FIELDS = ("first_name", "last_name", "time_zone", "locale", "source", "owner_id")
_ROLES = ("lead", "contact", "vendor", "employee")


class ConsentIn(Strict):
    """A choice for one channel and topic."""

    channel: consent.Channel
    topic: Annotated[str, Field(examples=["newsletter"])]
    """Or `all`: opted out of it, the person gets no marketing on the channel, whatever else is chosen."""
    status: consent.Chosen
    source: Annotated[str | None, Field(max_length=200, examples=["signup_form"])] = None
    """Where the person chose, for the record."""
    wording: Annotated[str | None, Field(min_length=1, max_length=consent.MAX_WORDING)] = None
    """What the person was told, for the record; for an opt-in the topic's wording unless given."""
    confirm: StrictBool = False
    """For an opt-in to email: have the person confirm it by mail first; until then it is `pending`."""

    def choice(self) -> consent.Choice:
        """Return it as the service takes it."""
        proof: consent.Proof = "asked" if self.confirm else "vouched"
        return consent.Choice(self.channel, self.topic, self.status, self.source, self.wording, proof=proof)


class _Given(Strict):
    email: Annotated[str | None, Field(examples=["ann@shop.example"])] = None
    """Taken in lower case: it is an identifier."""
    phone: Annotated[str | None, Field(examples=["+49 30 1234567"])] = None
    """In international form."""
    external_id: str | None = None
    """The id another system knows the person by."""
    first_name: str | None = None
    last_name: str | None = None
    time_zone: Annotated[str | None, Field(examples=["Europe/Berlin"])] = None
    """IANA name."""
    locale: Annotated[str | None, Field(examples=["de-AT"])] = None
    """BCP 47."""
    source: str | None = None
    """Where the person came from first."""
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; a null removes. So are the next two."""
    social: Annotated[dict[str, str | None] | None, Field(examples=[{"mastodon": "@ann@social.example"}])] = None
    """Handle or address by network."""
    preferences: Annotated[dict[str, JsonValue] | None, Field(examples=[{"size": "M"}])] = None
    """What the person likes; consent is not kept here."""
    owner_id: UUID | None = None
    """The teammate who looks after the person."""
    is_lead: StrictBool | None = None
    """By hand, as the next three; false takes back the hand, while other facts still count."""
    is_contact: StrictBool | None = None
    is_vendor: StrictBool | None = None
    is_employee: StrictBool | None = None
    consent: Annotated[list[ConsentIn] | None, Field(max_length=100)] = None

    def _change(self, *, nulls: bool, qualified: bool | None) -> people.PersonChange:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if not nulls:
            given = {name: value for name, value in given.items() if value is not None}
        return people.PersonChange(
            identifiers={name: given[name] for name in _IDENTIFIERS if name in given},
            fields={name: given[name] for name in _FIELDS if name in given},
            attributes=self.attributes or {},
            social=self.social or {},
            preferences=self.preferences or {},
            roles={role: holds for role in _ROLES if (holds := given.get(f"is_{role}")) is not None},
            qualified=qualified,
            consent=[item.choice() for item in self.consent or ()],
        )


class PersonIn(_Given):
    """A person as a caller knows them. A field left out, or null, says nothing about it."""

    anonymous_id: str | None = None
    """The id of a browser or device."""
    lifecycle_stage: Stage | None = None
    """A hint without effect above `visitor`: the stage is computed from facts."""

    def change(self) -> people.PersonChange:
        """Return what is to be true of the person."""
        return self._change(nulls=False, qualified=None)


class PersonPatch(_Given):
    """What to change; null clears a text. A new identifier replaces the one shown, which is dropped."""

    qualified: StrictBool | None = None
    """Whether somebody judged the person worth a salesman's time."""

    def change(self) -> people.PersonChange:
        """Return what is to be true of the person."""
        return self._change(nulls=True, qualified=self.qualified)


class IdentifierOut(Strict):
    """One of the identifiers that point to the person."""

    kind: Literal["email", "phone", "external_id", "anonymous_id"]
    value: str
    label: str | None
    """What it is to the person: `work`, `home`, `mobile`, or any other word."""
    verified_at: datetime | None
    """When the person proved to be reached there."""
    primary: bool
    """Whether it is the one that the person shows, and that mail goes to."""


class ConsentOut(Strict):
    """Where the person stands on a channel and topic."""

    channel: consent.Channel
    topic: str
    status: consent.Status
    source: str | None
    changed_at: datetime


class PersonOut(Strict):
    """A person."""

    id: UUID
    email: str | None
    phone: str | None
    external_id: str | None
    identifiers: list[IdentifierOut]
    """All that point to the person, those above included."""
    merged_ids: list[UUID]
    """The ids of people who were merged into this one; they mean this person too."""
    first_name: str | None
    last_name: str | None
    time_zone: str | None
    locale: str | None
    source: str | None
    lifecycle_stage: Stage
    is_customer: bool
    is_lead: bool
    is_contact: bool
    is_vendor: bool
    is_employee: bool
    qualified_at: datetime | None
    attributes: dict[str, Any]
    social: dict[str, Any]
    preferences: dict[str, Any]
    owner_id: UUID | None
    score: int
    """Points of the score rules that hold."""
    consent: list[ConsentOut]
    created_at: datetime
    updated_at: datetime
    last_seen_at: datetime | None
    """The last time the person did something here, to within five minutes."""

    @classmethod
    def of(cls, shown: directory.Shown) -> Self:
        """Return the answer for a person."""
        person = {
            name: getattr(shown.person, name)
            for name in cls.model_fields
            if name not in {"identifiers", "consent", "merged_ids"}
        }
        identifiers = [
            {
                "kind": item.kind,
                "value": item.value,
                "label": item.label,
                "verified_at": item.verified_at,
                "primary": item.value == getattr(shown.person, item.kind, None),
            }
            for item in shown.identifiers
        ]
        belonging = {"identifiers": identifiers, "consent": shown.consent, "merged_ids": shown.merged_ids}
        return cls.model_validate(person | belonging)


class FactOut(Strict):
    """Why a role or stage holds: the earliest fact of its kind."""

    fact: Literal[
        "order",
        "deal.won",
        "deal.open",
        "deal",
        "form.submitted",
        "consent",
        "organization.contact",
        "organization.employee",
        "organization.vendor",
        "score",
        "by_hand",
    ]
    reference: str | None
    """The order's key, the event's id, `channel:topic`, the organization's id, or the score."""
    at: datetime | None


class ScoredRuleOut(Strict):
    """A rule, and whether it holds."""

    key: str
    name: str
    points: int
    holds: bool


class ScoreOut(Strict):
    """A person's score and where it comes from."""

    score: int
    qualify_at_score: int | None
    """From this score on people are qualified; null leaves it to people."""
    rules: list[ScoredRuleOut]

    @classmethod
    def of(cls, explained: scoring.Explained) -> Self:
        """Return the answer for an explanation."""
        return cls(
            score=explained.score,
            qualify_at_score=explained.qualify_at,
            rules=[
                ScoredRuleOut(key=rule.key, name=rule.name, points=rule.points, holds=holds)
                for rule, holds in explained.rules
            ],
        )


class LifecycleOut(Strict):
    """The facts behind each role and stage; an empty list where it does not hold."""

    lifecycle_stage: Stage
    roles: dict[Role, list[FactOut]]
    stages: dict[Stage, list[FactOut]]

    @classmethod
    def of(cls, explanation: lifecycle.Explanation) -> Self:
        """Return the answer for an explanation."""
        return cls.model_validate(explanation)


class PersonEntryOut(BaseModel):
    """Something that happened; further fields depend on the kind.

    event: `properties`; activity: `actor`, `changes` (`{field: [before, after]}`), `request_id`; message: `message_id`,
    `channel`, `template`, `status`, `reason`, `sent_at`, `opens`, `clicks`; communication: `communication_id`,
    `channel`, `direction`, `subject`, `outcome`, `duration_seconds`, `thread_id`, `message_id`, `organization_id`;
    enrollment: `enrollment_id`, `journey`, `status`, `node`, `reason`, `ended_at`.
    """

    model_config = ConfigDict(extra="allow")

    id: UUID
    kind: Literal["event", "activity", "message", "communication", "enrollment"]
    type: str
    at: datetime

    @classmethod
    def of(cls, entry: timeline.Entry) -> Self:
        """Return the answer for an entry."""
        return cls.model_validate(
            {**entry.detail, "id": entry.id, "kind": entry.kind, "type": entry.type, "at": entry.at}
        )

    @classmethod
    def list_of(cls, entries: Sequence[timeline.Entry]) -> list[Self]:
        """Return the answers for entries."""
        return [cls.of(entry) for entry in entries]
