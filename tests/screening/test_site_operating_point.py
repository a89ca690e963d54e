"""A site's own operating point: how it is written, and that it holds for one model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from screening.errors import ConfigError
from screening.model.calibration import OperatingPoint
from screening.operating_point import site_operating_point
from screening.site import load_site
from tests.support.deliveries import CASES, CREATED, POINTS, bundle, exam

MODEL = bundle().model_id
OWN = {"threshold": 0.5, "model": MODEL, "chosen_on": "412 exams of a-site"}


def chosen(folder: Path, written: Any) -> OperatingPoint | None:
    """The point that a profile with this `operating_point` has with the bundle of `support.deliveries`."""
    content = yaml.safe_load((Path(__file__).parents[2] / "configs/sites/default.yaml").read_text(encoding="utf-8"))
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content | {"operating_point": written}), encoding="utf-8")
    return site_operating_point(load_site(path).operating_point, bundle(points()).calibration, MODEL)


def points() -> tuple[OperatingPoint, ...]:
    return (*POINTS, POINTS[0].model_copy(update={"name": "recall-2.5-percent", "threshold": 0.65}))


def test_nothing_written_is_left_to_the_bundle(tmp_path: Path) -> None:
    assert chosen(tmp_path, None) is None


@pytest.mark.parametrize("written", ["recall-10", {"name": "recall-10"}])
def test_name_is_one_of_the_bundle_s(tmp_path: Path, written: Any) -> None:
    assert chosen(tmp_path, written) == POINTS[1]


def test_recall_rate_takes_the_bundle_s_point_for_it(tmp_path: Path) -> None:
    point = chosen(tmp_path, {"recall_rate": 0.025})
    assert point is not None
    assert point.threshold == 0.65
    with pytest.raises(ConfigError, match="no point 'recall-7-percent'; the bundle has recall-3, recall-10"):
        chosen(tmp_path, {"recall_rate": 0.07})


def test_threshold_is_named_after_its_value(tmp_path: Path) -> None:
    point = chosen(tmp_path, OWN | {"target": "3 % of exams recalled"})
    assert point is not None
    assert (point.name, point.threshold, point.target) == ("site-0.5", 0.5, "3 % of exams recalled")
    assert point.chosen_on == OWN["chosen_on"]


def test_threshold_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"chosen with the model other-1.*screening accept"):
        chosen(tmp_path, OWN | {"model": "other-1"})


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"threshold": 0.5}, "a threshold needs model and chosen_on"),
        (OWN | {"name": "recall-3"}, "exactly one of name, recall_rate and threshold"),
        ({}, "exactly one of"),
        ({"name": "recall-3", "model": MODEL}, "belong to a threshold"),
        (OWN | {"threshold": 0}, "operating_point.threshold: .*greater than 0"),
        (OWN | {"threshold": float("nan")}, "operating_point.threshold: "),
        ({"recall_rate": 3}, "operating_point.recall_rate: .*less than 1"),
        ([0.5], "operating_point: .*string"),
    ],
)
def test_mistake_is_named(tmp_path: Path, written: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        chosen(tmp_path, written)


def test_delivery_marks_what_reaches_the_site_s_threshold(tmp_path: Path) -> None:
    from screening.delivery.context import prepare
    from screening.delivery.findings import operating_bins

    result = exam(tmp_path / "sources", CASES["2d"])
    point = chosen(tmp_path, OWN | {"threshold": 0.175})
    delivery = prepare(result, bundle(), CREATED, point)
    assert {region.score for region in delivery.marked} == {0.7, 0.2}
    assert "site-0.175" in delivery.summary
    assert [one.name for one in operating_bins(delivery)] == ["site-0.175", "marks-2"]
    other = prepare(result, bundle(), CREATED, chosen(tmp_path, OWN | {"threshold": 0.18}))
    assert other.instance_uid("cad-sr") != delivery.instance_uid("cad-sr")
