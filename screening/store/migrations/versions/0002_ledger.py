"""The ledger: where each exam of a batch is on its way to a result, and who claims exams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from screening.store.schema import Words

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables `ledger` and `runners`."""
    op.create_table(
        "runners",
        sa.Column("token", Words(), primary_key=True),
        sa.Column("host", Words(), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("begun", sa.Double(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("key", sa.Integer(), primary_key=True),
        sa.Column("exam_id", Words(), nullable=False),
        sa.Column("model_id", Words(), nullable=False),
        sa.Column("state", Words(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("runner", Words()),
        sa.Column("host", Words()),
        sa.Column("worker", Words()),
        sa.Column("bundle_sha256", Words()),
        sa.Column("config_sha256", Words()),
        sa.Column("queued", sa.Double(), nullable=False),
        sa.Column("started", sa.Double()),
        sa.Column("finished", sa.Double()),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.Column("reason_code", Words()),
        sa.Column("reason_sentence", Words()),
        sa.Column("fingerprint", Words(), nullable=False),
        sa.Column("instances", sa.JSON(), nullable=False),
        sa.Column("exam", Words()),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("exam_id", "model_id", name="ledger_exam"),
    )
    op.create_index("ledger_next", "ledger", ["model_id", "state", "key"])
    op.create_index("ledger_untold", "ledger", ["model_id", "announced", "state"])
