"""OPTIMAM (OMI-DB, England): screening images with the national screening records (Halling-Brown et al. 2021).

Layout: `data/CLIENT/{imagedb,nbss}_CLIENT.json`, `data/CLIENT/STUDY/IMAGE.json` (the DICOM header as JSON) and
`images/CLIENT/STUDY/IMAGE.dcm`; folder and file names may be in capitals. Only images for presentation are read, of the
whole-breast views that are known.

Truth comes from the episode that a study belongs to: a breast is malignant if its surgery, wide-bore or fine-needle
biopsy was judged malignant (`OM`). It is unknown if the judgement is suspicious or uncertain, if the episode is an
interval case without a biopsy result, or if another episode of the woman has a cancer on that side (the image may show
it earlier). Otherwise it is not malignant. A mark is malignant or benign by the histology of the lesion that it is
linked to. Marks are boxes X1, Y1, X2, Y2 in pixels from the upper left corner.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from screening.errors import ConfigError
from screening.exam import Laterality, View
from training.datasets.record import Lesion, Record

LOG = logging.getLogger(__name__)
DEFAULT_SPACING_MM = (0.07, 0.07)
TAGS = ("00080068", "00200062", "00185101")
"""Presentation Intent Type, Image Laterality and View Position, which every image needs."""
Json = dict[str, Any]

_PROCEDURES = ("SURGERY", "BIOPSYWIDE", "BIOPSYFINE")
_HISTOLOGY = {"B5": True, "H5": True, "C5": True, "B1": False, "B2": False, "H1": False, "H2": False, "C2": False}
_UID = re.compile(r"[\d.]+")
# The annotation's own words, from the most to the least telling.
_KINDS = (
    ("Mass", "mass"),
    ("SuspiciousCalcifications", "suspicious calcifications"),
    ("ArchitecturalDistortion", "architectural distortion"),
    ("FocalAsymmetry", "focal asymmetry"),
    ("WithCalcification", "calcifications"),
)


@dataclass(frozen=True)
class _Image:
    """One image in the image database, with the marks on it."""

    study: str
    name: str
    episode: str
    marks: tuple[Json, ...]


def read_optimam(root: Path) -> list[Record]:
    """Every image for presentation under `root`, client by client; raises `ConfigError` naming what is missing."""
    data, images = _folder(root, "data"), _folder(root, "images")
    clients = sorted(path for path in data.iterdir() if path.is_dir())
    return [record for client in clients for record in _client(client, images / client.name)]


def _client(folder: Path, images: Path) -> list[Record]:
    nbss, imagedb = _database(folder, "nbss"), _database(folder, "imagedb")
    episodes = {name: value for name, value in nbss.items() if isinstance(value, dict)}
    found = _images(imagedb, folder)
    for study in dict.fromkeys(image.study for image in found if image.episode not in episodes):
        LOG.warning("truth unknown: the OPTIMAM study %s has no EpisodeID of the screening records", study)
    records = []
    for image in found:
        header = _header(folder / image.study, image.name)
        intent, side, view = (_text(header, tag) for tag in TAGS)
        if missing := [tag for tag in TAGS if not _text(header, tag)]:
            LOG.warning("left out: the header of the OPTIMAM image %s lacks %s", image.name, ", ".join(missing))
            continue
        if intent != "FOR PRESENTATION" or side not in list(Laterality) or view not in list(View):
            continue
        laterality = Laterality(side)
        malignant = _truth(episodes, image.episode, laterality)
        episode = episodes.get(image.episode, {})
        lesions = tuple(_lesion(mark, episode, laterality, folder) for mark in image.marks)
        records.append(
            Record(
                dataset="optimam",
                woman=folder.name,
                exam=image.study,
                image=image.name,
                path=images / image.study / f"{image.name}.dcm",
                laterality=laterality,
                view=View(view),
                malignant=malignant,
                lesions=lesions or (() if malignant is False else None),
                pixel_spacing_mm=_spacing(header),
                age=_age(header),
                manufacturer=_text(header, "00080070"),
                machine=_text(header, "00081090"),
                implant=_text(header, "00281300") == "YES",
            )
        )
    return records


def _images(imagedb: Json, folder: Path) -> list[_Image]:
    studies = imagedb.get("STUDIES")
    if not isinstance(studies, dict):
        raise ConfigError(f"The image database of {folder} has no STUDIES.")
    found = []
    for study, about in studies.items():
        series = [value for key, value in about.items() if _UID.fullmatch(key) and isinstance(value, dict)]
        for name, marks in ((key, value) for one in series for key, value in one.items() if _UID.fullmatch(key)):
            kept = tuple(marks.values()) if isinstance(marks, dict) else ()
            found.append(_Image(study, name, str(about.get("EpisodeID", "")), kept))
    return found


def _truth(episodes: dict[str, Json], episode: str, side: Laterality) -> bool | None:
    """Whether the breast is malignant in that episode; None where unknown, see the module."""
    if episode not in episodes:
        return None
    opinions = {name: _opinions(value, side) for name, value in episodes.items()}
    if "OM" in opinions[episode]:
        return True
    if any("OM" in found for found in opinions.values()) or opinions[episode] & {"OS", "OU"}:
        return None
    interval = episodes[episode].get("EpisodeType") == "CI"
    return None if interval and not opinions[episode] else False


def _opinions(episode: Json, side: Laterality) -> set[str]:
    key = "left_opinion" if side is Laterality.LEFT else "right_opinion"
    return {str(episode[name][key]) for name in _PROCEDURES if (episode.get(name) or {}).get(key)}


def _lesion(mark: Json, episode: Json, side: Laterality, folder: Path) -> Lesion:
    try:
        x0, y0, x1, y1 = (float(mark[name]) for name in ("X1", "Y1", "X2", "Y2"))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"A mark in the image database of {folder} has no box X1, Y1, X2, Y2 ({error}).") from error
    kind = next((word for name, word in _KINDS if mark.get(name)), "")
    return Lesion(
        min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0), malignant=_histology(mark, episode, side), kind=kind
    )


def _histology(mark: Json, episode: Json, side: Laterality) -> bool | None:
    """Malignant if any lesion that the mark is linked to was; None where no histology says."""
    numbers = {word.strip().lstrip("0") for word in str(mark.get("LinkedNBSSLesionNumber", "")).split(",")}
    verdicts = []
    for procedure in _PROCEDURES:
        lesions = (episode.get(procedure) or {}).get(side.value) or {}
        for number, lesion in lesions.items():
            if number.lstrip("0") in numbers and isinstance(lesion, dict):
                verdicts.append(_HISTOLOGY.get(str(lesion.get("Opinion"))))
    if True in verdicts:
        return True
    return False if False in verdicts else None


def _folder(root: Path, name: str) -> Path:
    for candidate in (root / name, root / name.upper()):
        if candidate.is_dir():
            return candidate
    raise ConfigError(f"{root} has no folder {name}; check the dataset's folder.")


def _database(folder: Path, name: str) -> Json:
    for prefix in (name, name.upper()):
        path = folder / f"{prefix}_{folder.name}.json"
        if path.is_file():
            return _load(path)
    raise ConfigError(f"{folder} has no {name}_{folder.name}.json; check the dataset's folder.")


def _header(folder: Path, image: str) -> Json:
    for name in (f"{image}.json", f"{image}.dcm.json"):
        if (folder / name).is_file():
            return _load(folder / name)
    raise ConfigError(f"{folder} has no {image}.json; check the dataset's folder.")


def _load(path: Path) -> Json:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {path} is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The file {path} holds no JSON object.")
    return content


def _values(header: Json, tag: str) -> list[Any]:
    element = header.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(header: Json, tag: str) -> str:
    values = _values(header, tag)
    return str(values[0]).strip() if values else ""


def _spacing(header: Json) -> tuple[float, float]:
    """Imager Pixel Spacing (0018,1164), or a common detector's."""
    values = _values(header, "00181164")
    try:
        between_rows, between_columns = (float(value) for value in values)
    except (TypeError, ValueError):
        return DEFAULT_SPACING_MM
    return between_rows, between_columns


def _age(header: Json) -> float | None:
    match = re.fullmatch(r"0*(\d+)Y", _text(header, "00101010"))
    return float(match.group(1)) if match else None
