"""The node that sends: one message, or one of several that are tried against one another."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from journeys.arms import Share, check_shares
from journeys.command_nodes import NodeId
from journeys.conditions import Key, Strict
from journeys.durations import DurationText

MAX_VARIANTS: Final = 10
VARIANT: Final = "variant_"
"""Begins the outcomes of a node with variants, before the variant's key."""
LEAST: Final = 30
"""Fewer recipients of each variant say nothing."""


class Variant(Strict):
    """One of the messages that are tried."""

    key: Key
    template: Key
    share: Share


class Winner(Strict):
    """When and by what it is decided which variant all later people get."""

    metric: Literal["opens", "clicks", "goal"]
    window: DurationText
    """How long after the first message it is decided, once for all."""
    minimum: Annotated[int, Field(ge=LEAST, le=1_000_000)] = 100
    """People each variant must have been sent to; until then it is not decided."""
    confidence: Annotated[float, Field(ge=0.8, le=0.999)] = 0.95
    """How sure it must be that a difference is more than chance."""


class SendNode(Strict):
    """Send one message: of a template, or of the variant that chance gives, or that has won."""

    type: Literal["send"]
    channel: Literal["email", "sms", "push"]
    variants: Annotated[tuple[Variant, ...] | None, Field(min_length=2, max_length=MAX_VARIANTS)] = None
    template: Annotated[Key | None, Field(validate_default=True)] = None
    winner: Winner | None = None
    """Without it chance decides for good."""
    next: NodeId

    @field_validator("template")
    @classmethod
    def _instead_of_variants(cls, template: str | None, given: ValidationInfo) -> str | None:
        if "variants" in given.data and (template is None) == (given.data["variants"] is None):
            raise ValueError("a send needs `template` or `variants`, one of them")
        return template

    @model_validator(mode="after")
    def _tests(self) -> "SendNode":
        if self.winner is not None and self.variants is None:
            raise ValueError("`winner` needs `variants`")
        if self.variants is not None:
            check_shares(self.variants, "variants")
            if self.winner is not None and sum(variant.share > 0 for variant in self.variants) == 1:
                raise ValueError("`winner` needs two variants with a share")
        return self

    @property
    def ways(self) -> dict[str, str]:
        """Where each outcome leads: all to the same node."""
        if self.variants is None:
            return {"done": self.next}
        return {f"{VARIANT}{variant.key}": self.next for variant in self.variants}

    @property
    def templates(self) -> dict[tuple[str | int, ...], str]:
        """What it may send, by where that is written."""
        if self.variants is None:
            return {("template",): self.template or ""}
        return {("variants", index, "template"): variant.template for index, variant in enumerate(self.variants)}

    @property
    def named(self) -> str:
        """What it may send, in words."""
        return " or ".join(self.templates.values())

    def sent(self, detail: Mapping[str, Any] | None) -> str:
        """What it sent, in words, where the step kept this detail."""
        key = (detail or {}).get("variant")
        return next((each.template for each in self.variants or () if each.key == key), self.named)

    @property
    def tried(self) -> str:
        """What tells one test from another at this node: what is tried, not how often or by what rule."""
        return ",".join(f"{variant.key}={variant.template}" for variant in self.variants or ())
