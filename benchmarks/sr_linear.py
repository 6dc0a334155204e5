"""The least-squares linear filter: the best that any linear method of limited reach can do.

For each position of a high-resolution voxel within its low-resolution voxel there is one filter of 5 x 5 x 5
low-resolution neighbours and a constant. It is fitted by ridge regression to what the regularised inverse of the
acquisition leaves over, so that the sum of both reaches farther than either; both are linear. Trained on training
scans with the same acquisition as the test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sr_cases import Problem, Scan, factor_along, problem_of
from torch.nn import functional

from medgan.evaluation.restoration import foreground_mask

_SIDE = 5
_SAMPLES = 60_000
_RIDGE = 1e-5


@dataclass(frozen=True)
class LinearFilter:
    """One filter for each position within a low-resolution voxel.

    Args:
        kernels: (positions, 5, 5, 5), the axis of thick slices last.
        constants: (positions,).
        factor: positions along each axis, the axis of thick slices last.
    """

    kernels: NDArray[np.float32]
    constants: NDArray[np.float32]
    factor: tuple[int, int, int]

    def restored(self, problem: Problem, axis: int) -> NDArray[np.float32]:
        """The scan of `problem`, whose thick slices lie along `axis`, restored: (X, Y, Z)."""
        low = np.array(np.moveaxis(problem.low.data[0], axis, 2))
        padded = torch.from_numpy(np.pad(low, _SIDE // 2, mode="symmetric"))[None, None]
        kernels = torch.from_numpy(self.kernels)[:, None]
        with torch.inference_mode():
            added = functional.conv3d(padded, kernels, torch.from_numpy(self.constants))[0]
        a, b, c = self.factor
        spread = added.numpy().reshape(a, b, c, *low.shape).transpose(3, 0, 4, 1, 5, 2)
        whole = spread.reshape(low.shape[0] * a, low.shape[1] * b, low.shape[2] * c)
        return np.asarray(_started(problem, axis) + np.moveaxis(whole, 2, axis), dtype=np.float32)


def _started(problem: Problem, axis: int) -> NDArray[np.float32]:
    """The regularised inverse of the acquisition."""
    return problem.acquisition.inverse(torch.from_numpy(np.array(problem.low.data[0]))).numpy()


def fitted_filter(scans: Iterable[Scan], scenario: str, *, profile: str, snr: float | None) -> LinearFilter:
    """Fit to the training scans, each weighing the same."""
    gram, moments, factor = None, None, (1, 1, 1)
    for index, scan in enumerate(scans):
        problem = problem_of(scan, factor_along(scan, scenario), profile=profile, snr=snr, seed=1000 + index)
        a, b, c = (problem.factor[i] for i in _axes_last(scan.axis))
        factor = (a, b, c)
        features, targets = _samples(scan, problem, factor, np.random.default_rng(index))
        weight = 1.0 / len(features)
        gram = weight * features.T @ features + (0 if gram is None else gram)
        moments = weight * features.T @ targets + (0 if moments is None else moments)
    if gram is None or moments is None:
        raise ValueError("no training scans")
    gram, moments = _mirrored(gram, moments, factor)
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    ridge[-1, -1] = 0.0
    solution = np.linalg.solve(gram + ridge, moments).T.astype(np.float32)
    return LinearFilter(
        np.ascontiguousarray(solution[:, :-1]).reshape(-1, _SIDE, _SIDE, _SIDE),
        np.ascontiguousarray(solution[:, -1]),
        factor,
    )


def _mirrored(
    gram: NDArray[np.float64], moments: NDArray[np.float64], factor: tuple[int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The equations as if every scan had been mirrored along every axis too: a filter that cannot shift anything."""
    for axis in range(3):
        taps = np.append(np.flip(np.arange(_SIDE**3).reshape((_SIDE,) * 3), axis).ravel(), _SIDE**3)
        positions = np.flip(np.arange(np.prod(factor)).reshape(factor), axis).ravel()
        gram = 0.5 * (gram + gram[np.ix_(taps, taps)])
        moments = 0.5 * (moments + moments[np.ix_(taps, positions)])
    return gram, moments


def _axes_last(axis: int) -> tuple[int, ...]:
    """The order of axes that brings `axis` to the end, as `numpy.moveaxis` does."""
    return (*(other for other in range(3) if other != axis), axis)


def _samples(
    scan: Scan, problem: Problem, factor: tuple[int, int, int], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbourhoods with a one at the end (N, 126), and what the inverse leaves over of each position (N, P)."""
    low = np.moveaxis(problem.low.data[0], scan.axis, 2)
    missing = np.moveaxis(problem.truth.data[0] - _started(problem, scan.axis), scan.axis, 2)
    a, b, c = factor
    x, y, z = low.shape
    cells = missing.reshape(x, a, y, b, z, c).transpose(0, 2, 4, 1, 3, 5).reshape(x, y, z, a * b * c)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(low, _SIDE // 2, mode="symmetric"), (_SIDE,) * 3)
    places = np.argwhere(foreground_mask(low))
    chosen = tuple(places[random.permutation(len(places))[:_SAMPLES]].T)
    features = windows[chosen].reshape(len(chosen[0]), -1).astype(np.float64)
    return np.concatenate([features, np.ones((len(features), 1))], axis=1), cells[chosen].astype(np.float64)
