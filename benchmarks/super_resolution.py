"""Super-resolution by one fair protocol: interpolation, linear ceilings, other tools, and medgan in each mode.

A true scan of a subject that nobody trained on is measured by a known acquisition (touching slices, cell-centred
grids, no noise unless --snr says so) and restored by each method from the measured scan alone. Scenarios are 2x2x2
(all axes) and 1x1xN (thick slices along the head-foot axis, or along the sharpest one where the scan was itself
interpolated; the benchmark prints which).

Intensities are scaled by the measured scan's 0.5th and 99.5th percentile; this is the data range. Figures are taken in
the foreground widened by a voxel, f voxels dropped at the borders of axes degraded by f; medians are over scans.
Columns: PSNR in the mask and whole, gains in dB over cubic B-spline, over the least-squares linear filter (fitted on
training scans) and over the physics floor; SSIM; HFEN; spectral energy ratio between 0.2 and 0.4 cycles per voxel
(1 is right); largest shift in voxels; effective resolution of the worst axis; RMSE(A SR - LR) over the range of LR;
contrast and volume of real lesions, restored over true; planted lesions (1 to 6 mm) of which less than half of the
contrast is left ("erased"), and lesion-free places where more than half of a lesion's contrast appears ("invented");
wall time; growth of memory. Where the folder of scans has to be: see sr_cases.py.

Run: python benchmarks/super_resolution.py [--quick] [--model FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sr_cases import TEST, TRAIN, Problem, Scan, data_folder, factor_along, problem_of, read_scan
from sr_figures import figures_of, medians, planted_in
from sr_linear import LinearFilter, fitted_filter
from sr_methods import (
    CUBIC,
    LINEAR_FILTER,
    PHYSICS,
    Method,
    foreign,
    lanczos,
    learned_methods,
    linear_filter,
    measured,
    physics,
    self_supervised_methods,
    spline,
    zero_filled,
)
from sr_peers import eclare_methods, simpleitk_methods, torchio_methods
from sr_tables import gains, heading, line, median_gains, verdicts

from medgan.errors import MedganError
from medgan.files import write_json

SCENARIOS = ("2x2x2", "1x1x2", "1x1x3", "1x1x4", "1x1x6")
PROFILES = ("gaussian", "rectangular", "shinnar_le_roux")
_QUICK_SIDE = 96


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, help="folder of real scans (default: MEDGAN_TEST_DATA)")
    parser.add_argument("--only", nargs="+", choices=list(TEST), default=list(TEST), help="test scans to judge")
    parser.add_argument("--train-scans", action="store_true", help="judge the training scans instead, when developing")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), help="such as 2x2x2 or 1x1x4")
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES), help="slice profiles")
    parser.add_argument("--snr", type=float, help="signal-to-noise ratio of the measured scans (Rician)")
    parser.add_argument("--model", help="as medgan upscale takes it: a shipped name, a model or run folder")
    parser.add_argument("--self-supervised", action="store_true", help="medgan tuned on each scan as well (minutes)")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=MODULE:FUNCTION", help="one more method")
    parser.add_argument("--eclare", help="ECLARE's run-eclare, or the Python that it is installed with")
    parser.add_argument("--eclare-patches", type=int, default=25_600, help="patches that ECLARE trains on")
    parser.add_argument("--no-lesions", action="store_true", help="plant no lesions (halves the restorations)")
    parser.add_argument("--quick", action="store_true", help="the central 96 x 96 x 96 voxels, 1x1x4, Gaussian only")
    parser.add_argument("--json", type=Path, help="write all rows here as well")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(words)
    if options.quick:
        options.scenarios, options.profiles = ["1x1x4"], ["gaussian"]
    return options


def scans_of(folder: Path, paths: dict[str, str], *, crop: int | None) -> list[Scan]:
    """Read scans and say along which axis each is degraded."""
    scans = [read_scan(folder, name, path, crop=crop) for name, path in paths.items()]
    for scan in scans:
        detail = ", ".join(f"{axis} {value:.2f}" for axis, value in zip("RAS", scan.detail, strict=True))
        size = " x ".join(map(str, scan.voxels.shape))
        print(f"{scan.name}: {size} voxels; detail along {detail}; thick slices along {'RAS'[scan.axis]}", flush=True)
    return scans


def fixed_methods(options: argparse.Namespace) -> list[Method]:
    """Every method that is the same for all scans."""
    return [
        Method("nearest", spline(0)),
        Method("linear", spline(1)),
        Method(CUBIC, spline(3)),
        Method("quintic B-spline", spline(5)),
        Method("Lanczos-5", lanczos),
        Method("zero-filled Fourier", zero_filled),
        *simpleitk_methods(),
        *torchio_methods(),
        Method(PHYSICS, physics),
        *learned_methods(options.model),
        *self_supervised_methods(options.model, options.self_supervised),
        *(foreign(description) for description in options.method),
        *eclare_methods(options.eclare, options.eclare_patches),
    ]


def rows_of(scan: Scan, problem: Problem, methods: list[Method], *, lesions: bool) -> Iterator[dict[str, Any]]:
    """One row of figures for each method on one scan."""
    planted = planted_in(problem) if lesions else None
    for method in methods:
        if method.slices_only and sum(f > 1 for f in problem.factor) > 1:
            continue
        restored, seconds, memory = measured(method.restore, problem)
        twice = planted is not None and not method.costly
        restored_with = method.restore(problem.with_low(planted.low)) if planted is not None and twice else None
        figures = figures_of(
            scan,
            problem,
            restored,
            seconds=seconds,
            memory_mb=memory,
            planted=planted if twice else None,
            restored_with=restored_with,
        )
        yield {"scan": scan.name, "method": method.name, **figures.to_dict()}


def compared(
    scans: list[Scan],
    scenario: str,
    profile: str,
    methods: list[Method],
    fitted: LinearFilter,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """All rows of a scenario with a profile, printed for each scan."""
    rows: list[dict[str, Any]] = []
    for scan in scans:
        problem = problem_of(scan, factor_along(scan, scenario), profile=profile, snr=options.snr)
        every = [Method(LINEAR_FILTER, linear_filter(fitted, scan.axis)), *methods]
        mine = list(rows_of(scan, problem, every, lesions=not options.no_lesions))
        print(f"\n{scenario}, {profile} profile, {scan.name}\n{heading()}")
        for row in mine:
            print(line(row, gains(row, mine)), flush=True)
        rows += mine
    return rows


def summarised(scenario: str, profile: str, rows: list[dict[str, Any]]) -> None:
    """Print the medians over scans and what they come to."""
    print(f"\n{scenario}, {profile} profile, MEDIANS over {len({row['scan'] for row in rows})} scans\n{heading()}")
    names = list(dict.fromkeys(row["method"] for row in rows))
    for name in names:
        mine = [{k: v for k, v in row.items() if k not in ("scan", "method")} for row in rows if row["method"] == name]
        print(line({"method": name, **medians(mine)}, median_gains(name, rows)))
    for verdict in verdicts(rows, [name for name in names if name.startswith("medgan") and name != PHYSICS]):
        print(verdict, flush=True)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every scenario and profile; returns the rows."""
    torch.set_num_threads(options.threads)
    folder, crop = data_folder(options.scans), _QUICK_SIDE if options.quick else None
    paths = TRAIN if options.train_scans else {name: TEST[name] for name in options.only}
    print("judged:")
    scans = scans_of(folder, paths, crop=crop)
    print("the linear filter is fitted on:")
    training = scans_of(folder, TRAIN, crop=crop)
    methods = fixed_methods(options)
    table: list[dict[str, Any]] = []
    for profile in options.profiles:
        for scenario in options.scenarios:
            start = time.perf_counter()
            fitted = fitted_filter(training, scenario, profile=profile, snr=options.snr)
            rows = compared(scans, scenario, profile, methods, fitted, options)
            summarised(scenario, profile, rows)
            print(f"({time.perf_counter() - start:.0f} s)")
            table += [{"scenario": scenario, "profile": profile, "snr": options.snr, **row} for row in rows]
    return table


def main() -> None:
    """Print the tables; write the rows as JSON if asked."""
    options = options_of()
    try:
        table = run(options)
    except MedganError as error:
        raise SystemExit(f"Error: {error}") from error
    if options.json:
        write_json(options.json, table)


if __name__ == "__main__":
    main()
