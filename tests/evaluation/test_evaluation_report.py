"""The report of an evaluation: what the page says, and what never gets into it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.cases import cases
from evaluation.export import write_tables
from evaluation.intervals import Interval
from evaluation.operating_points import operating_points
from evaluation.report.curves import operating, readers
from evaluation.report.distributions import months_table, percentile
from evaluation.report.flow import WIDTH, Box, diagram
from evaluation.report.page import draw_pictures, write_report
from evaluation.report.pages import limits_text, number_text, value_text
from evaluation.report.pictures import thinned
from evaluation.report.tables import headline, matrices, rows
from evaluation.study import Evaluation
from tests.support.evaluations import FLOW, HOSTILE, cohort, data_of, evaluation, figure


class Page(HTMLParser):
    """The elements of a page, their addresses, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.addresses += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for _, value in attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(one: Evaluation, out: Path) -> str:
    return write_report(one, draw_pictures(one), data_of(one), out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(evaluation(), tmp_path_factory.mktemp("report"))


def test_every_figure_stands_on_the_page_with_value_interval_counts_and_benchmark(html: str) -> None:
    text = Page(html).text
    assert "0.812 0.750 to 0.860 95 %, percentile bootstrap, 2,000 × 338 women 340 42" in text
    assert "812.3 per 1,000 750.0 to 860.0" in text
    assert "0.87 in the literature" in text
    for one in evaluation().figures:
        assert one.label in text


def test_a_figure_without_value_stands_there_with_its_reason_and_one_on_few_positives_with_a_warning(html: str) -> None:
    text = Page(html).text
    assert "not computable: the scores are no probabilities" in text
    assert "Warning: only 5 positives." in text
    assert "nan" not in text.lower().split()


def test_title_and_notice_name_protocol_and_system_and_say_that_it_is_no_medical_device(html: str) -> None:
    text = Page(html).text
    assert "Evaluation of ours under salim-2020" in text
    assert "Not a medical device" in text


def test_every_caption_states_protocol_cases_and_how_the_interval_was_made() -> None:
    for picture in draw_pictures(evaluation()):
        assert picture.drawing is not None, picture.reason
        assert "Protocol salim-2020; 340 exams of 340 women, 42 with cancer" in picture.caption
        assert re.search(r"bootstrap|Wilson|without intervals", picture.caption), picture.name


def test_markup_in_names_stays_text_in_tables_and_pictures(html: str) -> None:
    page = Page(html)
    assert "script" not in page.tags
    assert HOSTILE in page.text
    assert "onerror" not in html


def test_the_page_reaches_for_nothing_outside_and_names_no_woman(html: str) -> None:
    assert all(address.strip("'\"").startswith("#") for address in Page(html).addresses)
    assert "default-src 'none'" in html
    assert "WOMAN" not in html


def test_every_picture_is_well_formed_svg_with_its_words_as_text() -> None:
    for picture in draw_pictures(evaluation()):
        root = ElementTree.fromstring(str(picture.svg))
        assert root.tag.endswith("svg")
        assert any(element.tag.endswith("text") for element in root.iter())


def test_what_cannot_be_drawn_says_why_in_its_place(tmp_path: Path) -> None:
    whole = evaluation()
    own = replace(
        whole,
        roc=None,
        froc=None,
        reliability=None,
        figures=(figure(interval=None, reason="There are no exams with cancer."),),
    )
    text = Page(written(own, tmp_path)).text
    assert "Not drawn: There are no exams with cancer." in text
    assert "give no figures of this kind" in text


def test_a_cohort_without_a_single_analysed_exam_still_gives_a_page(tmp_path: Path) -> None:
    whole = evaluation()
    exams = whole.cohort.exams.assign(included=False)
    own = Evaluation(replace(whole.cohort, exams=exams, scores=whole.cohort.scores), (), None, None, None)
    text = Page(written(own, tmp_path)).text
    assert "There is no exam without cancer to measure scores on." in text
    assert "There is no exam with cancer." in text


def test_alike_notes_of_the_tables_are_one_line_with_their_number(html: str) -> None:
    assert "diagnoses.csv: the woman has no exam; the row is not used (2 rows, the first in line 2)" in Page(html).text


def test_the_flow_diagram_shows_every_count_inside_its_borders_and_no_box_covers_another() -> None:
    drawn = diagram(FLOW)
    words = " ".join(line for box in drawn.boxes for line in box.lines)
    for _, label, count in FLOW:
        assert f"{count} " in words
        assert label in words
    assert "382 exams" in words
    assert "42 not analysed" in words
    assert "340 analysed" in words
    for box in drawn.boxes:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.bottom <= drawn.height
    assert not any(_overlap(a, b) for i, a in enumerate(drawn.boxes) for b in drawn.boxes[i + 1 :])


def _overlap(a: Box, b: Box) -> bool:
    beside = a.x + a.width <= b.x or b.x + b.width <= a.x
    return not (beside or a.bottom <= b.y or b.bottom <= a.y)


@given(st.lists(st.tuples(st.integers(0, 2), st.text(min_size=1, max_size=80), st.integers(0, 10**7)), max_size=20))
def test_any_flow_is_laid_out_without_boxes_over_each_other(flow: list[tuple[int, str, int]]) -> None:
    boxes = diagram(flow).boxes
    assert not any(_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_readers_stand_where_their_decisions_put_them() -> None:
    of = cohort()
    exams = of.exams[of.exams["included"]]
    positive = exams["role"] == "positive"
    points = readers(of)
    assert set(points) == {"reader1", "recalled"}  # the second reader's decisions are not known
    false, true = points["reader1"]
    assert false == pytest.approx(exams.loc[~positive, "reader1"].mean())
    assert true == pytest.approx(exams.loc[positive, "reader1"].mean())


def test_detection_by_months_counts_the_exams_with_cancer_that_the_point_calls() -> None:
    of = cohort()
    among = cases(of)
    (decision,) = operating_points(of)
    table = months_table(among, [decision], 0.95).set_index("from")
    months = among.table["months_to_diagnosis"]
    for low, row in table.iterrows():
        inside = among.positive & (months >= low) & (months < row["to"])
        assert row["n"] == inside.sum()
        assert row["share"] == pytest.approx((among.score[inside] >= decision.threshold).mean())
        assert row["low"] < row["share"] < row["high"]
    assert table["n"].sum() == 42


def test_a_percentile_is_the_weighted_share_below_with_half_of_the_equal_ones() -> None:
    reference, weight = np.array([0.1, 0.2, 0.2, 0.4]), np.array([1.0, 1.0, 1.0, 5.0])
    found = percentile(np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5]), reference, weight)
    assert found == pytest.approx([0, 6.25, 25, 37.5, 68.75, 100])


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_its_shape() -> None:
    x = np.linspace(0, 1, 200_001) ** 3
    y = np.sqrt(x)
    kept = thinned(x, y)
    assert len(kept) <= 802
    assert kept[0] == 0
    assert kept[-1] == len(x) - 1
    assert np.abs(np.interp(x, x[kept], y[kept]) - y).max() < 0.005


