"""What exams are compared with, and how they are read."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from screening.errors import ConfigError
from screening.model.calibration import Calibration
from screening.monitoring.records import ExamRecord, read_records, record_of
from screening.monitoring.reference import (
    Reference,
    Unit,
    read_reference,
    reference_of_bundle,
    reference_of_sample,
    write_reference,
)
from tests.support.bundles import calibration
from tests.support.drifting import MODEL, SITE, THRESHOLD, programme, sample


def own_reference(number: int = 500, threshold: float | None = THRESHOLD) -> Reference:
    return reference_of_sample(sample(0, number), SITE, MODEL, "a sample", threshold)


def of_breasts(prevalence: float = 0.006) -> Calibration:
    words = {
        "fitted_on": "1082 breasts, 365 with cancer: rsna (digital), out of fold",
        "categories_from": "deciles of 1082 breasts weighted to 0.6% with cancer: rsna (digital), out of fold",
        "prevalence": prevalence,
    }
    return calibration().model_copy(update=words)


# --- the bundle's ---------------------------------------------------------------------------------------------------


def test_a_bundles_reference_has_a_tenth_in_each_category() -> None:
    reference = reference_of_bundle(calibration(), MODEL)
    assert reference.edges == calibration().category_thresholds
    assert len(set(reference.stratum("any").bins)) == 1
    for score in np.linspace(0, 1, 101):
        assert reference.bin(score) + 1 == calibration().category(score)


def test_deciles_of_exams_are_of_as_many_exams_as_they_say() -> None:
    words = {"categories_from": "deciles of 351 exams of women without cancer: rsna (digital), out of fold"}
    reference = reference_of_bundle(of_breasts().model_copy(update=words), MODEL)
    assert reference.unit is Unit.EXAM
    assert sum(reference.stratum("").bins) == pytest.approx(351)


def test_deciles_of_breasts_are_compared_with_one_breast_of_each_exam() -> None:
    reference = reference_of_bundle(of_breasts(), MODEL)
    assert reference.unit is Unit.BREAST
    assert sum(reference.stratum("").bins) == pytest.approx(717 / 0.994**2)
    exams = programme(1, weeks=20, number=100)
    chosen = [(reference.value(one), one) for one in exams if one.score is not None]
    assert all(value in one.breasts for value, one in chosen)
    lower = np.mean([value == min(one.breasts) for value, one in chosen if len(set(one.breasts)) == 2])
    assert lower == pytest.approx(0.5, abs=0.05)


def test_the_higher_of_two_breasts_would_not_be_spread_like_breasts() -> None:
    """Why one breast is taken: of two independent breasts, the higher is in the top tenth twice as often."""
    rng = np.random.default_rng(0)
    breasts = rng.random((20_000, 2))
    assert np.mean(breasts.max(axis=1) > 0.9) == pytest.approx(0.19, abs=0.01)
    assert np.mean(breasts[:, 0] > 0.9) == pytest.approx(0.1, abs=0.01)


# --- a site's own ---------------------------------------------------------------------------------------------------


def test_a_samples_reference_counts_its_exams() -> None:
    exams = sample(0, 500)
    reference = own_reference()
    whole = reference.stratum("another maker")
    scores = [one.score for one in exams if one.score is not None]
    assert sum(whole.bins) == len(scores)
    assert max(whole.bins) - min(whole.bins) <= 1
    assert whole.incomplete is not None
    assert (whole.incomplete.count, whole.incomplete.total) == (sum(one.incomplete for one in exams), 500)
    assert whole.recalled is not None
    assert whole.recalled.count == sum(score >= THRESHOLD for score in scores)
    assert sum(whole.densities.values()) == len(scores)
    assert reference.stratum("MAKER 0").manufacturer == "MAKER 0"


def test_a_reference_comes_back_from_its_file(tmp_path: Path) -> None:
    write_reference(tmp_path / "reference.json", own_reference())
    assert read_reference(tmp_path / "reference.json") == own_reference().model_copy(
        update={"made": read_reference(tmp_path / "reference.json").made}
    )


def test_a_reference_holds_no_exam(tmp_path: Path) -> None:
    write_reference(tmp_path / "reference.json", own_reference())
    assert "1.2." not in (tmp_path / "reference.json").read_text()


def test_a_sample_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 200"):
        own_reference(150)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"edges": [0.5] * 8}, "edges"),
        ({"edges": [0.9, *[0.95] * 7, 0.1]}, "edges must rise"),
        ({"format": "screening-reference/2"}, "format"),
        ({"strata": []}, "strata"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_file_that_is_no_reference_is_told_by_its_key(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    content = json.loads(own_reference().model_dump_json())
    (tmp_path / "reference.json").write_text(json.dumps(content | change))
    with pytest.raises(ConfigError, match=sentence):
        read_reference(tmp_path / "reference.json")


@pytest.mark.parametrize("text", [None, "", "no json", "[]"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "reference.json").write_text(text)
    with pytest.raises(ConfigError, match=r"reference .*reference.json"):
        read_reference(tmp_path / "reference.json")


# --- reading results ------------------------------------------------------------------------------------------------

HEAD = "exam_id,exam_date,status,reason,score,category,left_score,right_score,density,site,manufacturer,model_id\n"
ROW = "1.2,2026-01-07,scored,,0.02,7,0.01,0.02,B,north,MAKER,m\n"


def results(folder: Path, exams: str = ROW, images: str = "", started: str = "2026-01-09T01:00:00Z") -> Path:
    folder.mkdir()
    (folder / "exams.csv").write_text(HEAD + exams)
    (folder / "images.csv").write_text("exam_id,status,reason\n" + images)
    (folder / "batch.json").write_text(json.dumps({"site": "north", "started": started}))
    return folder


def test_an_exam_is_read_with_the_reasons_of_its_images(tmp_path: Path) -> None:
    folder = results(
        tmp_path / "a", images="1.2,scored,\n1.2,rejected,unknown-view: no view\n1.2,rejected,duplicate: x\n"
    )
    (one,) = read_records([folder]).exams
    assert one == ExamRecord(
        "1.2", date(2026, 1, 7), "north", "MAKER", "m", 0.02, 7, (0.01, 0.02), "B", ("unknown-view",)
    )
    assert one.incomplete


def test_an_exam_whose_images_were_all_rejected_counts_on_the_day_of_its_batch(tmp_path: Path) -> None:
    folder = results(tmp_path / "a", images="1.3,rejected,unknown-view: x\n1.4,rejected,not-mammography: x\n")
    unscored = [one for one in read_records([folder]).exams if one.score is None]
    assert [(one.exam_id, one.day, one.site, one.manufacturer) for one in unscored] == [
        ("1.3", date(2026, 1, 9), "north", "")
    ]


def test_an_exam_of_two_nights_counts_once_as_the_last_has_it(tmp_path: Path) -> None:
    first, second = results(tmp_path / "a"), results(tmp_path / "b", ROW.replace("0.02,7", "0.03,8"))
    found = read_records([first, second])
    assert [one.score for one in found.exams] == [0.03]
    assert found.notes == ("1 exams are in several of the results; the last counts.",)


def test_exams_of_other_models_are_left_out_and_told(tmp_path: Path) -> None:
    folder = results(tmp_path / "a", ROW + ROW.replace("1.2,", "1.3,").replace(",m\n", ",other\n"))
    found = read_records([folder]).of_model("m")
    assert [one.exam_id for one in found.exams] == ["1.2"]
    assert found.notes == ("1 exams of other models are left out.",)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (ROW.replace("0.02,7", "nan,7"), "no score between 0 and 1"),
        (ROW.replace("0.02,7", "7,7"), "no score between 0 and 1"),
        (ROW.replace("0.02,7", "0.02,11"), "no category"),
        (ROW.replace("2026-01-07", "7 January"), "exam 1.2"),
        ("1.2,2026-01-07\n", "not as many cells"),
    ],
)
def test_a_row_that_is_none_is_told(tmp_path: Path, row: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_records([results(tmp_path / "a", row)])


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*screening score"):
        read_records([tmp_path])


def test_the_stores_results_are_read_as_the_tables_are(tmp_path: Path) -> None:
    from screening.result import ExamResult, Reason, Rejection, Status

    rejected = ExamResult(
        "1.2", "W", date(2026, 1, 7), "north", "MAKER", "m", Status.REJECTED, Rejection(Reason.NO_ELIGIBLE_IMAGE, "x")
    )
    assert record_of(rejected) == ExamRecord(
        "1.2", date(2026, 1, 7), "north", "MAKER", "m", reasons=("no-eligible-image",)
    )
