"""The comparison of GAN families: the default one and the peer train on tiny sizes, and the table is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gan_monai
import numpy as np
import pytest
import synthesis
import torch

TINY = ["network.width=4", "network.max_width=4", "network.base_size=3", "training.batch_size=2"]


def _options(data: Path, *words: str) -> Any:
    overrides = [part for text in TINY for part in ("--set", text)]
    return synthesis.parser().parse_args(["--data", str(data), "--seconds", "0.01", *overrides, *words])


@pytest.mark.parametrize("name", [synthesis.DEFAULT, synthesis.PEER])
def test_a_family_and_the_peer_train_and_are_measured(
    phantom_cohort: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "SAMPLES", 6)
    row = synthesis.trained(name, _options(phantom_cohort))
    assert row["steps"] >= 1
    assert row["low"] <= row["kid"] <= row["high"]


@pytest.mark.slow
def test_the_whole_comparison(phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(phantom_cohort), "--seconds", "0.01", "--json", str(tmp_path / "rows.json")]
    synthesis.main([*words, *(part for text in TINY for part in ("--set", text))])
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*synthesis.FAMILIES, synthesis.PEER])


def test_figures_are_small_for_the_scans_themselves_and_large_for_noise() -> None:
    random = np.random.default_rng(0)
    real = [_blob(random) for _ in range(24)]
    alike = [_blob(random) for _ in range(24)]
    noise = [random.random((8, 10, 8), dtype=np.float32) for _ in range(24)]
    row = synthesis.figures(real, alike, noise, alike)
    assert row["before"] > 20 * abs(row["kid"])
    assert row["kid"] == row["held_out"]


def _blob(random: np.random.Generator) -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.arange(side) for side in (8, 10, 8)), indexing="ij"), axis=-1)
    away = ((grid - random.uniform(3, 5, 3)) ** 2).sum(axis=-1)
    return np.exp(-away / random.uniform(4, 8)).astype(np.float32)


def test_distance_above_the_floor_and_its_order_in_the_table() -> None:
    shared = {"floor": 1.0, "floor_high": 2.0, "held_out": 1.5, "before": 100.0, "steps": 10}
    rows = {
        "r3gan": {"kid": 3.0, "low": 2.5, "high": 3.5, **shared},
        "MONAI": {"kid": 9.0, "low": 8.0, "high": 10.0, **shared},
    }
    assert synthesis.above_floor(rows["MONAI"]) / synthesis.above_floor(rows["r3gan"]) == 4
    assert synthesis.above_floor({"kid": 0.5, "floor": 1.0, "floor_high": 2.0}) == 1
    lines = synthesis.table(rows).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["r3gan", "MONAI"]
    assert "33.3x" in lines[1]
    assert "4.00" in lines[2]


def test_scans_are_padded_for_the_peer_and_its_samples_cropped_back() -> None:
    shape, whole = (9, 16, 11), (16, 16, 16)
    volumes = torch.rand(2, 1, *shape)
    padded = gan_monai._padded(volumes, whole)
    assert padded.shape[2:] == whole
    assert torch.equal(padded[:, :, 3:12, :, 2:13], volumes)
    generator, discriminator = gan_monai.networks(whole, 4)
    samples = gan_monai._samples(generator, shape, 2, torch.device("cpu"))
    assert samples[0].shape == shape
    assert discriminator(padded).shape == (2, 1)
