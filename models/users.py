"""Teammates of a tenant, how they sign in, and who is invited."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, TenantRow, belongs_to, of_tenant, system
from models.identity import one_of

USER_ROLES = ("owner", "admin", "marketer", "sales", "read_only")


class UserAccount(Created, TenantRow):
    """A teammate. Never deleted, as the audit names it: disabled."""

    __tablename__ = "user_account"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "email"),
        CheckConstraint(one_of("role", USER_ROLES), name="role"),
        Index("user_account_email_idx", "email"),
        {"info": system("SELECT")},
    )

    email: Mapped[str] = mapped_column(Text(collation="C"))
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    """Argon2id (RFC 9106) in its encoded form."""
    last_sign_in_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class UserSession(Created, TenantRow):
    """Somebody signed in."""

    __tablename__ = "user_session"
    __table_args__ = (
        belongs_to("user_account", "user_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "user_id"),
        Index(None, "expires_at"),
        {"info": system("SELECT, DELETE")},
    )

    user_id: Mapped[UUID]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the token; the token has 256 random bits."""
    expires_at: Mapped[datetime]
    """When it ends unless it is used before; moves on with use, up to a limit from its beginning."""
    last_used_at: Mapped[datetime]
    """To within a minute."""
    user_agent: Mapped[str | None]
    ip: Mapped[str | None]
    revoked_at: Mapped[datetime | None]


class Invitation(Created, TenantRow):
    """A colleague asked to join; the token is sent once and only its hash kept."""

    __tablename__ = "invitation"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("role", USER_ROLES), name="role"),
        Index("invitation_open_key", "tenant_id", "email", unique=True, postgresql_where=text("closed_at IS NULL")),
        {"info": system("SELECT")},
    )

    email: Mapped[str] = mapped_column(Text(collation="C"))
    role: Mapped[str]
    name: Mapped[str | None]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    invited_by: Mapped[str]
    """The actor, such as `user:ID`."""
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    """When it was accepted, revoked or replaced."""


class SignInAttempts(Base):
    """How often an address failed to sign in lately.

    Of no tenant, and kept for addresses nobody has too: being locked must not tell that there is an account.
    """

    __tablename__ = "sign_in_attempts"
    __table_args__ = (Index(None, "last_at"), {"info": system("SELECT, INSERT, UPDATE, DELETE")})

    address_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """SHA-256 of the normalized address: enough to count by, and the row goes after a day."""
    failed: Mapped[int] = mapped_column(Integer)
    locked_until: Mapped[datetime | None]
    last_at: Mapped[datetime]
