"""The tables of the results store. Columns follow `screening.result`; keys of this database are called `key`."""

from __future__ import annotations

from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Double, ForeignKey, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISION = "0002"
"""Of the tables below: the last of `migrations/versions`."""


class Words(TypeDecorator[str]):
    """Text from outside: NUL, which no database takes, is dropped; undecodable bytes of a file name are spelled out."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Order by code points everywhere, as the tables do; PostgreSQL would by the language of its host."""
        return dialect.type_descriptor(Text(collation="C") if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return `value` as it can be stored."""
        return None if value is None else value.replace("\0", "").encode("utf-8", "backslashreplace").decode("utf-8")


class Base(DeclarativeBase):
    type_annotation_map = {str: Words, float: Double}  # noqa: RUF012 - SQLAlchemy reads it from the class


class BatchRow(Base):
    __tablename__ = "batches"
    key: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    model_id: Mapped[str]
    started: Mapped[str]
    finished: Mapped[str]
    record: Mapped[Any] = mapped_column(sa.JSON)


class ExamRow(Base):
    __tablename__ = "exams"
    __table_args__ = (
        UniqueConstraint("exam_id", "model_id"),
        CheckConstraint("(status = 'scored') = (score IS NOT NULL)", "exam_score_if_scored"),
    )
    key: Mapped[int] = mapped_column(primary_key=True)
    exam_id: Mapped[str]
    model_id: Mapped[str]
    woman_id: Mapped[str]
    exam_date: Mapped[date | None]
    site: Mapped[str]
    manufacturer: Mapped[str]
    status: Mapped[str]
    reason_code: Mapped[str | None]
    reason_sentence: Mapped[str | None]
    score: Mapped[float | None]
    category: Mapped[int | None]
    density: Mapped[str | None]
    top_region_id: Mapped[str | None]
    breasts: Mapped[list[BreastRow]] = relationship(order_by="BreastRow.key", passive_deletes=True)
    images: Mapped[list[ImageRow]] = relationship(order_by="ImageRow.key", passive_deletes=True)
    warnings: Mapped[list[WarningRow]] = relationship(order_by="WarningRow.key", passive_deletes=True)


class BreastRow(Base):
    __tablename__ = "breasts"
    key: Mapped[int] = mapped_column(primary_key=True)
    exam_key: Mapped[int] = mapped_column(ForeignKey("exams.key", ondelete="CASCADE"), index=True)
    laterality: Mapped[str]
    score: Mapped[float]
    top_region_id: Mapped[str]
    density: Mapped[str | None]


class ImageRow(Base):
    __tablename__ = "images"
    __table_args__ = (CheckConstraint("(status = 'scored') = (score IS NOT NULL)", "image_score_if_scored"),)
    key: Mapped[int] = mapped_column(primary_key=True)
    exam_key: Mapped[int] = mapped_column(ForeignKey("exams.key", ondelete="CASCADE"), index=True)
    image_id: Mapped[str]
    path: Mapped[str]
    laterality: Mapped[str]
    view: Mapped[str]
    kind: Mapped[str]
    rows: Mapped[int]
    columns: Mapped[int]
    frames: Mapped[int]
    row_spacing_mm: Mapped[float]
    column_spacing_mm: Mapped[float]
    intent: Mapped[str]
    patient_orientation: Mapped[Any] = mapped_column(sa.JSON)
    implant: Mapped[bool]
    status: Mapped[str]
    reason_code: Mapped[str | None]
    reason_sentence: Mapped[str | None]
    score: Mapped[float | None]
    regions: Mapped[list[RegionRow]] = relationship(order_by="RegionRow.key", passive_deletes=True)
    warnings: Mapped[list[WarningRow]] = relationship(order_by="WarningRow.key", passive_deletes=True)


class RegionRow(Base):
    __tablename__ = "regions"
    key: Mapped[int] = mapped_column(primary_key=True)
    image_key: Mapped[int] = mapped_column(ForeignKey("images.key", ondelete="CASCADE"), index=True)
    region_id: Mapped[str]
    laterality: Mapped[str]
    view: Mapped[str]
    x: Mapped[float]
    y: Mapped[float]
    width: Mapped[float]
    height: Mapped[float]
    contour: Mapped[Any] = mapped_column(sa.JSON)
    score: Mapped[float]
    rank: Mapped[int]
    frame_first: Mapped[int]
    frame_last: Mapped[int]
    frame_peak: Mapped[int]


class WarningRow(Base):
    """A warning about an exam, or about an image: found in its header (`from_header`) or in its pixels."""

    __tablename__ = "warnings"
    key: Mapped[int] = mapped_column(primary_key=True)
    exam_key: Mapped[int | None] = mapped_column(ForeignKey("exams.key", ondelete="CASCADE"), index=True)
    image_key: Mapped[int | None] = mapped_column(ForeignKey("images.key", ondelete="CASCADE"), index=True)
    from_header: Mapped[bool]
    text: Mapped[str]


class RejectionRow(Base):
    __tablename__ = "instance_rejections"
    __table_args__ = (UniqueConstraint("file", "exam_id", "image_id"),)
    key: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[str]
    exam_id: Mapped[str]
    image_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    reason_code: Mapped[str]
    reason_sentence: Mapped[str]
    laterality: Mapped[str]
    view: Mapped[str]
    kind: Mapped[str]
    rows: Mapped[int]
    columns: Mapped[int]
    frames: Mapped[int]


class LedgerRow(Base):
    """Where an exam is on its way to a result of one model (`screening.batch.ledger`).

    Times are seconds since 1970 by the runner's clock, for people; nothing is decided by them. `exam`: the exam as
    JSON, until its end was told (`announced`). `instances`: SOP Instance UID to size, modification time and SHA-256.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        UniqueConstraint("exam_id", "model_id", name="ledger_exam"),
        sa.Index("ledger_next", "model_id", "state", "key"),
        sa.Index("ledger_untold", "model_id", "announced", "state"),
    )
    key: Mapped[int] = mapped_column(primary_key=True)
    exam_id: Mapped[str]
    model_id: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    runner: Mapped[str | None]
    host: Mapped[str | None]
    worker: Mapped[str | None]
    bundle_sha256: Mapped[str | None]
    config_sha256: Mapped[str | None]
    queued: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]
    seconds: Mapped[Any] = mapped_column(sa.JSON)
    reason_code: Mapped[str | None]
    reason_sentence: Mapped[str | None]
    fingerprint: Mapped[str]
    instances: Mapped[Any] = mapped_column(sa.JSON)
    exam: Mapped[str | None]
    announced: Mapped[bool] = mapped_column(default=False)


class RunnerRow(Base):
    """A program that claims exams: while it lives, `beat` grows."""

    __tablename__ = "runners"
    token: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    process: Mapped[int]
    begun: Mapped[float]
    beat: Mapped[int] = mapped_column(default=0)
