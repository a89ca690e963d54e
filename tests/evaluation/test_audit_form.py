"""The readers' form asks without telling, and what comes back is checked line by line and becomes figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from evaluation.audit import Audit, audit
from evaluation.audit_figures import DETECTED, KAPPA, SEEN, SEEN_DETECTED
from evaluation.audit_form import FORM_COLUMNS, FormError, form_text, holds_answers, rating
from evaluation.cohort import Cohort, join
from evaluation.protocol import load_protocol
from tests.support.audits import CATEGORY, FEW_FP, cohort, protocol
from tests.support.programme import simulate

CLASSES = {"occult": "true_negative", "minimal_sign": "minimal_signs", "false_negative": "false_negative"}


def filled(form: pd.DataFrame, path: Path, **columns: object) -> Path:
    path.write_text(form_text(form.assign(**columns)))
    return path


def both(visible: object, place: object) -> dict[str, object]:
    """Both readers say the same."""
    return {
        "reader1": visible,
        "reader2": visible,
        "reader1_right_place": place,
        "reader2_right_place": place,
    }


def point(found: Audit, key: str) -> float:
    interval = next(one for one in found.figures if one.key == key and one.subgroup == "all").interval
    assert interval is not None
    return interval.point


@pytest.fixture(scope="module")
def unread() -> Audit:
    return audit(cohort(protocol(CATEGORY, FEW_FP), lesions=()))


def test_form_tells_readers_nothing_of_scores_outcomes_or_women(unread: Audit) -> None:
    assert tuple(unread.form.columns) == FORM_COLUMNS
    told = set(FORM_COLUMNS)
    assert not told & {"score", "rank", "category", "outcome", "cancer_side", "woman_id", "months_to_diagnosis"}
    assert (unread.form[[name for name in FORM_COLUMNS if name.startswith(("reader", "consensus"))]] == "").all(
        axis=None
    )


def test_order_of_the_form_does_not_follow_the_scores() -> None:
    given = cohort(protocol(FEW_FP), lesions=())
    regions = given.scores.regions
    assert regions is not None
    other = regions.assign(score=1 - regions["score"])
    turned = replace(given, scores=replace(given.scores, regions=other))
    here, there = audit(given).form, audit(turned).form
    shared = [line for line in here["region_id"] if line in set(there["region_id"])]
    assert shared == [line for line in there["region_id"] if line in set(here["region_id"])]


def test_form_asks_for_every_scored_missed_exam_flagged_or_not(unread: Audit) -> None:
    assert set(unread.form["exam_id"]) == {"A1", "B1"}
    high = audit(cohort(protocol(CATEGORY), lesions=(), region_scale=1.0))
    assert set(high.form["region_id"]) == {"A1.0.r", "B1.2.r"}
    given = cohort(protocol(CATEGORY), lesions=(), tables=("exams",))
    assert audit(given).form["region_id"].tolist() == ["", ""]


def test_exams_of_known_place_and_visibility_are_not_asked_for() -> None:
    assert set(audit(cohort()).form["exam_id"]) == {"B1"}
    # Without regions there is no place to ask for.
    assert set(audit(cohort(tables=("exams",))).form["exam_id"]) == {"B1"}


@pytest.fixture(scope="module")
def known() -> Cohort:
    """A simulated programme with its lesion truth."""
    programme = simulate(2500, 3, 7)
    rules = load_protocol("missed-cancers")
    rules = rules.model_copy(update={"uncertainty": rules.uncertainty.model_copy(update={"replicates": 50})})
    return join(programme.checked_scores(), programme.checked_followup(), rules)


def without_lesions(known: Cohort) -> Cohort:
    return replace(known, followup=replace(known.followup, lesions=None))


def test_form_filled_in_with_the_truth_gives_the_figures_of_the_lesion_truth(known: Cohort, tmp_path: Path) -> None:
    by_lesions = audit(known)
    blind = without_lesions(known)
    form = audit(blind).form
    exams = by_lesions.missed.exams.set_index("exam_id")
    told = exams.loc[form["exam_id"], "visible"].map(CLASSES).fillna("").to_numpy()
    hits = by_lesions.missed.regions.set_index("region_id")["right_place"].reindex(form["region_id"])
    place = hits.map({1.0: "yes", 0.0: "no"}).fillna("").to_numpy()
    by_readers = audit(blind, filled(form, tmp_path / "form.csv", **both(told, place)))
    judged = (by_lesions.missed.exams["judged_by"] == "lesions").to_numpy() & by_lesions.missed.included
    assert judged.sum() > 5
    assert (by_readers.missed.exams["judged_by"][judged] == "readers").all()
    for one, other in zip(by_lesions.calls, by_readers.calls, strict=True):
        np.testing.assert_array_equal(one.detected[judged], other.detected[judged])
        key = f"{SEEN_DETECTED}@{one.name}"
        assert point(by_lesions, key) == pytest.approx(point(by_readers, key))
    assert point(by_lesions, SEEN) == pytest.approx(point(by_readers, SEEN))


def test_mark_that_readers_place_elsewhere_detects_nothing(unread: Audit, tmp_path: Path) -> None:
    given = cohort(protocol(CATEGORY, FEW_FP), lesions=())
    assert point(unread, f"{DETECTED}@category-10") == 0.5
    nowhere = audit(given, filled(unread.form, tmp_path / "form.csv", **both("false_negative", "no")))
    assert point(nowhere, f"{DETECTED}@category-10") == 0.0
    there = audit(given, filled(unread.form, tmp_path / "form.csv", **both("minimal_signs", "yes")))
    assert point(there, f"{DETECTED}@category-10") == 1.0
    assert point(there, SEEN) == 1.0


def test_consensus_decides_where_readers_differ_and_without_it_an_exam_is_not_judged(
    unread: Audit, tmp_path: Path
) -> None:
    given = cohort(protocol(CATEGORY, FEW_FP), lesions=())
    answers = both("minimal_signs", "no") | {"reader2": "true_negative"}
    open_form = audit(given, filled(unread.form, tmp_path / "form.csv", **answers))
    assert open_form.readings is not None
    assert (open_form.readings.n_exams, open_form.readings.n_judged) == (2, 0)
    assert open_form.missed.exams["judged_by"].tolist()[:2] == ["breast", "breast"]
    assert any("2 of 2 exams on the form have no consensus" in note for note in open_form.notes)
    settled = audit(given, filled(unread.form, tmp_path / "form.csv", **answers, consensus="true_negative"))
    assert settled.missed.exams["visible"].tolist()[:2] == ["occult", "occult"]
    assert settled.missed.exams["judged_by"].tolist()[:2] == ["readers", "readers"]


def test_a_class_may_stand_on_one_line_of_its_exam(unread: Audit, tmp_path: Path) -> None:
    once = np.where(unread.form["exam_id"].duplicated(), "", "false_negative")
    found = audit(
        cohort(protocol(CATEGORY, FEW_FP), lesions=()), filled(unread.form, tmp_path / "f.csv", **both(once, "no"))
    )
    assert found.readings is not None
    assert found.readings.n_judged == 2


def test_exam_with_a_lost_line_is_not_judged(unread: Audit, tmp_path: Path) -> None:
    lost = unread.form.drop(index=unread.form.index[unread.form["region_id"] == "A1.0.r"])
    path = filled(lost, tmp_path / "form.csv", **both("true_negative", "no"))
    found = audit(cohort(protocol(CATEGORY, FEW_FP), lesions=()), path)
    assert found.readings is not None
    assert found.readings.n_judged == 1


def test_agreement_is_the_weighted_kappa_of_scikit_learn(known: Cohort, tmp_path: Path) -> None:
    blind = without_lesions(known)
    form = audit(blind).form
    rng = np.random.default_rng(3)
    exams = form["exam_id"].unique()
    first = rng.choice(list(CLASSES.values()), len(exams))
    second = np.where(rng.random(len(exams)) < 0.6, first, rng.choice(list(CLASSES.values()), len(exams)))
    places = rng.choice(["yes", "no"], (2, len(form)))
    answers = {
        "reader1": form["exam_id"].map(dict(zip(exams, first, strict=True))),
        "reader2": form["exam_id"].map(dict(zip(exams, second, strict=True))),
        "reader1_right_place": np.where(form["region_id"] == "", "", places[0]),
        "reader2_right_place": np.where(form["region_id"] == "", "", places[1]),
    }
    found = audit(blind, filled(form, tmp_path / "form.csv", **answers))
    by_class = cohen_kappa_score(rating(first), rating(second), weights="quadratic")
    assert point(found, f"{KAPPA}:visibility") == pytest.approx(by_class)
    placed = (form["region_id"] != "").to_numpy()
    assert point(found, f"{KAPPA}:place") == pytest.approx(cohen_kappa_score(*places[:, placed]))


@pytest.mark.parametrize(
    ("change", "line", "sentence"),
    [
        ({"reader1": "maybe"}, 2, "reader1 'maybe' is none of true_negative, minimal_signs, false_negative"),
        ({"reader2_right_place": "left"}, 2, "reader2_right_place 'left' is none of yes, no"),
        ({"exam_id": "B2"}, 2, "the exam is none of the missed exams"),
        ({"region_id": "A1.7.r"}, 2, "the exam has no such region"),
        ({"region_id": "", "reader1_right_place": "yes"}, 2, "yes on a line without a region"),
    ],
)
def test_wrong_answer_is_named_with_its_line(
    unread: Audit, tmp_path: Path, change: dict[str, str], line: int, sentence: str
) -> None:
    form = unread.form.copy()
    for column, value in change.items():
        form.loc[0, column] = value
    with pytest.raises(FormError, match="in its lines") as caught:
        audit(cohort(protocol(CATEGORY, FEW_FP), lesions=()), filled(form, tmp_path / "form.csv"))
    assert any(problem.line == line and sentence in problem.sentence for problem in caught.value.problems)


def test_contradiction_within_an_exam_and_a_line_twice_are_named(unread: Audit, tmp_path: Path) -> None:
    form = unread.form.assign(reader1="true_negative")
    second = form.index[form["exam_id"].duplicated()][0]
    form.loc[second, "reader1"] = "false_negative"
    form = pd.concat([form, form.iloc[[0]]])
    with pytest.raises(FormError) as caught:
        audit(cohort(protocol(CATEGORY, FEW_FP), lesions=()), filled(form, tmp_path / "form.csv"))
    told = {problem.line: problem.sentence for problem in caught.value.problems}
    assert "contradicts an earlier line" in told[second + 2]
    assert "stand there twice" in told[len(form) + 1]


def test_form_without_a_column_or_that_is_no_table_is_refused(unread: Audit, tmp_path: Path) -> None:
    given = cohort(protocol(CATEGORY, FEW_FP), lesions=())
    path = tmp_path / "form.csv"
    path.write_text(form_text(unread.form).replace("consensus_right_place", "agreed"))
    with pytest.raises(FormError, match="lacks the column consensus_right_place"):
        audit(given, path)
    path.write_bytes(b"\xff\xfe\x00PK\x03\x04")
    with pytest.raises(FormError, match="cannot be read"):
        audit(given, path)
    with pytest.raises(FormError, match="cannot be read"):
        audit(given, tmp_path / "missing.csv")


def test_form_saved_by_a_spreadsheet_reads_alike(unread: Audit, tmp_path: Path) -> None:
    given = cohort(protocol(CATEGORY, FEW_FP), lesions=())
    form = unread.form.assign(**both(" Minimal-Signs ", "Yes"))
    path = tmp_path / "form.csv"
    path.write_text("\ufeff" + form.to_csv(index=False, sep=";", lineterminator="\r\n") + ";;;\r\n", encoding="utf-8")
    found = audit(given, path)
    assert found.readings is not None
    assert found.readings.n_judged == 2
    assert found.missed.exams["visible"].tolist()[:2] == ["minimal_sign", "minimal_sign"]


def test_identifiers_that_look_like_formulas_are_disarmed_and_come_back(tmp_path: Path) -> None:
    names = {"A1": "=cmd|' /C calc'!A1", "B1": "'quoted"}
    given = cohort(protocol(CATEGORY), lesions=(), names=names)
    path = filled(audit(given).form, tmp_path / "form.csv", **both("false_negative", "no"))
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)["exam_id"]
    assert set(cells) == {"'=cmd|' /C calc'!A1", "''quoted"}
    found = audit(given, path)
    assert found.readings is not None
    assert found.readings.n_judged == 2


def test_form_that_holds_anything_of_readers_is_known(unread: Audit, tmp_path: Path) -> None:
    assert not holds_answers(filled(unread.form, tmp_path / "empty.csv"))
    form = unread.form.copy()
    form.loc[1, "consensus"] = "true_negative"
    assert holds_answers(filled(form, tmp_path / "some.csv"))
    (tmp_path / "other.csv").write_text("something else\n1\n")
    assert holds_answers(tmp_path / "other.csv")
