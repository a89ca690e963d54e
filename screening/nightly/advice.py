"""What to do about each reason for which something was not scored: the one table of it, complete for all reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from screening.result import Reason


class Urgency(IntEnum):
    """Whether somebody has to do something: nothing, look at it today, or act now."""

    NOTHING = 0
    LOOK = 1
    ACT = 2


@dataclass(frozen=True)
class Advice:
    """What a reason means for whoever is on call."""

    urgency: Urgency
    do: str


def _nothing(do: str) -> Advice:
    return Advice(Urgency.NOTHING, do)


def _look(do: str) -> Advice:
    return Advice(Urgency.LOOK, do)


def _act(do: str) -> Advice:
    return Advice(Urgency.ACT, do)


ADVICE: Mapping[Reason, Advice] = MappingProxyType(
    {
        Reason.NOT_DICOM: _nothing("Nothing, if such files belong to the source; they are no images."),
        Reason.DUPLICATE: _nothing("Nothing: the same image was scored from another file."),
        Reason.MISSING_IDENTIFIER: _look(
            "Ask the sender for PatientID, Study and SOP Instance UID, or add a rule to the site profile."
        ),
        Reason.NOT_MAMMOGRAPHY: _nothing("Nothing: other modalities and quality control images are not scored."),
        Reason.SOP_CLASS: _look("If these are mammograms, name their SOP class in the site profile (sop_classes)."),
        Reason.FOR_PROCESSING: _look("Have the machine send images for presentation as well."),
        Reason.PROJECTION: _nothing("Nothing: raw projections of a tomosynthesis are no mammograms."),
        Reason.TOMOSYNTHESIS: _look("Have the machine send the synthetic 2D or the full-field image as well."),
        Reason.UNKNOWN_VIEW: _look("Correct the header at the machine, or add a view rule to the site profile."),
        Reason.UNKNOWN_LATERALITY: _look(
            "Correct the header at the machine, or add a laterality rule to the site profile."
        ),
        Reason.UNKNOWN_SPACING: _look("Set pixel_spacing.default_mm in the site profile, if the detector is known."),
        Reason.MAGNIFICATION: _nothing("Nothing: no screening view."),
        Reason.SPOT: _nothing("Nothing: no screening view."),
        Reason.SPECIMEN: _nothing("Nothing: tissue outside of the body."),
        Reason.LOCALISER: _nothing("Nothing: no mammogram."),
        Reason.BIOPSY: _nothing("Nothing: taken to guide a needle."),
        Reason.EXCLUDED_BY_SITE: _nothing("Nothing: the site profile asks for it."),
        Reason.TRANSFER_SYNTAX: _look("Have the sender use a transfer syntax that the list of supported ones has."),
        Reason.IMPLAUSIBLE_HEADER: _act(
            "Ask the sender: the header claims what no mammogram has, or images of one exam name several women."
        ),
        Reason.TOO_SMALL: _nothing("Nothing: a thumbnail or a test image."),
        Reason.CONSTANT: _look("Look at the image: an empty exposure. If it is not, have it sent again."),
        Reason.NO_BREAST: _look("Look at the image: blank, saturated, no mammogram, or a wrong pixel spacing."),
        Reason.NO_ELIGIBLE_IMAGE: _look(
            "Nobody's score exists for these exams: see why each of their images was rejected, and read them without."
        ),
        Reason.UNREADABLE: _act("Have these images sent again, then run this night again."),
        Reason.NOT_FETCHED: _act("See that the PACS answers, then run this night again."),
        Reason.STILL_WRITTEN: _act("See that the sender ends what it copies, then run this night again."),
        Reason.OUT_OF_MEMORY: _act("Give a worker more memory or have fewer of them, then run this night again."),
        Reason.WORKER_DIED: _act("Read the log of that time and report it; then run this night again."),
        Reason.ALL_IMAGES_FAILED: _act("Have these exams sent again, then run this night again."),
    }
)
"""By reason code."""

_UNKNOWN = _act("This program does not know that code: results of another version are in the folder; report it.")


def advice(code: str) -> Advice:
    """What to do about a reason code as a results store holds it; one of another version has its own sentence."""
    return ADVICE[Reason(code)] if code in set(Reason) else _UNKNOWN
