"""How close synthetic scans are to real ones: kernel distances on 3D features, with an interval and a floor.

The Fréchet distance needs more scans than features and its bias depends on how many there are, which is why published
3D values cannot be compared. Kernel distances are unbiased at any number of scans (Gretton et al., "A kernel two-sample
test", JMLR 2012; Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018), so small cohorts get an
honest answer: with an interval, and beside what two halves of the real set get.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Features = NDArray[np.float64]
Kernel = Callable[[Features, Features], Features]
"""Values for all pairs of rows of (N, D) and (M, D): (N, M)."""

FEWEST_SCANS = 4


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that holds it with 95 % confidence.

    Args:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        method: how the interval was found, in words.
    """

    value: float
    low: float
    high: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def polynomial_kernel(x: Features, y: Features) -> Features:
    """(x.y / D + 1)^3 for all pairs of rows of (N, D) and (M, D); shape (N, M)."""
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def gaussian_kernel(bandwidth: float) -> Kernel:
    """The kernel exp(-|x - y|^2 / (2 bandwidth^2)), a radial basis function."""

    def kernel(x: Features, y: Features) -> Features:
        from scipy.spatial.distance import cdist

        return np.asarray(np.exp(-0.5 * cdist(x, y, "sqeuclidean") / bandwidth**2))

    return kernel


def median_distance(features: Features) -> float:
    """The median Euclidean distance between different rows of (N, D).

    Raises:
        MedganError: all rows are alike.
    """
    from scipy.spatial.distance import pdist

    apart = pdist(features)
    apart = apart[apart > 0]
    if not len(apart):
        raise MedganError("the real scans are all alike", hint="Give different scans.")
    return float(np.median(apart))


