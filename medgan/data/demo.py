"""The embedded cohort: virtual subjects grown from the MNI152 brain, so that everything can be tried without any data.

A subject is the skull-stripped T1 template that nilearn carries, bent by a smooth map without folds, given its own
tissue contrast, head position, coil shading and scanner noise. Two labels have a visible meaning: with `age` the
ventricles grow, the surface of the brain recedes (so the cortex thins) and grey and white matter grow alike; a `group`
of "patient" carries a dark mass in the white matter that pushes its surroundings away.

Everything is a pure function of (seed, index); what a subject looks like in mm does not depend on the spacing it is
sampled at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.anatomy import LATTICE_STEP, OLDEST, YOUNGEST, Anatomy, Mass, Template, grown, template
from medgan.data.processes import counter, mapped
from medgan.data.warps import smooth_noise
from medgan.errors import MedganError
from medgan.files import write_text
from medgan.resampling import applied_along
from medgan.volume import Volume


def virtual_subject(index: int, *, seed: int = 0, spacing: float = 2.0) -> tuple[Volume, dict[str, float | str]]:
    """One virtual subject's T1-weighted scan and its labels.

    Args:
        index: which subject, from 0.
        seed: of the cohort.
        spacing: mm between voxels along all axes, 1 or more; 2 gives 99 x 117 x 95 voxels.

    Returns:
        The scan (int16, about 0 to 1000, RAS, MNI mm) and {"age": 20 to 90, "group": "control" or "patient"}.

    Raises:
        MedganError: a negative index or seed, a spacing under 1 mm, or nilearn is not installed.
    """
    if index < 0 or seed < 0:
        raise MedganError(f"index and seed must not be negative, they are {index} and {seed}")
    if not 1 <= spacing <= 16:
        raise MedganError(f"virtual subjects are made at 1 to 16 mm, not {spacing} mm")
    rng = np.random.default_rng([seed, index])
    anatomy = grown(template(), rng)
    voxels = scanned(template(), anatomy, rng, spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = template().origin
    step = f"virtual subject {index} of seed {seed}, made by medgan from the MNI152 template"
    volume = Volume(voxels, affine, (step,), {"modality": "MR"})
    return volume, {"age": anatomy.age, "group": anatomy.group}


def write_demo_cohort(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    spacing: float = 2.0,
    jobs: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Write `count` virtual subjects as sub-001_T1w.nii.gz, ... and their labels as participants.tsv.

    Args:
        folder: made if missing.
        count: how many subjects.
        seed: of the cohort; the first subjects of a larger cohort are those of a smaller one.
        spacing: mm between voxels.
        jobs: processes to use; they do not change the result.
        progress: called as `progress(done, total, name)`.

    Returns:
        The folder.

    Raises:
        MedganError: `count` is not positive, or the folder holds other subjects already.
    """
    folder = Path(folder)
    if count < 1:
        raise MedganError(f"a cohort needs at least one subject, got {count}")
    names = [f"sub-{index + 1:03d}" for index in range(count)]
    strangers = sorted(
        path.name for path in folder.glob("sub-*") if path.name not in {f"{n}_T1w.nii.gz" for n in names}
    )
    if strangers:
        raise MedganError(
            f"the folder holds other subjects already ({strangers[0]})", file=folder, hint="Choose another folder."
        )
    make = partial(_write_subject, folder=folder, seed=seed, spacing=spacing)
    labels = mapped(make, range(count), jobs=jobs, finished=counter(progress, names))
    rows = [f"{name}\t{label['age']}\t{label['group']}" for name, label in zip(names, labels, strict=True)]
    write_text(folder / "participants.tsv", "\n".join(["participant_id\tage\tgroup", *rows]) + "\n")
    return folder


def _write_subject(index: int, *, folder: Path, seed: int, spacing: float) -> dict[str, float | str]:
    from medgan.io import write_volume

    volume, labels = virtual_subject(index, seed=seed, spacing=spacing)
    write_volume(volume, folder / f"sub-{index + 1:03d}_T1w.nii.gz")
    return labels


