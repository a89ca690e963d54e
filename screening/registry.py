"""Where models and runs are kept: MLflow's store of this folder, unless another one is named."""

from __future__ import annotations

from pathlib import Path

LOCAL_REGISTRY = Path("mlruns/mlflow.db")
"""The registry of this folder, used where it lies here and the environment's MLFLOW_TRACKING_URI names no other."""
