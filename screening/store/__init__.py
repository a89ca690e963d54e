"""The results store, and the tables and the batch record that are written from it.

The store keeps everything but pixels. The CSV files are made from it, so they depend on what was stored and never on
the order in which it came in.
"""

from screening.store.batch import BatchSummary, Counts, Ends, write_batch_json
from screening.store.database import STORE_NAME, ResultStore
from screening.store.files import write_atomically
from screening.store.tables import EXAM_COLUMNS, IMAGE_COLUMNS, REGION_COLUMNS, write_tables

__all__ = [
    "EXAM_COLUMNS",
    "IMAGE_COLUMNS",
    "REGION_COLUMNS",
    "STORE_NAME",
    "BatchSummary",
    "Counts",
    "Ends",
    "ResultStore",
    "write_atomically",
    "write_batch_json",
    "write_tables",
]
