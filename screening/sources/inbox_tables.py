"""The inbox's tables: what has come and what of it was scored; times are seconds since 1970, in UTC."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from screening.store.schema import Words

VERSION = 1
"""Of the tables; the file's `user_version`."""


class Base(DeclarativeBase):
    type_annotation_map = {str: Words}  # noqa: RUF012 - SQLAlchemy reads it from the class


class ExamRow(Base):
    """One exam. `changes` counts mammograms that came or changed; so many of these were seen when it was `scored`."""

    __tablename__ = "exams"
    key: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    changes: Mapped[int] = mapped_column(default=0)
    scored: Mapped[int] = mapped_column(default=0)
    since: Mapped[float]
    last: Mapped[float]
    priors_sought: Mapped[bool] = mapped_column(default=False)


class InstanceRow(Base):
    """One instance that was kept.

    `mammogram`: of modality MG. `matters`: that, or something else that is scored; its exam waits. `view`: such as
    "RCC", or empty.
    """

    __tablename__ = "instances"
    __table_args__ = (sa.UniqueConstraint("exam", "sop_instance_uid"),)
    key: Mapped[int] = mapped_column(primary_key=True)
    exam: Mapped[str] = mapped_column(index=True)
    study_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    digest: Mapped[str]
    mammogram: Mapped[bool]
    matters: Mapped[bool]
    view: Mapped[str]
