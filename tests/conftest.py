"""For all tests."""

from __future__ import annotations

import os

# Small arrays gain nothing from several threads, and on a busy machine threads that wait for each other are slow. Set
# before torch or OpenMP is loaded; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
