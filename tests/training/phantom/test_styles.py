"""The makes of machine differ in what a reader of images notices."""

from itertools import combinations

import pytest

from training.phantom.model import Grid, Style
from training.phantom.styles import STYLES, written_pixel_mm


def test_there_are_three_styles_or_more_and_their_names_tell_them_apart() -> None:
    assert len({style.name for style in STYLES}) == len(STYLES) >= 3
    assert len({(style.manufacturer, style.model_name) for style in STYLES}) == len(STYLES)


@pytest.mark.parametrize(("one", "other"), combinations(STYLES, 2))
def test_styles_differ_in_pixel_size_bit_depth_and_look_on_the_usual_grid(one: Style, other: Style) -> None:
    assert abs(written_pixel_mm(one, Grid()) - written_pixel_mm(other, Grid())) > 0.01
    assert one.bits != other.bits
    assert one.processing != other.processing
    assert one.sweep_degrees != other.sweep_degrees


@pytest.mark.parametrize("style", STYLES)
def test_a_style_writes_its_own_pixels_at_full_resolution_and_coarser_ones_in_proportion(style: Style) -> None:
    assert written_pixel_mm(style, Grid(pixel_mm=0.1)) == pytest.approx(style.pixel_mm)
    assert written_pixel_mm(style, Grid(pixel_mm=0.4)) == pytest.approx(4 * style.pixel_mm)


@pytest.mark.parametrize("style", STYLES)
def test_every_maker_is_named_as_simulated(style: Style) -> None:
    assert style.manufacturer.startswith("Simulated ")
