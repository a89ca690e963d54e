"""The DBTex figures equal a literal scorer written from the challenge's rules, on files and on arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pytest

from evaluation.columns import ScoresError
from evaluation.dbtex import DbtexSet, DbtexStatistics, dbtex_figures, nearest_box
from evaluation.dbtex_tables import dbtex_set, load_dbtex
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.hits import Lesions, Regions
from evaluation.protocol import Uncertainty
from screening.errors import ScreeningError

QUICK = Uncertainty(replicates=200, seed=3)


class Tables(NamedTuple):
    """The challenge's three tables."""

    labels: pd.DataFrame
    boxes: pd.DataFrame
    predictions: pd.DataFrame


def challenge(seed: int, n_volumes: int = 14) -> Tables:
    """Random tables: volumes with none to three boxes close together, predictions about them and elsewhere, ties."""
    rng = np.random.default_rng(seed)
    labels = pd.DataFrame(
        {
            "PatientID": [f"woman{v // 3}" for v in range(n_volumes)],
            "StudyUID": [f"1.2.{v // 2}" for v in range(n_volumes)],
            "View": [("lcc", "rmlo")[v % 2] for v in range(n_volumes)],
        }
    )
    slices = rng.integers(8, 60, n_volumes)
    n_boxes = np.where(rng.random(n_volumes) < 0.5, 0, rng.integers(1, 4, n_volumes))
    n_boxes[0] = 2
    of_box = np.repeat(np.arange(n_volumes), n_boxes)
    m = len(of_box)
    boxes = labels.iloc[of_box].reset_index(drop=True)
    boxes["Slice"] = rng.integers(0, slices[of_box])
    boxes["X"], boxes["Y"] = rng.integers(0, 500, m), rng.integers(0, 500, m)
    boxes["Width"], boxes["Height"] = rng.integers(10, 400, m), rng.integers(10, 400, m)
    boxes["VolumeSlices"] = slices[of_box]
    n = int(rng.integers(0, 80))
    volume, box = rng.integers(0, n_volumes, n), rng.integers(0, m, n)
    aimed = rng.random(n) < 0.4
    volume[aimed] = of_box[box[aimed]]
    predictions = labels.iloc[volume].reset_index(drop=True)
    for corner, size in (("X", "Width"), ("Y", "Height")):
        predictions[size] = rng.integers(1, 200, n)
        near = (boxes[corner] + boxes[size] // 2).to_numpy()[box] + rng.integers(-120, 120, n)
        predictions[corner] = np.where(aimed, near - predictions[size] // 2, rng.integers(0, 900, n))
    predictions["Depth"] = rng.integers(1, 20, n)
    near = boxes["Slice"].to_numpy()[box] - predictions["Depth"] // 2 + rng.integers(-8, 8, n)
    predictions["Z"] = np.where(aimed, near, rng.integers(0, 40, n))
    predictions["Score"] = rng.integers(0, 40, n) / 10  # some equal; the challenge takes any numbers
    return Tables(labels, boxes, predictions)


class Scored(NamedTuple):
    at_2_all: float
    at_positive: list[float]
    mean_positive: float


def literal(tables: Tables) -> Scored:
    """The rules, one after the other, with loops over rows and thresholds."""
    volumes = list(zip(tables.labels.StudyUID, tables.labels.View, strict=True))
    boxes = tables.boxes.to_dict("records")
    predictions = tables.predictions.to_dict("records")

    for row in [*boxes, *predictions]:
        row["volume"] = row["StudyUID"], row["View"]
    for prediction in predictions:
        x = prediction["X"] + prediction["Width"] / 2
        y = prediction["Y"] + prediction["Height"] / 2
        z = prediction["Z"] + prediction["Depth"] / 2
        nearest, nearest_distance = None, math.inf
        for number, box in enumerate(boxes):
            if box["volume"] != prediction["volume"]:
                continue
            dx, dy = x - (box["X"] + box["Width"] / 2), y - (box["Y"] + box["Height"] / 2)
            dz = z - box["Slice"]
            reach = max(math.sqrt(box["Width"] ** 2 + box["Height"] ** 2) / 2, 100)
            if math.sqrt(dx**2 + dy**2) > reach or abs(dz) > box["VolumeSlices"] / 4:
                continue
            distance = math.sqrt(dx**2 + dy**2 + dz**2)
            if distance < nearest_distance:
                nearest, nearest_distance = number, distance
        prediction["box"] = nearest

    with_box = {v for v in volumes if any(box["volume"] == v for box in boxes)}
    scores = [prediction["Score"] for prediction in predictions]
    thresholds = [prediction["Score"] for prediction in predictions if prediction["box"] is not None]
    thresholds = [*thresholds, max(scores, default=0) + 1, min(scores, default=0) - 1]

    def sensitivities(counted: set[tuple[str, str]], rates: list[float]) -> list[float]:
        points = []
        for threshold in sorted(set(thresholds), reverse=True):
            called = [p for p in predictions if p["Score"] >= threshold and p["volume"] in counted]
            found = {p["box"] for p in called if p["box"] is not None}
            false = [p for p in called if p["box"] is None]
            points.append((len(false) / len(counted), len(found) / len(boxes)))
        return [on_curve(points, rate) for rate in rates]

    positive = sensitivities(with_box, [1, 2, 3, 4])
    return Scored(sensitivities(set(volumes), [2])[0], positive, sum(positive) / 4)


def on_curve(points: list[tuple[float, float]], rate: float) -> float:
    """Linear interpolation: on the highest of points above one another, level beyond the last."""
    before = [point for point in points if point[0] <= rate][-1]
    after = [point for point in points if point[0] > rate]
    if not after or before[0] == rate:
        return before[1]
    return before[1] + (after[0][1] - before[1]) * (rate - before[0]) / (after[0][0] - before[0])


def as_set(tables: Tables) -> DbtexSet:
    """The tables as arrays, past the files."""
    known = {key: row for row, key in enumerate(zip(tables.labels.StudyUID, tables.labels.View, strict=True))}

    def rows(table: pd.DataFrame) -> list[int]:
        return [known[key] for key in zip(table.StudyUID, table.View, strict=True)]

    slices = np.full(len(known), np.nan)
    slices[rows(tables.boxes)] = tables.boxes.VolumeSlices
    box = ["X", "Y", "Width", "Height"]
    predictions = tables.predictions
    return DbtexSet(
        tables.labels.PatientID.to_numpy(),
        slices,
        Regions(rows(predictions), predictions.Score, predictions[box].to_numpy()),
        predictions.Z + predictions.Depth / 2,
        Lesions(rows(tables.boxes), tables.boxes[box].to_numpy()),
        tables.boxes.Slice,
    )


def write(tables: Tables, folder: Path) -> tuple[Path, Path, Path]:
    paths = folder / "predictions.csv", folder / "boxes.csv", folder / "labels.csv"
    for table, path in zip((tables.predictions, tables.boxes, tables.labels), paths, strict=True):
        table.to_csv(path, index=False)
    return paths


def figures_of(data: DbtexSet) -> Scored:
    statistics = DbtexStatistics(data)
    at_positive = [statistics.mean_sensitivity([rate])() for rate in (1.0, 2.0, 3.0, 4.0)]
    return Scored(statistics.mean_sensitivity([2.0], volumes="all")(), at_positive, statistics.mean_sensitivity()())


def flat(scored: Scored) -> list[float]:
    return [scored.at_2_all, *scored.at_positive, scored.mean_positive]


def test_figures_equal_the_literal_scorer_on_hundreds_of_random_sets() -> None:
    some_between = 0
    for seed in range(100):
        tables = challenge(seed)
        expected = literal(tables)
        assert flat(figures_of(as_set(tables))) == pytest.approx(flat(expected), abs=1e-12)
        some_between += 0 < expected.mean_positive < 1 and len(set(expected.at_positive)) > 2
    assert some_between > 25  # the comparison is of numbers that say something


def test_files_in_the_challenges_format_give_the_same_numbers(tmp_path: Path) -> None:
    for seed in range(4):
        tables = challenge(seed)
        data = load_dbtex(*write(tables, tmp_path))
        assert flat(figures_of(data)) == pytest.approx(flat(literal(tables)), abs=1e-12)
        assert data.complete
        assert sorted(data.woman) == sorted(tables.labels.PatientID)


def one_volume(predictions: list[tuple[float, ...]], boxes: list[tuple[float, ...]], slices: int = 40) -> DbtexSet:
    """One volume; predictions as x, y, middle, score of points, boxes as x, y (centre), side, slice."""
    p, b = np.array(predictions, float).reshape(-1, 4), np.array(boxes, float).reshape(-1, 4)
    return DbtexSet(
        ["w"],
        [slices],
        Regions(np.zeros(len(p)), p[:, 3], np.column_stack([p[:, :2], np.zeros((len(p), 2))])),
        p[:, 2],
        Lesions(np.zeros(len(b)), np.column_stack([b[:, :2] - b[:, [2]] / 2, b[:, [2, 2]]])),
        b[:, 3],
    )


@pytest.mark.parametrize(
    ("prediction", "hit"),
    [
        ((160, 180, 20, 1), True),  # 100 pixels away: 60 across, 80 down
        ((161, 180, 20, 1), False),
        ((100, 100, 30, 1), True),  # a quarter of 40 slices away
        ((100, 100, 30.5, 1), False),
        ((100, 100, 9.5, 1), False),
    ],
)
def test_reach_is_a_hundred_pixels_and_a_quarter_of_the_slices_borders_included(
    prediction: tuple[float, ...], hit: bool
) -> None:
    assert (nearest_box(one_volume([prediction], [(100, 100, 20, 20)]))[0] == 0) == hit


def test_a_large_box_reaches_half_its_diagonal() -> None:
    boxes: list[tuple[float, ...]] = [(500, 500, 400, 20)]  # half the diagonal: 282.8
    assert nearest_box(one_volume([(700, 699, 20, 1), (700, 701, 20, 1)], boxes)).tolist() == [0, -1]


def test_a_prediction_belongs_to_the_box_nearest_in_three_dimensions_even_if_it_is_found_already() -> None:
    boxes: list[tuple[float, ...]] = [(100, 100, 20, 10), (106, 100, 20, 20)]
    nearest_in_plane_is_not_nearest = (101, 100, 19, 1)
    assert nearest_box(one_volume([nearest_in_plane_is_not_nearest], boxes))[0] == 1
    twice = one_volume([(100, 100, 10, 0.9), (100, 100, 10, 0.8)], boxes)
    assert DbtexStatistics(twice).mean_sensitivity()() == 0.5  # `hits.match` would give the second to the other box


def test_a_repeat_is_no_false_positive_but_a_point_of_the_curve() -> None:
    box: list[tuple[float, ...]] = [(100, 100, 20, 20), (800, 800, 20, 20)]
    far = (400.0, 400.0, 20.0)
    marks: list[tuple[float, ...]] = [(100, 100, 20, 0.9), (*far, 0.8), (*far, 0.8), (800, 800, 20, 0.5)]
    without = DbtexStatistics(one_volume(marks, box)).mean_sensitivity([1.0])()
    repeated = DbtexStatistics(one_volume([*marks, (101, 100, 20, 0.7)], box)).mean_sensitivity([1.0])()
    assert (without, repeated) == (0.75, 0.5)


def test_order_of_rows_and_of_volumes_and_a_monotone_map_of_scores_change_nothing() -> None:
    for seed in range(8):
        tables = challenge(seed)
        expected = flat(figures_of(as_set(tables)))
        shuffled = Tables(
            tables.labels.sample(frac=1, random_state=seed).reset_index(drop=True),
            tables.boxes,
            tables.predictions.sample(frac=1, random_state=seed).reset_index(drop=True),
        )
        assert flat(figures_of(as_set(shuffled))) == pytest.approx(expected, abs=1e-12)
        mapped = tables.predictions.assign(Score=np.exp(tables.predictions.Score) - 5)
        assert flat(figures_of(as_set(tables._replace(predictions=mapped)))) == pytest.approx(expected, abs=1e-12)


def test_whole_weights_equal_the_literal_scorer_on_copies_of_the_volumes() -> None:
    compared = 0
    for seed in range(12):
        tables = challenge(seed, n_volumes=8)
        counts = np.random.default_rng(seed).integers(0, 3, 8)
        counts[0] = 1  # a volume with boxes
        copies = [tables.labels.iloc[[v]].assign(View=f"{tables.labels.View[v]}{c}", of=v)
                  for v in range(8) for c in range(counts[v])]  # fmt: skip
        labels = pd.concat(copies, ignore_index=True)
        of = {v: labels.View[labels.of == v] for v in range(8)}

        def copied(table: pd.DataFrame, of: dict[int, Any] = of, tables: Tables = tables) -> pd.DataFrame:
            rows = []
            for row in table.to_dict("records"):
                same = (tables.labels.StudyUID == row["StudyUID"]) & (tables.labels.View == row["View"])
                rows += [{**row, "View": view} for view in of[int(np.flatnonzero(same)[0])]]
            return pd.DataFrame(rows, columns=table.columns)

        expected = literal(Tables(labels, copied(tables.boxes), copied(tables.predictions)))
        statistics = DbtexStatistics(as_set(tables))
        got = [statistics.mean_sensitivity()(counts), statistics.mean_sensitivity([2.0], volumes="all")(counts)]
        assert got == pytest.approx([expected.mean_positive, expected.at_2_all], abs=1e-12)
        compared += 0 < expected.mean_positive < 1
    assert compared > 6


def test_replicating_every_woman_changes_no_figure_and_weights_of_one_are_none() -> None:
    tables = challenge(5)
    expected = flat(figures_of(as_set(tables)))
    doubled = Tables(*(pd.concat([t, t.assign(StudyUID=t.StudyUID + ".9", PatientID=t.PatientID + "x")],
                                 ignore_index=True) for t in tables))  # fmt: skip
    assert flat(figures_of(as_set(doubled))) == pytest.approx(expected, abs=1e-12)
    statistic = DbtexStatistics(as_set(tables)).mean_sensitivity()
    assert statistic(np.ones(14)) == statistic() == expected[-1]


def test_figures_carry_the_challenges_value_a_bootstrap_over_women_and_their_denominators() -> None:
    tables = challenge(5)
    found = dbtex_figures(as_set(tables), QUICK)
    assert [figure.key for figure in found] == [
        "dbtex_mean_sensitivity@fp=1_2_3_4", "dbtex_sensitivity@fp=1", "dbtex_sensitivity@fp=2",
        "dbtex_sensitivity@fp=3", "dbtex_sensitivity@fp=4", "dbtex_sensitivity@fp_all=2",
    ]  # fmt: skip
    expected = literal(tables)
    for figure, value in zip(found, [expected.mean_positive, *expected.at_positive, expected.at_2_all], strict=True):
        assert figure.interval is not None
        assert figure.interval.point == pytest.approx(value, abs=1e-12)
        assert figure.interval.low < value < figure.interval.high
        assert (figure.interval.n_clusters, figure.interval.replicates) == (5, 200)
        assert f"{len(tables.boxes)} boxes" in figure.denominator
    assert found[-1].n == 14
    assert found[0].n == found[0].n_positive < 14


def test_what_cannot_be_computed_says_why(tmp_path: Path) -> None:
    predictions, boxes, _ = write(challenge(5), tmp_path)
    found = dbtex_figures(load_dbtex(predictions, boxes), QUICK)
    assert found[0].interval is not None
    assert found[-1].interval is None
    assert "list of all volumes" in found[-1].reason
    empty = one_volume([(1, 1, 1, 1)], [])
    with pytest.raises(NotComputableError, match="true box"):
        DbtexStatistics(empty).mean_sensitivity()()
    assert all(figure.interval is None and figure.reason for figure in dbtex_figures(empty, QUICK))
    assert DbtexStatistics(one_volume([], [(1, 1, 9, 1)])).mean_sensitivity()() == 0.0


@pytest.mark.parametrize(
    ("table", "change", "sentence"),
    [
        ("predictions", {"Score": "high"}, r"predictions\.csv, line 2: Score 'high' is no number"),
        ("predictions", {"Score": "nan"}, "Score ('nan' is no number|is empty)"),
        ("predictions", {"View": "ml"}, "the volume is not among the labels"),
        ("predictions", {"Depth": -1}, "Depth is below 0"),
        ("predictions", {"StudyUID": " "}, "StudyUID is empty"),
        ("boxes", {"VolumeSlices": 0}, "VolumeSlices '0' is no number above 0"),
        ("boxes", {"Width": 0}, "Width '0' is no number above 0"),
        ("labels", {"StudyUID": "1.2.0", "View": "lcc"}, "the volume stands there twice"),
        ("boxes", {"PatientID": "somebody"}, "PatientID is not that of another row"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(
    tmp_path: Path, table: str, change: dict[str, Any], sentence: str
) -> None:
    tables = challenge(5)
    bad = tables._replace(**{table: getattr(tables, table).assign(**change)})
    with pytest.raises(ScoresError) as error:
        load_dbtex(*write(bad, tmp_path))
    assert any(re.search(sentence, str(problem)) for problem in error.value.problems)
    assert "woman" not in str(error.value)  # nobody's identifier is shown


def test_missing_files_columns_and_unequal_slices_are_refused_with_a_sentence(tmp_path: Path) -> None:
    tables = challenge(5)
    predictions, boxes, labels = write(tables, tmp_path)
    with pytest.raises(ScoresError, match="cannot be read"):
        load_dbtex(tmp_path / "none.csv", boxes, labels)
    with pytest.raises(ScoresError, match="lacks the column Slice, VolumeSlices"):
        load_dbtex(predictions, predictions, labels)
    unequal = tables.boxes.assign(VolumeSlices=np.arange(len(tables.boxes)) + 1)
    unequal.to_csv(boxes, index=False)
    with pytest.raises(ScoresError, match="VolumeSlices differs"):
        load_dbtex(predictions, boxes, labels)


def test_arrays_without_meaning_are_refused_with_a_sentence() -> None:
    none, box = Regions([], [], []), Lesions([0], [[0, 0, 9, 9]])
    for arguments, sentence in [
        ((["w"], [np.nan], none, [], box, [1]), "no number of slices"),
        ((["w"], [10, 20], none, [], box, [1]), "Every volume needs a woman"),
        (([], [], none, [], box, [1]), "only 0"),
        ((["w"], [10], none, [], box, [np.nan]), "slice holds 1 NaN"),
        ((["w"], [10], none, [1.0], box, [1]), "middle slice has 1 values"),
    ]:
        with pytest.raises(InvalidInputError, match=sentence):
            DbtexSet(*cast("Any", arguments))
    statistics = DbtexStatistics(one_volume([], [(1, 1, 9, 1)]))
    with pytest.raises(InvalidInputError, match="finite numbers"):
        statistics.mean_sensitivity([])
    with pytest.raises(InvalidInputError, match="'some'"):
        statistics.mean_sensitivity(volumes=cast("Any", "some"))


def own_tables(tables: Tables) -> tuple[Any, Any]:
    """The same volumes as our own scores and follow-up; besides them a 2D image and an exam without follow-up."""
    labels, boxes, predictions = (t.assign(image_id=t.StudyUID + t.View) for t in tables)
    images = pd.DataFrame({"image_id": labels.image_id, "exam_id": labels.StudyUID, "kind": "dbt"})
    images["frames"] = images.image_id.map(boxes.drop_duplicates("image_id").set_index("image_id").VolumeSlices)
    others = [["flat", "1.2.0", "synthetic", 1.0], ["left out", "unknown", "dbt", 30.0]]
    images = pd.concat([images, pd.DataFrame(others, columns=images.columns)], ignore_index=True)
    box = {"X": "x", "Y": "y", "Width": "width", "Height": "height"}
    regions = predictions.rename(columns={**box, "Score": "score", "Z": "frame_first"})
    regions["frame_last"] = regions.frame_first + regions.Depth - 1
    lesions = boxes.rename(columns={**box, "Slice": "frame"})
    elsewhere = {"x": 1.0, "y": 1.0, "width": 5.0, "height": 5.0, "frame": np.nan}
    lesions = pd.concat([lesions, pd.DataFrame([{**elsewhere, "image_id": i} for i in ("flat", "left out")])])
    exams = labels.drop_duplicates("StudyUID").rename(columns={"StudyUID": "exam_id", "PatientID": "woman_id"})
    return SimpleNamespace(images=images, regions=regions), SimpleNamespace(exams=exams, lesions=lesions)


def test_our_own_tables_give_the_same_numbers() -> None:
    for seed in range(5):
        tables = challenge(seed)
        data = dbtex_set(*own_tables(tables))
        assert flat(figures_of(data)) == pytest.approx(flat(literal(tables)), abs=1e-12)
        assert len(data.woman) == len(tables.labels)


def test_tables_without_what_the_challenge_needs_are_refused_with_a_sentence() -> None:
    changes: list[tuple[Callable[[Any, Any], object], str]] = [
        (lambda scores, _: setattr(scores, "regions", None), "tables of images and of regions"),
        (lambda _, followup: setattr(followup, "lesions", None), "true lesions"),
        (lambda scores, _: scores.images.__setitem__("kind", "ffdm"), "tomosynthesis volumes"),
        (lambda _, followup: followup.lesions.__setitem__("frame", np.nan), "lesion has no frame"),
        (lambda scores, _: scores.regions.__setitem__("frame_first", np.nan), "region has no frames"),
        (lambda scores, _: scores.images.__setitem__("frames", np.nan), "no number of slices"),
    ]
    for change, sentence in changes:
        scores, followup = own_tables(challenge(5))
        change(scores, followup)
        with pytest.raises(ScreeningError, match=sentence):
            dbtex_set(scores, followup)
