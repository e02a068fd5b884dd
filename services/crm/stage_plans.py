"""What a pipeline's stages are to be, worked out against what they are. Nothing here asks the store."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from core.errors import FieldProblem, InvalidError
from core.ids import new_id
from models.crm import STAGE_KINDS
from services.crm.automation import Rule
from services.crm.stages import FIELDS, Stage

MAX_STAGES: Final = 50
MAX_ROTTING_DAYS: Final = 3_650
_ATTRIBUTE: Final = re.compile(r"attributes\.[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_SURE: Final = {"won": 100, "lost": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStage:
    """A stage to be."""

    key: str
    name: str
    kind: str = "open"
    probability: int | None = None
    """Percent. None: 100 where deals are won and 0 where they are lost; the open ones rise evenly between."""
    required_fields: Sequence[str] = ()
    allowed_moves: Sequence[str] | None = None
    """Keys of stages of this pipeline; None: any, and other pipelines too."""
    rotting_days: int | None = None
    automation: Sequence[Rule] | None = None
    """What it does by itself; None: what it does now."""
    id: UUID | None = None
    """Of one that is there; None: the one with this key, else a new one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to be, each with its id, and those that go."""

    kept: list[NewStage]
    """In their order: those that stay and those that are new."""
    gone: list[Stage]
    renamed: list[UUID]
    """Whose key becomes another."""
    turned: list[UUID]
    """Whose kind becomes another."""

    def rows(self) -> list[dict[str, Any]]:
        """Return what to write, by column."""
        return [
            {
                "id": stage.id,
                "key": stage.key,
                "name": stage.name,
                "position": position,
                "kind": stage.kind,
                "probability": stage.probability,
                "required_fields": list(dict.fromkeys(stage.required_fields)),
                "allowed_moves": None if stage.allowed_moves is None else list(dict.fromkeys(stage.allowed_moves)),
                "rotting_days": stage.rotting_days,
            }
            for position, stage in enumerate(self.kept)
        ]


def key_of(name: str, path: str) -> str:
    """Return a key made of a name: `Offer sent` is `offer_sent`.

    Raises:
        InvalidError: naming `path`: none can be made.
    """
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:63].strip("_")
    if not key:
        raise InvalidError.of(path, "is needed: none can be made of the name")
    return key


def plan(wanted: Sequence[NewStage], before: Sequence[Stage]) -> Plan:
    """Return how the stages become what is wanted.

    Raises:
        InvalidError: they are not acceptable; every field at fault is named.
    """
    problems = _problems(wanted)
    by_id, by_key = {stage.id: stage for stage in before}, {stage.key: stage for stage in before}
    claimed = {stage.id for stage in wanted if stage.id is not None}
    kept: list[NewStage] = []
    for number, stage in enumerate(wanted):
        if stage.id is not None and stage.id not in by_id:
            problems.append(FieldProblem(f"stages.{number}.id", "is no stage of this pipeline"))
        meant = by_key.get(stage.key)
        known = stage.id or (meant.id if meant is not None and meant.id not in claimed else None)
        kept.append(replace(stage, id=known or new_id()))
    if len({stage.id for stage in kept}) < len(kept):
        problems.append(FieldProblem("stages", "name one stage twice"))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    ids = {stage.id for stage in kept}
    were = [(by_id[stage.id], stage) for stage in kept if stage.id is not None and stage.id in by_id]
    return Plan(
        kept=_weighed(kept),
        gone=[stage for stage in before if stage.id not in ids],
        renamed=[was.id for was, now in were if was.key != now.key],
        turned=[was.id for was, now in were if was.kind != now.kind],
    )


def _weighed(stages: Sequence[NewStage]) -> list[NewStage]:
    """Return the stages with the probabilities that were left out."""
    count = sum(stage.kind == "open" for stage in stages)
    seen = 0
    found: list[NewStage] = []
    for stage in stages:
        seen += stage.kind == "open"
        usual = _SURE.get(stage.kind, 100 * seen // (count + 1))
        found.append(stage if stage.probability is not None else replace(stage, probability=usual))
    return found


def _problems(wanted: Sequence[NewStage]) -> list[FieldProblem]:
    if not 1 <= len(wanted) <= MAX_STAGES:
        return [FieldProblem("stages", f"must be from 1 to {MAX_STAGES}")]
    problems: list[FieldProblem] = []
    if all(stage.kind != "open" for stage in wanted):
        problems.append(FieldProblem("stages", "must have an open one, where deals begin"))
    keys = [stage.key for stage in wanted]
    for number, stage in enumerate(wanted):
        if keys.index(stage.key) < number:
            problems.append(FieldProblem(f"stages.{number}.key", "is another stage's too"))
        problems += [FieldProblem(f"stages.{number}.{name}", reason) for name, reason in _at_fault(stage, keys)]
    return problems


def _at_fault(stage: NewStage, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a stage by itself, with the field's name."""
    if stage.kind not in STAGE_KINDS:
        yield "kind", f"must be one of {', '.join(STAGE_KINDS)}"
    if stage.probability is not None and not 0 <= stage.probability <= 100:  # noqa: PLR2004 - percent
        yield "probability", "must be from 0 to 100"
    elif stage.probability not in {None, _SURE.get(stage.kind, stage.probability)}:
        yield "probability", f"is {_SURE[stage.kind]} where deals are {stage.kind}"
    if stage.rotting_days is not None and stage.kind != "open":
        yield "rotting_days", "is for open stages alone"
    elif stage.rotting_days is not None and not 1 <= stage.rotting_days <= MAX_ROTTING_DAYS:
        yield "rotting_days", f"must be from 1 to {MAX_ROTTING_DAYS}"
    yield from _of_fields(stage)
    for key in stage.allowed_moves or ():
        if key not in keys:
            yield "allowed_moves", f"{key!r:.80} is no stage of this pipeline"


def _of_fields(stage: NewStage) -> Iterator[tuple[str, str]]:
    for field in stage.required_fields:
        if field not in FIELDS and _ATTRIBUTE.fullmatch(field) is None:
            yield "required_fields", f"{field!r:.80} is no field of a deal that can be required"
    if "lost_reason" in stage.required_fields and stage.kind != "lost":
        yield "required_fields", "lost_reason is for lost stages alone"
