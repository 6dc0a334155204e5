"""Random contrasts: one scan as other sequences might have shown it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TABLE = 512
_LOWEST, _HIGHEST = -0.5, 1.8


def random_contrast(voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Normalised voxels (about 0 to 1) of any shape under a random smooth change of contrast.

    In equal parts: a power law, a smooth rising curve, an inversion of either, and a smooth curve that may fall and
    rise, as between sequences that weight tissues differently; each then with a random gain. An edge stays where it
    was and stays an edge, so a restoring network learns to keep the contrast that it is given.
    """
    kind = rng.integers(4)
    inputs = np.linspace(_LOWEST, _HIGHEST, _TABLE)
    if kind == 0:
        outputs = np.sign(inputs) * np.abs(inputs) ** np.exp(rng.uniform(-0.6, 0.6))
    elif kind in (1, 2):
        outputs = _curve(inputs, np.cumsum(rng.uniform(0.1, 1.0, 6)))
    else:
        outputs = _curve(inputs, rng.uniform(0.0, 1.0, 6))
    if kind == 2:
        outputs = -outputs
    inside = (inputs >= 0) & (inputs <= 1)
    bottom, top = float(outputs[inside].min()), float(outputs[inside].max())
    outputs = (outputs - bottom) / max(top - bottom, 1e-6) * rng.uniform(0.7, 1.2)
    return np.interp(voxels, inputs, outputs).astype(np.float32)


def _curve(inputs: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth curve through heights at even distances over 0 to 1, continued straight outside; no overshoot."""
    from scipy.interpolate import PchipInterpolator

    places = np.linspace(0.0, 1.0, len(heights))
    curve = PchipInterpolator(places, heights)
    slope = curve.derivative()
    held = np.clip(inputs, 0.0, 1.0)
    return np.asarray(curve(held) + slope(held) * (inputs - held))
