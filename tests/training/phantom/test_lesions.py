"""Lesions put into a compressed breast: their substance, shape, place, and how well they can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from screening.exam import View
from tests.support.lesion_slabs import KEV, MIDDLE_MM, lesion, slab
from training.phantom.lesions import insert
from training.phantom.model import CompressedBreast, Float32Array, Grid, LesionKind
from training.phantom.shapes import shape
from training.phantom.tissue import Tissue, attenuation

FAT, TUMOUR = attenuation(Tissue.ADIPOSE, KEV), attenuation(Tissue.TUMOUR, KEV)


def _added(breast: CompressedBreast, filled: CompressedBreast) -> Float32Array:
    return np.asarray(filled.attenuation - breast.attenuation)


def _mm3(breast: CompressedBreast) -> float:
    return breast.grid.layer_mm * breast.grid.pixel_mm**2


@pytest.mark.parametrize("kind", list(LesionKind))
def test_every_kind_shows_at_its_place_and_is_the_same_each_time(kind: LesionKind) -> None:
    breast = slab()
    before = breast.attenuation.copy()
    one, trace = insert(breast, lesion(kind, contrast=0.5), 12.0)
    other, again = insert(breast, lesion(kind, contrast=0.5), 12.0)
    assert one.attenuation.tobytes() == other.attenuation.tobytes()
    assert trace == again
    assert (breast.attenuation == before).all(), "the breast that was given must stay as it is"
    added = _added(breast, one)
    low, high = (np.array(corner) for corner in trace.box_mm)
    centre = breast.to_view(np.array([MIDDLE_MM]))[0]
    assert (low < centre + 4).all()
    assert (high > centre - 4).all()
    first = np.round(low / [1.0, 0.4, 0.4]).astype(int)
    last = np.round(high / [1.0, 0.4, 0.4]).astype(int)
    inside = added[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    assert inside.sum() > 0.9 * added.sum(), "the box holds the lesion"
    assert trace.conspicuity > 0


def test_other_seeds_give_other_shapes() -> None:
    one, _ = insert(slab(), lesion(seed=1), 12.0)
    other, _ = insert(slab(), lesion(seed=2), 12.0)
    assert not np.array_equal(one.attenuation, other.attenuation)


@pytest.mark.parametrize("kind", [LesionKind.CIRCUMSCRIBED_MASS, LesionKind.CYST, LesionKind.FIBROADENOMA])
def test_a_mass_has_the_volume_of_its_diameter_although_it_is_flattened(kind: LesionKind) -> None:
    breast = slab()
    filled, trace = insert(breast, lesion(kind), 12.0)
    volume = float(_added(breast, filled).sum()) * _mm3(breast) / (TUMOUR - FAT)
    assert volume == pytest.approx(np.pi / 6 * 12.0**3, rel=0.15)
    (bottom, upper, inner), (top, lower, outer) = trace.box_mm
    assert top - bottom < 0.8 * np.sqrt((lower - upper) * (outer - inner)), "compression flattens it"


@pytest.mark.parametrize("kind", [LesionKind.MICROCALCIFICATIONS, LesionKind.VASCULAR_CALCIFICATION])
@pytest.mark.parametrize("pixel_mm", [0.2, 0.5])
def test_grains_thinner_than_a_voxel_keep_their_volume(kind: LesionKind, pixel_mm: float) -> None:
    breast = slab(grid=Grid(pixel_mm, 1.0))
    share = 0.02  # of hydroxyapatite: so thin that no voxel is full
    filled, _ = insert(breast, lesion(kind, contrast=share), 14.0)
    grains = shape(lesion(kind), 14.0).calcium
    contrast = share * attenuation(Tissue.CALCIUM, KEV) - FAT
    volume = float(_added(breast, filled).sum(dtype=np.float64)) * _mm3(breast) / contrast
    assert volume == pytest.approx(float(grains.volumes.sum()), rel=0.1)


def test_a_growing_lesion_stays_where_it_was() -> None:
    breast = slab()
    small, big = (_added(breast, insert(breast, lesion(), diameter)[0]) for diameter in (7.0, 12.0))
    kept = np.minimum(small, big).sum() / small.sum()
    assert big.sum() > 2 * small.sum()
    assert kept > 0.85


def test_calcifications_that_are_there_stay_as_more_come() -> None:
    cluster = lesion(LesionKind.MICROCALCIFICATIONS)
    early, late = shape(cluster, 6.0).calcium, shape(cluster, 15.0).calcium
    assert len(late.points) > len(early.points)
    assert {tuple(point) for point in early.points} <= {tuple(point) for point in late.points}


def test_both_views_show_the_lesion_where_its_place_projects_to() -> None:
    place = (28.0, 5.0, 3.0)
    for view in (View.CC, View.MLO):
        breast = slab(view)
        _, trace = insert(breast, lesion(LesionKind.CIRCUMSCRIBED_MASS, position_mm=place), 8.0)
        middle = np.mean(trace.box_mm, axis=0)
        assert np.abs(middle - breast.to_view(np.array([place]))[0]).max() < 1.5


def test_a_distortion_has_no_mass_and_a_spiculated_mass_has() -> None:
    breast = slab()
    at = tuple(int(edge) for edge in breast.to_view(np.array([MIDDLE_MM]))[0] / [1.0, 0.4, 0.4])
    middle = np.s_[at[0] - 1 : at[0] + 2, at[1] - 4 : at[1] + 5, at[2] - 4 : at[2] + 5]
    mass, star = (
        _added(breast, insert(breast, lesion(kind), 14.0)[0])[middle].mean() / (TUMOUR - FAT)
        for kind in (LesionKind.SPICULATED_MASS, LesionKind.ARCHITECTURAL_DISTORTION)
    )
    assert mass > 0.9
    assert star < 0.5


def test_spicules_reach_beyond_the_mass_they_grow_from() -> None:
    form = shape(lesion(), 10.0)
    distance = np.linalg.norm(form.threads.points, axis=1)
    assert form.core is not None
    assert np.percentile(distance, 90) > 8.0 > form.core.radius_mm


def test_malignant_grains_vary_and_benign_ones_are_alike() -> None:
    sizes = {}
    for malignant in (True, False):
        grains = shape(lesion(LesionKind.MICROCALCIFICATIONS, malignant=malignant), 20.0).calcium
        # A grain's points share its volume, so those of one grain have one weight.
        weights, counts = np.unique(grains.volumes.round(12), return_counts=True)
        grain = weights * counts
        sizes[malignant] = float(np.std(np.log(grain)))
    assert sizes[True] > 2 * sizes[False]


def test_air_stays_air() -> None:
    breast = slab()
    breast.attenuation[:, :88] = 0.0
    filled, _ = insert(breast, lesion(), 16.0)
    assert (filled.attenuation[:, :88] == 0).all()
    assert (filled.attenuation != breast.attenuation).any()


def test_a_lesion_outside_of_the_view_changes_nothing() -> None:
    breast = slab()
    filled, trace = insert(breast, lesion(position_mm=(400.0, 0.0, 0.0)), 10.0)
    assert filled is breast
    assert trace.box_mm[0] == trace.box_mm[1]
    assert trace.conspicuity == 0.0


def test_conspicuity_grows_with_size_and_contrast_and_falls_with_dense_tissue() -> None:
    fatty, dense = slab(glandular=0.15, lumps=0.1), slab(glandular=0.6, lumps=0.3)
    in_fat = [insert(fatty, lesion(), diameter)[1].conspicuity for diameter in (4.0, 8.0, 14.0)]
    in_dense = [insert(dense, lesion(), diameter)[1].conspicuity for diameter in (4.0, 8.0, 14.0)]
    assert in_fat == sorted(in_fat)
    assert in_dense == sorted(in_dense)
    assert all(one > other for one, other in zip(in_fat, in_dense, strict=True))
    cluster = lesion(LesionKind.MICROCALCIFICATIONS)
    faint, clear = (insert(dense, lesion(cluster.kind, contrast=share), 10.0)[1].conspicuity for share in (0.1, 0.4))
    assert clear > 2 * faint


def test_tissue_like_the_lesion_hides_it_entirely() -> None:
    breast = slab(glandular=1.0)
    filled, trace = insert(breast, lesion(LesionKind.FIBROADENOMA, contrast=0.0), 12.0)
    assert np.allclose(filled.attenuation, breast.attenuation, atol=1e-6)
    assert trace.conspicuity < 0.01
