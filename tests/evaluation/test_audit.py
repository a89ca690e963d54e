"""The audit finds the missed exams, and says of each operating point which of them it flags, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.audit import AUDIT, FORM, Audit, audit, audit_table, candidates, write_audit_tables
from evaluation.audit_figures import COST, DETECTED, FLAGGED, SEEN, SEEN_DETECTED
from evaluation.cohort import Cohort, join
from evaluation.figure import Figure
from evaluation.missed import AuditError, missed_exams
from evaluation.protocol import OperatingPoint, Outcome, load_protocol
from tests.support.audits import CATEGORY, FEW_FP, LESIONS, RECALL_20, cohort, protocol
from tests.support.programme import Programme, simulate


def figure(found: Audit, key: str, subgroup: str = "all") -> Figure:
    return next(one for one in found.figures if one.key == key and one.subgroup == subgroup)


def point(found: Audit, key: str, subgroup: str = "all") -> float:
    interval = figure(found, key, subgroup).interval
    assert interval is not None
    return interval.point


def said(found: Audit, exam_id: str, name: str) -> tuple[bool, bool, bool]:
    """Judged, flagged, and flagged at the right place."""
    row = found.missed.exams["exam_id"].tolist().index(exam_id)
    one = next(one for one in found.calls if one.name == name)
    return bool(one.judged[row]), bool(one.flagged[row]), bool(one.detected[row])


@pytest.fixture(scope="module")
def programme() -> Programme:
    return simulate(2500, 3, 7)


@pytest.fixture(scope="module")
def simulated(programme: Programme) -> Cohort:
    rules = load_protocol("missed-cancers")
    rules = rules.model_copy(update={"uncertainty": rules.uncertainty.model_copy(update={"replicates": 50})})
    return join(programme.checked_scores(), programme.checked_followup(), rules)


@pytest.fixture(scope="module")
def found(simulated: Cohort) -> Audit:
    return audit(simulated)


@pytest.fixture(scope="module")
def truth(programme: Programme, found: Audit) -> pd.DataFrame:
    """What the simulator wrote of the missed exams, in the order of the audit."""
    missed = programme.truth[programme.truth["missed"]].set_index("exam_id")
    assert set(missed.index) == set(found.missed.exams["exam_id"])
    return missed.reindex(found.missed.exams["exam_id"])


def test_audit_finds_the_missed_exams_that_the_simulator_wrote(found: Audit, truth: pd.DataFrame) -> None:
    exams = found.missed.exams
    assert len(exams) > 15
    assert exams["outcome"].tolist() == truth["outcome"].tolist()
    assert exams["visible"].tolist() == truth["visible"].tolist()
    assert exams["included"].tolist() == truth["scored"].tolist()


def test_audit_flags_exactly_what_the_simulator_scored_high_and_where(found: Audit, truth: pd.DataFrame) -> None:
    highest = truth[["lesion_score", "tissue_score"]].max(axis=1).to_numpy()
    lesion = truth["lesion_score"].fillna(-np.inf).to_numpy()
    with_lesion = (truth["visible"] != "").to_numpy() & truth["scored"].to_numpy()
    tested = 0
    for one in found.calls:
        if one.decisions.point.target == "category":
            continue  # of categories the simulator tells no threshold
        threshold = one.decisions.threshold
        assert threshold is not None
        np.testing.assert_array_equal(one.flagged, truth["scored"].to_numpy() & (highest >= threshold))
        np.testing.assert_array_equal(one.detected[with_lesion], (lesion >= threshold)[with_lesion])
        tested += int(one.detected[with_lesion].sum())
    assert tested > 5


def test_figures_are_the_shares_of_the_simulators_truth(found: Audit, truth: pd.DataFrame) -> None:
    scored = truth[truth["scored"]]
    seen = scored["visible"].isin(["false_negative", "minimal_sign"])
    judged = scored["visible"] != ""
    assert point(found, SEEN) == pytest.approx(seen.sum() / judged.sum())
    one = next(one for one in found.calls if one.name == "recall-4-percent")
    at_lesion = scored["lesion_score"] >= one.decisions.threshold
    assert point(found, f"{SEEN_DETECTED}@recall-4-percent") == pytest.approx((seen & at_lesion).sum() / judged.sum())
    minimal = scored["visible"] == "minimal_sign"
    by_visibility = point(found, f"{DETECTED}@recall-4-percent", "visibility: minimal_sign")
    assert by_visibility == pytest.approx((minimal & at_lesion).sum() / minimal.sum())
    outcome = f"outcome: {Outcome.INTERVAL}"
    n_interval = int((scored["outcome"] == Outcome.INTERVAL).sum())
    assert figure(found, f"{DETECTED}@recall-4-percent", outcome).n == n_interval


def test_mark_in_the_healthy_breast_is_not_at_the_right_place() -> None:
    found = audit(cohort(lesions=()))
    assert found.missed.exams["exam_id"].tolist() == ["A1", "B1", "C1"]
    assert found.missed.exams["judged_by"].tolist()[:2] == ["breast", "breast"]
    for name in (RECALL_20.name, FEW_FP.name, CATEGORY.name):
        assert said(found, "A1", name) == (True, True, True)
        assert said(found, "B1", name) == (True, True, False)
    assert point(found, f"{FLAGGED}@{CATEGORY.name}") == 1.0
    assert point(found, f"{DETECTED}@{CATEGORY.name}") == 0.5


def test_lesion_truth_decides_over_the_breast() -> None:
    elsewhere = (("A1", "A1.0", "L", 50, 50, ""),)
    found = audit(cohort(lesions=elsewhere))
    assert said(found, "A1", RECALL_20.name) == (True, True, False)
    assert found.missed.exams["judged_by"][0] == "lesions"


def test_benign_lesions_are_no_truth_of_a_cancer() -> None:
    given = cohort(lesions=(("A1", "A1.0", "L", 50, 50, ""),))
    assert given.followup.lesions is not None
    benign = replace(given, followup=replace(given.followup, lesions=given.followup.lesions.assign(malignant=0.0)))
    assert audit(benign).missed.exams["judged_by"][0] == "breast"


@pytest.mark.parametrize(("level", "right"), [("case-any-view", True), ("case-all-views", False)])
def test_level_of_the_protocol_says_whether_one_view_is_enough(level: str, right: bool) -> None:
    found = audit(cohort(protocol(RECALL_20, level=level), lesions=LESIONS))
    assert said(found, "A1", RECALL_20.name) == (True, True, right)


def test_regions_on_another_scale_all_count_as_marks_and_the_notes_say_so() -> None:
    found = audit(cohort(protocol(RECALL_20), region_scale=0.01))
    assert said(found, "A1", RECALL_20.name) == (True, True, True)
    assert any("not the highest of their regions" in note for note in found.notes)


def test_threshold_for_each_site_judges_by_lesions_too() -> None:
    by_site = OperatingPoint(name="by-site", target="specificity", value=0.8, per_site=True)
    found = audit(cohort(protocol(by_site)))
    assert said(found, "A1", "by-site") == (True, True, True)
    assert found.calls[0].decisions.threshold is None


def test_scores_without_regions_are_audited_by_exam_and_breast() -> None:
    found = audit(cohort(tables=("exams",)))
    assert (
        "region" in figure(found, f"{DETECTED}@{FEW_FP.name}").reason
        or "images" in figure(found, f"{DETECTED}@{FEW_FP.name}").reason
    )
    assert said(found, "A1", FEW_FP.name) == (False, False, False)
    assert point(found, f"{DETECTED}@{RECALL_20.name}") == 0.5
    assert found.missed.exams["visible"][0] == "minimal_sign"


def test_missed_exam_without_score_is_listed_with_its_reason_and_not_counted() -> None:
    found = audit(cohort())
    row = audit_table(found).set_index("exam_id").loc["C1"]
    assert set(row["excluded_because"]) == {"rejected: no-eligible-image: every image was rejected"}
    assert row["flagged"].isna().all()
    assert figure(found, f"{DETECTED}@{RECALL_20.name}").n == 2
    assert any("1 of 3 missed exams" in note for note in found.notes)


def test_recalled_exams_are_not_missed_whatever_the_protocol() -> None:
    every = (Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND)
    found = missed_exams(cohort(protocol(RECALL_20, exams="all", positives=every)))
    assert found.exams["exam_id"].tolist() == ["A1", "B1", "C1"]


def test_exam_that_found_the_cancer_is_that_of_the_next_round() -> None:
    assert missed_exams(cohort()).exams["found_exam_id"].tolist() == ["", "B2", ""]


def test_protocol_without_exams_before_a_cancer_is_refused() -> None:
    with pytest.raises(AuditError, match="no exams before a cancer"):
        missed_exams(cohort(protocol(RECALL_20, exams="all", positives=(Outcome.SCREEN_DETECTED,))))


def test_programme_without_missed_cancers_gives_figures_with_reasons() -> None:
    given = cohort()
    healthy = replace(given, exams=given.exams.assign(role=given.exams["role"].replace("positive", "excluded")))
    found = audit(replace(healthy, exams=healthy.exams[~healthy.exams["exam_id"].isin(["A1", "B1", "C1"])]))
    assert figure(found, f"{DETECTED}@{RECALL_20.name}").reason
    assert figure(found, SEEN).reason
    assert point(found, f"{COST}@{RECALL_20.name}") == pytest.approx(0.2)
    assert not len(found.form)


def test_audit_table_has_a_row_for_every_exam_and_operating_point(found: Audit) -> None:
    table = audit_table(found)
    assert len(table) == len(found.missed.exams) * len(found.calls)
    assert not table.duplicated(["exam_id", "operating_point"]).any()
    assert "woman_id" not in table
    flagged = table.groupby("operating_point")["flagged"].sum()
    for one in found.calls:
        assert flagged[one.name] == one.flagged.sum()


def test_candidates_are_the_regions_that_reach_a_threshold() -> None:
    table = candidates(audit(cohort(protocol(CATEGORY))))
    # Category 10 begins at 0.8, the lowest score that has it among the exams that count.
    assert table["region_id"].tolist() == ["A1.0.r", "B1.2.r"]
    assert table["right_place"].tolist()[0] == 1.0
    assert table["marked_at"].tolist() == ["category-10", "category-10"]


def test_weights_of_one_change_no_figure_and_other_weights_do() -> None:
    plain = cohort(protocol(CATEGORY), lesions=())
    heavy = plain.exams.assign(weight=np.where(plain.exams["exam_id"] == "A1", 3.0, 1.0))
    weighted = audit(replace(plain, exams=heavy))
    assert point(weighted, f"{DETECTED}@{CATEGORY.name}") == pytest.approx(0.75)
    assert "weighted" in figure(weighted, f"{DETECTED}@{CATEGORY.name}").denominator


def test_no_table_names_a_woman(tmp_path: Path) -> None:
    for file in write_audit_tables(audit(cohort()), tmp_path):
        assert file.read_text()
        assert not any(woman in file.read_text() for woman in ("wA", "wB", "wC"))


def test_form_with_readers_answers_is_never_written_over(tmp_path: Path) -> None:
    given = audit(cohort(lesions=()))
    write_audit_tables(given, tmp_path)
    write_audit_tables(given, tmp_path)  # an empty form may be
    form = pd.read_csv(tmp_path / FORM, dtype=str, keep_default_na=False)
    form.loc[0, "reader1"] = "false_negative"
    form.to_csv(tmp_path / FORM, index=False)
    (tmp_path / AUDIT).unlink()
    write_audit_tables(given, tmp_path)
    assert (tmp_path / AUDIT).exists()
    assert pd.read_csv(tmp_path / FORM, dtype=str)["reader1"][0] == "false_negative"