@lru_cache(maxsize=2)
def _blurred_maps(spacing: float) -> NDArray[np.float32]:
    """The template's maps (4, X, Y, Z) at 1 mm, blurred as much as averaging over voxels of `spacing` mm would."""
    from scipy.ndimage import gaussian_filter

    maps = template().maps
    return maps if spacing == 1 else np.stack([gaussian_filter(m, np.sqrt((spacing**2 - 1) / 12)) for m in maps])


def scanned(common: Template, anatomy: Anatomy, rng: np.random.Generator, spacing: float) -> NDArray[np.int16]:
    """The scan of an anatomy (X, Y, Z): tissue contrast and mass, bent, shaded by the coil, noisy."""
    from scipy.ndimage import map_coordinates

    ideal = _contrast(common, anatomy, rng, spacing)
    if anatomy.mass is not None:
        _add_mass(ideal, anatomy.mass)
    axes = [np.arange(0, n, spacing, dtype=np.float64) for n in common.shape]
    positions = between_nodes(anatomy.displacement, axes)
    for component, (axis, along) in zip(positions, enumerate(axes), strict=True):
        component += np.expand_dims(along, [other for other in range(3) if other != axis])
    scan = map_coordinates(ideal, positions, order=1, mode="constant", output=np.float32)
    shading = 0.08 * smooth_noise(rng, common.lattice, 45 / LATTICE_STEP)
    scan *= np.exp(between_nodes(shading[np.newaxis], axes)[0])
    noise = rng.uniform(0.01, 0.025) * 750 * rng.standard_normal((2, *scan.shape), dtype=np.float32)
    return np.rint(np.hypot(scan + noise[0], noise[1])).astype(np.int16)  # of a complex signal the magnitude: Rician


def _contrast(common: Template, anatomy: Anatomy, rng: np.random.Generator, spacing: float) -> NDArray[np.float32]:
    """The template (X, Y, Z) at 1 mm with this subject's tissue intensities and the template's own texture."""
    white = rng.uniform(680, 820)
    progress = (anatomy.age - YOUNGEST) / (OLDEST - YOUNGEST)
    grey = white * (rng.normal(0.71, 0.015) + 0.07 * progress)
    fluid = white * rng.uniform(0.26, 0.34)
    # Sums of plain products, not linear algebra, whose last digits may depend on the number of threads.
    ideal = np.zeros(common.shape, dtype=np.float32)
    for weight, part in zip((grey, white, fluid, white / common.tissue_means[1]), _blurred_maps(spacing), strict=True):
        ideal += np.float32(weight) * part
    return ideal


def _add_mass(ideal: NDArray[np.float32], mass: Mass) -> None:
    """Replace, in place, the tissue inside the mass, with an edge 1 mm soft."""
    reach = 1.3 * mass.radius + 6
    box = tuple(
        slice(max(0, int(centre - reach)), min(length, int(centre + reach) + 1))
        for centre, length in zip(mass.centre, ideal.shape, strict=True)
    )
    positions = np.stack(np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij"))
    offsets = (positions - mass.centre[:, None, None, None]) / mass.stretch[:, None, None, None]
    outside = np.sqrt((offsets**2).sum(axis=0)) - mass.radius
    inside = 1 / (1 + np.exp(np.clip(outside, -30, 30)))
    ideal[box] += (inside * (mass.intensity - ideal[box])).astype(np.float32)


def between_nodes(field: NDArray[np.float64], axes: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """A field (C, lattice) at the positions `axes` (mm from the first node) by cubic interpolation, (C, X, Y, Z)."""
    from scipy.interpolate import make_interp_spline
    from scipy.sparse import csr_array

    result = field.astype(np.float64)
    for axis, positions in zip((-3, -2, -1), axes, strict=True):
        nodes = np.arange(field.shape[axis]) * float(LATTICE_STEP)
        matrix = make_interp_spline(nodes, np.eye(len(nodes)), k=3)(positions)
        matrix[np.abs(matrix) < 1e-6] = 0  # the reach of a spline is infinite, but it fades by 3.7 per node
        result = applied_along(csr_array(matrix), result, axis)
    return result.astype(np.float32)
