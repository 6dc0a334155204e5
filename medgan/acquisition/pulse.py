"""The slice that a radio-frequency pulse excites: Shinnar-Le Roux design and Bloch simulation.

Pauly, Le Roux, Nishimura and Macovski: "Parameter relations for the Shinnar-Le Roux selective excitation pulse design
algorithm", IEEE Transactions on Medical Imaging 10(1), 1991. A pulse is taken as a train of hard pulses, each a
rotation about a transverse axis, between which spins precess under the slice gradient. The two Cayley-Klein parameters
of the whole rotation are then polynomials, so that designing a pulse is designing a finite impulse response filter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firls

Array = NDArray[np.float64]

TIME_BANDWIDTH = 8.0
"""Duration times bandwidth of the pulse behind the "shinnar_le_roux" profile: usual for slice-selective excitation."""
PASS_RIPPLE = STOP_RIPPLE = 0.01
"""Ripples of the excited magnetisation, inside and outside the slice, relative to its full value."""


def excitation_pulse(time_bandwidth: float = TIME_BANDWIDTH, samples: int = 127) -> Array:
    """Flip angles in radians, shape (samples,), of a linear-phase 90 degree slice-selective pulse.

    The second Cayley-Klein polynomial is a least-squares low-pass filter of height sin(45 degrees); its transition
    width follows from the ripples by Kaiser's estimate. The first is its minimum-phase complement, and the inverse
    Shinnar-Le Roux recursion takes both apart again into hard pulses.

    Args:
        time_bandwidth: duration times bandwidth, above about 3.
        samples: hard pulses, odd.
    """
    # A ripple of the filter is not the ripple of the magnetisation: Pauly et al., table II, for 90 degrees.
    inside, outside = np.sqrt(PASS_RIPPLE / 2), STOP_RIPPLE / np.sqrt(2)
    transition = (-10 * np.log10(inside * outside) - 13) / 14.6
    edges = np.array([0, time_bandwidth - transition, time_bandwidth + transition, samples]) / samples
    beta = firls(samples, edges, [1, 1, 0, 0], weight=[1, inside / outside]) * np.sin(np.pi / 4)
    return _inverse_recursion(_minimum_phase_complement(beta), beta)


def _minimum_phase_complement(beta: Array) -> Array:
    """The minimum-phase polynomial alpha with |alpha|^2 + |beta|^2 = 1 on the unit circle, by its cepstrum."""
    size = 64 * len(beta)
    log_magnitude = 0.5 * np.log(1 - np.abs(np.fft.fft(beta, size)) ** 2)
    cepstrum = np.fft.ifft(log_magnitude).real
    # Folding the cepstrum onto positive times makes the signal causal with a causal inverse.
    cepstrum[1 : size // 2] *= 2
    cepstrum[size // 2 + 1 :] = 0
    return np.fft.ifft(np.exp(np.fft.fft(cepstrum))).real[: len(beta)]


def _inverse_recursion(alpha: Array, beta: Array) -> Array:
    """Hard pulses whose rotations multiply up to `alpha` and `beta`; flip angles in radians, first pulse first."""
    angles = np.empty(len(beta))
    for last in range(len(beta) - 1, -1, -1):
        half = np.arctan2(beta[0], alpha[0])
        angles[last] = 2 * half
        alpha, beta = (
            (np.cos(half) * alpha + np.sin(half) * beta)[: max(last, 1)],
            (np.cos(half) * beta - np.sin(half) * alpha)[1:],
        )
    return angles


def transverse_magnetisation(angles: Array, frequencies: Array) -> Array:
    """|Mxy| after the pulse, from equilibrium (Mz = 1), by rotating the magnetisation of each frequency.

    Args:
        angles: flip angles in radians about the x axis, shape (samples,).
        frequencies: offsets from resonance in cycles per duration of the whole pulse; any shape.

    Returns:
        Values from 0 to 1, shape of `frequencies`. Refocusing the linear phase would not change them.
    """
    turn = np.exp(2j * np.pi * frequencies / len(angles))
    transverse, along = np.zeros(frequencies.shape, complex), np.ones(frequencies.shape)
    for angle in angles:
        imaginary = transverse.imag * np.cos(angle) - along * np.sin(angle)
        along = transverse.imag * np.sin(angle) + along * np.cos(angle)
        transverse = (transverse.real + 1j * imaginary) * turn
    return np.abs(transverse)


@lru_cache(maxsize=8)
def excited_profile(time_bandwidth: float = TIME_BANDWIDTH) -> tuple[Array, float]:
    """The slice that `excitation_pulse` excites.

    Returns:
        |Mxy| at evenly spaced positions, symmetric, zero at both ends, and the step between them in units of the
        profile's full width at half maximum. Cut at the first minimum outside the slice: the ripples further out
        alternate in phase, so that they all but cancel in the signal, which a sum of magnitudes would not show.
    """
    angles = excitation_pulse(time_bandwidth)
    frequencies = np.linspace(0, 1.2 * time_bandwidth, 2401)
    magnitude = transverse_magnetisation(angles, frequencies)
    first = int(np.flatnonzero(magnitude < 0.5 * magnitude[0])[0])
    half_width = np.interp(0.5 * magnitude[0], magnitude[[first, first - 1]], frequencies[[first, first - 1]])
    minimum = first + int(np.flatnonzero(np.diff(magnitude[first:]) > 0)[0])
    step = 1 / 256
    positions = np.arange(np.ceil(frequencies[minimum] / (2 * half_width * step)) + 1) * step
    right = np.interp(positions * 2 * half_width, frequencies[: minimum + 1], magnitude[: minimum + 1])
    right[-1] = 0.0
    profile = np.concatenate([right[:0:-1], right])
    profile.setflags(write=False)
    return profile, step