def kid(
    real_features: Features,
    synthetic_features: Features,
    *,
    subsets: int = 200,
    subset_size: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The unbiased squared maximum mean discrepancy between two sets of features, with the kernel of degree three.

    Zero is expected when both sets come from one distribution, so that small negative values are normal then.

    The interval is that of the delete-d jackknife: the distance is computed on random subsets drawn without
    replacement, the same fraction f of each set, and the deviations from the full value are scaled by sqrt(f / (1 -
    f)), which at the default of one half needs no scaling. (A bootstrap would repeat scans, whose kernel with
    themselves biases the distance.)

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        subsets: how many random subsets.
        subset_size: scans drawn from the smaller set, at least two and fewer than it has; half of it by default.
        seed: of the subsets.

    Raises:
        MedganError: a set has fewer than four scans, the sets differ in D, or `subset_size` does not fit.
    """
    real, synthetic = checked_pair(real_features, synthetic_features)
    return _discrepancy(polynomial_kernel, real, synthetic, subsets, subset_size, seed)


def real_floor(real_features: Features, *, splits: int = 200, seed: int = 0) -> Estimate:
    """The same distance between random halves of the real set: what a perfect generator would get at that size.

    Its value is the mean over the splits, close to zero by construction; the interval holds the middle 95 % of the
    splits. A synthetic set whose distance lies inside cannot be told from the real one by these features.

    Args:
        real_features: (N, D), standardised.
        splits: how many random halvings.
        seed: of the halvings.

    Raises:
        MedganError: there are fewer than four scans.
    """
    real = checked_features(real_features, "real")
    return _between_halves(polynomial_kernel(real, real), splits, seed)


def mmd(
    real_features: Features,
    synthetic_features: Features,
    *,
    bandwidth: float | None = None,
    subsets: int = 200,
    seed: int = 0,
) -> Estimate:
    """The same discrepancy with a Gaussian kernel: from 0, for equal distributions, to 2, for sets far apart.

    Unlike the polynomial kernel it sees every difference between distributions, not their first three moments alone,
    and no outlier rules it. The interval is the one of `kid`.

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        bandwidth: standard deviation of the kernel; by default the median distance between different real scans
            (Gretton et al. 2012, section 8), so that synthetic scans cannot move it.
        subsets: how many random subsets, half of each set.
        seed: of the subsets.

    Raises:
        MedganError: a set has fewer than four scans, the sets differ in D, or the real scans are all alike.
    """
    real, synthetic = checked_pair(real_features, synthetic_features)
    kernel = gaussian_kernel(bandwidth or median_distance(real))
    return _discrepancy(kernel, real, synthetic, subsets, None, seed)


def mmd_floor(real_features: Features, *, bandwidth: float | None = None, splits: int = 200, seed: int = 0) -> Estimate:
    """`real_floor` with the kernel of `mmd`.

    Raises:
        MedganError: there are fewer than four scans, or they are all alike.
    """
    real = checked_features(real_features, "real")
    kernel = gaussian_kernel(bandwidth or median_distance(real))
    return _between_halves(kernel(real, real), splits, seed)


def jackknifed(value: float, deviations: Features, fraction: float, subsets: str) -> Estimate:
    """`value` with the interval of a delete-d jackknife.

    Args:
        value: of all scans.
        deviations: of the values of random subsets, (K,).
        fraction: the part of each set that a subset takes.
        subsets: which subsets, in words.
    """
    low, high = np.quantile(deviations * np.sqrt(fraction / (1 - fraction)), (0.025, 0.975))
    method = f"delete-d jackknife, {subsets}"
    return Estimate(value, value + min(0.0, float(low)), value + max(0.0, float(high)), method)


def checked_pair(real: Features, synthetic: Features) -> tuple[Features, Features]:
    """Both sets as float64 with enough rows and the same columns.

    Raises:
        MedganError: a set has fewer than four scans, or the sets differ in D.
    """
    real, synthetic = checked_features(real, "real"), checked_features(synthetic, "synthetic")
    if real.shape[1] != synthetic.shape[1]:
        raise MedganError(
            f"the real features have {real.shape[1]} columns, the synthetic ones {synthetic.shape[1]}",
            hint="Extract both with one encoder from volumes of one shape.",
        )
    return real, synthetic


def checked_features(features: Features, which: str) -> Features:
    """(N, D) float64 with enough rows.

    Raises:
        MedganError: there are fewer than four scans.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or len(array) < FEWEST_SCANS:
        raise MedganError(
            f"the {which} set has {len(array)} scans, the distance and its interval need at least {FEWEST_SCANS}",
            hint="Give more scans.",
        )
    return array


def _discrepancy(
    kernel: Kernel, real: Features, synthetic: Features, subsets: int, subset_size: int | None, seed: int
) -> Estimate:
    """The discrepancy with its interval, see `kid`."""
    fraction = _fraction(subset_size, min(len(real), len(synthetic)))
    within_real, within_synthetic = kernel(real, real), kernel(synthetic, synthetic)
    across = kernel(real, synthetic)
    value = _unbiased_discrepancy(within_real, within_synthetic, across)
    random = np.random.default_rng(seed)
    deviations = np.empty(subsets)
    for repeat in range(subsets):
        rows, columns = _drawn(random, len(real), fraction), _drawn(random, len(synthetic), fraction)
        deviations[repeat] = (
            _unbiased_discrepancy(
                within_real[np.ix_(rows, rows)],
                within_synthetic[np.ix_(columns, columns)],
                across[np.ix_(rows, columns)],
            )
            - value
        )
    return jackknifed(value, deviations, fraction, f"{subsets} subsets of {fraction:.0%}")


def _between_halves(kernel: Features, splits: int, seed: int) -> Estimate:
    """The discrepancies between random halves of a set by its kernel matrix (N, N)."""
    random = np.random.default_rng(seed)
    values = np.empty(splits)
    for repeat in range(splits):
        order = random.permutation(len(kernel))
        a, b = order[: len(kernel) // 2], order[len(kernel) // 2 :]
        values[repeat] = _unbiased_discrepancy(kernel[np.ix_(a, a)], kernel[np.ix_(b, b)], kernel[np.ix_(a, b)])
    low, high = np.quantile(values, (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high), f"middle 95 % of {splits} random halvings")


def _unbiased_discrepancy(within_x: Features, within_y: Features, across: Features) -> float:
    """The U-statistic: means over distinct pairs within each set, less twice the mean across."""
    n, m = across.shape
    mean_x = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    mean_y = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(mean_x + mean_y - 2 * across.mean())


def _drawn(random: np.random.Generator, count: int, fraction: float) -> NDArray[np.int64]:
    """Row numbers of a random subset without repeats, at least two."""
    return random.permutation(count)[: max(2, round(count * fraction))]


def _fraction(subset_size: int | None, smallest: int) -> float:
    """The part of each set that a subset takes."""
    size = smallest // 2 if subset_size is None else subset_size
    if not 2 <= size < smallest:
        raise MedganError(
            f"subset_size is {size}; it must lie between 2 and {smallest - 1}, one less than the smaller set"
        )
    return size / smallest
