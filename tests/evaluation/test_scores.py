"""Score tables: what is read, from us and from others, and what is refused with every row named."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.scores import ScoresError, check_scores, load_scores
from screening.errors import ScreeningError
from screening.exam import Image, ImageKind, Laterality, View
from screening.result import (
    BreastResult,
    ExamResult,
    ImageResult,
    InstanceRejection,
    Reason,
    Region,
    Rejection,
    Status,
)
from screening.store import STORE_NAME, ResultStore, write_tables
from tests.support.programme import simulate

EXAMS = (
    "exam_id,woman_id,exam_date,status,reason,score,left_score,right_score,model_id\n"
    "E1,W1,2015-03-01,scored,,0.5,0.5,0.1,M\n"
    "E2,W2,2015-04-01,scored,,0.2,0.2,0.1,M\n"
    'E3,W3,2015-05-01,rejected,"no-eligible-image: no view, and no use",,,,M\n'
)
IMAGES = "exam_id,image_id,laterality,view,status,score\nE1,I1,L,CC,scored,0.5\nE2,I2,L,CC,scored,0.2\n,,,,rejected,\n"
REGIONS = "region_id,exam_id,image_id,x,y,width,height,score\nR1,E1,I1,10,20,30,40,0.5\nR2,E2,I2,10,20,30,0,0.2\n"


def folder(path: Path, **tables: str) -> Path:
    for name, text in {"exams": EXAMS, "images": IMAGES, "regions": REGIONS, **tables}.items():
        (path / f"{name}.csv").write_text(text)
    return path


def test_tables_are_read_and_typed_and_optional_columns_filled_in(tmp_path: Path) -> None:
    scores = load_scores(folder(tmp_path))
    assert (scores.name, scores.model_ids, scores.notes) == ("M", ("M",), ())
    assert scores.exams["status"].tolist() == ["scored", "scored", "rejected"]
    assert scores.exams["reason"].tolist() == ["", "", "no-eligible-image: no view, and no use"]
    np.testing.assert_array_equal(scores.exams["score"], [0.5, 0.2, np.nan])
    assert scores.exams["exam_date"].tolist() == [pd.Timestamp(2015, month, 1) for month in (3, 4, 5)]
    assert scores.exams["site"].tolist() == ["", "", ""]
    assert scores.exams["category"].isna().all()
    assert scores.images is not None
    assert scores.images["image_id"].tolist() == ["I1", "I2", ""]
    assert scores.regions is not None
    assert scores.regions["height"].tolist() == [40.0, 0.0]
    assert scores.regions.index.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("exam_id,score\nE1,0.25\nE2,0.5\n", [0.25, 0.5]),
        ("exam_id,left_score,right_score\nE1,0.1,0.25\nE2,0.5,\n", [0.25, 0.5]),
        ("score,ours,exam_id\n0.25,x,E1\n5e-1,y,E2\n", [0.25, 0.5]),
    ],
)
def test_an_exam_id_and_a_score_are_all_that_is_needed(tmp_path: Path, table: str, expected: list[float]) -> None:
    file = tmp_path / "vendor a.csv"
    file.write_text(table)
    scores = load_scores(file)
    assert scores.name == "vendor a"
    assert scores.model_ids == ()
    assert scores.exams["score"].tolist() == expected
    assert scores.exams["status"].tolist() == ["scored", "scored"]
    assert scores.images is None
    assert scores.regions is None


def test_a_given_exam_score_stands_whatever_the_breasts_have() -> None:
    exams = pd.DataFrame({"exam_id": ["E1"], "score": [0.3], "left_score": [0.9], "right_score": [0.1]})
    assert check_scores({"exams": exams}).exams["score"].tolist() == [0.3]


def test_an_exam_without_score_and_status_has_failed_and_one_with_status_keeps_its_reason(tmp_path: Path) -> None:
    exams = "exam_id,status,reason,score\nE1,,,\nE2,failed,unreadable: cut short,\nE3,,,0.5\nE4,rejected,,0.9\n"
    scores = load_scores(folder(tmp_path, exams=exams, images="image_id,exam_id\n", regions=REGIONS.split("R1")[0]))
    assert scores.exams["status"].tolist() == ["failed", "failed", "scored", "rejected"]
    assert scores.exams["reason"].tolist() == ["no score given", "unreadable: cut short", "", ""]
    assert scores.exams["score"].isna().tolist() == [True, True, False, True]
    assert scores.notes == ("scores of exams that were rejected or failed, which are not used: 1",)


def test_parquet_and_csv_and_memory_give_the_same_scores(tmp_path: Path) -> None:
    programme = simulate(300, 2, 1, cancers_a_year=0.03)
    expected = programme.checked_scores()
    programme.write(tmp_path)
    (tmp_path / "parquet").mkdir()
    for name, table in programme.scores.items():
        typed = table.assign(exam_date=table["exam_date"].dt.date) if name == "exams" else table
        typed = typed.assign(laterality=table["laterality"].astype("category")) if name == "images" else typed
        typed.to_parquet(tmp_path / "parquet" / f"{name}.parquet")
    for source in ("scores", "parquet"):
        found = load_scores(tmp_path / source)
        for name in ("exams", "images", "regions"):
            pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))


def test_the_pipelines_own_tables_are_read_with_unreadable_files_and_repeated_instances(tmp_path: Path) -> None:
    made = Image("1.2.1", Path("x"), Laterality.LEFT, View.CC, ImageKind.FFDM, 3328, 2560, 1, (0.07, 0.07))
    box = Region("1.2-1", "1.2.1", made.laterality, made.view, 10, 20, 30, 40, ((10, 20), (40, 20), (40, 60)), 0.03, 1)
    common = {"woman_id": "W1", "site": "north", "manufacturer": "A\rB", "model_id": "5f" * 32}
    scored = ExamResult(
        exam_id="1.2",
        exam_date=date(2026, 3, 1),
        status=Status.SCORED,
        score=0.03,
        top_region_id="1.2-1",
        breasts=(BreastResult(Laterality.LEFT, 0.03, "1.2-1"),),
        images=(ImageResult(made, Status.SCORED, score=0.03, regions=(box,)),),
        **common,
    )
    rejection = Rejection(Reason.NO_ELIGIBLE_IMAGE, 'no "view", none')
    rejected = ExamResult(exam_id="1.3", exam_date=None, status=Status.REJECTED, rejection=rejection, **common)
    not_dicom = InstanceRejection("a", "", "", Status.REJECTED, Rejection(Reason.NOT_DICOM, "not DICOM"))
    repeated = InstanceRejection("b", "1.2", "1.2.1", Status.REJECTED, Rejection(Reason.DUPLICATE, "again"))
    other = InstanceRejection("c", "1.9", "1.9.1", Status.FAILED, Rejection(Reason.UNREADABLE, "cut\nshort"))
    with ResultStore(tmp_path / STORE_NAME) as store:
        store.add(scored)
        store.add(rejected)
        store.add_rejections([not_dicom, repeated, other])
        write_tables(store, tmp_path)
    scores = load_scores(tmp_path)
    assert scores.name == "model 5f5f5f5f5f5f"
    assert scores.exams["exam_id"].tolist() == ["1.2", "1.3"]
    assert scores.exams["reason"].tolist() == ["", str(rejection)]
    np.testing.assert_array_equal(scores.exams["left_score"], [0.03, np.nan])
    assert scores.images is not None
    assert len(scores.images) == 4
    assert scores.regions is not None
    assert scores.regions["image_id"].tolist() == ["1.2.1"]


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"exams": EXAMS.replace("E2,W2", "E1,W2")}, r"exams\.csv, line 3: exam_id 'E1' stands there twice"),
        ({"exams": EXAMS.replace("E2,W2", ",W2")}, r"exams\.csv, line 3: exam_id is empty"),
        ({"exams": EXAMS.replace(",0.2,0.2", ",high,0.2")}, r"exams\.csv, line 3: score 'high' is no number"),
        ({"exams": EXAMS.replace(",0.2,0.2", ",nan,0.2")}, r"exams\.csv, line 3: score 'nan' is no number"),
        ({"exams": EXAMS.replace(",0.2,0.2", ",inf,0.2")}, r"exams\.csv, line 3: score 'inf' is no number"),
        ({"exams": EXAMS.replace(",0.2,0.2,0.1", ",,,")}, r"exams\.csv, line 3: the exam is scored but has no score"),
        (
            {"exams": EXAMS.replace("rejected", "lost")},
            r"exams\.csv, line 4: status 'lost' is none of scored,",
        ),
        ({"exams": EXAMS.replace("2015-04-01", "1/4/2015")}, r"line 3: exam_date '1/4/2015' is no date of the form"),
        ({"images": IMAGES.replace("E2,I2", "E9,I2")}, r"images\.csv, line 3: exam_id 'E9' is not among the exams"),
        ({"images": IMAGES.replace("E2,I2", "E2,I1")}, r"images\.csv, line 3: image_id 'I1' stands there twice"),
        ({"images": IMAGES.replace("E2,I2", "E2,")}, r"images\.csv, line 3: image_id '' is empty"),
        ({"images": IMAGES.replace("I2,L", "I2,left")}, r"images\.csv, line 3: laterality 'left' is no laterality"),
        ({"regions": REGIONS.replace("E2,I2", "E9,I2")}, r"regions\.csv, line 3: exam_id 'E9' is not among the exams"),
        (
            {"regions": REGIONS.replace("E2,I2", "E2,I9")},
            r"regions\.csv, line 3: image_id 'I9' is not among",
        ),
        ({"regions": REGIONS.replace("E2,I2", "E2,I1")}, r"regions\.csv, line 3: image_id 'I1' is of another exam"),
        ({"regions": REGIONS.replace("30,0,", "-30,0,")}, r"regions\.csv, line 3: width -30\.0 is negative"),
        ({"regions": REGIONS.replace("0.2\n", "\n")}, r"regions\.csv, line 3: score is empty"),
        ({"regions": REGIONS.replace("R2,", "")}, r"regions\.csv, line 3: 7 fields, where the header has 8"),
        ({"regions": REGIONS.replace("height,", "depth,")}, r"regions\.csv lacks the column height; it has region_id"),
        (
            {"exams": EXAMS.replace("_score", "_risk").replace("score,", "risk,")},
            r"exams\.csv lacks the column score",
        ),
        ({"exams": EXAMS.replace("left_score", "score")}, r"exams\.csv has the column score twice"),
        ({"exams": ""}, r"The table exams\.csv cannot be read: Empty CSV file"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, tables: dict[str, str], sentence: str) -> None:
    with pytest.raises(ScoresError, match=sentence):
        load_scores(folder(tmp_path, **tables))


def test_all_bad_rows_are_named_not_only_the_first(tmp_path: Path) -> None:
    regions = REGIONS + "".join(f"R{row},E{row},I1,1,1,1,1,0.1\n" for row in range(100, 150))
    with pytest.raises(ScoresError, match="The scores have 50 errors in their rows") as raised:
        load_scores(folder(tmp_path, regions=regions))
    assert [problem.line for problem in raised.value.problems] == list(range(4, 54))


def test_lines_are_those_of_the_file_with_blank_lines_and_line_ends_in_cells(tmp_path: Path) -> None:
    exams = '\ufeffexam_id,reason,score\nE1,"two\nlines",0.5\n\n,,\nE2,,0.1\nE2,,0.2'
    (tmp_path / "exams.csv").write_text(exams)
    with pytest.raises(ScoresError, match=r"exams\.csv, line 7: exam_id 'E2' stands there twice"):
        load_scores(tmp_path)
    (tmp_path / "exams.csv").write_text(exams.replace("E2,,0.2", "E3,,0.2"))
    assert load_scores(tmp_path).exams.index.tolist() == [2, 6, 7]


def test_mixed_models_are_refused_with_the_exams_of_each(tmp_path: Path) -> None:
    exams = EXAMS.replace("0.2,0.2,0.1,M", "0.2,0.2,0.1,N") + "E1,W1,2015-03-01,scored,,0.7,0.7,0.1,N\n"
    with pytest.raises(ScoresError, match=r"scores of 2 models: [MN] \(2 exams\), [MN] \(2 exams\); evaluate"):
        load_scores(folder(tmp_path, exams=exams))


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda path: None, "holds no exams.csv or exams.parquet"),
        (lambda path: path.rmdir(), "There are no scores at"),
        (lambda path: [(path / name).touch() for name in ("exams.csv", "exams.parquet")], "holds both exams.csv and"),
        (lambda path: (path / "exams.csv").write_bytes(b"exam_id,score\nM\xfcller,0.5\n"), "cannot be read: "),
        (lambda path: (path / "exams.parquet").write_bytes(b"exam_id,score\n"), "exams.parquet cannot be read: "),
        (lambda path: (path / "exams.csv").write_text('exam_id,score\n"E1,0.5\nE2,0.5\n'), "exams.csv"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, prepare: Callable[[Path], object], sentence: str) -> None:
    path = tmp_path / "scores"
    path.mkdir()
    prepare(path)
    with pytest.raises(ScreeningError, match=sentence):
        load_scores(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.xlsx").touch()
    with pytest.raises(ScoresError, match=r"must be a \.csv or \.parquet file, or a folder with exams\.csv"):
        load_scores(tmp_path / "scores.xlsx")


def test_scores_outside_0_to_1_are_kept_and_noted() -> None:
    exams = pd.DataFrame({"exam_id": ["E1", "E2", "E3"], "score": [-2.5, 0.5, 97.0]})
    scores = check_scores({"exams": exams})
    assert scores.exams["score"].tolist() == [-2.5, 0.5, 97.0]
    assert scores.notes == ("exams with scores outside 0 to 1, of which calibration means nothing: 2",)


def test_the_digest_changes_with_any_table_and_with_nothing_else(tmp_path: Path) -> None:
    first = load_scores(folder(tmp_path)).sha256
    assert load_scores(tmp_path, "another name").sha256 == first
    digests = {first}
    for name, text in (("exams", EXAMS), ("images", IMAGES), ("regions", REGIONS)):
        (tmp_path / f"{name}.csv").write_text(text.replace("0.5", "0.6"))
        digests.add(load_scores(tmp_path).sha256)
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \r\n"), min_size=1),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        unique_by=lambda row: row[0].strip(),
    ).filter(lambda rows: all(name.strip() for name, _ in rows))
)
def test_any_identifier_and_any_finite_score_survive_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float]]
) -> None:
    table = pd.DataFrame(rows, columns=["exam_id", "score"])
    file = tmp_path_factory.mktemp("scores") / "exams.csv"
    table.to_csv(file, index=False, quoting=csv.QUOTE_NONNUMERIC)
    found = load_scores(file).exams
    assert found["exam_id"].tolist() == [name.strip() for name in table["exam_id"]]
    assert found["score"].tolist() == table["score"].tolist()
