"""The operating point that a site has chosen: from which exam score on a woman is recalled."""

from __future__ import annotations

from screening.errors import ConfigError
from screening.model.calibration import Calibration, OperatingPoint
from screening.site import SiteOperatingPoint


def site_operating_point(
    choice: SiteOperatingPoint | None, calibration: Calibration, model_id: str
) -> OperatingPoint | None:
    """The operating point that a site profile asks for, None where it leaves it open.

    A threshold of the site's own is named after its value, so that objects of different thresholds differ in name.
    Raises `ConfigError` where the bundle has no such point, or where the threshold was chosen with another model.
    """
    if choice is None:
        return None
    if choice.threshold is not None:
        if choice.model != model_id:
            raise ConfigError(
                f"operating_point: its threshold was chosen with the model {choice.model}, but {model_id} is to score; "
                "choose it anew with screening accept"
            )
        return OperatingPoint(
            name=f"site-{choice.threshold:.6g}",
            per="exam",
            target=choice.target or "chosen by the site",
            threshold=choice.threshold,
            chosen_on=choice.chosen_on or "",
        )
    wanted = choice.name if choice.recall_rate is None else f"recall-{100 * choice.recall_rate:g}-percent"
    assert wanted is not None
    try:
        return calibration.operating_point(wanted)
    except KeyError as error:
        raise ConfigError(f"operating_point: the bundle has no point {error.args[0]}") from error
