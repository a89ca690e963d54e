"""Codes and texts for mammographic views and their modifiers: DICOM PS3.16 CID 4014 and CID 4015.

Codes are SNOMED CT, and the SNOMED RT codes that older equipment writes; the two never clash, so that the coding
scheme, which equipment often misnames (SRT, SNM3, 99SDM), need not be looked at. The retired "cranio-caudal
exaggerated", which names no side, counts as laterally exaggerated, the usual one.
"""

from __future__ import annotations

import re
from enum import StrEnum

from screening.exam import View


class ViewModifier(StrEnum):
    """How a view differs from the plain projection (CID 4015)."""

    MAGNIFICATION = "magnification"
    SPOT = "spot-compression"
    IMPLANT_DISPLACED = "implant-displaced"
    AXILLARY_TAIL = "axillary-tail"
    AXILLARY_TISSUE = "axillary-tissue"
    CLEAVAGE = "cleavage"
    ROLLED_LATERAL = "rolled-lateral"
    ROLLED_MEDIAL = "rolled-medial"
    ROLLED_SUPERIOR = "rolled-superior"
    ROLLED_INFERIOR = "rolled-inferior"
    TANGENTIAL = "tangential"
    NIPPLE_IN_PROFILE = "nipple-in-profile"
    ANTERIOR_COMPRESSION = "anterior-compression"
    INFRAMAMMARY_FOLD = "infra-mammary-fold"


VIEW_CODES = {
    "399162004": View.CC,
    "R-10242": View.CC,
    "399368009": View.MLO,
    "R-10226": View.MLO,
    "399260004": View.ML,
    "R-10224": View.ML,
    "399352003": View.LM,
    "R-10228": View.LM,
    "399099002": View.LMO,
    "R-10230": View.LMO,
    "399196006": View.FB,
    "R-10244": View.FB,
    "399188001": View.SIO,
    "R-102D0": View.SIO,
    "441555000": View.ISO,
    "R-40AAA": View.ISO,
    "399192008": View.XCCL,
    "R-1024A": View.XCCL,
    "399101009": View.XCCM,
    "R-1024B": View.XCCM,
    "399265009": View.XCCL,
    "R-102CF": View.XCCL,
}

SPECIMEN_CODES = frozenset({"127457009", "G-8310"})

MODIFIER_CODES = {
    "399163009": ViewModifier.MAGNIFICATION,
    "R-102D6": ViewModifier.MAGNIFICATION,
    "399055006": ViewModifier.SPOT,
    "R-102D7": ViewModifier.SPOT,
    "399209000": ViewModifier.IMPLANT_DISPLACED,
    "R-102D5": ViewModifier.IMPLANT_DISPLACED,
    "399011000": ViewModifier.AXILLARY_TAIL,
    "R-102D1": ViewModifier.AXILLARY_TAIL,
    "442580003": ViewModifier.AXILLARY_TISSUE,
    "R-40AB2": ViewModifier.AXILLARY_TISSUE,
    "399161006": ViewModifier.CLEAVAGE,
    "R-102D2": ViewModifier.CLEAVAGE,
    "399197002": ViewModifier.ROLLED_LATERAL,
    "R-102D3": ViewModifier.ROLLED_LATERAL,
    "399226006": ViewModifier.ROLLED_MEDIAL,
    "R-102D4": ViewModifier.ROLLED_MEDIAL,
    "415670009": ViewModifier.ROLLED_SUPERIOR,
    "R-102C9": ViewModifier.ROLLED_SUPERIOR,
    "414493004": ViewModifier.ROLLED_INFERIOR,
    "R-102CA": ViewModifier.ROLLED_INFERIOR,
    "399110001": ViewModifier.TANGENTIAL,
    "R-102C2": ViewModifier.TANGENTIAL,
    "442581004": ViewModifier.NIPPLE_IN_PROFILE,
    "R-40AB3": ViewModifier.NIPPLE_IN_PROFILE,
    "441752004": ViewModifier.ANTERIOR_COMPRESSION,
    "P2-00161": ViewModifier.ANTERIOR_COMPRESSION,
    "442593008": ViewModifier.INFRAMAMMARY_FOLD,
    "R-40ABE": ViewModifier.INFRAMAMMARY_FOLD,
}

# A modifier that is a view of its own by the abbreviations of ACR.
MODIFIER_VIEWS = {ViewModifier.AXILLARY_TAIL: View.AT, ViewModifier.CLEAVAGE: View.CV}

_MEANINGS = {
    "CRANIOCAUDAL": View.CC,
    "MEDIOLATERALOBLIQUE": View.MLO,
    "MEDIOLATERAL": View.ML,
    "MEDIALLATERAL": View.ML,
    "LATEROMEDIAL": View.LM,
    "LATEROMEDIALOBLIQUE": View.LMO,
    "CAUDOCRANIAL": View.FB,
    "SUPEROLATERALTOINFEROMEDIALOBLIQUE": View.SIO,
    "INFEROMEDIALTOSUPEROLATERALOBLIQUE": View.ISO,
    "CRANIOCAUDALEXAGGERATED": View.XCCL,
    "CRANIOCAUDALEXAGGERATEDLATERALLY": View.XCCL,
    "CRANIOCAUDALEXAGGERATEDMEDIALLY": View.XCCM,
}

_AFFIXES = {
    "M": ViewModifier.MAGNIFICATION,
    "S": ViewModifier.SPOT,
    "ID": ViewModifier.IMPLANT_DISPLACED,
    "RL": ViewModifier.ROLLED_LATERAL,
    "RM": ViewModifier.ROLLED_MEDIAL,
    "RS": ViewModifier.ROLLED_SUPERIOR,
    "RI": ViewModifier.ROLLED_INFERIOR,
    "TAN": ViewModifier.TANGENTIAL,
    "NP": ViewModifier.NIPPLE_IN_PROFILE,
    "AC": ViewModifier.ANTERIOR_COMPRESSION,
    "IMF": ViewModifier.INFRAMAMMARY_FOLD,
    "AT": ViewModifier.AXILLARY_TAIL,
    "AX": ViewModifier.AXILLARY_TISSUE,
    "CV": ViewModifier.CLEAVAGE,
}

# The labels of the ACR Mammography Quality Control Manual: side, M and S before the view, other modifiers behind it.
_LABEL = re.compile(
    r"[LR]??(?P<before>[MS]{0,2})(?P<view>XCCL|XCCM|XCC|MLO|LMO|SIO|ISO|CC|ML|LM|FB|AT|CV)"
    r"(?P<after>(?:ID|RL|RM|RS|RI|TAN|NP|AC|IMF|AT|AX|CV|M|S)*)"
)
_AFFIX = re.compile(r"ID|RL|RM|RS|RI|TAN|NP|AC|IMF|AT|AX|CV|M|S")


def parse_view(label: str) -> tuple[View, frozenset[ViewModifier]] | None:
    """The view and modifiers of a text such as "MLO", "RMLOID", "SMCC" or "medio-lateral oblique"; None if unknown."""
    letters = re.sub(r"[^A-Z]", "", label.upper())
    if letters in _MEANINGS:
        return _MEANINGS[letters], frozenset()
    match = _LABEL.fullmatch(letters)
    if match is None:
        return None
    affixes = (*match["before"], *_AFFIX.findall(match["after"]))
    view = View.XCCL if match["view"] == "XCC" else View(match["view"])
    return view, frozenset(_AFFIXES[affix] for affix in affixes)
