"""CUSUM charts (Page, Biometrika 1954;41:100): small changes that last, which no single week shows.

S = max(0, S + z − k) over standard normal z, upwards and downwards, with k = 0.5, which is best for a change of one
standard error (Montgomery, Introduction to Statistical Quality Control, 9.1). The limit is the one that a chart without
change passes with a chosen probability within a chosen number of steps, by the Markov chain of Brook and Evans
(Biometrika 1972;59:539).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

ALLOWANCE = 0.5
_STATES = 120


@dataclass(frozen=True)
class Cusum:
    """A two-sided chart after some steps. `rising_since`, `falling_since`: steps since the sum last was 0."""

    up: float = 0.0
    down: float = 0.0
    rising_since: int = 0
    falling_since: int = 0

    def step(self, z: float, limit: float) -> Cusum:
        """The chart after one more z.

        A sum stays at most 1 above the limit, so that a chart comes back soon after the change has been undone.
        """
        up = min(limit + 1, max(0.0, self.up + z - ALLOWANCE))
        down = min(limit + 1, max(0.0, self.down - z - ALLOWANCE))
        return Cusum(up, down, self.rising_since + 1 if up else 0, self.falling_since + 1 if down else 0)

    def beyond(self, limit: float) -> int:
        """1 above the limit upwards, -1 downwards, 0 within."""
        return 0 if max(self.up, self.down) < limit else 1 if self.up >= self.down else -1

    @property
    def steps(self) -> int:
        """Since how many steps the higher of the sums has been above 0: the estimate of when a change began."""
        return self.rising_since if self.up >= self.down else self.falling_since


def signal_probability(limit: float, steps: int) -> float:
    """Probability that a one-sided chart without change reaches `limit` within `steps`."""
    width = limit / _STATES
    state = np.arange(_STATES) * width  # 0 is a state of its own, the others are intervals around their middle
    moves = state[None, :] - state[:, None] + ALLOWANCE
    chain = special.ndtr(moves + width / 2) - special.ndtr(moves - width / 2)
    chain[:, 0] = special.ndtr(moves[:, 0] + width / 2)
    start = np.zeros(_STATES)
    start[0] = 1.0
    return float(1 - (start @ np.linalg.matrix_power(chain, steps)).sum())


@cache
def limit_for(false_alarms: float, steps: int) -> float:
    """The limit that a one-sided chart reaches within `steps` with probability `false_alarms`, in (0, 0.5]."""
    if not 0 < false_alarms <= 0.5:
        raise ValueError(f"the probability of a false alarm must lie in (0, 0.5], not {false_alarms}")
    # Nearer to 0 than 1e-12, the chain's own rounding is what would be solved for.
    wanted = max(false_alarms, 1e-12)
    return float(
        optimize.brentq(
            lambda limit: np.log(max(1e-300, signal_probability(limit, steps)) / wanted), 0.5, 40, xtol=1e-3
        )
    )
