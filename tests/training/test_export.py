"""A bundle's card: what it says of weights and limits follows from its recipe, data and figures, and from no others."""

from __future__ import annotations

from typing import Any

import pytest

from screening.exam import ImageKind, Laterality
from screening.model.bundle import Figure
from tests.support.learning import record, tiny_recipe
from training.datasets.record import Record
from training.export import WITHOUT_VOLUMES, licence, limits_of_data, training_data


def women(count: int = 8, ill: int = 2, **changes: Any) -> list[Record]:
    """Two images each of one breast; the first `ill` have cancer."""
    return [
        record(i, image=f"{i}{part}", malignant=i < ill, **changes)
        for i in range(count)
        for part in ("first", "second")
    ]


def said(records: list[Record], *figures: str, **recipe: Any) -> str:
    """All limits of a bundle; `figures`: what they are measured on."""
    shown = [Figure(figure="AUC", data=data, value=0.7, low=0.6, high=0.8) for data in figures]
    return "\n".join(limits_of_data(tiny_recipe(**recipe), records, shown))


def source(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "root": ".", "licence": f"terms of {name}", "citation": "nobody", **changes}


def test_women_and_the_share_of_cancers_are_counted_by_breast() -> None:
    other = [record(0, image="right", laterality=Laterality.RIGHT), record(9, malignant=None)]
    text = said([*women(), *other], prevalence=0.008)
    assert "It learned from 9 women." in text
    assert "22.2% of the breasts have cancer" in text  # 2 of 9 whose truth is known
    assert "a prevalence of 0.8% by assumption" in text


@pytest.mark.parametrize(("mm", "finest"), [(0.5, "1"), (0.07, "0.14")])
def test_resolution_is_the_recipes(mm: float, finest: str) -> None:
    text = said(women(), pixel_spacing_mm=mm)
    assert f"at {mm} mm a pixel: calcifications and spiculations finer than {finest} mm" in text


def test_media_volumes_implants_and_contrast_are_told_where_the_records_have_them() -> None:
    plain = said(women())
    assert "Film and digital" not in plain
    assert WITHOUT_VOLUMES in plain
    assert "cesm" not in plain
    assert "0 are marked as having an implant" in plain
    others = [record(100, medium="film"), record(101, kind=ImageKind.DBT), record(102, implant=True)]
    text = said([*women(), *others, record(103, dataset="cesm")])
    assert "Film and digital" in text
    assert WITHOUT_VOLUMES not in text
    assert "1 are marked as having an implant" in text
    assert "contrast" in text


def test_density_that_was_not_learned_is_told() -> None:
    known = women(density="B")
    assert "labels of readers" in said(known, data=[source("rsna")])
    assert "means nothing" in said(known, data=[source("rsna", density=False)])
    assert "means nothing" in said(women(), data=[source("rsna")])


def test_simulated_women_are_no_women_and_their_figures_are_told_apart() -> None:
    records = [*women(), *women(20, dataset="simulated")]
    real = "rsna (digital): 8 breasts of 8 women"
    text = said(records, real)
    assert "It learned from 8 women." in text
    assert "No figure of this card is of them" in text
    for data in ("simulated (digital): 40 breasts", "simulated: 40 breasts"):
        text = said(records, real, data)
        assert "Only the figures whose data begin with simulated are of them" in text
        assert "No figure" not in text
    assert "simulated" not in said(women(), real)


def test_the_licence_holds_the_terms_of_every_set_and_where_the_weights_began() -> None:
    for initial, began in (("none", "random numbers"), ("imagenet-lite0", "EfficientNet-Lite0")):
        recipe = tiny_recipe(data=[source("mars"), source("rsna", licence="")], initial_weights=initial)
        text = licence(recipe, [training_data(one, women()) for one in recipe.data])
        assert "mars: terms of mars; rsna: Non-commercial research" in text
        assert began in text
        assert ("ImageNet" in text) is (initial != "none")
