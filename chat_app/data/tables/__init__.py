"""The schema, one file per room. Importing this package registers every table with SQLModel's metadata.

All times are integer milliseconds UTC; money is integer micro-units of the currency; JSON lies in TEXT.
"""

from chat_app.data.tables.accounts import (
    ApiKey,
    BrowserSession,
    ExternalIdentity,
    HalfSignIn,
    KnownDevice,
    OidcFlow,
    RecoveryCode,
    SetupCode,
    Tenant,
    User,
)
from chat_app.data.tables.audit import AuditEntry, AuditHead
from chat_app.data.tables.billing import KeyMonth, LedgerEntry, Plan, Price, Quota
from chat_app.data.tables.safety import Review
from chat_app.data.tables.sessions import Checkpoint, Generation, Message, Step, Thread
from chat_app.data.tables.telemetry import Event

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "BrowserSession",
    "Checkpoint",
    "Event",
    "ExternalIdentity",
    "Generation",
    "HalfSignIn",
    "KeyMonth",
    "KnownDevice",
    "LedgerEntry",
    "Message",
    "OidcFlow",
    "Plan",
    "Price",
    "Quota",
    "RecoveryCode",
    "Review",
    "SetupCode",
    "Step",
    "Tenant",
    "Thread",
    "User",
]
