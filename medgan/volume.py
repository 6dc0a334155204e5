"""`Volume`: voxels, where they are, and what was done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan import geometry
from medgan.errors import MedganError
from medgan.geometry import Affine, Shape, Spacing

if TYPE_CHECKING:
    import nibabel as nib
    from monai.data import MetaTensor


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """One immutable scan.

    Args:
        data: voxels, shape (C, X, Y, Z) with C channels; a three-dimensional array becomes one channel. Float32, or
            the stored integer type. The array is made read-only; it is copied only if someone else could still write
            to it.
        affine: 4x4, voxel index to RAS+ millimetres (see `medgan.geometry`).
        history: what was done to the voxels so far, oldest first, one phrase each.
        metadata: what the file said besides, such as `modality`, `slice_thickness` (mm) or `nifti` (the header fields
            that a NIfTI written later must keep). Never required by any computation.

    Raises:
        MedganError: the data are not 3D with channels, hold complex or colour values, or the affine is unusable.
    """

    data: NDArray[Any]
    affine: Affine
    history: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim == 3:
            data = data[np.newaxis]
        if data.ndim != 4 or 0 in data.shape:
            raise MedganError(f"a volume has the shape (C, X, Y, Z) or (X, Y, Z), this array has {np.shape(self.data)}")
        if data.dtype.kind not in "iufb":
            raise MedganError(f"voxels must be real numbers, these are {data.dtype}")
        if data.dtype.kind == "f" and data.dtype != np.float32:
            data = data.astype(np.float32)
        if data.dtype.kind == "b":
            data = data.astype(np.uint8)
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
        if data is self.data or data.base is not None:
            data = data.copy() if _is_writable(data) else data
        data.setflags(write=False)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", geometry.checked_affine(self.affine))
        object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain parts, because the read-only view of the metadata cannot be pickled."""
        return Volume, (self.data, self.affine, self.history, dict(self.metadata))

    @property
    def channels(self) -> int:
        """How many channels."""
        return int(self.data.shape[0])

    @property
    def shape(self) -> Shape:
        """Voxels along the three spatial axes (X, Y, Z)."""
        x, y, z = self.data.shape[1:]
        return int(x), int(y), int(z)

    @property
    def spacing(self) -> Spacing:
        """Millimetres between voxel centres along each array axis."""
        return geometry.spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Such as "RAS": the patient direction towards which each array index grows."""
        return geometry.orientation_of(self.affine)

    @property
    def field_of_view(self) -> Spacing:
        """Extent in mm along each array axis, from outer edge to outer edge."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return x, y, z

    def with_data(self, data: ArrayLike, step: str | None = None) -> Volume:
        """The same place with other voxels, shape (C, X, Y, Z) or (X, Y, Z) with the same X, Y, Z."""
        array = np.asarray(data)
        if array.shape[-3:] != self.shape:
            raise MedganError(f"expected spatial shape {self.shape}, got {array.shape[-3:]}")
        return replace(self, data=array, history=self.history + ((step,) if step else ()))

    def with_grid(self, data: ArrayLike, affine: ArrayLike, step: str) -> Volume:
        """Other voxels on another grid of the same scan; `step` says what was done."""
        return replace(
            self, data=np.asarray(data), affine=np.asarray(affine, dtype=np.float64), history=(*self.history, step)
        )

    def as_float(self) -> NDArray[np.float32]:
        """The voxels as float32, shape (C, X, Y, Z); a new array unless they are float32 already."""
        return self.data.astype(np.float32, copy=False)

    def reoriented(self, orientation: str = "RAS") -> Volume:
        """The same scan with its array axes flipped and permuted to `orientation`; no voxel value changes.

        Raises:
            MedganError: `orientation` is not three letters, one of each pair L/R, P/A, I/S.
        """
        wanted = _parsed_orientation(orientation)
        have = geometry.axis_directions(self.affine)
        if list(have) == wanted:
            return self
        order = [next(i for i, (axis, _) in enumerate(have) if axis == want) for want, _ in wanted]
        flips = [have[i][1] != sign for i, (_, sign) in zip(order, wanted, strict=True)]
        data = np.transpose(self.data, [0, *(1 + i for i in order)])
        index_map = np.zeros((4, 4))
        index_map[3, 3] = 1
        for new_axis, (old_axis, flip) in enumerate(zip(order, flips, strict=True)):
            index_map[old_axis, new_axis] = -1 if flip else 1
            if flip:
                index_map[old_axis, 3] = self.shape[old_axis] - 1
                data = np.flip(data, 1 + new_axis)
        return self.with_grid(np.ascontiguousarray(data), self.affine @ index_map, f"reoriented to {orientation}")

    def to_nibabel(self) -> nib.Nifti1Image:
        """As a nibabel NIfTI image, channels last when there is more than one; header fields in `metadata["nifti"]`
        are kept."""
        from medgan.io.nifti import to_nibabel

        return to_nibabel(self)

    @classmethod
    def from_nibabel(cls, image: Any) -> Volume:
        """From any spatial nibabel image; scaling is applied."""
        from medgan.io.nifti import from_nibabel

        return from_nibabel(image)

    def to_metatensor(self) -> MetaTensor:
        """As a MONAI MetaTensor (C, X, Y, Z) with the affine in RAS+; history and metadata ride along in `meta`."""
        import torch
        from monai.data import MetaTensor

        meta = {"medgan_history": list(self.history), "medgan_metadata": dict(self.metadata), "space": "RAS"}
        return MetaTensor(torch.from_numpy(self.data.copy()), affine=torch.from_numpy(self.affine.copy()), meta=meta)

    @classmethod
    def from_metatensor(cls, tensor: MetaTensor) -> Volume:
        """From a MONAI MetaTensor of shape (C, X, Y, Z), made by `to_metatensor` or read by medgan's MONAI reader."""
        history = tensor.meta.get("medgan_history", ())
        return cls(
            data=tensor.detach().cpu().numpy().copy(),
            affine=tensor.affine.detach().cpu().numpy().astype(np.float64),
            history=tuple(history.split("\n") if isinstance(history, str) and history else history),
            metadata=tensor.meta.get("medgan_metadata", {}),
        )

    def __repr__(self) -> str:
        spacing = " x ".join(f"{s:.3g}" for s in self.spacing)
        shape = " x ".join(map(str, self.shape))
        channels = f"{self.channels} channels, " if self.channels != 1 else ""
        megabytes = self.data.nbytes / 2**20
        kind = f"{self.orientation}, {self.data.dtype}, {megabytes:.1f} MiB"
        return f"Volume({channels}{shape} voxels of {spacing} mm, {kind})"


def _is_writable(array: NDArray[Any]) -> bool:
    """Whether the array's memory can still be written through it or through an array that it is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return True
        owner = owner.base
    return False


def _parsed_orientation(orientation: str) -> list[tuple[int, int]]:
    """Letters to (patient axis, sign)."""
    letters = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    parsed = [letters[letter] for letter in orientation.upper() if letter in letters]
    if len(orientation) != 3 or len(parsed) != 3 or len({axis for axis, _ in parsed}) != 3:
        raise MedganError(f"'{orientation}' is no orientation", hint="Use three letters such as RAS or LPS.")
    return parsed
