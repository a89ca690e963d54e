"""Checked arrays: the one place where the metric functions turn what they are given into arrays they can trust."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def numbers(values: npt.ArrayLike, name: str, *, length: int | None = None) -> FloatArray:
    """One-dimensional float64 array without NaN (infinities are kept: ranks need no finite scores).

    Raises `InvalidInputError` when `values` is not one-dimensional, not numeric, holds NaN, or is not of `length`.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers.") from error
    if array.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, not of shape {array.shape}.")
    if length is not None and len(array) != length:
        raise InvalidInputError(f"{name} has {len(array)} values where {length} are needed.")
    missing = int(np.isnan(array).sum())
    if missing:
        raise InvalidInputError(
            f"{name} holds {missing} NaN among {len(array)} values; remove or reject those cases first."
        )
    return array


def finite(values: npt.ArrayLike, name: str, *, length: int | None = None) -> FloatArray:
    """As `numbers`, and infinities are refused too."""
    array = numbers(values, name, length=length)
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} holds an infinite value.")
    return array


def binary(values: npt.ArrayLike, name: str, *, length: int | None = None) -> BoolArray:
    """One-dimensional boolean array from 0/1 or False/True; anything else raises `InvalidInputError`."""
    array = numbers(values, name, length=length)
    if not np.isin(array, (0.0, 1.0)).all():
        raise InvalidInputError(f"{name} must be 0 or 1 everywhere.")
    return np.asarray(array == 1.0)


def whole(values: npt.ArrayLike, name: str, *, below: int, length: int | None = None) -> IntArray:
    """One-dimensional int64 array of whole numbers in [0, below); anything else raises `InvalidInputError`."""
    array = numbers(values, name, length=length)
    if ((array < 0) | (array >= below) | (array != np.floor(array))).any():
        raise InvalidInputError(f"{name} must be whole numbers from 0 to {below - 1}.")
    return array.astype(np.int64)


def weights(values: npt.ArrayLike | None, length: int) -> FloatArray:
    """Observation weights: ones when None; finite, not negative, and not all zero, else `InvalidInputError`."""
    if values is None:
        return np.ones(length)
    array = finite(values, "weight", length=length)
    if (array < 0).any():
        raise InvalidInputError("weight holds a negative value.")
    if length and not array.any():
        raise InvalidInputError("weight is zero everywhere.")
    return array


def rate(value: float, name: str) -> float:
    """A number in [0, 1], else `InvalidInputError`."""
    if not 0.0 <= value <= 1.0:
        raise InvalidInputError(f"{name} must lie between 0 and 1, not {value}.")
    return float(value)
