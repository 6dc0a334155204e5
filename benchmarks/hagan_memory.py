"""What training on sub-volumes saves: the peak memory of a training step of hagan networks on boxes of a volume against
that of the same networks on whole volumes, at 128 voxels a side.

Whole means that the box is the whole volume, so that generator, discriminator, loss and penalty are the same. The peak
is what PyTorch's allocator had given out at most while networks were made and trained for one step with the penalty;
beside it stands the estimate of `medgan train --dry-run`.

    python benchmarks/hagan_memory.py --side 128 --width 4
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from gan_runs import SmoothVolumes, prepared, synthesis_recipe
from torch.profiler import ProfilerActivity, profile

from medgan.recipe import SynthesisRecipe
from medgan.training.kinds import synthesis_objective
from medgan.training.memory import training_memory

WHOLE, HALF, QUARTER = 1.0, 0.5, 0.25
MIB = 2**20


def recipe_for(share: float, width: int, batch_size: int) -> SynthesisRecipe:
    """The shipped recipe with narrower networks, trained on boxes of this share of each side."""
    sizes = [f"network.width={width}", f"network.max_width={4 * width}", "network.latent_size=32"]
    loop = [f"training.batch_size={batch_size}", "training.mode=exact", f"network.sub_volume={share}"]
    return synthesis_recipe("synthesis/hagan", [*sizes, *loop])


def measured_peak(recipe: SynthesisRecipe, side: int) -> int:
    """Most bytes that the allocator held while networks were made and trained for one step."""
    shape, batch = (side, side, side), recipe.training.batch_size
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
        tempfile.TemporaryDirectory() as to,
    ):
        grid = {"shape": shape, "spacing": (1.0, 1.0, 1.0), "device": torch.device("cpu")}
        trainer = prepared(recipe, SmoothVolumes(shape, batch), Path(to), **grid)  # type: ignore[arg-type]
        trainer.images = recipe.images - batch
        trainer.run()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def estimated_peak(recipe: SynthesisRecipe, side: int) -> int:
    """What `medgan train --dry-run` would say, in bytes."""
    shape = (side, side, side)
    objective = synthesis_objective(recipe, shape=shape, spacing=(1.0, 1.0, 1.0), device=torch.device("cpu"))
    return training_memory(objective, recipe.training, torch.zeros(1, 1, *shape)).total


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--width", type=int, default=4, help="feature channels of the finest stage")
    # With one volume PyTorch may take another algorithm for convolutions, whose workspace is larger than the features.
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[QUARTER, HALF, WHOLE], help="of a side of the volume"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peaks: dict[float, tuple[int, int]] = {}
    print(f"{'box':>12}{'measured':>12}{'estimated':>12}", flush=True)
    for share in options.shares:
        recipe = recipe_for(share, options.width, options.batch_size)
        peaks[share] = measured_peak(recipe, options.side), estimated_peak(recipe, options.side)
        measured, estimated = (peak / MIB for peak in peaks[share])
        print(f"{share:>8.2f} of a side{measured:>8.0f} MiB{estimated:>8.0f} MiB", flush=True)
    for share, (measured_bytes, _) in peaks.items():
        if share != WHOLE and WHOLE in peaks:
            ratio = peaks[WHOLE][0] / measured_bytes
            print(f"whole volumes take {ratio:.2f} times as much as boxes of {share:g} of a side")


if __name__ == "__main__":
    main()
