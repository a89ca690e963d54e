"""Random numbers of the simulation: each is drawn from (seed, woman, what it is for) and from nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, index: int, *what: str | int) -> np.random.Generator:
    """Generator for one purpose of one woman; other purposes, other women and the order of calls leave it alone."""
    words = [word if isinstance(word, int) else zlib.crc32(word.encode()) for word in what]
    return np.random.default_rng(np.random.SeedSequence([seed, index, *words]))
