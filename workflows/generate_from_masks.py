"""Draw synthetic scans for label maps into files: pairs that train segmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import blamed, search
from medgan.workflows.formats import NIFTI
from medgan.workflows.models import model_for
from medgan.workflows.places import new_folder

if TYPE_CHECKING:
    from medgan.data.lineage import Origins
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.volume import Volume

IMAGES, LABELS = "images", "labels"
_NOTICE = (
    "These scans were made by a generative model from label maps; their voxels are nobody's, the shapes in them are "
    "those of the label maps. Not for diagnosis. Keep what was made from one label map in one split, with its parent."
)


@dataclass(frozen=True)
class PairedSamples:
    """What was written.

    Args:
        images: the synthetic scans.
        labels: their label maps, of the same names.
        failures: label maps that could not be used, with the reason.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    failures: tuple[tuple[Path, str], ...]


def generate_from_masks(
    model: str | Path,
    masks: str | Path | Sequence[str | Path],
    count: int,
    out: str | Path,
    *,
    seed: int = 0,
    warp: float = 0.0,
    device: str = "auto",
    format: str = NIFTI,
    reporter: Reporter | None = None,
) -> PairedSamples:
    """Write `count` synthetic scans for each label map.

    The folder holds `images/` and `labels/` with files of equal names, `images/participants.tsv`, by which
    `medgan prepare OUT/images --masks OUT/labels` keeps what was made from one label map in one split, and
    `samples.json`, which says of each scan how it was made and from which parent (by the SHA-256 of its file and of its
    voxels; names and paths of label maps are not told), and what the model had learned from.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it, trained for label maps to scans.
        masks: label maps, or folders of them.
        count: how many scans for each.
        out: a folder; it appears whole or not at all.
        seed: of the latent vectors and warps; sample i of a label map is a function of (model, seed, i, warp, label
            map) alone.
        warp: each sample shows the label map deformed by a smooth random flow of this size, mm (root mean square);
            0 leaves it as it is.
        device: "auto", "cpu", "cuda", ...
        format: "nifti".
        reporter: where progress goes.

    Raises:
        MedganError: the model, a number or the format is wrong, `out` exists and is not empty, or no label map can be
            used.
    """
    from medgan import __version__
    from medgan.data.lineage import Origins, trained_on_of
    from medgan.files import atomic_path, write_json, write_text

    reporter = reporter or Reporter()
    if format != NIFTI:
        raise MedganError(
            f"pairs of scans and label maps are written as NIfTI, not as '{format}'", hint="Leave out --format."
        )
    if count < 1:
        raise MedganError(f"{count} scans for each label map are none; ask for at least 1")
    if not (math.isfinite(warp) and warp >= 0):
        raise MedganError(f"a warp is a size in mm from 0, this is {warp:g}", hint="1 to 3 suits small structures.")
    folder = new_folder(out)
    scans, damaged = search([masks] if isinstance(masks, str | Path) else masks)
    loaded = model_for("mask_to_scan", model, device, "generate --masks")
    origins = Origins.near(scan.path.absolute() for scan in scans)
    drawing = _Drawing(loaded, origins, count, seed, warp)
    records: list[dict[str, Any]] = []
    failures = list(damaged)
    with atomic_path(folder) as temporary:
        for part in (IMAGES, LABELS):
            (temporary / part).mkdir(parents=True)
        for number, scan in enumerate(scans):
            try:
                records += _written_pairs(temporary, folder, scan, drawing, number * count)
            except MedganError as error:
                if len(scans) == 1:
                    raise blamed(error, scan.path) from error
                failures.append((scan.path, str(blamed(error, scan.path))))
            reporter.progress("generate", number + 1, len(scans), scan.name)
        if not records:
            raise MedganError(
                f"none of the {len(scans)} label maps can be used, such as {failures[0][0].name}: {failures[0][1]}",
                hint="Label maps hold the whole numbers that the model was trained with.",
            )
        subjects = ["file\tsubject", *(f"{Path(one['file']).name}\tmask-{one['parent']:04d}" for one in records)]
        write_text(temporary / IMAGES / "participants.tsv", "\n".join(subjects) + "\n")
        about = {
            "synthetic": True,
            "notice": _NOTICE,
            "medgan_version": __version__,
            "model_sha256": loaded.sha256,
            "trained_on": trained_on_of(loaded.config),
            "warp_mm": warp,
            "samples": [{key: value for key, value in one.items() if key != "parent"} for one in records],
        }
        write_json(temporary / "samples.json", about)
    return PairedSamples(
        tuple(folder / one["file"] for one in records),
        tuple(folder / one["label_map"] for one in records),
        tuple(failures),
    )


