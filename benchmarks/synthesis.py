"""Every GAN family and MONAI's own, trained on one cohort for the same time: what each makes of it.

Each training runs in a process of its own, on --threads cores, until it has cost --seconds: on a CPU the time that
cores worked for it, schedules stretched to that. Every family of medgan keeps the best of its weights at ten moments,
which are evaluated with samples of other latent vectors than the table's; what that costs is not counted.

KID is that of 128 samples of the averaged generator against the training scans, by medgan's fixed random encoder, with
its 95 % interval; "floor" is that of random halves of the training scans, "held out" that of scans nobody trained on.
"gain" is KID before the first step over KID after training; "over r3gan" how many times farther above the floor a
family ends than the default one does.

The sizes are a CPU's: with --preset gpu every recipe keeps its own. MONAI's peer is its `Generator` and
`Discriminator` under `GanTrainer` (gan_monai.py). The linear model is what the default begins from, untrained: normal
weights of the cohort's principal components. A GAN that does not beat it has learnt little.

Run: python benchmarks/synthesis.py --data COHORT [--seconds 600] [--only r3gan MONAI] [--jobs 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gan_runs import apart
from numpy.typing import NDArray

Volumes = list[NDArray[np.float32]]

SAMPLES, LOOKS = 128, 10
DEFAULT, PEER, LINEAR = "r3gan", "MONAI", "linear model"
ALWAYS = ["synthesis.ema_images={start: 0, end: 500}", "training.batch_size=8"]
BEST_KEPT = ["training.stop={patience: 1000}", "training.watchdogs.mode=off"]
SMALL = ["network.width=24", "network.max_width=96", "network.latent_size=64"]
HAAR = ["network.haar_head=true"]


def rates(start: float, end: float) -> list[str]:
    """Learning rates for minutes: the recipes' own are for days."""
    schedule = f"{{start: {start}, end: {end}}}"
    return [f"synthesis.optimizer.{field}={schedule}" for field in ("learning_rate", "discriminator_learning_rate")]


GAME = [
    "synthesis.loss=relativistic",
    "synthesis.penalty={kind: r1+r2, form: exact, weight: auto, interval: 4}",
    *rates(0.001, 0.0002),
]

FAMILIES: dict[str, tuple[str, list[str]]] = {
    DEFAULT: (
        "synthesis/r3gan_small",
        [*SMALL, "network.max_width=48", "synthesis.ema_images={start: 0, end: 1500}"],
    ),
    "dcgan": ("synthesis/dcgan", [*SMALL, *HAAR, *GAME, "network.discriminator_normalisation=none"]),
    "wgan_gp": ("synthesis/wgan_gp", [*SMALL, *HAAR, *rates(0.001, 0.0003), "synthesis.discriminator_steps=3"]),
    "stylegan": ("synthesis/stylegan", [*SMALL, *HAAR, *GAME]),
    "progressive": ("synthesis/progressive", [*SMALL, *HAAR, *GAME, "network.principal_components=32"]),
    "hagan": ("synthesis/hagan", [*SMALL, "network.base_size=3", *GAME]),
    "alpha_wgan": ("synthesis/alpha_wgan", [*SMALL, *HAAR, *rates(0.001, 0.0003)]),
    "vqgan": (
        "synthesis/vqgan",
        [
            *("network.halvings=2", "network.width=16", "network.max_width=64", "network.codebook_size=64"),
            *("network.blocks=1", "network.code_channels=8", "network.prior_width=64", "network.prior_layers=2"),
            *("network.prior_heads=4", "synthesis.autoencoding.prior_learning_rate={start: 0.002, end: 0.0002}"),
            *HAAR,
            "network.discriminator_width=16",
            *rates(0.001, 0.0003),
        ],
    ),
}


