"""Whether an upscaled scan shows one of the faults that can be proved without knowing the truth.

What can be proved rests on one comparison: the upscaled scan, acquired again by the assumed scanner, must be the scan
that was measured. Hence a shift, another contrast and detail that contradicts the measurement are found. Detail beyond
what was measured can be right or invented; no calculation on the two scans tells, and none here pretends to. Of it, the
check measures one thing that anatomy does not do: repeat with the period of the voxel lattice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from medgan.acquisition import Acquisition
from medgan.acquisition.noise_level import noise_level
from medgan.errors import MedganError
from medgan.evaluation.restoration import foreground_mask, subvoxel_shift

Voxels = NDArray[np.float32]

MOST_SHIFT = 0.05
"""Voxels of the upscaled scan: what medgan promises, and a tenth of what a first-centre alignment gets wrong at x2."""
MOST_CHECKERBOARD = 3.0
"""Energy of a lattice frequency over that of its neighbours; the spectrum of anatomy is smooth there, so about 1."""
FAINT_CHECKERBOARD = 0.002
"""Root mean square over the range that a pattern is compared with if its neighbours have less: half a grey level of
an 8-bit display, which nobody sees."""
MOST_RESIDUAL = 1.0
"""Of what is measured again, in standard deviations of the measured scan's noise."""
LEAST_NOISE = 0.002
"""Noise over the range that is taken for granted: the regularised inverse alone explains a scan to half of this."""
MOST_GAIN = 0.01
"""Deviation from 1 of the slope between the scan measured again and the scan measured."""
MOST_OFFSET = 0.005
"""Change of the mean over the range."""
MOST_HISTOGRAM = 0.005
"""Distance between the two histograms over the range: the mean amount by which values would have to change."""
MOST_CLIPPED = 0.05
"""Of the voxels that the plain inverse puts beyond the range of the measured scan, those cut at one and the same
value."""

_FEWEST_CLIPPED = 8
# Measured voxels, standard deviation.
_SMOOTHING = 1.0
_SHORTEST_AXIS = 16
# A Hann window spreads a line over two bins to either side; neighbours are taken from there on.
_NEIGHBOURS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
_LATTICES = (2.0,)


