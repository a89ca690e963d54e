"""Data in, bundle out: datasets, simulated women, fitting, cross-validation, calibration and registration."""
