"""How long medgan's upscaling takes with a network, beside the same network through MONAI's sliding windows.

The input has 180 x 220 x 45 voxels of 1 x 1 x 4 mm and becomes 1 mm: a real scan (the FLAIR of a training subject)
measured with thick slices, or a phantom where there are no scans. Both ways start from the same physics inverse, run
the same loaded network with the same knowledge of the acquisition, and treat its answer alike: only what carries the
network across the volume is exchanged for `monai.inferers.sliding_window_inference` at its usual settings (windows of
96 x 96 x 96, overlap 0.5, Gaussian blending, one window at a time, float32).

Each runs in a process of its own. Seconds are those of `medgan.inference.upscale.upscale`, model loaded; memory is the
largest resident set of the whole process, Python and its libraries included. Without --model the network is the
default one of this version with random weights: time does not depend on them, but the PSNR difference means little.

Run: python benchmarks/upscale_speed.py [--model FOLDER] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGH_SHAPE, FACTOR = (180, 220, 180), (1, 1, 4)
WAYS = ("medgan", "monai")
_ROI, _OVERLAP = 96, 0.5


def truth_of(folder: Path | None, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A head at 1 mm in the middle of `shape`, real if there is one."""
    from sr_cases import TRAIN, data_folder

    from medgan.errors import MedganError
    from medgan.io import read_volume
    from medgan.resampling import cropped_or_padded

    try:
        path = data_folder(folder) / TRAIN["FLAIR 07"]
    except MedganError:
        path = Path()
    if path.is_file():
        return cropped_or_padded(read_volume(path).reoriented("RAS"), shape).as_float()[0]
    print("no real scans: a phantom takes their place", file=sys.stderr)
    return phantom(shape)


def phantom(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Nested ellipsoids with texture, 0 to about 1."""
    from scipy import ndimage

    random = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.8) ** 2)
    folds = ndimage.gaussian_filter(random.standard_normal(shape).astype(np.float32), 1.5)
    inside = np.where(radius < 0.85, 0.6 + 0.2 * np.sign(folds), 0.9)
    return np.asarray(ndimage.gaussian_filter(np.where(radius < 1, inside, 0.0), 0.6), dtype=np.float32)


def windows_of_monai(network: Any, x: Any, *, progress: Any = None, **_: Any) -> Any:
    """In place of `medgan.inference.tiling.apply_tiled`; the tiling asked for plays no part."""
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        return sliding_window_inference(x, (_ROI,) * 3, 1, network, overlap=_OVERLAP, mode="gaussian")


def timed(way: str, folder: Path, model: Path, threads: int, factor: tuple[int, ...]) -> dict[str, float]:
    """Run one way in this process: `folder` holds low.npy, and gets the restored voxels as WAY.npy."""
    import torch

    from medgan.geometry import default_affine
    from medgan.inference import upscale as upscaling
    from medgan.inference.model import load_model
    from medgan.volume import Volume

    torch.set_num_threads(threads)
    low = np.load(folder / "low.npy")
    scan = Volume(low, default_affine(low.shape, factor))
    loaded = load_model(model)
    if way == "monai":
        upscaling.apply_tiled = windows_of_monai
    start = time.perf_counter()
    restored = upscaling.upscale(scan, loaded, factor=factor)
    seconds = time.perf_counter() - start
    np.save(folder / f"{way}.npy", restored.data[0])
    # Linux counts kilobytes here, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}


def random_model(folder: Path) -> Path:
    """A model folder with the default conditioned network and random weights, both ends of the dial alike."""
    import torch

    from medgan.networks.conditioned import ConditionedNetwork
    from medgan.networks.saved import save_model

    torch.manual_seed(0)
    network = ConditionedNetwork()
    weights = {name: value + 0.01 * torch.randn_like(value) for name, value in network.state_dict().items()}
    config = {
        "medgan_version": "benchmark",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {},
        "acquisition": {"factor": [1, 1, 4], "profile": "gaussian"},
    }
    both = {f"{end}.{name}": value for end in ("fidelity", "perceptual") for name, value in weights.items()}
    return save_model(folder, config, both)


def apart(way: str, folder: Path, model: Path, threads: int, factor: tuple[int, ...]) -> dict[str, float]:
    """`timed` in a process of its own."""
    words = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--model", str(model)]
    words += ["--threads", str(threads), "--factor", ",".join(map(str, factor))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(words, capture_output=True, text=True, env=environment)
    if answer.returncode:
        raise SystemExit(f"{way} failed:\n{answer.stderr}")
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def compared(
    truth: NDArray[np.float32], factor: tuple[int, ...], model: str | None, threads: int
) -> dict[str, dict[str, float]]:
    """Both ways on one truth: seconds, MB and PSNR (foreground, dB) of each."""
    import torch

    from medgan.acquisition import Acquisition
    from medgan.evaluation.restoration import foreground_mask, psnr
    from medgan.workflows.models import resolve_model

    low_shape = [size // f for size, f in zip(truth.shape, factor, strict=True)]
    acquisition = Acquisition.between(truth.shape, low_shape, high_spacing=(1, 1, 1))
    low = acquisition.forward(torch.from_numpy(truth.copy())).numpy()
    mask, span = foreground_mask(truth), float(np.subtract(*np.percentile(low, (99.5, 0.5))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "low.npy", low)
        network = resolve_model(model) if model else random_model(folder / "model")
        figures = {way: apart(way, folder, network, threads, factor) for way in WAYS}
        for way in WAYS:
            figures[way]["psnr_db"] = psnr(truth, np.load(folder / f"{way}.npy"), data_range=span, mask=mask)
    return figures


def main() -> None:
    """Measure both ways and print; or, started by itself, one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="as medgan upscale takes it: a shipped name, a model or run folder")
    parser.add_argument("--scans", type=Path, help="folder of real scans (default: MEDGAN_TEST_DATA)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--factor", default=",".join(map(str, FACTOR)), help=argparse.SUPPRESS)
    options = parser.parse_args()
    factor = tuple(int(part) for part in options.factor.split(","))
    if options.way:
        print(json.dumps(timed(options.way, options.folder, Path(options.model), options.threads, factor)))
        return
    figures = compared(truth_of(options.scans, HIGH_SHAPE), factor, options.model, options.threads)
    print(f"{'':10}{'seconds':>10}{'peak MB':>10}{'PSNR dB':>10}")
    for way, row in figures.items():
        print(f"{way:10}{row['seconds']:10.1f}{row['peak_mb']:10.0f}{row['psnr_db']:10.3f}")
    ours, theirs = figures["medgan"], figures["monai"]
    print(f"MONAI takes {theirs['seconds'] / ours['seconds']:.2f} times as long, PSNR differs by ", end="")
    print(f"{ours['psnr_db'] - theirs['psnr_db']:+.4f} dB")
    if options.json:
        from medgan.files import write_json

        write_json(options.json, figures)


if __name__ == "__main__":
    main()
