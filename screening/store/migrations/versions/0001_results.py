"""The results: exams with all that belongs to them, instances that are no images, batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from screening.store.schema import Words

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of results."""
    op.create_table(
        "batches",
        sa.Column("key", sa.Integer(), primary_key=True),
        *(_text(name) for name in ("site", "model_id", "started", "finished")),
        sa.Column("record", sa.JSON(), nullable=False),
    )
    op.create_table(
        "exams",
        sa.Column("key", sa.Integer(), primary_key=True),
        *(_text(name) for name in ("exam_id", "model_id", "woman_id")),
        sa.Column("exam_date", sa.Date()),
        *(_text(name) for name in ("site", "manufacturer", "status")),
        *(_text(name, nullable=True) for name in ("reason_code", "reason_sentence")),
        sa.Column("score", sa.Double()),
        sa.Column("category", sa.Integer()),
        *(_text(name, nullable=True) for name in ("density", "top_region_id")),
        sa.UniqueConstraint("exam_id", "model_id"),
        sa.CheckConstraint("(status = 'scored') = (score IS NOT NULL)", name="exam_score_if_scored"),
    )
    op.create_table(
        "breasts",
        sa.Column("key", sa.Integer(), primary_key=True),
        _parent("exam_key", "exams", nullable=False),
        _text("laterality"),
        sa.Column("score", sa.Double(), nullable=False),
        _text("top_region_id"),
        _text("density", nullable=True),
    )
    op.create_table(
        "images",
        sa.Column("key", sa.Integer(), primary_key=True),
        _parent("exam_key", "exams", nullable=False),
        *(_text(name) for name in ("image_id", "path", "laterality", "view", "kind")),
        *(_number(name, sa.Integer()) for name in ("rows", "columns", "frames")),
        *(_number(name, sa.Double()) for name in ("row_spacing_mm", "column_spacing_mm")),
        _text("intent"),
        sa.Column("patient_orientation", sa.JSON(), nullable=False),
        sa.Column("implant", sa.Boolean(), nullable=False),
        _text("status"),
        *(_text(name, nullable=True) for name in ("reason_code", "reason_sentence")),
        sa.Column("score", sa.Double()),
        sa.CheckConstraint("(status = 'scored') = (score IS NOT NULL)", name="image_score_if_scored"),
    )
    op.create_table(
        "regions",
        sa.Column("key", sa.Integer(), primary_key=True),
        _parent("image_key", "images", nullable=False),
        *(_text(name) for name in ("region_id", "laterality", "view")),
        *(_number(name, sa.Double()) for name in ("x", "y", "width", "height")),
        sa.Column("contour", sa.JSON(), nullable=False),
        _number("score", sa.Double()),
        *(_number(name, sa.Integer()) for name in ("rank", "frame_first", "frame_last", "frame_peak")),
    )
    op.create_table(
        "warnings",
        sa.Column("key", sa.Integer(), primary_key=True),
        _parent("exam_key", "exams", nullable=True),
        _parent("image_key", "images", nullable=True),
        sa.Column("from_header", sa.Boolean(), nullable=False),
        _text("text"),
    )
    op.create_table(
        "instance_rejections",
        sa.Column("key", sa.Integer(), primary_key=True),
        *(_text(name) for name in ("file", "exam_id", "image_id", "status", "reason_code", "reason_sentence")),
        *(_text(name) for name in ("laterality", "view", "kind")),
        *(_number(name, sa.Integer()) for name in ("rows", "columns", "frames")),
        sa.UniqueConstraint("file", "exam_id", "image_id"),
    )
    for table, column in _INDICES:
        op.create_index(f"ix_{table}_{column}", table, [column])


_INDICES = (
    ("breasts", "exam_key"),
    ("images", "exam_key"),
    ("regions", "image_key"),
    ("warnings", "exam_key"),
    ("warnings", "image_key"),
    ("instance_rejections", "image_id"),
)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, Words(), nullable=nullable)


def _number(name: str, kind: sa.types.TypeEngine[float] | sa.types.TypeEngine[int]) -> sa.Column[float]:
    return sa.Column(name, kind, nullable=False)


def _parent(name: str, table: str, nullable: bool) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), sa.ForeignKey(f"{table}.key", ondelete="CASCADE"), nullable=nullable)
