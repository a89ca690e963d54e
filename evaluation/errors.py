"""What a figure refuses: input that has no meaning, and data on which the figure has no value."""

from screening.errors import ScreeningError


class MetricError(ScreeningError, ValueError):
    """A figure cannot be given; the message is one sentence that says why."""


class InvalidInputError(MetricError):
    """The arrays or parameters have no meaning: NaN, wrong shape, a negative weight, a rate outside [0, 1]."""


class NotComputableError(MetricError):
    """The input is sound, but the figure is undefined on it, such as an AUC over one class.

    A bootstrap counts such replicates; everything else passes the sentence on.
    """