@dataclass(frozen=True)
class OutputCheck:
    """What was measured on an upscaled scan.

    Args:
        is_finite: whether all voxels are numbers; if not, nothing else was measured and all figures are 0.
        shift: how far the content lies towards higher indices, in voxels of the upscaled scan along each axis.
        checkerboard: the largest energy at a lattice frequency over that of the frequencies around it, in what was
            added to the plain inverse; about 1 or less without a pattern.
        checkerboard_amplitude: root mean square of that pattern over the range.
        residual: root mean square of the difference between the scan acquired again and the measured scan, in the
            foreground, over the range: detail within the measured band that the measurement contradicts.
        noise: standard deviation of the measured scan's noise over the range, at least `LEAST_NOISE`.
        gain: slope of the scan acquired again over the measured scan, both smoothed by a voxel; 1 is right.
        offset: change of the mean over the range.
        histogram: distance between the histograms of the same two (first Wasserstein) over the range.
        clipped: of the voxels that the plain inverse puts beyond the range of the measured scan, the share that is
            cut at one and the same value.
        unconfirmed: root mean square of what the data can neither confirm nor deny, over the range; no fault by itself.
        data_range: what is meant by the range: 99.5th minus 0.5th percentile of the measured scan.
    """

    is_finite: bool
    shift: tuple[float, float, float]
    checkerboard: float
    checkerboard_amplitude: float
    residual: float
    noise: float
    gain: float
    offset: float
    histogram: float
    clipped: float
    unconfirmed: float
    data_range: float

    @property
    def faults(self) -> tuple[str, ...]:
        """Sentences that name what is wrong, with figure and limit; none if the check is passed."""
        if not self.is_finite:
            return ("voxels are not finite",)
        return tuple(row.sentence for row in self.rows if not row.is_passed)

    @property
    def is_passed(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    @property
    def rows(self) -> tuple[Finding, ...]:
        """Each figure with its limit."""
        shift, energy, clipped = max(map(abs, self.shift)), self.checkerboard, self.clipped
        contradiction = self.residual / self.noise if self.is_finite else 0.0
        return (
            Finding("Shift", f"{shift:.3f} voxel", f"{MOST_SHIFT:g} voxel", shift <= MOST_SHIFT),
            Finding("Checkerboard", f"{energy:.2f}", f"{MOST_CHECKERBOARD:g}", energy <= MOST_CHECKERBOARD),
            Finding(
                "Contradiction",
                f"{contradiction:.2f} of the noise",
                f"{MOST_RESIDUAL:g} of the noise",
                contradiction <= MOST_RESIDUAL,
            ),
            Finding("Contrast", f"{self.gain:.4f}", f"1 ± {MOST_GAIN:g}", abs(self.gain - 1) <= MOST_GAIN),
            Finding(
                "Change of the mean",
                _percent(self.offset),
                f"± {_percent(MOST_OFFSET)} of the range",
                abs(self.offset) <= MOST_OFFSET,
            ),
            Finding(
                "Change of the histogram",
                _percent(self.histogram),
                f"{_percent(MOST_HISTOGRAM)} of the range",
                self.histogram <= MOST_HISTOGRAM,
            ),
            Finding("Clipped peaks", _percent(clipped), _percent(MOST_CLIPPED), clipped <= MOST_CLIPPED),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the verdict."""
        return {**asdict(self), "shift": list(self.shift), "passed": self.is_passed, "faults": list(self.faults)}


@dataclass(frozen=True)
class Finding:
    """One line of the check: what, the figure, its limit, and whether it is kept."""

    name: str
    value: str
    limit: str
    is_passed: bool

    @property
    def sentence(self) -> str:
        """Such as "shift: 0.300 voxel (allowed: 0.05 voxel)"."""
        return f"{self.name.lower()}: {self.value} (allowed: {self.limit})"


def check_output(restored: ArrayLike, measured: ArrayLike, acquisition: Acquisition) -> OutputCheck:
    """Look for faults in one channel of an upscaled scan.

    Args:
        restored: the upscaled scan, (X, Y, Z), in the units of the measured one; unrounded, as storage in whole
            numbers alone could clip it.
        measured: the scan that was upscaled, (X, Y, Z).
        acquisition: what was assumed of the scanner, between the two grids.

    Raises:
        MedganError: a shape is not the acquisition's.
    """
    result = np.ascontiguousarray(restored, dtype=np.float32)
    scan = np.ascontiguousarray(measured, dtype=np.float32)
    if result.shape != acquisition.high_shape or scan.shape != acquisition.low_shape:
        raise MedganError(
            f"an upscaled scan of {acquisition.high_shape} voxels and a measured one of {acquisition.low_shape} are "
            f"compared, these have {result.shape} and {scan.shape}"
        )
    low, high = (float(value) for value in np.percentile(scan, (0.5, 99.5)))
    if not high > low:
        low, high = float(scan.min()), float(scan.max())
    # A channel without any contrast, such as an empty echo, is compared in its own size.
    data_range = high - low if high > low else max(abs(high), 1.0)
    if not np.isfinite(result).all():
        return OutputCheck(False, (0.0, 0.0, 0.0), *(0.0,) * 9, data_range=data_range)
    return _checked((result - low) / data_range, (scan - low) / data_range, acquisition, data_range)


def _checked(result: Voxels, scan: Voxels, acquisition: Acquisition, data_range: float) -> OutputCheck:
    """The check of scans whose range is 1."""
    again = _applied(acquisition.forward, result)
    inside = foreground_mask(scan)
    # Contrast is a matter of tissues: noise, which the inverse damps a little, is kept out of it.
    smooth, smooth_again = (ndimage.gaussian_filter(one, _SMOOTHING, mode="nearest")[inside] for one in (scan, again))
    plain = _applied(acquisition.inverse, scan)
    energy, amplitude = checkerboard(result - plain, lattice_periods(acquisition))
    unconfirmed = result - _applied(acquisition.inverse, again)
    x, y, z = (step * factor for step, factor in zip(subvoxel_shift(scan, again), acquisition.factor, strict=True))
    first, second = (axis for axis in range(3) if axis != int(np.argmax(acquisition.factor)))
    return OutputCheck(
        is_finite=True,
        shift=(x, y, z),
        checkerboard=energy,
        checkerboard_amplitude=amplitude,
        residual=_rms((again - scan)[inside]),
        noise=max(noise_level(scan, (first, second)), LEAST_NOISE),
        gain=_slope(smooth, smooth_again),
        offset=float((smooth_again - smooth).mean(dtype=np.float64)),
        histogram=float(stats.wasserstein_distance(smooth, smooth_again)),
        clipped=clipped_share(result, plain, scan),
        unconfirmed=_rms(unconfirmed),
        data_range=data_range,
    )


def lattice_periods(acquisition: Acquisition) -> tuple[tuple[float, ...], ...]:
    """For each axis the periods, in voxels of the upscaled scan, in which upscaling can leave a pattern: two voxels,
    which networks work in, and those of the measured voxels' lattice.
    """
    return tuple(
        tuple({*_LATTICES, *([factor / m for m in range(1, int(factor / 2) + 1)] if factor > 1 else [])})
        for factor in acquisition.factor
    )


def checkerboard(added: Voxels, periods: Sequence[Sequence[float]]) -> tuple[float, float]:
    """How much a pattern of the lattice stands out in a volume: its energy over that of neighbouring frequencies.

    All lines along an axis are faded out towards their ends (Hann) and their energy is summed at the frequency of the
    pattern and at those 3 to 8 bins away from it, so that a pattern is found in whatever phase each line has it.

    Args:
        added: (X, Y, Z), what was added to the plain inverse, over the range of the scan.
        periods: for each axis those to look for, in voxels, at least 2.

    Returns:
        The largest ratio, and root mean square of that pattern; (0, 0) where axes are shorter than 16 voxels. Energies
        below that of `FAINT_CHECKERBOARD` do not count as neighbours' energies.
    """
    found = [
        _standing_out(added, axis, 1.0 / period)
        for axis, axis_periods in enumerate(periods)
        for period in axis_periods
        if added.shape[axis] >= _SHORTEST_AXIS
    ]
    return max(found, default=(0.0, 0.0))


def _standing_out(added: Voxels, axis: int, frequency: float) -> tuple[float, float]:
    """Energy ratio and amplitude of the pattern of one frequency, in cycles per voxel, along one axis."""
    size = added.shape[axis]
    steps = np.array([0.0, *(-step for step in _NEIGHBOURS), *_NEIGHBOURS])
    frequencies = frequency + steps / size
    frequencies = frequencies[(frequencies > 0) & (frequencies <= 0.5)]
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    waves = np.exp(-2j * np.pi * np.outer(frequencies, np.arange(size))) * window
    lines = np.moveaxis(added, axis, 0).reshape(size, -1)
    energies = [
        np.square(wave @ lines).sum(axis=1, dtype=np.float64)
        for wave in (waves.real.astype(np.float32), waves.imag.astype(np.float32))
    ]
    energy = energies[0] + energies[1]
    # Of a pattern with a root mean square of 1: half of it lies at minus the frequency, unless the two are one.
    per_square = lines.shape[1] * float(window.sum()) ** 2 / (1.0 if abs(frequency - 0.5) < 1e-9 else 2.0)
    here, around = float(energy[0]), float(energy[1:].mean())
    amplitude = float(np.sqrt(max(here - around, 0.0) / per_square))
    return here / max(around, FAINT_CHECKERBOARD**2 * per_square), amplitude


def clipped_share(result: Voxels, plain: Voxels, scan: Voxels) -> float:
    """Of the voxels that the plain inverse puts beyond the range of the measured scan, the share that has the result's
    own largest (or smallest) value; 0 if there are fewer than 8 of them, or the result reaches further than the scan.
    """
    most = 0.0
    for sign in (1.0, -1.0):
        ours, limit = sign * result, float((sign * scan).max())
        top = float(ours.max())
        beyond = sign * plain > limit
        if top > limit * (1 + np.sign(limit) * 1e-6) + 1e-6 or np.count_nonzero(beyond) < _FEWEST_CLIPPED:
            continue
        most = max(most, float((ours[beyond] >= top - 1e-6).mean()))
    return most


def _applied(operator: Any, voxels: Voxels) -> Voxels:
    """An operator of torch tensors on an array."""
    return np.asarray(operator(torch.from_numpy(voxels)).numpy(), dtype=np.float32)


def _slope(first: Voxels, second: Voxels) -> float:
    """Of `second` over `first` by least squares."""
    centred = first - first.mean(dtype=np.float64)
    square = float((centred * centred).sum(dtype=np.float64))
    slope = float((centred * second).sum(dtype=np.float64)) / square if square > 0 else 1.0
    return slope if isfinite(slope) else 0.0


def _percent(share: float) -> str:
    # Adding zero takes the sign off what rounds to nothing.
    return f"{round(100 * share, 2) + 0.0:.2f} %"


def _rms(values: Voxels) -> float:
    return float(np.sqrt(np.square(values).mean(dtype=np.float64)))
