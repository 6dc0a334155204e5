"""Whether synthetic pairs help to segment the hippocampus when ten subjects have labels.

The set: crops around one hippocampus with labels of its anterior and posterior part (Medical Segmentation Decathlon,
task 4), at 2 mm. Ten of them, drawn at random, have labels; a network from label maps to scans learns from these ten
alone, and makes scans for their label maps, deformed at random. Segmentation networks learn from the ten, from the ten
and the synthetic pairs, and from the synthetic pairs alone: as many steps, the same strong augmentation, the same
seeds. All are tested on subjects that neither the generator nor they have seen.

Run: python benchmarks/usefulness.py --data FOLDER_WITH_images_AND_labels [--generator-steps 700] [--steps 1000]
     [--seeds 5] [--subjects 10] [--tested 60] [--warp 1.5] [--cache FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from medgan.data.cohort import Cohort
from medgan.data.prepare import prepare
from medgan.files import write_json, write_text
from medgan.workflows.generate_from_masks import generate_from_masks
from medgan.workflows.train import require_finished, train
from medgan.workflows.usefulness import UsefulnessOptions, evaluate_usefulness

SPACING = 2.0
# So that ten subjects are learned from in minutes of one core.
CHEAPER = ("network.haar_head=true", "network.discriminator_width=16")


def cohort_of(data: Path, folder: Path, *, subjects: int, tested: int, draw: int) -> Cohort:
    """The crops on one grid: so many for training and for the test; made once and then read.

    Links in `folder/scans` and `folder/masks` stand for those that were drawn.
    """
    if (folder / "cohort").exists():
        return Cohort.load(folder / "cohort")
    names = sorted(path.name for path in (data / "images").glob("*.nii*"))
    drawn = np.random.default_rng(draw).permutation(names)[: subjects + tested].tolist()
    splits = ["train"] * subjects + ["test"] * tested
    for part, source in (("scans", "images"), ("masks", "labels")):
        (folder / part).mkdir(parents=True)
        for name in drawn:
            (folder / part / name).symlink_to((data / source / name).resolve())
    rows = ["file\tsubject\tsplit", *(f"{name}\t{name}\t{split}" for name, split in zip(drawn, splits, strict=True))]
    write_text(folder / "scans" / "participants.tsv", "\n".join(rows) + "\n")
    (folder / "teachers").mkdir()
    for name in drawn[:subjects]:
        (folder / "teachers" / name).symlink_to((data / "labels" / name).resolve())
    return prepare(
        [folder / "scans"], folder / "cohort", spacing=(SPACING,) * 3, masks=folder / "masks", split=(1, 0, 0)
    ).cohort


def main() -> None:
    """Train the generator, make pairs, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--subjects", type=int, default=10, help="with labels, for all that is trained")
    parser.add_argument("--tested", type=int, default=60)
    parser.add_argument("--draw", type=int, default=0, help="seed of which subjects these are")
    parser.add_argument("--generator-steps", type=int, default=700)
    parser.add_argument("--pairs", type=int, default=20, help="synthetic pairs for each label map")
    parser.add_argument("--warp", type=float, default=1.5, help="size of the deformation of label maps, mm")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, help="keep cohort, generator and pairs here, and use them again")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        cohort = cohort_of(options.data, folder, subjects=options.subjects, tested=options.tested, draw=options.draw)
        if not (folder / "run" / "model").exists():
            settings = ["tracking.enabled=false", "training.checkpoint_ticks=1000", *CHEAPER]
            steps, run = options.generator_steps, folder / "run"
            require_finished(
                train(
                    "synthesis/mask_to_scan",
                    cohort.folder,
                    overrides=settings,
                    steps=steps,
                    out=run,
                    device=options.device,
                )
            )
        if not (folder / "pairs").exists():
            generate_from_masks(folder / "run", folder / "teachers", options.pairs, folder / "pairs", warp=options.warp)
        found = evaluate_usefulness(
            cohort.folder,
            folder / "pairs",
            folder / "card",
            options=UsefulnessOptions(
                steps=options.steps, width=options.width, flip=True, seeds=options.seeds, tracking=False
            ),
            device=options.device,
        )
    print(found["sentence"])
    for name, arm in found["arms"].items():
        print(f"{name:16}{arm['mean']:>8.4f}   by seed {' '.join(f'{one:.4f}' for one in arm['by_seed'])}")
    for one in found["differences"]:
        estimate = one["estimate"]
        name = f"{one['second']} - {one['first']}, {one['measure']}"
        print(f"{name:50}{estimate['value']:>+9.4f}  [{estimate['low']:+.4f}, {estimate['high']:+.4f}]")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
