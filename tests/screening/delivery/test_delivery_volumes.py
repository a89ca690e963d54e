"""The volumes that the other tests' objects refer to are real ones: independent programs find nothing wrong."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread, uid

from tests.support.deliveries import CASES, FRAMES, delivery
from tests.support.validators import dciodvfy, dcmdump, needs


@needs("dciodvfy", "dcmdump")
def test_volume_is_a_valid_breast_tomosynthesis_image(tmp_path: Path) -> None:
    for source in delivery(tmp_path, CASES["dbt"]).sources:
        path = source.result.image.path
        assert dciodvfy(path) == []
        assert "BreastTomosynthesisImageStorage" in dcmdump(path)
        read = dcmread(path)
        assert read.SOPClassUID == uid.BreastTomosynthesisImageStorage
        assert len(read.PerFrameFunctionalGroupsSequence) == read.NumberOfFrames == FRAMES
