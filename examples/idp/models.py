"""The developer portal's models, and what it does with them: python -m examples.idp.models URL, before and after kms columns.

Only the types of protected columns tell these models from those of before; no query knows of ciphertexts.
"""

from __future__ import annotations

import sys
from typing import Any

from kms_client import Client
from kms_client.sqlalchemy import EncryptedJSON, EncryptedString, SearchableString, protect
from sqlalchemy import FetchedValue, ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    """The models of the portal."""


class User(Base):
    """Somebody with an account."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(String(30), primary_key=True, server_default=FetchedValue())
    email: Mapped[str] = mapped_column(SearchableString(255))
    name: Mapped[str] = mapped_column(EncryptedString(255))
    provider: Mapped[str] = mapped_column(String(50))
    provider_id: Mapped[str] = mapped_column(SearchableString(255))
    phone_number: Mapped[str | None] = mapped_column(EncryptedString(20))
    sessions: Mapped[list[PortalSession]] = relationship(back_populates="user")


class PortalSession(Base):
    """A login."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(String(30), primary_key=True, server_default=FetchedValue())
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    device_id: Mapped[str | None] = mapped_column(SearchableString(100))
    device_name: Mapped[str | None] = mapped_column(EncryptedString(255))
    user: Mapped[User] = relationship(back_populates="sessions")


class PluginInstallation(Base):
    """A plugin at work, with its secrets."""

    __tablename__ = "plugin_installations"
    id: Mapped[str] = mapped_column(String(30), primary_key=True, server_default=FetchedValue())
    environment: Mapped[str] = mapped_column(String(50))
    secrets: Mapped[dict[str, Any] | None] = mapped_column(EncryptedJSON())


def work(session: Session, address: str) -> list[str]:
    """Sign somebody up, find them, change their number, and see what they have; returns what is seen."""
    new = User(email=address, name="Ada Lovelace", provider="github", provider_id=address.partition("@")[0])
    session.add(new)
    session.commit()

    found = session.scalars(select(User).where(User.email == address)).one()
    found.phone_number = "+12025550123"
    session.commit()

    known = select(PortalSession).where(PortalSession.device_id.is_not(None)).order_by(PortalSession.id).limit(1)
    device = session.scalars(known).one()
    same = select(User.email, PortalSession.device_name).join(PortalSession.user)
    same = same.where(PortalSession.device_id == device.device_id, User.email.in_([device.user.email, address]))
    count = select(func.count()).select_from(PluginInstallation).where(PluginInstallation.secrets.is_not(None))
    plugin = session.scalars(select(PluginInstallation).order_by(PluginInstallation.id).limit(1)).one()
    return [
        f"{found.name}, {found.provider_id}, {found.phone_number}",
        f"{device.user.email} uses {sorted(str(name) for _, name in session.execute(same))}",
        f"{session.scalar(count)} plugins have secrets, the first one {sorted(plugin.secrets or {})}",
    ]


def main(url: str, address: str = "ada@example.org") -> None:
    """Do the work once."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), hide_parameters=True)
    with Client.from_profile() as kms:  # the profile is the one that KMS_PROFILE names
        protect(Base, engine, kms)
        with Session(engine) as session:
            print("\n".join(work(session, address)))


if __name__ == "__main__":
    main(*sys.argv[1:])
