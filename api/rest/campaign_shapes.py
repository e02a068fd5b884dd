"""Campaigns as the API shows and takes them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import Field, StrictInt, WithJsonSchema, model_validator

from api.fields import Key, Money, Name, Strict
from core.errors import InvalidError
from models import Campaign, CampaignRun
from services.marketing.campaigns.runs import Progress

MICRO = 1_000_000
MAX_MICROS = 10**15

Channel = Literal["email", "sms", "push", "social"]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Rate = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Minutes = Annotated[StrictInt, Field(ge=1, le=43_200)]
Segments = Annotated[list[UUID], Field(max_length=50)]


class Audience(Strict):
    """Who is in any of some segments and in none of others; each person once."""

    include: Annotated[Segments, Field(default_factory=list[UUID])]
    exclude: Annotated[Segments, Field(default_factory=list[UUID])]


class Variant(Strict):
    """A template, and its share of who is not held back; shares count relative to one another."""

    template_id: UUID
    share: Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)] = 1


class Test(Strict):
    """An A/B test: a sample gets the variants, the rest gets what did best."""

    share: Share
    """Of the audience, for the sample."""
    metric: Literal["opens", "clicks", "conversions"]
    wait_hours: Annotated[float, Field(gt=0, le=720, allow_inf_nan=False)]
    """From when the last of the sample was sent until the winner is chosen."""
    significance: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] = 0.05
    """How probable a difference by chance may be."""
    holdout: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = 0
    """Of the audience, who gets nothing, to compare with."""
    fallback: Literal["first", "best", "manual"] = "best"
    """What the rest gets where there is no difference: the first variant, the one ahead, or what somebody chooses."""


_CLOCKS: Final = {
    "anyOf": [
        {"type": "string", "examples": ["2026-05-01T09:00:00", "2026-05-01T09:00:00Z"]},
        {"type": "null"},
    ]
}


class Schedule(Strict):
    """When: once `at`, or whenever `cron` comes."""

    at: Annotated[datetime | None, WithJsonSchema(_CLOCKS)] = None
    """With an offset a moment; without, what clocks show."""
    cron: Annotated[str | None, Field(max_length=100)] = None
    time_zone: Literal["fixed", "recipient"] = "fixed"
    """Whether one zone's clocks count, or each recipient's."""
    zone: Annotated[str | None, Field(max_length=100)] = None
    """IANA name; the tenant's zone where there is none."""
    passed_zones: Literal["now", "tomorrow", "skip"] = "now"
    """What becomes of recipients whose clocks show later already."""
    freeze: Literal["start", "schedule"] = "start"
    """When it is decided who is in the audience."""

    def stored(self) -> dict[str, Any]:
        """Return it as the column has it."""
        return self.model_dump(mode="json")


class Batches(Strict):
    """Gradual sending: so many recipients every so many minutes."""

    size: Annotated[StrictInt, Field(ge=1, le=10_000_000)]
    every_minutes: Annotated[StrictInt, Field(ge=1, le=10_080)]


UtmText = Annotated[str | None, Field(min_length=1, max_length=200)]


class Utm(Strict):
    """Parameters that its links get; `campaign` is its key or name unless given."""

    source: UtmText = None
    medium: UtmText = None
    campaign: UtmText = None
    term: UtmText = None
    content: UtmText = None


class Cost(Strict):
    """What it costs: a fixed sum, and a price a message, which may be finer than the currency's smallest unit."""

    fixed: Money | None = None
    per_message: Money | None = None


