"""What the registry of simulated women says is what happened to them, in tables that the evaluation takes."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from evaluation.followup import exam_outcomes
from evaluation.protocol import Outcome
from evaluation.tables import TABLES, load_followup
from tests.support.simulated_women import RULES, Screened, screened, traces
from training.phantom.registry import COLUMNS, ImageBox, Rows, conclude, known_lesions, lesion_rows, write_registry


@lru_cache
def _women() -> tuple[Screened, ...]:
    return tuple(screened(350, seed=2, cancer_share=0.6))


def _rows(one: Screened) -> Rows:
    rows = conclude(one.course, one.exams)
    for exam in one.exams:
        for trace in traces(one.course, exam.visit)[::2]:
            box = ImageBox(f"{exam.exam_id}.1", 100.0, 200.0, 50.0, 40.0, frame=12)
            rows["lesions"] += lesion_rows(one.course, one.exams, exam, trace, [box])
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    write_registry(map(_rows, _women()), root)
    return root


def test_the_columns_are_those_of_the_follow_up_format() -> None:
    assert {name: set(columns) for name, columns in COLUMNS.items()} == {
        name: set(columns) for name, columns in TABLES.items()
    }


def test_the_evaluation_reads_the_tables_without_an_error_or_a_note(folder: Path) -> None:
    followup = load_followup(folder)
    assert followup.notes == ()
    assert followup.lesions is not None
    assert len(followup.lesions) > 50
    assert followup.biopsies is not None
    assert set(followup.biopsies["malignant"]) == {0.0, 1.0}


def test_outcomes_of_the_tables_are_what_happened(folder: Path) -> None:
    outcome = exam_outcomes(load_followup(folder), RULES).set_index("exam_id")["outcome"]
    seen = set()
    for one in _women():
        for exam in one.exams:
            if exam.reading.detects and outcome[exam.exam_id] != Outcome.INSUFFICIENT_FOLLOW_UP:
                assert outcome[exam.exam_id] == Outcome.SCREEN_DETECTED
            if one.course.cancer is None:
                assert outcome[exam.exam_id] in (Outcome.NEGATIVE, Outcome.INSUFFICIENT_FOLLOW_UP)
            seen.add(outcome[exam.exam_id])
        last = one.exams[-1]
        undetected = not last.reading.detects and one.course.surfaces is not None
        # A recall that found nothing and symptoms within its work-up time cannot be told from a detection.
        if undetected and one.course.surfaces <= one.course.followed_until and not last.reading.recalled:
            later = (one.course.surfaces - last.visit.on).days
            if later < 720:
                assert outcome[last.exam_id] == Outcome.INTERVAL
    assert seen >= {Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND, Outcome.NEGATIVE}


def test_a_cancer_that_nobody_diagnosed_is_unknown_to_the_registry() -> None:
    hidden = 0
    for one in _women():
        cancer = one.course.cancer
        diagnosed = any(row["malignant"] for row in conclude(one.course, one.exams)["diagnoses"])
        if cancer is not None:
            assert (cancer.lesion_id in known_lesions(one.course, one.exams)) == diagnosed
            hidden += not diagnosed
        else:
            assert not diagnosed
    assert hidden > 5


def test_visibility_stands_only_at_cancers_that_the_exam_missed(folder: Path) -> None:
    followup = load_followup(folder)
    assert followup.lesions is not None
    detecting = {exam.exam_id for one in _women() for exam in one.exams if exam.reading.detects}
    lesions = followup.lesions
    missed = (lesions["malignant"] == 1) & ~lesions["exam_id"].isin(detecting)
    assert (lesions["visible"] != "").equals(missed)
    assert missed.any()


def test_benign_biopsies_follow_a_recall_within_weeks(folder: Path) -> None:
    followup = load_followup(folder)
    benign = followup.diagnoses[followup.diagnoses["malignant"] == 0]
    assert len(benign) > 3
    recalls = followup.exams[followup.exams["recalled"] == 1]
    joined = benign.merge(recalls, on="woman_id")
    days = (joined["diagnosis_date"] - joined["exam_date"]).dt.days
    after = joined.assign(days=days)[(days >= 10) & (days < 40)]
    assert len(after[["woman_id", "diagnosis_date", "laterality"]].drop_duplicates()) == len(
        benign[["woman_id", "diagnosis_date", "laterality"]].drop_duplicates()
    )


def test_every_exam_has_its_womans_weight(folder: Path) -> None:
    followup = load_followup(folder)
    assert followup.weights is not None
    weight = followup.weights.set_index("exam_id")["weight"]
    for one in _women():
        assert np.allclose(weight[[exam.exam_id for exam in one.exams]], one.course.weight)


def test_rows_kept_as_json_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    kept = json.loads(json.dumps([_rows(one) for one in _women()]))
    write_registry(kept, tmp_path / "again")
    for name in COLUMNS:
        assert (tmp_path / "again" / f"{name}.csv").read_bytes() == (folder / f"{name}.csv").read_bytes()


def test_a_programme_without_cancer_or_biopsy_still_has_all_tables(tmp_path: Path) -> None:
    healthy = next(one for one in _women() if one.course.cancer is None and not known_lesions(one.course, one.exams))
    write_registry([conclude(healthy.course, healthy.exams)], tmp_path)
    assert load_followup(tmp_path).lesions is not None