@dataclass(frozen=True)
class _Drawing:
    """What is drawn for every label map.

    Args:
        model: loaded.
        origins: of label maps that were made from others.
        count: how many scans.
        seed: of the latent vectors and warps.
        warp: size of the warps, mm.
    """

    model: Model
    origins: Origins
    count: int
    seed: int
    warp: float

    def pairs(self, mask: Volume, digest: str) -> Iterator[tuple[Volume, Volume]]:
        """Scans and the label maps that they show; `digest` is the hash of the given label map's voxels."""
        from medgan.data.mask_warps import warped_mask
        from medgan.inference.mask_to_scan import scans_for_mask

        if not self.warp:
            copied = _copied(mask)
            for volume in scans_for_mask(self.model, mask, self.count, seed=self.seed):
                yield volume, copied
            return
        for index in range(self.count):
            shown = warped_mask(mask, self.warp, [self.seed, index, int(digest[:16], 16)])
            for volume in scans_for_mask(self.model, shown, 1, seed=self.seed, first=index):
                yield volume, _copied(shown)


def _written_pairs(temporary: Path, folder: Path, scan: Scan, drawing: _Drawing, first: int) -> list[dict[str, Any]]:
    """Write the scans of one label map, each with its label map, and say how they were made.

    Args:
        temporary: where the files go.
        folder: where they will stand, for messages.
        scan: the label map on disk.
        drawing: what to make of it.
        first: the number in the name of the first file.
    """
    from medgan.data.gridding import content_sha256
    from medgan.data.lineage import voxels_sha256
    from medgan.io import write_volume

    mask = scan.read()
    digest = voxels_sha256(mask)
    parents = [{"kind": "label map", "sha256": content_sha256(scan), "voxels_sha256": digest}]
    known = set(parents[0].values())
    parents += [
        {"kind": "label map", "sha256": one} for one in drawing.origins.parents_of_label_map(digest) if one not in known
    ]
    records: list[dict[str, Any]] = []
    for volume, shown in drawing.pairs(mask, digest):
        name = f"synthetic-{first + len(records):04d}.nii.gz"
        for part, written in ((IMAGES, volume), (LABELS, shown)):
            try:
                write_volume(written, temporary / part / name)
            except MedganError as error:
                raise MedganError(error.what, file=folder / part / name, hint=error.hint) from error
        made = {
            "file": f"{IMAGES}/{name}",
            "label_map": f"{LABELS}/{name}",
            "synthetic": True,
            "seed": drawing.seed,
            "index": volume.metadata["index"],
            "voxels_sha256": voxels_sha256(volume),
            "label_map_voxels_sha256": voxels_sha256(shown),
            "parents": parents,
        }
        records.append({**made, "parent": first // drawing.count})
    return records


def _copied(mask: Volume) -> Volume:
    """The label map with all that a header says of its grid and values, in as few bytes as its labels take."""
    from dataclasses import replace

    import numpy as np

    from medgan.data.mask_gridding import label_values

    labels = label_values(mask)
    small = labels.astype(np.uint8) if labels.max() <= np.iinfo(np.uint8).max else labels
    fields = dict(mask.metadata.get("nifti", {})) | {"dtype": small.dtype.name, "slope": 1.0, "intercept": 0.0}
    return replace(mask, data=small, metadata={"nifti": fields} if "nifti" in mask.metadata else {})
