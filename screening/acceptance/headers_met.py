"""Which equipment and protocols a sample holds, what is odd in its headers, and what of it is not scored and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from screening.acceptance.facts import ODD, Facts
from screening.result import ExamResult, InstanceRejection, Reason, Rejection, Status

EXAMPLES = 3
"""SOP Instance UIDs that are named of each kind."""
FEWEST_WOMEN = 3
"""Free text that fewer women share may be about one of them, and is not shown."""
HIDDEN = "other texts, each of fewer than 3 women, not shown"
NOTHING = "not stated"


@dataclass(frozen=True)
class Protocol:
    """One kind of image that was met: equipment, format and how many files of how many women."""

    manufacturer: str
    model: str
    software: str
    sop_class: str
    transfer_syntax: str
    intent: str
    bits: int
    files: int
    women: int


@dataclass(frozen=True)
class Tally:
    """How often each value of something was met, the most frequent first."""

    title: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class OddHeader:
    """One oddity: what, what it means for the score, how many files, and some of them by SOP Instance UID."""

    sentence: str
    meaning: str
    files: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class NotScored:
    """Instances that were not scored for one reason. `expected`: no fault of the sample or of the profile."""

    code: Reason
    status: Status
    files: int
    expected: bool
    sentences: tuple[str, ...]
    advice: str
    examples: tuple[str, ...]


def protocols(facts: Sequence[Facts]) -> tuple[Protocol, ...]:
    """Kinds of images, the most frequent first."""
    groups: dict[tuple[str, str, str, str, str, str, int], list[Facts]] = defaultdict(list)
    for one in facts:
        texts = (one.manufacturer, one.model, one.software, one.sop_class, one.transfer_syntax, one.intent)
        groups[*(text or NOTHING for text in texts), one.bits].append(one)  # type: ignore[index]  # six texts and bits
    found = [Protocol(*key, len(own), len({one.woman for one in own})) for key, own in groups.items()]
    return tuple(sorted(found, key=lambda one: (-one.files, one.manufacturer, one.model, one.software, one.bits)))


def tallies(facts: Sequence[Facts]) -> tuple[Tally, ...]:
    """Where view, side and spacing come from, and the protocol names that several women share."""
    women: dict[str, set[str]] = defaultdict(set)
    for one in facts:
        women[one.protocol].add(one.woman)
    shared = (one.protocol if not one.protocol or len(women[one.protocol]) >= FEWEST_WOMEN else HIDDEN for one in facts)
    return (
        _tally("View from", (one.view_source for one in facts)),
        _tally("Laterality from", (one.laterality_source for one in facts)),
        _tally("Pixel spacing from", (one.spacing_source for one in facts)),
        _tally("Protocol or series description", shared),
    )


def _tally(title: str, values: Iterable[str]) -> Tally:
    counts = Counter(value or NOTHING for value in values)
    return Tally(title, tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def odd_headers(facts: Sequence[Facts]) -> tuple[OddHeader, ...]:
    """What is odd or missing, the most frequent first."""
    by_code = {code: [one.image_id for one in facts if code in one.odd] for code in ODD}
    found = [
        OddHeader(ODD[code].sentence, ODD[code].meaning, len(uids), _examples(uids))
        for code, uids in by_code.items()
        if uids
    ]
    return tuple(sorted(found, key=lambda one: -one.files))


def not_scored(rejections: Sequence[InstanceRejection], results: Sequence[ExamResult]) -> tuple[NotScored, ...]:
    """Instances that were not scored by status and reason, faults first, then the most frequent."""
    groups: dict[tuple[Status, Reason], list[tuple[str, Rejection]]] = defaultdict(list)
    for uid, status, rejection in _ends(rejections, results):
        groups[status, rejection.code].append((uid, rejection))
    found = [
        NotScored(
            code=code,
            status=status,
            files=len(own),
            expected=code in EXPECTED,
            # The sentence on a duplicate names the other file, and names of files may say who she is.
            sentences=() if code is Reason.DUPLICATE else _frequent(rejection.sentence for _, rejection in own),
            advice=ADVICE[code],
            examples=_examples(uid for uid, _ in own),
        )
        for (status, code), own in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.expected, -one.files, one.code)))


def _ends(
    rejections: Sequence[InstanceRejection], results: Sequence[ExamResult]
) -> Iterator[tuple[str, Status, Rejection]]:
    for one in rejections:
        yield one.image_id, one.status, one.rejection
    for result in results:
        for image in result.images:
            if image.rejection is not None:
                sentence = image.rejection.sentence.removeprefix(f"{image.image.path.name}: ")
                yield image.image.image_id, image.status, Rejection(image.rejection.code, sentence)


def _frequent(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(sentence for sentence, _ in Counter(sentences).most_common(EXAMPLES))


def _examples(uids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({uid for uid in uids if uid}))[:EXAMPLES]


EXPECTED = frozenset(
    {
        Reason.NOT_DICOM,
        Reason.DUPLICATE,
        Reason.NOT_MAMMOGRAPHY,
        Reason.PROJECTION,
        Reason.MAGNIFICATION,
        Reason.SPOT,
        Reason.SPECIMEN,
        Reason.LOCALISER,
        Reason.BIOPSY,
        Reason.EXCLUDED_BY_SITE,
    }
)
"""Reasons that mean that the file is no screening mammogram; all others are to be looked into."""

ADVICE: dict[Reason, str] = {
    Reason.NOT_DICOM: "Nothing, if such files belong there.",
    Reason.DUPLICATE: "Nothing: the image was read from another file. Ask why it is sent twice.",
    Reason.MISSING_IDENTIFIER: "Have the sender fill in the identifier, or give the profile a woman or exam rule.",
    Reason.NOT_MAMMOGRAPHY: "Nothing, if these are no mammograms; else name SOP class and Modality in sop_classes.",
    Reason.SOP_CLASS: "Name the SOP class in sop_classes, if its images are mammograms.",
    Reason.FOR_PROCESSING: "Have the equipment send the processed image (For Presentation).",
    Reason.PROJECTION: "Nothing: raw projections of a tomosynthesis are not read.",
    Reason.TOMOSYNTHESIS: "Have the full-field or synthetic 2D image sent with it.",
    Reason.UNKNOWN_VIEW: "Add a view rule that finds the view, or have the header corrected.",
    Reason.UNKNOWN_LATERALITY: "Add a laterality rule that finds the side, or have the header corrected.",
    Reason.UNKNOWN_SPACING: "Set pixel_spacing.default_mm to the detector's or scanner's pixel size.",
    Reason.MAGNIFICATION: "Nothing: no screening view.",
    Reason.SPOT: "Nothing: no screening view.",
    Reason.SPECIMEN: "Nothing: tissue outside of the body.",
    Reason.LOCALISER: "Nothing.",
    Reason.BIOPSY: "Nothing: taken to guide a needle.",
    Reason.EXCLUDED_BY_SITE: "Nothing, if the profile's rule is meant so; look at the examples.",
    Reason.TRANSFER_SYNTAX: "Have it sent in another transfer syntax.",
    Reason.IMPLAUSIBLE_HEADER: "Ask the sender: the header claims what no mammogram has, or names two women.",
    Reason.TOO_SMALL: "Nothing, if these are thumbnails or test images.",
    Reason.CONSTANT: "Look at them: empty exposures.",
    Reason.NO_BREAST: "Look at them: blank, saturated, no mammogram, or a wrong pixel spacing.",
    Reason.NO_ELIGIBLE_IMAGE: "See the reasons of its images.",
    Reason.UNREADABLE: "Have them sent again: truncated or corrupt.",
    Reason.STILL_WRITTEN: "Read the sample once all of it has arrived.",
    Reason.OUT_OF_MEMORY: "Give the machine more memory, or find out why this image is so large.",
    Reason.WORKER_DIED: "See the log, and report it.",
    Reason.NOT_FETCHED: "Have the study fetched again.",
    Reason.ALL_IMAGES_FAILED: "See the reasons of its images.",
}
"""What to do about each reason, for those who set up a site."""
