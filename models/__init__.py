"""Tables, one module per domain; importing this package makes all of them known to the metadata."""

from models.addresses import Address
from models.attributes import AttributeDefinition, ScoreRule
from models.base import Base
from models.campaigns import Campaign, CampaignRun, Conversion
from models.carts import Cart, CartLine, Discount, DiscountUse
from models.catalogue import Category, Price, Product, ProductCategory, ProductWord, Variant, VariantWatch
from models.channels import ChannelAccount, Communication, Device, RateBucket, SenderDomain, ShortLink
from models.charges import ShippingMethod, TaxRate
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
from models.events import ConsumerCursor, DeadEvent, Event, EventTypeDay, EventTypeRow
from models.forms import Form, WriteKey
from models.identity import Person, PersonIdentifier, Suppression, SuppressionHash
from models.imports import ImportChunk, ImportReject, PeopleImport
from models.journey_rates import JourneyRateLimit, JourneyRateRelease, JourneyRateTicket
from models.journey_results import JourneyConversion, JourneyTest
from models.journeys import (
    Cohort,
    CohortSignal,
    Enrollment,
    EnrollmentStep,
    Journey,
    JourneyListener,
    JourneyMigration,
    JourneyRefusal,
    JourneyVersion,
    Waiter,
)
from models.merges import DuplicateBlock, DuplicateCandidate, DuplicateRun, PersonAlias, PersonMerge, PersonMergeRow
from models.messages import Message, MessageClick, MessagePage, Template, TemplatePartial, TemplateVersion
from models.objects import (
    Association,
    AssociationDefinition,
    ObjectDefinition,
    ObjectVersion,
    Record,
    RecordValue,
)
from models.orders import (
    Fulfilment,
    Order,
    OrderCounter,
    OrderLine,
    Payment,
    PaymentAccount,
    PaymentNotice,
    Refund,
)
from models.organizations import Organization, OrganizationEntry, OrganizationPerson
from models.privacy import Erasure
from models.processes import ProcessBeat
from models.segments import Segment, SegmentDependency, SegmentFlip, SegmentLag, SegmentMember, SegmentRefresh
from models.shared import Activity, WorkflowSchedule, WorkflowStart
from models.simulations import JourneySimulation, JourneySimulationSample
from models.stock import Reservation, StockLevel, StockLocation, StockMovement
from models.tasks import Notification, OutgoingCall, Task
from models.tenancy import ApiKey, IdempotencyKey, Tenant
from models.users import Invitation, SignInAttempts, UserAccount, UserSession
from models.webhooks import WebhookDelivery, WebhookEndpoint

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
    "Cart",
    "CartLine",
    "Category",
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
    "Discount",
    "DiscountUse",
    "DuplicateBlock",
    "DuplicateCandidate",
    "DuplicateRun",
    "Enrollment",
    "EnrollmentStep",
    "Erasure",
    "Event",
    "EventTypeDay",
    "EventTypeRow",
    "ExchangeRate",
    "Form",
    "Fulfilment",
    "IdempotencyKey",
    "ImportChunk",
    "ImportReject",
    "Invitation",
    "Journey",
    "JourneyConversion",
    "JourneyListener",
    "JourneyMigration",
    "JourneyRateLimit",
    "JourneyRateRelease",
    "JourneyRateTicket",
    "JourneyRefusal",
    "JourneySimulation",
    "JourneySimulationSample",
    "JourneyTest",
    "JourneyVersion",
    "Message",
    "MessageClick",
    "MessagePage",
    "Notification",
    "ObjectDefinition",
    "ObjectVersion",
    "Order",
    "OrderCounter",
    "OrderFact",
    "OrderLine",
    "Organization",
    "OrganizationEntry",
    "OrganizationPerson",
    "OutgoingCall",
    "OwnerRotation",
    "Payment",
    "PaymentAccount",
    "PaymentNotice",
    "PeopleImport",
    "Person",
    "PersonAlias",
    "PersonIdentifier",
    "PersonMerge",
    "PersonMergeRow",
    "Pipeline",
    "PipelineStage",
    "Price",
    "ProcessBeat",
    "Product",
    "ProductCategory",
    "ProductWord",
    "RateBucket",
    "Record",
    "RecordValue",
    "Refund",
    "Reservation",
    "ScoreRule",
    "Segment",
    "SegmentDependency",
    "SegmentFlip",
    "SegmentLag",
    "SegmentMember",
    "SegmentRefresh",
    "SenderDomain",
    "ShippingMethod",
    "ShortLink",
    "SignInAttempts",
    "StageAutomation",
    "StockLevel",
    "StockLocation",
    "StockMovement",
    "Suppression",
    "SuppressionHash",
    "Task",
    "TaxRate",
    "Template",
    "TemplatePartial",
    "TemplateVersion",
    "Tenant",
    "Topic",
    "UserAccount",
    "UserSession",
    "Variant",
    "VariantWatch",
    "Waiter",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkflowSchedule",
    "WorkflowStart",
    "WriteKey",
]
