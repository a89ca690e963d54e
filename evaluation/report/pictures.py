"""Pictures of an evaluation: drawn with matplotlib, put into the page as SVG and into MLflow as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from evaluation.checks import FloatArray, IntArray

ACCENT, SECOND, THIRD, FAINT, INK = "#1c5d8f", "#c2571a", "#2f7d4f", "#8a94a0", "#1d2430"
COLOURS = (ACCENT, SECOND, THIRD, "#7b4397", "#8f1c3a", "#5d5d1c")

_STYLE: Any = {  # matplotlib types its keys one by one
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # names of sites and systems may hold any sign
    "svg.fonttype": "none",  # text stays text: small, sharp, to be searched
    "svg.hashsalt": "evaluation",  # the same picture is the same file
}
_POINTS = 800  # of a curve in print; more cannot be told apart

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with its caption. `name`: short, for files. `drawing`: None where there is nothing to draw, and then
    `reason` is the sentence that says why. `wide`: takes the page's whole width.
    """

    name: str
    title: str
    caption: str
    drawing: Drawing | None
    reason: str = ""
    wide: bool = False

    @property
    def svg(self) -> Markup:
        """The drawing as an SVG element for a page; matplotlib escapes its texts."""
        assert self.drawing is not None
        file = io.StringIO()
        with style():
            self.drawing.savefig(
                file, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None}
            )
        text = file.getvalue()
        return Markup(text[text.index("<svg") :])


@contextmanager
def style() -> Iterator[None]:
    """The look of all pictures."""
    with mpl.rc_context(_STYLE):
        yield


def styled(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function draw in the look of all pictures."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with style():
            return draw(*args, **kwargs)

    return drawn


def canvas(x: str, y: str, size: tuple[float, float] = (5.6, 4.6)) -> tuple[Drawing, Axes]:
    """An empty drawing (inches) with named axes."""
    drawing = Drawing(figsize=size, layout="constrained")
    return drawing, drawing.add_subplot(xlabel=x, ylabel=y)


def thinned(x: FloatArray, y: FloatArray, most: int = _POINTS) -> IntArray:
    """Indices of at most about `most` points of a monotone curve, evenly along it, both ends included."""
    if len(x) <= most:
        return np.arange(len(x))
    span = [max(float(np.ptp(axis)), np.finfo(float).tiny) for axis in (x, y)]
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) / span[0] + np.abs(np.diff(y)) / span[1]))
    wanted = np.searchsorted(along, np.linspace(0.0, along[-1], most))
    return np.unique(np.append(np.minimum(wanted, len(x) - 1), [0, len(x) - 1]))