def trained(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one family in this process and measure its samples."""
    from medgan.data.cohort import Cohort
    from medgan.workflows.assess import held_out, normalised_scans

    torch.set_num_threads(options.threads)
    cohort = Cohort.load(options.data)
    make = {PEER: _peer, LINEAR: _linear}.get(name, _family)
    after, before, steps = make(name, cohort, options)
    real = normalised_scans(cohort, cohort.split("train"))
    unseen = normalised_scans(cohort, held_out(cohort))
    return {"steps": steps, **figures(real, unseen, before, after)}


def figures(real: Volumes, unseen: Volumes, before: Volumes, after: Volumes) -> dict[str, Any]:
    """KID of samples before and after training and of unseen scans, all against the real ones, and the floor."""
    from medgan.evaluation.features import RandomEncoder, Standardisation
    from medgan.evaluation.fidelity import FEWEST_SCANS, kid, real_floor

    encoder = RandomEncoder()
    raw = encoder.extract(real)
    standardisation = Standardisation.fitted(raw)
    reference = standardisation.applied(raw)
    estimates = {
        name: kid(reference, standardisation.applied(encoder.extract(volumes)))
        for name, volumes in (("before", before), ("after", after), ("held_out", unseen))
        if name != "held_out" or len(volumes) >= FEWEST_SCANS
    }
    floor = real_floor(reference)
    return {
        "kid": estimates["after"].value,
        "low": estimates["after"].low,
        "high": estimates["after"].high,
        "before": estimates["before"].value,
        "held_out": estimates["held_out"].value if "held_out" in estimates else None,
        "floor": floor.value,
        "floor_high": floor.high,
    }


def overrides_of(name: str, options: argparse.Namespace) -> tuple[str, list[str]]:
    """The recipe and all its overrides."""
    recipe, special = FAMILIES[name]
    sizes = [] if options.preset == "gpu" else [*ALWAYS, *special]
    if options.preset == "gpu" and name == DEFAULT:
        recipe = "synthesis/r3gan"
    return recipe, ["tracking.enabled=false", *BEST_KEPT, *sizes, *options.overrides]


def _family(name: str, cohort: Any, options: argparse.Namespace) -> tuple[Volumes, Volumes, int]:
    from gan_runs import synthesis_recipe, train_within

    from medgan.training.supervision import Supervisor
    from medgan.training.synthesis import SynthesisObjective
    from medgan.workflows.linear_start import cohort_start
    from medgan.workflows.train import CohortBatches
    from medgan.workflows.watching import SampleLook, scans_of

    recipe = synthesis_recipe(*overrides_of(name, options))
    device = torch.device(options.device)
    supervisor = Supervisor(recipe.training, look=SampleLook(recipe, partial(scans_of, cohort), device))
    grid = {"shape": cohort.shape, "spacing": cohort.spacing, "device": device}
    before = _samples(SynthesisObjective(recipe, **grid).generator.eval(), device)
    grid["start"] = cohort_start(recipe, cohort)
    source = CohortBatches(recipe, cohort)
    result = train_within(recipe, source, options.seconds, looks=LOOKS, supervisor=supervisor, **grid)
    return _samples(result.average, device), before, result.moment.step


def _linear(name: str, cohort: Any, options: argparse.Namespace) -> tuple[Volumes, Volumes, int]:
    from gan_runs import synthesis_recipe

    from medgan.networks.principal import PrincipalGenerator
    from medgan.training.synthesis import SynthesisObjective
    from medgan.workflows.linear_start import cohort_start

    recipe = synthesis_recipe(*overrides_of(DEFAULT, options))
    grid: dict[str, Any] = {"shape": cohort.shape, "spacing": cohort.spacing, "device": torch.device("cpu")}
    before = _samples(SynthesisObjective(recipe, **grid).generator.eval(), grid["device"])
    generator = SynthesisObjective(recipe, start=cohort_start(recipe, cohort), **grid).generator
    if not isinstance(generator, PrincipalGenerator):
        raise SystemExit(f"{DEFAULT} begins from no linear model here: network.principal_components is 0")
    with torch.no_grad():
        generator.share.zero_()
    return _samples(generator.eval(), grid["device"]), before, 0


def _samples(network: torch.nn.Module, device: torch.device) -> Volumes:
    """Normalised to about 0..1."""
    from medgan.networks.latents import latents

    vectors = latents(0, range(SAMPLES), network.latent_size)  # type: ignore[arg-type]
    with torch.inference_mode():
        parts = [network(part.to(device))[:, 0].float().cpu() for part in vectors.split(8)]
    return list(((torch.cat(parts) + 1) / 2).numpy())


def _peer(name: str, cohort: Any, options: argparse.Namespace) -> tuple[Volumes, Volumes, int]:
    from gan_monai import trained_samples
    from gan_runs import synthesis_recipe

    from medgan.workflows.train import CohortBatches

    recipe = synthesis_recipe(*overrides_of(DEFAULT, options))
    return trained_samples(
        CohortBatches(recipe, cohort).stream(0),
        cohort.shape,
        batch_size=recipe.training.batch_size,
        seconds=options.seconds,
        width=recipe.network.width,
        count=SAMPLES,
        device=torch.device(options.device),
    )


def finished(name: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """One family's figures, from a process of its own; said as soon as they are there."""
    row = apart(__file__, [*arguments, "--family", name], threads=threads)
    print(f"{name}: KID {row['kid']:.4g} after {row['steps']} steps", flush=True)
    return row


def table(rows: dict[str, dict[str, Any]]) -> str:
    """All families, best first."""
    lines = [f"{'':14}{'KID':>10}  {'95 % interval':22}{'before':>10}{'gain':>8}{'over r3gan':>12}{'steps':>8}"]
    default = rows.get(DEFAULT)
    for name, row in sorted(rows.items(), key=lambda pair: pair[1]["kid"]):
        interval = f"{row['low']:.4g} to {row['high']:.4g}"
        above = "-" if default is None else f"{above_floor(row) / above_floor(default):.2f}"
        gain = row["before"] / max(row["kid"], 1e-12)
        figures_of = f"{row['kid']:>10.4g}  {interval:22}{row['before']:>10.4g}{gain:>7.1f}x{above:>12}"
        lines.append(f"{name:14}{figures_of}{row['steps']:>8}")
    any_row = next(iter(rows.values()))
    if any_row["held_out"] is not None:
        lines.append(f"{'held out':14}{any_row['held_out']:>10.4g}")
    lines.append(f"{'floor':14}{any_row['floor']:>10.4g}  (95 % of halves below {any_row['floor_high']:.4g})")
    return "\n".join(lines)


def above_floor(row: dict[str, Any]) -> float:
    """How far KID lies above that of random halves of the training scans; at least what the floor's interval spans."""
    return float(max(row["kid"] - row["floor"], row["floor_high"] - row["floor"]))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--data", type=Path, required=True, help="a prepared cohort")
    line.add_argument("--seconds", type=float, default=600.0, help="what each training may cost")
    line.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="gpu: the recipes' own sizes")
    line.add_argument("--set", action="append", default=[], dest="overrides", help="override a field in all families")
    line.add_argument("--only", nargs="+", choices=[*FAMILIES, PEER, LINEAR], help="families to train")
    line.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    line.add_argument("--threads", type=int, default=1, help="cores of each training")
    line.add_argument("--device", default="cpu")
    line.add_argument("--json", type=Path, help="write the figures here as well")
    line.add_argument("--family", help=argparse.SUPPRESS)
    return line


def main(arguments: list[str] | None = None) -> None:
    """Train every family and print; or, started by itself, one of them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    if options.family:
        print(json.dumps(trained(options.family, options)))
        return
    names = options.only or [*FAMILIES, PEER, LINEAR]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = pool.map(lambda name: finished(name, arguments, options.threads), names)
        rows = dict(zip(names, found, strict=True))
    print(table(rows))
    if options.json:
        from medgan.files import write_json

        write_json(options.json, rows)


if __name__ == "__main__":
    main()
