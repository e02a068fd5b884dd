"""What those nodes do that any domain's worker carries out."""

from types import MappingProxyType
from typing import Final

from journeys.arms import SplitNode
from journeys.command_nodes import EnrollNode
from journeys.keeping_nodes import CreateRecordNode, UpdateRecordNode
from journeys.pacing import RateLimitNode
from services.journeys import pacing, passing_on, record_nodes, splitting, steps
from services.journeys.onward import Through
from services.journeys.steps import Actions

COMMON: Final[Actions] = MappingProxyType(
    {
        **steps.OWN,
        CreateRecordNode: Through(record_nodes.create, alone=True),
        EnrollNode: Through(passing_on.enroll, alone=True),
        RateLimitNode: pacing.pace,
        SplitNode: splitting.split,
        UpdateRecordNode: Through(record_nodes.update, alone=True),
    }
)
"""A domain adds the actions of its own nodes."""
