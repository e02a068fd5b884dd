"""Tables, one module per domain; importing this package makes all of them known to the metadata."""

from models.base import Base
from models.commerce import OrderFact
from models.events import ConsumerCursor, DeadEvent, Event
from models.identity import Consent, Person, PersonIdentifier, Suppression
from models.journeys import (
    Cohort,
    CohortSignal,
    Enrollment,
    EnrollmentStep,
    Journey,
    JourneyListener,
    JourneyVersion,
    Waiter,
)
from models.messages import Message, MessagePage, Template, TemplateVersion
from models.shared import Activity
from models.tenancy import ApiKey, IdempotencyKey, Tenant

__all__ = [
    "Activity",
    "ApiKey",
    "Base",
    "Cohort",
    "CohortSignal",
    "Consent",
    "ConsumerCursor",
    "DeadEvent",
    "Enrollment",
    "EnrollmentStep",
    "Event",
    "IdempotencyKey",
    "Journey",
    "JourneyListener",
    "JourneyVersion",
    "Message",
    "MessagePage",
    "OrderFact",
    "Person",
    "PersonIdentifier",
    "Suppression",
    "Template",
    "TemplateVersion",
    "Tenant",
    "Waiter",
]
