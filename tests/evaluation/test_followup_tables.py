"""Follow-up tables: what is read, what is refused with every row named, and what is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.tables import FollowUpError, check_followup, load_followup
from screening.errors import ScreeningError

EXAMS = "exam_id,woman_id,exam_date,recalled\nE1,W1,2015-03-01,0\nE2,W2,2015-04-01,1\nE3,W1,2017-03-02,\n"
DIAGNOSES = "woman_id,diagnosis_date,laterality,malignant\nW2,2015-04-20,L,1\n"
FOLLOWUP = "woman_id,followed_until\nW1,2020-12-31\nW2,2020-12-31\n"


def folder(path: Path, **tables: str) -> Path:
    for name, text in {"exams": EXAMS, "diagnoses": DIAGNOSES, "followup": FOLLOWUP, **tables}.items():
        (path / f"{name}.csv").write_text(text)
    return path


def test_tables_are_read_and_typed_and_optional_columns_filled_in(tmp_path: Path) -> None:
    found = load_followup(folder(tmp_path))
    assert found.exams["exam_id"].tolist() == ["E1", "E2", "E3"]
    assert found.exams["exam_date"].tolist() == [
        pd.Timestamp(2015, 3, 1),
        pd.Timestamp(2015, 4, 1),
        pd.Timestamp(2017, 3, 2),
    ]
    np.testing.assert_array_equal(found.exams["recalled"], [0, 1, np.nan])
    assert found.exams["site"].tolist() == ["", "", ""]
    assert found.exams["reader1"].isna().all()
    assert found.exams.index.tolist() == [2, 3, 4]
    assert found.notes == ()
    assert found.lesions is None


def test_parquet_and_csv_give_the_same_tables(tmp_path: Path) -> None:
    expected = load_followup(folder(tmp_path))
    other = tmp_path / "parquet"
    other.mkdir()
    exams = expected.exams.drop(columns=["site", "age"])
    exams["exam_date"] = exams["exam_date"].dt.date  # as some tools write dates
    exams.to_parquet(other / "exams.parquet")
    expected.diagnoses.to_parquet(other / "diagnoses.parquet")
    expected.followup.to_parquet(other / "followup.parquet")
    found = load_followup(other)
    for name in ("exams", "diagnoses", "followup"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))


def test_blank_lines_byte_order_marks_and_compact_dates_are_understood_and_lines_still_count(tmp_path: Path) -> None:
    exams = "\ufeffexam_id,woman_id,exam_date\nE1,W1,20150301\n\nE2,W1, 2017-03-02 \nE2,W1,2019-03-02\n\n"
    with pytest.raises(FollowUpError, match=r"exams\.csv, line 5: exam_id 'E2' stands there twice"):
        load_followup(folder(tmp_path, exams=exams))
    found = load_followup(folder(tmp_path, exams=exams.replace("E2,W1,2019", "E3,W1,2019"), diagnoses=DIAGNOSES))
    assert found.exams["exam_date"].dt.year.tolist() == [2015, 2017, 2019]


@pytest.mark.parametrize(
    ("tables", "sentences"),
    [
        (
            {"exams": EXAMS + "E4,W1,01/02/2019,0\n"},
            ["exams.csv, line 5: exam_date '01/02/2019' is no date of the form"],
        ),
        ({"exams": EXAMS + "E4,W1,2019-02-30,0\n"}, ["line 5: exam_date '2019-02-30' is no date"]),
        ({"exams": EXAMS + "E4,W1,0019-02-03,0\n"}, ["line 5: exam_date '0019-02-03' is no date"]),
        ({"exams": EXAMS + "E4,W1,,0\n"}, ["line 5: exam_date is empty"]),
        ({"exams": EXAMS + ",W1,2019-02-03,0\n"}, ["line 5: exam_id is empty"]),
        ({"exams": EXAMS + "E4,W1,2019-02-03,yes\n"}, ["line 5: recalled 'yes' is neither 0 nor 1"]),
        ({"exams": EXAMS + "E1,W1,2019-02-03,0\n"}, ["line 5: exam_id 'E1' stands there twice"]),
        ({"exams": EXAMS.replace("exam_date", "date")}, ["exams.csv lacks the column exam_date"]),
        ({"exams": EXAMS.replace("E1,", "E1,E1,")}, ["exams.csv cannot be read|more fields"]),
        ({"exams": "exam_id,woman_id,exam_date\nE1,W1,2015-03-01,0\n"}, ["exams.csv has rows with more fields"]),
        ({"exams": ""}, ["exams.csv cannot be read"]),
        (
            {"diagnoses": DIAGNOSES + "W1,2016-01-01,left,1\n"},
            ["diagnoses.csv, line 3: laterality 'left' is no laterality"],
        ),
        ({"diagnoses": DIAGNOSES + "W1,2016-01-01,L,\n"}, ["line 3: malignant is empty"]),
        ({"followup": FOLLOWUP + "W1,2021-01-01\n"}, ["followup.csv, line 4: woman_id 'W1' stands there twice"]),
        (
            {"weights": "exam_id,weight\nE1,10\nE9,10\nE2,0\n"},
            ["weights.csv, line 4: weight '0' is no number above 0"],
        ),
        (
            {"weights": "exam_id,weight\nE1,10\nE9,10\nE2,2\n"},
            ["weights.csv, line 3: exam_id 'E9' is not in exams.csv", "line 4: exam_id 'E3' has no weight"],
        ),
        (
            {"lesions": "exam_id,image_id,laterality,x,y,width,height,malignant,visible\nE1,I1,L,1,2,0,4,1,maybe\n"},
            ["lesions.csv, line 2: width '0' is no number above 0", "visible 'maybe' is none of false_negative, "],
        ),
    ],
)
def test_rows_that_would_make_figures_wrong_are_refused_and_named(
    tmp_path: Path, tables: dict[str, str], sentences: list[str]
) -> None:
    for sentence in sentences:
        with pytest.raises(FollowUpError, match=sentence):
            load_followup(folder(tmp_path, **tables))


def test_every_bad_row_is_in_the_error_and_the_message_stays_short(tmp_path: Path) -> None:
    exams = EXAMS + "".join(f"N{number},W1,soon,0\n" for number in range(30))
    with pytest.raises(FollowUpError, match="30 errors in its rows") as error:
        load_followup(folder(tmp_path, exams=exams))
    assert [problem.line for problem in error.value.problems] == list(range(5, 35))
    assert str(error.value).count("\n") == 11
    assert str(error.value).endswith("and 20 more")
    assert isinstance(error.value, ScreeningError)


def test_what_only_needs_to_be_known_is_noted_and_the_row_kept(tmp_path: Path) -> None:
    found = load_followup(
        folder(
            tmp_path,
            exams=EXAMS + "E4,W2,2017-04-01,0\nE5,W3,2019-01-01,0\nE6,W1,2017-03-02,0\nE7,W1,2021-03-02,0\n",
            diagnoses=DIAGNOSES + "W2,2015-04-20,L,1\nW9,2016-01-01,R,1\nW1,2010-01-01,,1\n",
            lesions="exam_id,image_id,laterality,x,y,width,height,malignant\nE99,I1,L,1,2,3,4,1\n",
        )
    )
    assert {str(note) for note in found.notes} == {
        "diagnoses.csv, line 3: the same diagnosis stands there twice; it counts once",
        "diagnoses.csv, line 4: the woman has no exam; the row is not used",
        "diagnoses.csv, line 5: the cancer's side is unknown; any breast can detect it",
        "diagnoses.csv, line 5: the diagnosis is earlier than the woman's first exam",
        "lesions.csv, line 2: the exam is unknown; the row is not used",
        "exams.csv, line 2: the exam comes after a malignant diagnosis; it is excluded",
        "exams.csv, line 4: the exam comes after a malignant diagnosis; it is excluded",
        "exams.csv, line 5: the exam comes after a malignant diagnosis; it is excluded",
        "exams.csv, line 6: the woman has no row in the follow-up",
        "exams.csv, line 7: the exam comes after a malignant diagnosis; it is excluded",
        "exams.csv, line 7: the woman has another exam on this day; each is judged by itself",
        "exams.csv, line 8: the exam comes after a malignant diagnosis; it is excluded",
        "exams.csv, line 8: the exam comes after the end of the woman's follow-up",
    }
    assert len(found.exams) == 7
    assert len(found.diagnoses) == 4


def test_missing_folders_and_tables_and_doubles_are_named(tmp_path: Path) -> None:
    with pytest.raises(FollowUpError, match="no follow-up folder"):
        load_followup(tmp_path / "none")
    with pytest.raises(FollowUpError, match=r"holds no exams\.csv or exams\.parquet"):
        load_followup(tmp_path)
    folder(tmp_path)
    (tmp_path / "exams.parquet").write_bytes(b"PAR1")
    with pytest.raises(FollowUpError, match=r"both exams\.csv and exams\.parquet"):
        load_followup(tmp_path)
    (tmp_path / "exams.csv").unlink()
    with pytest.raises(FollowUpError, match=r"exams\.parquet cannot be read"):
        load_followup(tmp_path)
    with pytest.raises(FollowUpError, match="lacks the table followup"):
        check_followup({"exams": pd.DataFrame(), "diagnoses": pd.DataFrame()})
