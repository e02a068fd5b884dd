"""What those nodes do that any domain's worker carries out."""

from types import MappingProxyType
from typing import Final

from journeys.arms import SplitNode
from journeys.command_nodes import EnrollNode
from services.journeys import passing_on, splitting, steps
from services.journeys.steps import Actions

COMMON: Final[Actions] = MappingProxyType({**steps.OWN, EnrollNode: passing_on.enroll, SplitNode: splitting.split})
"""A domain adds the actions of its own nodes."""
