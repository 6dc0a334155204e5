"""The scanner's forward model and its inverse: what a thick-slice or low-resolution scan is of a high-resolution one.

`Acquisition` holds separable linear operators for two exact grids with the same field of view; `bias_field` shades as
the receiver's coil does and `with_noise` adds its noise. They are pure functions of their arguments, work on torch
tensors (..., X, Y, Z) on any device and are differentiable. `estimate_fwhm` tells from a scan how thick its slices are.
"""

from __future__ import annotations

from medgan.acquisition.bias import bias_field
from medgan.acquisition.inverse import DEFAULT_REGULARISATION, regularisation_for, tikhonov_inverse
from medgan.acquisition.noise import tissue_signal, with_noise
from medgan.acquisition.operators import PROFILES, Acquisition, high_shape_for, low_shape_for
from medgan.acquisition.profiles import band_limit_matrix, effective_fwhm, profile_matrix
from medgan.acquisition.shapes import SliceProfile
from medgan.acquisition.slice_thickness import estimate_fwhm

__all__ = [
    "DEFAULT_REGULARISATION",
    "PROFILES",
    "Acquisition",
    "SliceProfile",
    "band_limit_matrix",
    "bias_field",
    "effective_fwhm",
    "estimate_fwhm",
    "high_shape_for",
    "low_shape_for",
    "profile_matrix",
    "regularisation_for",
    "tikhonov_inverse",
    "tissue_signal",
    "with_noise",
]
