"""The outbox's tables; times are seconds since 1970, in UTC."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from screening.store.schema import Words

VERSION = 1
"""Of the tables; the file's `user_version`."""


class Base(DeclarativeBase):
    type_annotation_map = {str: Words}  # noqa: RUF012 - SQLAlchemy reads it from the class


class ParcelRow(Base):
    __tablename__ = "parcels"
    __table_args__ = (sa.UniqueConstraint("destination", "sop_instance_uid"),)
    key: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(index=True)
    exam_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    path: Mapped[str]
    lasting: Mapped[bool]
    made: Mapped[float]
    state: Mapped[str] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_try: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str] = mapped_column(default="")
    queued: Mapped[float]
    tried: Mapped[float | None]
    arrived: Mapped[float | None]
    committed: Mapped[float | None]
    commitment_offered: Mapped[bool] = mapped_column(default=True)


class SwitchRow(Base):
    __tablename__ = "switches"
    key: Mapped[int] = mapped_column(primary_key=True)
    moment: Mapped[float]
    site: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    decided_by: Mapped[str]
    user: Mapped[str]
    profile: Mapped[str]
