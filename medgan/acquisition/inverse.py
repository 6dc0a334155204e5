"""The regularised inverse of one axis of an acquisition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Matrix = NDArray[np.float64]

DEFAULT_REGULARISATION = 1e-4
"""Small enough that the inverse explains the measured scan: what `forward` makes of it differs from the scan by less
than 0.001 of the range (root mean square, real brain scans, 2 to 6 times thicker slices without gaps), well below the
noise. At a signal-to-noise ratio of 60 it costs less than 0.05 dB against the best value, at 30 up to 0.15 dB:
`regularisation_for` knows better where the noise is known."""


def regularisation_for(noise: float) -> float:
    """The regularisation that suits a noise level.

    Fitted to where the inverse's error is least on real brain scans (FLAIR, T1, T1 with contrast agent; 2 to 6 times
    thicker slices; signal-to-noise ratios from 20 to infinity). Scaling with the variance of the noise is what theory
    asks for too.

    Args:
        noise: standard deviation of the noise divided by the mean signal of the tissue, that is 1 / SNR; 0 for none.
    """
    return 2.5e-4 * (1.0 + (100.0 * noise) ** 2)


def second_differences(size: int) -> Matrix:
    """Second differences of a half-sample reflected signal; shape (size, size). Only constants give zero."""
    matrix = -2.0 * np.eye(size) + np.eye(size, k=1) + np.eye(size, k=-1)
    matrix[0, 0] += 1.0
    matrix[-1, -1] += 1.0
    return matrix


def tikhonov_inverse(forward: Matrix, regularisation: float) -> Matrix:
    """The smoothest signal that explains the samples: (A'A + r k^3 D'D)^-1 A', k = high / low.

    D are the second differences. The factor k^3 turns their sum of squares into the integral of the squared second
    derivative, both over the low-resolution index, so that one value of r means the same for every pair of grids.

    Args:
        forward: A, shape (low, high), rows summing to one.
        regularisation: r, positive: the noise's variance divided by the variance of that second derivative.

    Returns:
        float64, shape (high, low); rows sum to one, so constants are kept.

    Raises:
        MedganError: the regularisation is not a positive number.
    """
    if not (regularisation > 0 and np.isfinite(regularisation)):
        raise MedganError(f"the regularisation must be positive, not {regularisation}", hint="Try 0.001.")
    low, high = forward.shape
    bending = second_differences(high)
    normal = forward.T @ forward + regularisation * (high / low) ** 3 * bending.T @ bending
    return np.linalg.solve(normal, forward.T)
