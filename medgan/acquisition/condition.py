"""An acquisition in a few numbers, for a network that serves all of them."""

from __future__ import annotations

from math import log2

from medgan.acquisition.operators import Acquisition

CONDITIONS = 9
"""How many numbers `condition` gives: three for each axis."""


def condition(acquisition: Acquisition) -> tuple[float, ...]:
    """What was lost along each axis, all zero for an axis that lost nothing.

    Returns:
        Axis by axis: log2 of the factor; log2 of slice thickness over slice distance (below 0 a gap, above 0 overlap;
        0 for a band limit); 1 for a band limit, 0 for slices.
    """
    numbers: list[float] = []
    for factor, spacing, thickness, profile, axis in zip(
        acquisition.factor,
        acquisition.low_spacing,
        acquisition.thickness,
        acquisition.profile,
        acquisition.axes,
        strict=True,
    ):
        if axis.is_identity:
            numbers += [0.0, 0.0, 0.0]
        else:
            ratio = 0.0 if thickness is None else log2(thickness / spacing)
            numbers += [log2(factor), ratio, float(profile == "band_limit")]
    return tuple(numbers)
