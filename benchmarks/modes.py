"""How many of 27 known modes a GAN finds, and whether the watchdogs name a GAN that loses them.

The set: volumes of 16 x 16 x 16 voxels with one object at one of three positions, of one of three shapes (ball, plate,
hollow cube) and one of three intensities, a little noise and intensity jitter on top; every combination is as likely.
The classifier is analytic: the best matched filter gives position and shape, the least-squares intensity inside it the
level; a sample that resembles no filter counts as not recognised. "modes" counts those found in 702 samples of the
averaged generator, as many as 26 for each; "KL" is the divergence of the found modes from uniform, in nats (0 is best,
ln 27 = 3.3 is one mode only). Every case trains until it has cost the same, schedules included: on a CPU seconds that
cores worked.

The case "collapsing" is made to fail: the original minimax loss without a penalty, against a discriminator that learns
faster and oftener. It is worth its place only if a watchdog names the failure.

Run: python benchmarks/modes.py [--seconds 300] [--case dcgan=synthesis/dcgan ...] [--only r3gan ...] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gan_runs import synthesis_recipe, train_within
from numpy.typing import NDArray

SHAPE = (16, 16, 16)
CENTRES = ((4, 4, 8), (11, 4, 8), (8, 11, 8))
FORMS = ("ball", "plate", "hollow cube")
LEVELS = (0.5, 0.75, 1.0)
MODES = len(CENTRES) * len(FORMS) * len(LEVELS)
NOISE, JITTER = 0.02, 0.03
# Matched filters of different modes have a cosine of at most 0.65.
RECOGNISED = 0.8
SAMPLES = 26 * MODES

Volumes = NDArray[np.float32]

# Fields that networks of every family have; sizes and rates are for minutes, not for the recipes' days.
COMMON = [
    "network.width=8",
    "network.max_width=32",
    "synthesis.flip=false",
    "synthesis.ema_images={start: 0, end: 2000}",
    "training.batch_size=16",
    "training.watchdogs.samples=64",
    "tracking.enabled=false",
]
VECTORS = ["network.latent_size=32"]
HAAR = ["network.haar_head=true"]
# The discriminator sees how near the volumes of a batch are to each other.
TOGETHER = ["network.minibatch_statistics=discrimination"]
# As many directions as the modes differ in.
COMPONENTS = ["network.principal_components=26"]
RELATIVISTIC = [
    "synthesis.loss=relativistic",
    "synthesis.penalty={kind: r1+r2, form: exact, weight: auto, interval: 2}",
]


def rates(start: float, end: float) -> list[str]:
    """Learning rates of both networks."""
    schedule = f"{{start: {start}, end: {end}}}"
    return [f"synthesis.optimizer.{field}={schedule}" for field in ("learning_rate", "discriminator_learning_rate")]


GAME = [*VECTORS, *HAAR, *TOGETHER, *RELATIVISTIC, *rates(0.002, 0.0003)]
CRITIC = [
    *(*VECTORS, *HAAR, *TOGETHER, *rates(0.002, 0.0003)),
    *("synthesis.loss=wasserstein", "synthesis.discriminator_steps=2"),
    "synthesis.penalty={kind: gradient_penalty, form: exact, weight: auto, interval: 1}",
]
CASES: dict[str, tuple[str, list[str]]] = {
    "r3gan": (
        "synthesis/quickstart",
        [*GAME, *COMPONENTS, "network.common_pattern=false", "network.discriminator=plain"],
    ),
    "dcgan": ("synthesis/dcgan", [*GAME, *COMPONENTS, "network.discriminator_normalisation=none"]),
    "wgan_gp": ("synthesis/wgan_gp", [*CRITIC, *COMPONENTS]),
    "stylegan": (
        "synthesis/stylegan",
        [
            *(*CRITIC, *COMPONENTS, "synthesis.discriminator_steps=1"),
            *("network.style_size=32", "network.mapping_layers=1"),
            # What a sample has of fine noise and of a second style takes longer than minutes to learn.
            *("network.noise=false", "network.style_mixing=0"),
        ],
    ),
    "progressive": ("synthesis/progressive", [*GAME, *COMPONENTS]),
    "hagan": (
        "synthesis/hagan",
        # An object fills half of a volume: boxes of half a side would show none whole.
        [*VECTORS, *TOGETHER, *RELATIVISTIC, *rates(0.002, 0.0003), "network.base_size=2", "network.sub_volume=1.0"],
    ),
    "alpha_wgan": (
        "synthesis/alpha_wgan",
        [
            *VECTORS,
            *HAAR,
            *COMPONENTS,
            *rates(0.001, 0.0003),
            "synthesis.autoencoding.reconstruction_weight=30",
        ],
    ),
    "vqgan": (
        "synthesis/vqgan",
        [
            *HAAR,
            *("network.halvings=2", "network.width=8", "network.max_width=32", "network.codebook_size=128"),
            *("network.blocks=1", "network.code_channels=8", "network.prior_width=64", "network.prior_layers=2"),
            *("network.prior_heads=4", "network.discriminator_width=8"),
            "synthesis.autoencoding.prior_learning_rate={start: 0.002, end: 0.0002}",
            *("synthesis.autoencoding.adversarial_start=0.6", "synthesis.autoencoding.prior_share=0.3"),
            "synthesis.optimizer.beta2={start: 0.99, end: 0.99}",
            *rates(0.002, 0.0003),
        ],
    ),
    "collapsing": (
        "synthesis/quickstart",
        [
            *VECTORS,
            *HAAR,
            "network.principal_components=0",
            "network.discriminator=plain",
            "synthesis.loss=saturating",
            "synthesis.penalty.kind=none",
            "synthesis.optimizer.discriminator_learning_rate=0.002",
            "synthesis.discriminator_steps=3",
        ],
    ),
}


@dataclass(frozen=True)
class Coverage:
    """What the classifier says of a set.

    Args:
        modes: how many of the 27 occur.
        recognised: share of the volumes that resemble one of them.
        divergence: Kullback-Leibler divergence of the recognised ones from uniform, nats; None if there are none.
    """

    modes: int
    recognised: float
    divergence: float | None


def filters() -> Volumes:
    """The objects (9, X, Y, Z) at intensity one, three shapes at each position in turn."""
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij"), axis=-1)
    objects = []
    for centre in CENTRES:
        away = np.abs(grid - np.array(centre))
        farthest = away.max(axis=-1)
        objects.append((away**2).sum(axis=-1) <= 3.2**2)
        objects.append((farthest <= 3) & (away[..., 2] <= 1))
        objects.append(farthest == 3)
    return np.stack(objects).astype(np.float32)


def drawn(modes: NDArray[np.int64], random: np.random.Generator) -> Volumes:
    """One volume of each of these modes (0..26), (N, X, Y, Z)."""
    which, level = np.divmod(modes, len(LEVELS))
    brightness = np.array(LEVELS)[level] + random.uniform(-JITTER, JITTER, len(modes))
    volumes = brightness[:, None, None, None].astype(np.float32) * filters()[which]
    return volumes + np.float32(NOISE) * random.standard_normal(volumes.shape, dtype=np.float32)


def classified(volumes: Volumes) -> NDArray[np.int64]:
    """The mode of each volume (N, X, Y, Z), or -1 where it resembles none."""
    flat = volumes.reshape(len(volumes), -1).astype(np.float64)
    objects = filters().reshape(len(CENTRES) * len(FORMS), -1).astype(np.float64)
    products = flat @ objects.T
    lengths = np.linalg.norm(flat, axis=1, keepdims=True) * np.linalg.norm(objects, axis=1)
    cosines = products / np.maximum(lengths, 1e-12)
    which = cosines.argmax(axis=1)
    brightness = products[np.arange(len(flat)), which] / objects.sum(axis=1)[which]
    level = np.abs(brightness[:, None] - np.array(LEVELS)).argmin(axis=1)
    return np.where(cosines.max(axis=1) >= RECOGNISED, which * len(LEVELS) + level, -1)


def coverage(modes: NDArray[np.int64]) -> Coverage:
    """From the classes of a set."""
    counts = np.bincount(modes[modes >= 0], minlength=MODES)
    if not counts.sum():
        return Coverage(0, 0.0, None)
    shares = counts[counts > 0] / counts.sum()
    return Coverage(len(shares), float(counts.sum() / len(modes)), float((shares * np.log(shares * MODES)).sum()))


class Shapes:
    """Batches of the set, as a function of seed and position."""

    def __init__(self, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed

    def stream(self, position: int) -> Iterator[torch.Tensor]:
        """Batches from `position` on."""
        while True:
            random = np.random.default_rng([self.seed, position])
            yield torch.from_numpy(drawn(random.integers(0, MODES, self.batch_size), random))[:, None]
            position += 1


def scans(split: str) -> list[Volumes]:
    """What the watchdogs hold samples against: 256 volumes of the set, and 64 others."""
    count = {"train": 256, "validation": 64}.get(split, 0)
    random = np.random.default_rng([1000, count])
    return list(drawn(random.integers(0, MODES, count), random)) if count else []


def trained(name: str, overrides: list[str], seconds: float, device: torch.device, looks: int = 20) -> dict[str, Any]:
    """Train one recipe at a cost of about `seconds` and classify its samples."""
    from medgan.networks.latents import latents
    from medgan.training.linear_start import linear_start
    from medgan.training.supervision import Supervisor
    from medgan.workflows.watching import SampleLook

    recipe = synthesis_recipe(name, overrides)
    source = Shapes(recipe.training.batch_size, recipe.training.seed)
    supervisor = Supervisor(
        recipe.training, look=SampleLook(recipe, scans, device), tell=lambda notice, _: print(f"  {notice}")
    )
    grid: dict[str, Any] = {"shape": SHAPE, "spacing": (1.0, 1.0, 1.0)}
    start = linear_start(recipe, scans("train"), **grid)
    grid |= {"device": device, "start": start}
    result = train_within(recipe, source, seconds, looks=looks, supervisor=supervisor, **grid)
    vectors = latents(1, range(SAMPLES), result.average.latent_size)  # type: ignore[arg-type]
    with torch.inference_mode():
        parts = [result.average(part.to(device))[:, 0].float().cpu() for part in vectors.split(27)]
    found = coverage(classified((torch.cat(parts).numpy() + 1) / 2))
    warned = sorted({notice.kind for notice in result.notices})
    return {**vars(found), "steps": result.moment.step, "warnings": warned}


def main() -> None:
    """Train every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="what the training of each case may cost")
    parser.add_argument("--case", action="append", default=[], metavar="NAME=RECIPE", help="one more recipe to train")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override a field in all cases")
    parser.add_argument("--only", nargs="+", help="names of the cases to train")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = CASES | {name: (recipe, []) for name, _, recipe in (text.partition("=") for text in options.case)}
    rows = {}
    for name in options.only or cases:
        recipe, overrides = cases[name]
        print(f"{name}: {recipe}", flush=True)
        settings = [*COMMON, *overrides, *options.overrides]
        rows[name] = trained(recipe, settings, options.seconds, torch.device(options.device))
    print(f"{'':14}{'modes':>10}{'recognised':>12}{'KL':>8}{'steps':>8}  warnings")
    for name, row in rows.items():
        divergence = "-" if row["divergence"] is None else f"{row['divergence']:.3f}"
        print(f"{name:14}{row['modes']:>5} / {MODES}{row['recognised']:>12.1%}{divergence:>8}", end="")
        print(f"{row['steps']:>8}  {', '.join(row['warnings']) or 'none'}")
    if options.json:
        from medgan.files import write_json

        write_json(options.json, rows)


if __name__ == "__main__":
    main()
