"""Evaluate synthetic scans that are already in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import blamed, scans_in

if TYPE_CHECKING:
    import numpy as np

    from medgan.evaluation.segmenters import Segmenter
    from medgan.io import Scan
    from medgan.volume import Volume

# Spacings in headers are rounded; a hundredth is a millimetre or two over a head.
_SPACING_TOLERANCE = 0.01


def evaluate_synthesis_files(
    real: str | Path,
    synthetic: str | Path,
    out: str | Path,
    *,
    holdout: str | Path | None = None,
    encoder: str | None = None,
    classifier: str | Path | None = None,
    label: str | None = None,
    segmentation: str | Path | None = None,
    model: str | Path | None = None,
    cache: bool = True,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The evaluation card of synthetic scans: `card.json` and `card.html` in the folder `out`.

    Scans are read one after the other into a temporary folder, so that memory does not grow with their number; that
    folder takes four bytes a voxel on the disk and is always removed.

    Args:
        real: folder of the scans that the generator was trained on.
        synthetic: folder of its samples, of the same shape and spacing.
        out: folder to write.
        holdout: folder of real scans that it never saw.
        encoder: what gives the features, see `medgan.evaluation.encoders.encoder_named`; the card's own by default.
        classifier: TorchScript file that gives class scores of a volume, for the inception score and distances of each
            class; a program, which runs.
        label: name of a label that the real scans have in a participants table and the synthetic ones in
            `samples.json` or a participants table, for distances of each class.
        segmentation: for the volumes of regions, see `medgan.evaluation.segmenters.load_segmenter`; a program, which
            runs.
        model: that made the samples, as `medgan.workflows.models.resolve_model` takes it: what the audit for copies
            finds is stored beside its weights, where `medgan generate` and `medgan export` look.
        cache: whether features of scans that were encoded before are used again and new ones kept, in the folder
            MEDGAN_CACHE or the user's folder for caches.
        seed: of the resampling behind the confidence intervals.
        reporter: where news goes.

    Raises:
        MedganError: too few scans, a scan that cannot be read (figures of a part would be those of another set),
            shapes or spacings that differ, or an encoder, classifier, label or segmentation that is not there.
    """
    from medgan.evaluation.cache import FeatureCache, cache_folder
    from medgan.evaluation.encoders import encoder_named
    from medgan.evaluation.segmenters import load_segmenter
    from medgan.evaluation.synthesis import evaluate_synthesis
    from medgan.evaluation.verdicts import verdicts
    from medgan.workflows.classes import classifier_of, labels_of_scans
    from medgan.workflows.places import writable_folder
    from medgan.workflows.release import require_samples_of, store_card_audit
    from medgan.workflows.scratch import scratch_folder

    folder, say = writable_folder(out), (reporter or Reporter()).say
    if model is not None:
        require_samples_of(model, synthetic)
    judge = classifier_of(classifier) if classifier is not None else None
    segmenter = load_segmenter(segmentation) if segmentation is not None else None
    scans = {"real": scans_in([real]), "synthetic": scans_in([synthetic])}
    labels = None
    if label is not None:
        labels = labels_of_scans(real, scans["real"], label), labels_of_scans(synthetic, scans["synthetic"], label)
    if holdout is not None:
        scans["holdout"] = scans_in([holdout])
    like = scans["real"][0].read().reoriented("RAS")
    chosen = encoder_named(encoder, spacing=like.spacing)
    # First, because a segmentation of the user's own fails more easily than anything else here.
    anatomy = _anatomy(scans, segmenter, seed) if segmenter is not None else None
    with scratch_folder() as scratch:
        voxels = {name: scratch.store(name, len(found), _reader(found, like)) for name, found in scans.items()}
        figures = evaluate_synthesis(
            voxels["real"],
            voxels["synthetic"],
            holdout=voxels.get("holdout", ()),
            spacing=like.spacing,
            encoder=chosen,
            cache=FeatureCache(cache_folder(), say) if cache else None,
            classifier=judge,
            labels=labels,
            seed=seed,
        ).to_dict()
    figures["anatomy"] = anatomy
    figures["verdicts"] = [verdict.to_dict() for verdict in verdicts(figures)]
    named = {"encoder": encoder, "classifier": classifier, "label": label, "segmentation": segmentation}
    options = [f"--{name} {name.upper()}" for name, value in named.items() if value is not None]
    _write_card(folder, figures, scans, options)
    if model is not None:
        say(f"Audit stored with the model: {store_card_audit(model, figures)}")
    return figures


def _anatomy(scans: Mapping[str, Sequence[Scan]], segmenter: Segmenter, seed: int) -> dict[str, Any]:
    """Volumes of regions; scans are read again one by one, in their own units and orientation."""
    from medgan.evaluation.anatomy import evaluate_anatomy

    real, synthetic = ((scan.read() for scan in scans[name]) for name in ("real", "synthetic"))
    return evaluate_anatomy(real, synthetic, segmenter, seed=seed).to_dict()


def _write_card(
    folder: Path, figures: dict[str, Any], scans: Mapping[str, Sequence[Scan]], options: Sequence[str]
) -> None:
    """`card.json` and `card.html`, both or none."""
    from medgan.files import write_json
    from medgan.workflows.closest_blocks import close_pairs
    from medgan.workflows.run_report import write_synthesis_card

    def read(name: str, number: int) -> Volume:
        return scans[name][number].read().reoriented("RAS")

    shown = {name: [read(name, n) for n in range(min(8, len(scans[name])))] for name in ("real", "synthetic")}
    pairs = [(pair, read("synthetic", pair.sample), read("real", pair.training)) for pair in close_pairs(figures)]
    write_json(folder / "card.json", figures)
    try:
        write_synthesis_card(folder / "card.html", figures, shown["real"], shown["synthetic"], pairs, options=options)
    except MedganError:
        (folder / "card.json").unlink()
        raise


def _reader(scans: Sequence[Scan], like: Volume) -> Callable[[int], np.ndarray]:
    """A function that gives the normalised voxels of a scan by its number, in RAS order, on a grid such as that of
    `like`.
    """

    def read(number: int) -> np.ndarray:
        scan = scans[number]
        volume = scan.read().reoriented("RAS")
        if volume.shape != like.shape:
            raise MedganError(
                f"this scan has {volume.shape} voxels in RAS order, the first real one {like.shape}",
                file=scan.path,
                hint="Bring all scans to one grid before they are compared, for example with medgan prepare.",
            )
        if any(
            abs(ours / theirs - 1) > _SPACING_TOLERANCE
            for ours, theirs in zip(volume.spacing, like.spacing, strict=True)
        ):
            raise MedganError(
                f"this scan has voxels of {_millimetres(volume)}, the first real one of {_millimetres(like)}",
                file=scan.path,
                hint="Bring all scans to one grid before they are compared, for example with medgan prepare.",
            )
        try:
            return _normalised(volume)
        except MedganError as error:
            raise blamed(error, scan.path) from error

    return read


def _millimetres(volume: Volume) -> str:
    return " x ".join(f"{step:.4g}" for step in volume.spacing) + " mm"


def _normalised(volume: Volume) -> np.ndarray:
    """Voxels (X, Y, Z) with the 0.5th percentile at 0 and the 99.5th at 1."""
    import numpy as np

    from medgan.data.intensity import normalise

    voxels = volume.as_float()[0]
    if not np.isfinite(voxels).all():
        raise MedganError("some voxels are not finite", hint="Leave this scan out, or repair it.")
    low, high = (float(value) for value in np.percentile(volume.data, (0.5, 99.5)))
    return normalise(voxels, low, high)
