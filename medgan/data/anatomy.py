"""The anatomy of virtual subjects: one template, bent by maps without folds.

All positions are in voxels of the template's 1 mm grid; maps live on a lattice of every fourth of its voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from medgan.data.warps import exponential, gradient_of_smoothed, sampled, smooth_noise
from medgan.errors import MedganError
from medgan.geometry import Shape

YOUNGEST, OLDEST = 20.0, 90.0
LATTICE_STEP = 4
_HALF = (slice(None, None, 2),) * 3


@dataclass(frozen=True)
class Template:
    """What all subjects share, on the template's 1 mm grid and on the 4 mm lattice over the same points."""

    maps: NDArray[
        np.float32
    ]  # (4, X, Y, Z): grey matter, white matter, fluid, and the texture that these do not explain
    tissue_means: tuple[float, float, float]  # of grey matter, white matter and fluid in the template, 0 to 1
    origin: tuple[float, float, float]  # RAS mm of the first voxel's centre
    into_ventricles: NDArray[
        np.float64
    ]  # (3, lattice): direction towards the lateral ventricles' inside, length at most 1
    into_brain: NDArray[np.float64]  # (3, lattice): the same for the brain's inside
    deep_white_matter: NDArray[np.float64]  # (N, 3): template voxels where a mass may grow

    @property
    def shape(self) -> Shape:
        """Voxels of the 1 mm grid."""
        x, y, z = self.maps.shape[1:]
        return x, y, z

    @property
    def lattice(self) -> Shape:
        """Nodes of the 4 mm lattice."""
        x, y, z = self.into_brain.shape[1:]
        return x, y, z


@dataclass(frozen=True)
class Mass:
    """A dark, slightly elongated ball in the white matter.

    Args:
        centre: template voxels (3).
        radius: mm.
        stretch: factors on the radius along the three axes.
        intensity: of its inside.
        push: mm by which it pushes its surroundings away.
    """

    centre: NDArray[np.float64]
    radius: float
    stretch: NDArray[np.float64]
    intensity: float
    push: float


@dataclass(frozen=True)
class Anatomy:
    """One subject's shape.

    Args:
        age: years.
        mass: a patient's; None in a control.
        displacement: (3, lattice), from a node to where the template is found for it, in mm.
    """

    age: float
    mass: Mass | None
    displacement: NDArray[np.float64]

    @property
    def group(self) -> str:
        """ "patient" or "control"."""
        return "control" if self.mass is None else "patient"


@lru_cache(maxsize=1)
def template() -> Template:
    """The template and what is derived from it, once per process (about 150 MB)."""
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise MedganError(
            "the embedded cohort grows from the template that nilearn carries, and nilearn is not installed",
            hint="Install it with: pip install 'medgan[demo]'",
        ) from error
    image = load_mni152_template(resolution=1)
    t1 = np.asarray(image.dataobj, dtype=np.float32)
    grey, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    brain = t1 > 0
    grey, white = grey * brain, white * brain
    fluid = np.clip(brain - grey - white, 0, 1)
    means = _tissue_means(t1, (grey, white, fluid))
    texture = t1 - means[0] * grey - means[1] * white - means[2] * fluid
    x, y, z = image.affine[:3, 3]
    return Template(
        maps=np.stack([grey, white, fluid, texture]),
        tissue_means=means,
        origin=(float(x), float(y), float(z)),
        into_ventricles=gradient_of_smoothed(
            _on_lattice(_lateral_ventricles(fluid, brain, image.affine)), 5 / LATTICE_STEP
        ),
        into_brain=gradient_of_smoothed(_on_lattice(brain[_HALF]), 6 / LATTICE_STEP),
        deep_white_matter=_deep_white_matter(white, image.affine),
    )


def _tissue_means(t1: NDArray, tissues: tuple[NDArray, ...]) -> tuple[float, float, float]:
    """The intensities of pure grey matter, white matter and fluid that explain the template best (least squares)."""
    sparse = (slice(None, None, 3),) * 3
    inside = t1[sparse] > 0
    fractions = np.stack([tissue[sparse][inside] for tissue in tissues], axis=1).astype(np.float64)
    grey, white, fluid = np.linalg.lstsq(fractions, t1[sparse][inside].astype(np.float64), rcond=None)[0]
    return float(grey), float(white), float(fluid)


