"""Drift of a site as its profile says: which reference, which operating point."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from screening.monitoring.drift import Settings
from screening.monitoring.records import Records
from screening.monitoring.reference import read_reference, reference_of_bundle
from screening.monitoring.report import DriftReport, drift
from screening.operating_point import site_operating_point
from screening.site import SiteProfile

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle


def site_drift(
    records: Records,
    profile: SiteProfile,
    bundle: Bundle,
    references: Sequence[Path] = (),
    settings: Settings | None = None,
    today: date | None = None,
) -> DriftReport:
    """Compare a site's exams with its own reference, or with the bundle's where it has none.

    `records`: of any models; those of other bundles are left out, and told. `references`: files that take the place of
    the profile's. Raises `ConfigError` for a reference that is none or of another model.
    """
    point = site_operating_point(profile.operating_point, bundle.calibration, bundle.model_id)
    files = references or ([Path(profile.drift_reference)] if profile.drift_reference else [])
    known = [read_reference(path) for path in files]
    return drift(
        records.of_model(bundle.model_id),
        [*known, reference_of_bundle(bundle.calibration, bundle.model_id)],
        point.threshold if point else None,
        settings,
        today,
    )