def test_operating_points_stand_where_their_calls_put_them() -> None:
    of = cohort()
    among = cases(of)
    decisions = operating_points(of)
    false, true = operating(of, decisions)["first-reader-specificity"]
    called = among.score >= decisions[0].threshold
    assert false == pytest.approx(called[~among.positive].mean())
    assert true == pytest.approx(called[among.positive].mean())
    assert 1 - false >= 0.966


@pytest.mark.parametrize(
    ("value", "per", "text"),
    [
        (0.81234, 1, "0.812"),
        (0.0061, 1000, "6.100"),
        (0.0432, 1000, "43.2"),
        (-0.0123, 1, "−0.012"),
        (123456.0, 1, "123,456"),
        (np.inf, 1, "∞"),
        (np.nan, 1, "none"),
    ],
)
def test_numbers_are_written_with_the_digits_that_people_read(value: float, per: int, text: str) -> None:
    assert number_text(value, per) == text


def test_limits_have_the_decimals_of_their_figure() -> None:
    of_ratio = Interval(9.27, 6.886, 13.3, "percentile bootstrap")
    assert limits_text(figure(interval=of_ratio)) == "6.886 to 13.300"
    assert limits_text(figure(per=1000)) == "750.0 to 860.0"


def test_percentages_and_rates_carry_what_they_are_counted_per() -> None:
    assert value_text(figure(per=100)) == "81.2 %"
    assert value_text(figure(per=1000)) == "812.3 per 1,000"
    assert value_text(figure(interval=None, reason="no cases")) == "not computable"


