"""What finite-difference penalties and the Haar head save: time per step, peak memory, and KID reached in equal time.

Four variants of one recipe with R1 and R2: penalties exact (double backward) or by finite differences, networks on the
volume's full grid or on its eight Haar sub-bands. Each is measured in a process of its own, on random volumes: the time
of a step (on a CPU: that cores worked) is the mean over --steps after two that warm up; memory is by how much the
largest resident set grows from the finished networks on (on a GPU: the allocator's peak), so that Python and its
libraries do not count.

With --data every variant also trains on that cohort until it has cost --seconds (on a CPU: that cores worked),
schedules included, and is evaluated like any training: KID of its samples against the training scans, with its 95 %
interval.

Run: python benchmarks/penalties.py [--size 64] [--batch 2] [--data COHORT --seconds 600] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from gan_runs import apart

VARIANTS = {
    "exact, full grid": ["synthesis.penalty.form=exact", "network.haar_head=false"],
    "differences, full grid": ["synthesis.penalty.form=finite_difference", "network.haar_head=false"],
    "exact, Haar head": ["synthesis.penalty.form=exact", "network.haar_head=true"],
    "differences, Haar head": ["synthesis.penalty.form=finite_difference", "network.haar_head=true"],
}
REFERENCE, LEANEST = "exact, full grid", "differences, Haar head"
ALWAYS = [
    "network.discriminator=residual",
    "synthesis.penalty.kind=r1+r2",
    "synthesis.penalty.interval=1",
    "tracking.enabled=false",
]


def settings(variant: str, overrides: list[str]) -> list[str]:
    """All overrides of a variant."""
    return [*ALWAYS, *overrides, *VARIANTS[variant]]


def measured(variant: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds per step and MB that steps need, in this process."""
    import torch
    from gan_runs import SmoothVolumes, prepared, seconds_per_step, synthesis_recipe, with_training

    torch.set_num_threads(options.threads)
    device, shape = torch.device(options.device), (options.size,) * 3
    recipe = synthesis_recipe(options.recipe, settings(variant, options.overrides)).with_steps(10**6)
    recipe = with_training(recipe, batch_size=options.batch, tick_steps=10**6)
    with tempfile.TemporaryDirectory() as folder:
        source = SmoothVolumes(shape, options.batch)
        trainer = prepared(recipe, source, Path(folder), shape=shape, spacing=(1.0, 1.0, 1.0), device=device)
        before = peak_mb(device)
        seconds = seconds_per_step(trainer, options.steps)
        return {"seconds": seconds, "peak_mb": peak_mb(device) - before}


def peak_mb(device: Any) -> float:
    """The most memory that was in use so far, MB."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    # Linux counts kilobytes here, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def kid_reached(variant: str, options: argparse.Namespace) -> dict[str, float]:
    """Train on the cohort for the given time and evaluate: KID with its interval, and the steps that it took."""
    import torch
    from gan_runs import steps_within, synthesis_recipe

    from medgan.data.cohort import Cohort
    from medgan.workflows.train import CohortBatches, train

    torch.set_num_threads(options.threads)
    cohort, overrides = Cohort.load(options.data), settings(variant, options.overrides)
    recipe = synthesis_recipe(options.recipe, overrides)
    grid = {"shape": cohort.shape, "spacing": cohort.spacing, "device": torch.device(options.device)}
    steps = steps_within(recipe, CohortBatches(recipe, cohort), options.seconds, **grid)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(
            options.recipe,
            options.data,
            overrides=overrides,
            out=Path(folder) / "run",
            device=options.device,
            steps=steps,
        )
    kid = outcome.figures["kid"]
    return {"kid": kid["value"], "kid_low": kid["low"], "kid_high": kid["high"], "steps": steps}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--recipe", default="synthesis/quickstart")
    line.add_argument("--set", action="append", default=[], dest="overrides", help="override a field in all variants")
    line.add_argument("--size", type=int, default=64, help="voxels a side of the volumes that are timed")
    line.add_argument("--batch", type=int, default=2, help="of the timed steps")
    line.add_argument("--steps", type=int, default=5, help="timed steps")
    line.add_argument("--data", type=Path, help="a prepared cohort to train on")
    line.add_argument("--seconds", type=float, default=600.0, help="training time of each variant on it")
    line.add_argument("--threads", type=int, default=2)
    line.add_argument("--device", default="cpu")
    line.add_argument("--json", type=Path, help="write the figures here as well")
    line.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    return line


def main(arguments: list[str] | None = None) -> None:
    """Measure all variants and print; or, started by itself, one of them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    if options.variant:
        print(json.dumps(measured(options.variant, options)))
        return
    rows = {
        variant: apart(__file__, [*arguments, "--variant", variant], threads=options.threads) for variant in VARIANTS
    }
    print(f"{options.size} voxels a side, batch {options.batch}, {options.recipe}")
    print(f"{'':26}{'s per step':>12}{'faster':>9}{'peak MB':>10}{'leaner':>9}")
    for variant, row in rows.items():
        faster, leaner = (rows[REFERENCE][key] / row[key] for key in ("seconds", "peak_mb"))
        print(f"{variant:26}{row['seconds']:>12.3f}{faster:>8.2f}x{row['peak_mb']:>10.0f}{leaner:>8.2f}x")
    if options.data:
        print(f"KID after {options.seconds:g} s of training on the cohort:")
        for variant, row in rows.items():
            row |= kid_reached(variant, options)
            interval = f"({row['kid_low']:.4g} to {row['kid_high']:.4g})"
            print(f"{variant:26}{row['kid']:>12.4g} {interval:24}{row['steps']:>8.0f} steps", flush=True)
        overlap = rows[LEANEST]["kid_low"] <= rows[REFERENCE]["kid_high"]
        print(f"The interval of '{LEANEST}' {'reaches' if overlap else 'lies above'} that of '{REFERENCE}'.")
    if options.json:
        from medgan.files import write_json

        write_json(options.json, rows)


if __name__ == "__main__":
    main()
