"""The report's drawings, as SVG that prints in black and white as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from screening.acceptance.image_checks import Comparison
from screening.acceptance.image_reference import ImageReference
from screening.acceptance.score_statistics import Spread

_WIDTH, _LABEL, _NUMBER, _ROW = 760, 150, 70, 26
_SITE, _TRAINING = "#1c5d8f", "#8a94a0"


def boxes(comparison: Comparison, training: ImageReference) -> str:
    """Quantiles of one measure, of the site and of the training images: all, and each data set.

    A line from the 1st to the 99th percentile, a bar from the 5th to the 95th, a box from the 25th to the 75th, and
    the median across it.
    """
    rows = [("This site", comparison.levels, comparison.images, _SITE)]
    rows.append(("Training, all", comparison.training, training.all.images, "#3d4855"))
    if len(training.by_set) > 1:
        rows += [(name, own.quantiles[comparison.name], own.images, _TRAINING) for name, own in training.by_set.items()]
    low, high = min(row[1][0] for row in rows), max(row[1][-1] for row in rows)
    span = (high - low) or 1.0
    left, right = _LABEL, _WIDTH - _NUMBER

    def x(value: float) -> float:
        return left + (value - low) / span * (right - left)

    parts = []
    # What the criterion asks for: the middle 98 % of all training images.
    first, last = x(comparison.training[0]), x(comparison.training[-1])
    height = _ROW * len(rows)
    parts.append(f'<rect x="{first:.1f}" y="0" width="{last - first:.1f}" height="{height}" fill="#eef2f6"/>')
    for number, (name, levels, images, colour) in enumerate(rows):
        middle = _ROW * number + _ROW / 2
        q01, q05, q25, q50, q75, q95, q99 = (x(value) for value in levels)
        parts += [
            f'<text x="0" y="{middle + 4:.1f}">{escape(name[:22])}</text>',
            f'<path d="M{q01:.1f} {middle}H{q99:.1f}" stroke="{colour}" stroke-width="1"/>',
            f'<path d="M{q05:.1f} {middle}H{q95:.1f}" stroke="{colour}" stroke-width="4"/>',
            f'<rect x="{q25:.1f}" y="{middle - 7}" width="{max(1.0, q75 - q25):.1f}" height="14" fill="#fff" '
            f'stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{q50:.1f} {middle - 7}v14" stroke="{colour}" stroke-width="3"/>',
            f'<text x="{_WIDTH}" y="{middle + 4:.1f}" class="right">n = {images}</text>',
        ]
    ticks = [low, (low + high) / 2, high]
    parts += [f'<text x="{x(value):.1f}" y="{height + 16}" class="middle">{value:.3g}</text>' for value in ticks]
    return _svg(parts, height + 22, f"{comparison.title}: this site and the training images")


def bars(found: Spread) -> str:
    """The share of each category, and the tenth that is expected of it."""
    height, base, step = 190, 160, (_WIDTH - _LABEL) / len(found.counts)
    units = max(1, found.units)
    top = max(0.2, max(found.counts) / units) * 1.12
    expected = base - 0.1 / top * base
    parts = []
    for number, count in enumerate(found.counts):
        x, tall = _LABEL + number * step, count / units / top * base
        parts += [
            f'<rect x="{x + 5:.1f}" y="{base - tall:.1f}" width="{step - 10:.1f}" height="{tall:.1f}" fill="{_SITE}"/>',
            f'<text x="{x + step / 2:.1f}" y="{base - tall - 4:.1f}" class="middle">{count}</text>',
            f'<text x="{x + step / 2:.1f}" y="{base + 16}" class="middle">{number + 1}</text>',
        ]
    parts += [
        f'<path d="M{_LABEL} {base}H{_WIDTH}" stroke="#3d4855"/>',
        f'<path d="M{_LABEL} {expected:.1f}H{_WIDTH}" stroke="#a3241c" stroke-width="1.5" stroke-dasharray="6 4"/>',
        f'<text x="0" y="{expected + 4:.1f}" fill="#a3241c">expected: a tenth</text>',
        f'<text x="0" y="{base + 16}">category</text>',
    ]
    return _svg(parts, height, f"{found.unit}s by category")


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}" fill="none">'
        + "".join(part.replace("<text ", '<text fill="#1d2430" ', 1) if "fill=" not in part else part for part in parts)
        + "</svg>"
    )