def test_the_tables_hold_every_figure_field_and_every_exam_and_no_woman(tmp_path: Path) -> None:
    one = evaluation()
    for path in write_tables(one, tmp_path):
        assert path.is_file()
        assert "WOMAN" not in path.read_text(encoding="utf-8")
    figures = pd.read_csv(tmp_path / "figures.csv", keep_default_na=False)
    assert list(figures["key"]) == [f.key for f in (*one.figures, *one.comparisons)]
    first = figures.iloc[0]
    assert (float(first["point"]), float(first["low"]), float(first["high"])) == (0.81234, 0.75, 0.86)
    lacking = figures[figures["point"] == ""]
    assert (lacking["reason"] != "").all()
    assert len(lacking) == 2
    exams = pd.read_csv(tmp_path / "exams.csv", keep_default_na=False)
    assert list(exams["exam_id"]) == list(one.cohort.exams["exam_id"])
    assert (exams.loc[~exams["included"], "excluded_because"] != "").all()
    assert pd.read_csv(tmp_path / "flow.csv")["count"].tolist() == [count for _, _, count in FLOW]
    assert len((tmp_path / "notes.txt").read_text(encoding="utf-8").splitlines()) == 3


def test_the_headline_has_discrimination_points_and_programme_and_no_subgroup() -> None:
    names = ("first", "second", "third")
    points = [
        figure(f"{key}@{name}", group="operating points") for name in names for key in ("sensitivity", "specificity")
    ]
    others = [figure("recall_rate"), figure("ppv1"), figure(subgroup="site: A"), figure("froc-sensitivity@fp=1")]
    few = headline([figure(), *points[:4], *others])
    assert [one.key for one in few] == [
        "auc", "sensitivity@first", "specificity@first", "sensitivity@second", "specificity@second",
        "froc-sensitivity@fp=1", "recall_rate",
    ]  # fmt: skip
    many = headline(points)
    assert [one.key for one in many] == [f"sensitivity@{name}" for name in names]


def test_a_list_repeats_no_text_of_the_row_above_and_never_hides_a_new_one() -> None:
    first, same, bare, again = rows([figure(note="a"), figure(note="a"), figure(), figure(note="a")])
    assert (first.note, same.note, bare.note, again.note) == ("a", "as above", "", "a")
    assert first.denominator
    assert first.method
    assert same.denominator == same.method == ""


def test_strategies_stand_by_their_rates_with_what_all_cells_share_beside_the_name() -> None:
    figures = [
        figure(f"{key}/{rate}", label=f"{name}: {rate}", note=f"{name} reads; {rate} is counted")
        for key, name in (("a", "reader"), ("b", "triage"))
        for rate in ("sensitivity", "specificity")
    ]
    (matrix,), others = matrices([*figures, figure("model", label="model alone", interval=None, reason="no")])
    assert matrix.columns == ("sensitivity", "specificity")
    assert [row.name for row in matrix.rows] == ["reader", "triage"]
    assert [row.note for row in matrix.rows] == ["reader reads", "triage reads"]
    assert [note for _, note in matrix.rows[0].cells] == ["sensitivity is counted", "specificity is counted"]
    assert [one.key for one in others] == ["model"]