class CampaignFields(Strict):
    """What may be said of a campaign and changed later."""

    template_id: UUID | None = None
    variants: Annotated[list[Variant] | None, Field(min_length=1, max_length=10)] = None
    ab: Test | None = None
    schedule: Schedule | None = None
    batches: Batches | None = None
    rate_per_minute: Rate | None = None
    lateness_minutes: Minutes | None = None
    utm: Utm | None = None
    budget: Money | None = None
    cost: Cost | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns of the fields that were given.

        Raises:
            InvalidError: amounts that are too fine, too large, or of different currencies.
        """
        given = self.model_fields_set
        columns: dict[str, Any] = {
            name: getattr(self, name) for name in ("rate_per_minute", "lateness_minutes") if name in given
        }
        if self.template_id is not None:
            columns["variants"] = [{"template_id": str(self.template_id), "share": 1.0}]
        elif self.variants is not None:
            columns["variants"] = [each.model_dump(mode="json") for each in self.variants]
        for name, column in (("ab", "test"), ("schedule", "schedule"), ("batches", "batches")):
            if name in given:
                value: Strict | None = getattr(self, name)
                columns[column] = None if value is None else value.model_dump(mode="json")
        if "utm" in given:
            columns["utm"] = None if self.utm is None else self.utm.model_dump(mode="json", exclude_none=True)
        return columns | self._money()

    def _money(self) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        given = [
            (field, money)
            for field, money in (
                ("budget", self.budget),
                ("cost.fixed", self.cost and self.cost.fixed),
                ("cost.per_message", self.cost and self.cost.per_message),
            )
            if money is not None
        ]
        for field, money in given:
            if money.currency != given[0][1].currency:
                raise InvalidError.of(f"{field}.currency", f"must be {given[0][1].currency}, as {given[0][0]} is")
            if money.amount < 0:
                raise InvalidError.of(f"{field}.amount", "must not be negative")
        if given:
            columns["currency"] = given[0][1].currency
        if "budget" in self.model_fields_set:
            columns["budget_minor"] = None if self.budget is None else self.budget.minor("budget")
        if "cost" in self.model_fields_set:
            fixed = self.cost.fixed if self.cost else None
            each = self.cost.per_message if self.cost else None
            columns["fixed_cost_minor"] = 0 if fixed is None else fixed.minor("cost.fixed")
            columns["message_cost_micros"] = 0 if each is None else _micros(each)
        return columns

    @model_validator(mode="after")
    def _one_way_to_say_what(self) -> Self:
        if self.template_id is not None and self.variants is not None:
            raise ValueError("either template_id or variants, not both")
        return self


class CampaignIn(CampaignFields):
    """A campaign to make."""

    name: Name
    key: Key | None = None
    channel: Channel
    audience: Audience | None = None
    """Missing of a post, which is public; of all others needed."""

    def all_columns(self) -> dict[str, Any]:
        """Return the columns of a new campaign.

        Raises:
            InvalidError: it says nothing to send, or amounts mean nothing.
        """
        if self.template_id is None and self.variants is None:
            raise InvalidError.of("template_id", "is missing: say what to send by template_id or variants")
        if self.audience is None and self.channel != "social":
            raise InvalidError.of("audience", "is missing: say who is to get it")
        audience = Audience(include=[], exclude=[]) if self.audience is None else self.audience
        own = {"name": self.name, "key": self.key, "channel": self.channel}
        return own | {"audience": audience.model_dump(mode="json")} | self.columns()


class CampaignPatch(CampaignFields):
    """What to change; a field left out stays as it is, null takes away."""

    name: Name | None = None
    audience: Audience | None = None
    revision: StrictInt | None = None
    """The revision that was read: refused where it is another by now."""

    def changes(self) -> dict[str, Any]:
        """Return the columns to change.

        Raises:
            InvalidError: amounts mean nothing.
        """
        columns = self.columns()
        if self.name is not None:
            columns["name"] = self.name
        if self.audience is not None:
            columns["audience"] = self.audience.model_dump(mode="json")
        return columns


class Scheduling(Strict):
    """When, in place of what the campaign says."""

    schedule: Schedule | None = None


class TestRequest(Strict):
    """Who gets copies, and what they show."""

    to: Annotated[list[Annotated[str, Field(max_length=320)]] | None, Field(max_length=100)] = None
    """Addresses: of mail, or numbers."""
    person_ids: Annotated[list[UUID] | None, Field(max_length=100)] = None
    """People, in place of addresses."""
    as_person_id: UUID | None = None
    """Whose values they show; the recipient's own where that is a person."""
    entry: dict[str, Any] | None = None
    """What they show for the entry event's properties."""
    locale: Annotated[str | None, Field(max_length=35)] = None
    """In place of the person's own."""
    variant: Annotated[StrictInt | None, Field(ge=0)] = None
    """Its index; all of them without."""


