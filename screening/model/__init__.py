"""The malignancy model: network, bundle, calibration."""
