"""View codes and labels mean what PS3.16 and the ACR labels say."""

from __future__ import annotations

import pytest
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes

from screening.exam import View
from screening.views import MODIFIER_CODES, SPECIMEN_CODES, VIEW_CODES, ViewModifier, parse_view


def test_every_code_of_the_view_context_group_is_known() -> None:
    concepts = {concept.value for concept in codes.cid4014.concepts.values()}
    assert concepts <= set(VIEW_CODES) | SPECIMEN_CODES


def test_every_code_of_the_modifier_context_group_is_known() -> None:
    concepts = {concept.value for concept in codes.cid4015.concepts.values()}
    assert concepts <= set(MODIFIER_CODES)


@pytest.mark.parametrize("table", [VIEW_CODES, MODIFIER_CODES])
def test_old_and_new_codes_mean_the_same(table: dict[str, object]) -> None:
    for code, meaning in table.items():
        if code.isdigit():
            assert table[mapping["SCT"][code]] == meaning


def test_coded_meanings_are_understood_as_text() -> None:
    for concept in codes.cid4014.concepts.values():
        if concept.value in VIEW_CODES:
            assert parse_view(concept.meaning) == (VIEW_CODES[concept.value], frozenset())


@pytest.mark.parametrize("view", list(View))
@pytest.mark.parametrize("side", ["", "L", "R", "l ", "R-"])
def test_label_with_or_without_side_gives_its_view(view: View, side: str) -> None:
    assert parse_view(f"{side}{view}") == (view, frozenset())


@pytest.mark.parametrize(
    ("label", "view", "modifiers"),
    [
        ("MCC", View.CC, {ViewModifier.MAGNIFICATION}),
        ("SMLO", View.MLO, {ViewModifier.SPOT}),
        ("RSMML", View.ML, {ViewModifier.SPOT, ViewModifier.MAGNIFICATION}),
        ("MLM", View.LM, {ViewModifier.MAGNIFICATION}),
        ("MLOID", View.MLO, {ViewModifier.IMPLANT_DISPLACED}),
        ("LCCRL", View.CC, {ViewModifier.ROLLED_LATERAL}),
        ("CCRM", View.CC, {ViewModifier.ROLLED_MEDIAL}),
        ("CC TAN", View.CC, {ViewModifier.TANGENTIAL}),
        ("MLO2", View.MLO, set()),
        ("XCC", View.XCCL, set()),
        ("cranio-caudal exaggerated medially", View.XCCM, set()),
    ],
)
def test_label_gives_view_and_modifiers(label: str, view: View, modifiers: set[ViewModifier]) -> None:
    assert parse_view(label) == (view, frozenset(modifiers))


@pytest.mark.parametrize("label", ["", "FLATFIELD", "UNKNOWN", "L", "R", "M", "CCC", "MLOO", "SPECIMEN", "AP"])
def test_other_labels_are_unknown(label: str) -> None:
    assert parse_view(label) is None
