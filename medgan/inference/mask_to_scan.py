"""Synthetic scans for a label map, on its very grid."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan import __version__
from medgan.data.mask_gridding import label_values
from medgan.data.masked_volumes import label_numbers
from medgan.errors import MedganError
from medgan.inference.generate import in_units
from medgan.inference.model import Model, require_task
from medgan.networks.latents import latent
from medgan.resampling import interpolated, resampled
from medgan.volume import Volume

# A field of view that is larger or smaller than that of the training by more than this shows another anatomy.
_REFUSED_RATIO = 1.5


def scans_for_mask(model: Model, mask: Volume, count: int, *, seed: int = 0, first: int = 0) -> Iterator[Volume]:
    """Synthetic scans that show what a label map says, one at a time.

    Sample i is a function of (model, seed, i, voxels of the label map) alone.

    Args:
        model: trained for label maps to scans.
        mask: the label map, of any orientation and spacing; it is brought to the spacing of the training by nearest
            neighbour, and the scan back from it.
        count: how many.
        seed: of the latent vectors.
        first: index of the first sample.

    Yields:
        Float32 volumes (1, X, Y, Z) on the grid of the label map, in the units of the scans that the model was trained
        on.

    Raises:
        MedganError: the model is for something else, the values are no labels or not all known to the model, the field
            of view is far from that of the training, or a number is out of range.
    """
    require_task(model, "mask_to_scan", "generate --masks")
    if count < 1:
        raise MedganError(f"{count} samples cannot be drawn; ask for at least 1")
    turned = mask.with_data(label_values(mask)).reoriented("RAS")
    _require_known_size(turned, model)
    numbers = label_numbers(turned.data[0], model.config["mask_labels"])
    x, y, z = model.config["spacing"]
    seen = resampled(turned.with_data(numbers.astype(np.float32)), spacing=(x, y, z), order=0).data
    network, labels = model.network(), torch.from_numpy(np.array(seen))[None].to(model.device)
    digest = _digest(turned.data[0])
    for index in range(first, first + count):
        vector = latent(_mixed(seed, digest), index, network.latent_size)  # type: ignore[arg-type]
        with torch.inference_mode():
            sample = network(vector[None].to(model.device), labels)[0, 0].float().cpu().numpy()
        yield _on_grid_of(mask, turned, sample, model, {"seed": seed, "index": index, "mask_sha256": digest})


def _on_grid_of(
    mask: Volume, turned: Volume, sample: NDArray[np.float32], model: Model, about: dict[str, Any]
) -> Volume:
    """A network's answer (X, Y, Z), about [-1, 1], on the grid of the label map.

    Args:
        mask: the label map as it was given.
        turned: the same in RAS.
        sample: over the same field of view, in RAS.
        model: that made it.
        about: for the metadata.
    """
    back = interpolated(sample, turned.shape, 3) if sample.shape != turned.shape else sample
    scan = turned.with_data(in_units(back, model.config["normalisation"])).reoriented(mask.orientation)
    made = f"synthesised from a label map by medgan {__version__}, model {model.sha256[:12]}"
    history = (f"{made}, seed {about['seed']}, sample {about['index']}",)
    return Volume(
        data=scan.data,
        affine=mask.affine,
        history=history,
        metadata={**_geometry_fields(mask), "synthetic": True, "model_sha256": model.sha256, **about},
    )


def _geometry_fields(mask: Volume) -> dict[str, Any]:
    """What a label map's header says of its grid, for the scan to say as well; not how its values are stored."""
    fields = mask.metadata.get("nifti")
    if fields is None:
        return {}
    of_values = ("dtype", "slope", "intercept", "intent_code", "temporal_step")
    return {"nifti": {key: value for key, value in fields.items() if key not in of_values}}


def _require_known_size(turned: Volume, model: Model) -> None:
    """Refuse a field of view that the network has not learned to fill.

    Raises:
        MedganError: it is far larger or smaller than in training along an axis.
    """
    trained = [n * step for n, step in zip(model.config["shape"], model.config["spacing"], strict=True)]
    ratio = max(math.exp(abs(math.log(have / want))) for have, want in zip(turned.field_of_view, trained, strict=True))
    if ratio > _REFUSED_RATIO:
        have, want = (" x ".join(f"{side:.4g}" for side in sides) for sides in (turned.field_of_view, trained))
        raise MedganError(
            f"the label map spans {have} mm (R, A, S), the scans that the model was trained on {want} mm: what it "
            "learned does not hold there",
            hint="Crop or pad the label map to about that size, or train on scans like it.",
        )


def _digest(labels: NDArray[np.uint16]) -> str:
    """The SHA-256 of a label map's voxels in RAS, whatever file they stand in."""
    text = hashlib.sha256(str(labels.shape).encode())
    text.update(np.ascontiguousarray(labels, dtype="<u2").tobytes())
    return text.hexdigest()


def _mixed(seed: int, digest: str) -> int:
    """A seed that differs from label map to label map, so that the i-th samples of two are not of one style."""
    return int.from_bytes(hashlib.sha256(f"{seed} {digest}".encode()).digest()[:16], "big")
