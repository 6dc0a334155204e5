"""The judges of the benchmark of labels, on heads whose anatomy is drawn by hand."""

from __future__ import annotations

from pathlib import Path

import conditional
import label_judges
import numpy as np

AFFINE = np.array([[8.0, 0, 0, -98], [0, 8, 0, -134], [0, 0, 8, -72], [0, 0, 0, 1]])
SHAPE = (25, 30, 24)


def _head(ventricles: float, mass: tuple[float, float, float] | None, seed: int = 0) -> np.ndarray:
    """White matter all over, with two dark ventricles of a half width in mm, and perhaps a dark ball of 10 mm."""
    x, y, z = (AFFINE[i, i] * np.arange(n) + AFFINE[i, 3] for i, n in enumerate(SHAPE))
    grid = np.stack(np.meshgrid(x, y, z, indexing="ij"))
    noise = 0.02 * np.random.default_rng(seed).standard_normal(SHAPE)
    inside = (np.abs(np.abs(grid[0]) - 10) < ventricles) & (np.abs(grid[1] + 8) < 30) & (np.abs(grid[2] - 16) < 10)
    head = np.where(inside, 0.3, 1.0) + noise
    if mass is not None:
        distance = np.sqrt(((grid - np.array(mass)[:, None, None, None]) ** 2).sum(axis=0))
        head -= 0.55 / (1 + np.exp((distance - 10) / 2))
    return head.astype(np.float32)


def test_the_judge_finds_a_mass_on_either_side() -> None:
    places = [(-26.0, -20.0, 20.0), (30.0, 0.0, 30.0), (24.0, -40.0, 24.0), (-32.0, 10.0, 16.0)]
    volumes = [_head(6, place, seed) for seed, place in enumerate(places * 3)]
    volumes += [_head(6, None, 50 + seed) for seed in range(12)]
    groups = [{"group": "patient"}] * 12 + [{"group": "control"}] * 12
    scans = label_judges.Scans(np.stack(volumes), tuple(groups))
    features = label_judges.mass_features(scans.volumes, AFFINE)
    assert features[:12, 0].min() > features[12:, 0].max()
    judge = label_judges.Judge.fitted(scans, "group", label_judges.mass_features, AFFINE)
    assert judge.told_apart(scans) == 1.0
    swapped = label_judges.Scans(scans.volumes, tuple(groups[::-1]))
    assert judge.told_apart(swapped) == 0.0


def test_wider_ventricles_measure_larger() -> None:
    widths = np.linspace(2, 14, 5)
    shares = label_judges.ventricle_shares(np.stack([_head(width, None) for width in widths]), AFFINE)
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] > 2 * shares[0]
    assert label_judges.ordered(widths, shares) > 0.9


def test_age_bands_are_added_to_the_table(tmp_path: Path) -> None:
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tage\tgroup\nsub-1\t54.9\tcontrol\nsub-2\t55.0\tpatient\n")
    conditional.add_bands(table)
    assert table.read_text().splitlines() == [
        "participant_id\tage\tgroup\tage_band",
        "sub-1\t54.9\tcontrol\tyoung",
        "sub-2\t55.0\tpatient\told",
    ]
