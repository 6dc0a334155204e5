"""The scanner's forward model and its inverse: what a thick-slice or low-resolution scan is of a high-resolution one.

`Acquisition` holds separable linear operators for two exact grids with the same field of view; `with_noise` adds the
receiver's noise. Everything is a pure function of its arguments, works on torch tensors (..., X, Y, Z) on any device
and is differentiable.
"""

from __future__ import annotations

from medgan.acquisition.inverse import DEFAULT_REGULARISATION, regularisation_for, tikhonov_inverse
from medgan.acquisition.noise import tissue_signal, with_noise
from medgan.acquisition.operators import Acquisition, high_shape_for, low_shape_for
from medgan.acquisition.profiles import band_limit_matrix, effective_fwhm, profile_matrix

__all__ = [
    "DEFAULT_REGULARISATION",
    "Acquisition",
    "band_limit_matrix",
    "effective_fwhm",
    "high_shape_for",
    "low_shape_for",
    "profile_matrix",
    "regularisation_for",
    "tikhonov_inverse",
    "tissue_signal",
    "with_noise",
]
