"""Tables, one module per domain; importing this package makes all of them known to the metadata."""

from models.addresses import Address
from models.attributes import AttributeDefinition, ScoreRule
from models.base import Base
from models.campaigns import Campaign, CampaignRun, Conversion
from models.channels import ChannelAccount, Communication, Device, RateBucket, SenderDomain, ShortLink
from models.commerce import OrderFact
from models.consent import Consent, ConsentChange, Topic
from models.crm import (
    Deal,
    DealContact,
    DealLine,
    DealStageEntry,
    ExchangeRate,
    OwnerRotation,
    Pipeline,
    PipelineStage,
    StageAutomation,
)
from models.events import ConsumerCursor, DeadEvent, Event
from models.forms import Form, WriteKey
from models.identity import Person, PersonIdentifier, Suppression, SuppressionHash
from models.imports import ImportChunk, ImportReject, PeopleImport
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
from models.merges import DuplicateBlock, DuplicateCandidate, DuplicateRun, PersonAlias, PersonMerge, PersonMergeRow
from models.messages import Message, MessagePage, Template, TemplatePartial, TemplateVersion
from models.objects import (
    Association,
    AssociationDefinition,
    ObjectDefinition,
    ObjectVersion,
    Record,
    RecordValue,
)
from models.organizations import Organization, OrganizationEntry, OrganizationPerson
from models.privacy import Erasure
from models.segments import Segment, SegmentDependency, SegmentFlip, SegmentLag, SegmentMember, SegmentRefresh
from models.shared import Activity, WorkflowSchedule, WorkflowStart
from models.tasks import Notification, OutgoingCall, Task
from models.tenancy import ApiKey, IdempotencyKey, Tenant
from models.users import Invitation, SignInAttempts, UserAccount, UserSession

__all__ = [
    "Activity",
    "Address",
    "ApiKey",
    "Association",
    "AssociationDefinition",
    "AttributeDefinition",
    "Base",
    "Campaign",
    "CampaignRun",
    "ChannelAccount",
    "Cohort",
    "CohortSignal",
    "Communication",
    "Consent",
    "ConsentChange",
    "ConsumerCursor",
    "Conversion",
    "DeadEvent",
    "Deal",
    "DealContact",
    "DealLine",
    "DealStageEntry",
    "Device",
    "DuplicateBlock",
    "DuplicateCandidate",
    "DuplicateRun",
    "Enrollment",
    "EnrollmentStep",
    "Erasure",
    "Event",
    "ExchangeRate",
    "Form",
    "IdempotencyKey",
    "ImportChunk",
    "ImportReject",
    "Invitation",
    "Journey",
    "JourneyListener",
    "JourneyVersion",
    "Message",
    "MessagePage",
    "Notification",
    "ObjectDefinition",
    "ObjectVersion",
    "OrderFact",
    "Organization",
    "OrganizationEntry",
    "OrganizationPerson",
    "OutgoingCall",
    "OwnerRotation",
    "PeopleImport",
    "Person",
    "PersonAlias",
    "PersonIdentifier",
    "PersonMerge",
    "PersonMergeRow",
    "Pipeline",
    "PipelineStage",
    "RateBucket",
    "Record",
    "RecordValue",
    "ScoreRule",
    "Segment",
    "SegmentDependency",
    "SegmentFlip",
    "SegmentLag",
    "SegmentMember",
    "SegmentRefresh",
    "SenderDomain",
    "ShortLink",
    "SignInAttempts",
    "StageAutomation",
    "Suppression",
    "SuppressionHash",
    "Task",
    "Template",
    "TemplatePartial",
    "TemplateVersion",
    "Tenant",
    "Topic",
    "UserAccount",
    "UserSession",
    "Waiter",
    "WorkflowSchedule",
    "WorkflowStart",
    "WriteKey",
]