class CopyOut(Strict):
    """A copy that was queued, or why not."""

    id: UUID
    address: str
    variant: int | None
    status: Literal["queued", "excluded"]
    reason: str | None


class PostOut(Strict):
    """What a post says."""

    text: str
    characters: int
    """As Mastodon counts them: 23 for a link, however long."""
    warnings: list[str]


class CopiesOut(Strict):
    """The copies of a test; or, as nobody can be sent a copy of a post, what it says."""

    messages: list[CopyOut]
    post: PostOut | None = None


class EstimateOut(Strict):
    """Whom it would reach if it began now."""

    audience: int
    queued: int
    excluded: dict[str, int]
    """Number by reason."""


class FlawOut(Strict):
    """What is to be said of a variant's text; as lint of templates says it."""

    variant: int
    """Its index."""
    level: Literal["error", "warning", "info"]
    code: str
    field: str
    line: int | None
    message: str


class CheckOut(Strict):
    """What is wrong, or may be, with what a campaign says."""

    sendable: bool
    """Whether nothing of it is an error."""
    findings: list[FlawOut]


class ProgressOut(Strict):
    """How far a run has come."""

    queued: int
    waiting: int
    held: int
    next_at: datetime | None


class CampaignRunOut(Strict):
    """One time that a campaign is sent."""

    id: UUID
    occurrence: str
    status: Literal["scheduled", "running", "paused", "finished", "cancelled", "late", "failed"]
    due_at: datetime
    audience: int
    rate_per_minute: int | None
    frozen_at: datetime | None
    winner: int | None
    result: dict[str, Any] | None
    reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressOut | None = None

    @classmethod
    def of(cls, run: CampaignRun, progress: Progress | None = None) -> Self:
        """Return it as shown."""
        shown = cls.model_validate(run)
        if progress is not None:
            shown.progress = ProgressOut.model_validate(progress)
        return shown


class CampaignOut(Strict):
    """A campaign, with its newest run."""

    id: UUID
    key: str | None
    name: str
    channel: Channel
    status: Literal["draft", "scheduled", "running", "paused", "finished", "cancelled"]
    audience: Audience | None
    """Null of a post."""
    variants: list[Variant]
    ab: Test | None
    schedule: Schedule | None
    batches: Batches | None
    rate_per_minute: int | None
    lateness_minutes: int | None
    utm: dict[str, str] | None
    budget: Money | None
    cost: Cost | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    revision: int
    run: CampaignRunOut | None = None

    @classmethod
    def of(cls, campaign: Campaign, run: CampaignRunOut | None = None) -> Self:
        """Return it as shown."""
        code = campaign.currency
        cost = None
        if code is not None and (campaign.fixed_cost_minor or campaign.message_cost_micros):
            per_message = (Decimal(campaign.message_cost_micros) / MICRO).normalize()
            cost = Cost(
                fixed=Money.of(campaign.fixed_cost_minor, code), per_message=Money(amount=per_message, currency=code)
            )
        return cls(
            **{
                name: getattr(campaign, name)
                for name in cls.model_fields
                if name not in {"ab", "budget", "cost", "run", "audience", "variants", "schedule", "batches"}
            },
            audience=None if campaign.channel == "social" else Audience.model_validate(campaign.audience),
            variants=[Variant.model_validate(each) for each in campaign.variants],
            ab=None if campaign.test is None else Test.model_validate(campaign.test),
            schedule=None if campaign.schedule is None else Schedule.model_validate(campaign.schedule),
            batches=None if campaign.batches is None else Batches.model_validate(campaign.batches),
            budget=None if code is None or campaign.budget_minor is None else Money.of(campaign.budget_minor, code),
            cost=cost,
            run=run,
        )


def _micros(money: Money) -> int:
    micros = money.amount * MICRO
    if micros != micros.to_integral_value():
        raise InvalidError.of("cost.per_message.amount", "has more than six decimal places")
    if micros > MAX_MICROS:
        raise InvalidError.of("cost.per_message.amount", "is too large")
    return int(micros)
