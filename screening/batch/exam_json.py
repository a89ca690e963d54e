"""An exam as JSON text and back, equal: the ledger keeps exams that are still to be scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from screening.exam import Exam, Image, ImageKind, Laterality, PresentationIntent, View


def exam_to_json(exam: Exam) -> str:
    """Write an exam. The text is ASCII; bytes of a path that are no text are escaped like surrogates."""
    return json.dumps(asdict(exam), default=str, separators=(",", ":"))


def exam_from_json(text: str) -> Exam:
    """Read what `exam_to_json` wrote."""
    values = json.loads(text)
    day = values["exam_date"]
    return Exam(
        **values
        | {
            "exam_date": None if day is None else date.fromisoformat(day),
            "images": tuple(_image(one) for one in values["images"]),
            "warnings": tuple(values["warnings"]),
        }
    )


def _image(values: dict[str, Any]) -> Image:
    return Image(
        **values
        | {
            "path": Path(values["path"]),
            "slices": tuple(Path(one) for one in values["slices"]),
            "laterality": Laterality(values["laterality"]),
            "view": View(values["view"]),
            "kind": ImageKind(values["kind"]),
            "intent": PresentationIntent(values["intent"]),
            "pixel_spacing_mm": tuple(values["pixel_spacing_mm"]),
            "patient_orientation": tuple(values["patient_orientation"]),
            "warnings": tuple(values["warnings"]),
        }
    )