def _on_lattice(mask: NDArray) -> NDArray[np.float64]:
    """A mask at 2 mm on the 4 mm lattice, smoothed enough that no thin part falls between the nodes."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(mask.astype(np.float64), 1)[_HALF]


def _lateral_ventricles(fluid: NDArray, brain: NDArray, affine: NDArray) -> NDArray[np.bool_]:
    """The largest connected piece of fluid deep in the middle of the brain, on every second voxel along each axis."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

    depth = 2 * distance_transform_edt(binary_fill_holes(brain[_HALF]))
    x, y, z = (np.arange(n) * 2 + start for n, start in zip(depth.shape, affine[:3, 3], strict=True))
    middle = (np.abs(x) < 40)[:, None, None] & ((y > -55) & (y < 42))[:, None] & ((z > -14) & (z < 34))
    pieces, _ = label((fluid[_HALF] > 0.5) & middle & (depth > 20))
    return pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1


def _deep_white_matter(white: NDArray, affine: NDArray) -> NDArray[np.float64]:
    """Lattice nodes well inside the cerebral white matter, as template voxels (N, 3)."""
    from scipy.ndimage import gaussian_filter

    candidates = np.argwhere(gaussian_filter(white[_HALF], 2)[_HALF] > 0.8) * float(LATTICE_STEP)
    x, _, z = (candidates + affine[:3, 3]).T
    return candidates[(np.abs(x) > 16) & (z > 2)]


def grown(
    common: Template, rng: np.random.Generator, *, age: float | None = None, patient: bool | None = None
) -> Anatomy:
    """Draw one subject.

    Args:
        common: what all subjects share.
        rng: all randomness; it is advanced alike whatever the other arguments are.
        age: settle the age (years) and leave everything else as it was drawn.
        patient: settle the group likewise.
    """
    drawn_age = round(float(rng.uniform(YOUNGEST, OLDEST)), 1)
    drawn_patient = bool(rng.random() < 0.5)
    mass = Mass(
        centre=rng.choice(common.deep_white_matter),
        radius=float(rng.uniform(8, 13)),
        stretch=rng.uniform(0.85, 1.2, 3),
        intensity=float(rng.uniform(300, 375)),
        push=float(rng.uniform(2, 4)),
    )
    age = drawn_age if age is None else age
    velocity = _individual_shape(common.lattice, rng) + _ageing(common, age)
    pose = _head_position(rng)
    if not (drawn_patient if patient is None else patient):
        return Anatomy(age, None, _template_displacement(velocity, pose))
    velocity += _pushed_away(common.lattice, mass)
    return Anatomy(age, mass, _template_displacement(velocity, pose))


def _individual_shape(lattice: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random velocity (3, lattice) in mm: lobes and the whole head vary by centimetres, gyri by millimetres."""
    fields = [
        3.0 * smooth_noise(rng, lattice, 24 / LATTICE_STEP) + 1.3 * smooth_noise(rng, lattice, 9 / LATTICE_STEP)
        for _ in range(3)
    ]
    return np.stack(fields)


def _ageing(common: Template, age: float) -> NDArray[np.float64]:
    """Velocity (3, lattice) in mm: fluid spaces widen from within, the surface recedes from without."""
    progress = (age - YOUNGEST) / (OLDEST - YOUNGEST)
    return (1.0 - 6.0 * progress) * common.into_ventricles + 2.5 * progress * common.into_brain


def _pushed_away(lattice: Shape, mass: Mass) -> NDArray[np.float64]:
    """Velocity (3, lattice) in mm that points away from a mass, strongest at its surface."""
    nodes = LATTICE_STEP * np.stack(np.meshgrid(*(np.arange(n) for n in lattice), indexing="ij"))
    offset = (nodes - mass.centre[:, None, None, None]) / mass.radius
    return mass.push * offset * np.exp(0.5 - 0.5 * (offset**2).sum(axis=0))


def _head_position(rng: np.random.Generator) -> NDArray[np.float64]:
    """A 3x4 matrix from a subject's to the template's position relative to the middle: turn, size and shift (mm)."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(np.radians(rng.normal(0, 2.5, 3))).as_matrix()
    return np.column_stack([turn @ np.diag(rng.normal(1, 0.025, 3)), rng.normal(0, 1.5, 3)])


def _template_displacement(velocity: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the template is found from each lattice node of the subject, minus the node, in mm (3, lattice).

    The flow along minus the velocity leads from a subject's tissue back to the template's.
    """
    lattice = velocity.shape[1:]
    nodes = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float64) for n in lattice), indexing="ij"))
    middle = (np.array(lattice)[:, None, None, None] - 1) / 2
    shift = pose[:, 3, None, None, None] / LATTICE_STEP
    placed = np.tensordot(pose[:, :3], nodes - middle, axes=1) + middle + shift
    back = exponential(-velocity / LATTICE_STEP)
    return LATTICE_STEP * (placed + sampled(back, placed) - nodes)
