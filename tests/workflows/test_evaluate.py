"""Cards of scans in files: streamed, cached, and refused where the files do not fit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.errors import MedganError
from medgan.evaluation import SynthesisFigures, evaluate_synthesis
from medgan.workflows.evaluate import evaluate_synthesis_files
from medgan.workflows.scratch import scratch_folder

Write = Callable[..., Path]


def _head(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 14, 10)), indexing="ij")
    radii = random.uniform(0.6, 0.95, 3)
    inside = sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True))
    return np.asarray(1000 * np.clip(3 * (1 - inside), 0, 1) + 20 * random.random(inside.shape), dtype=np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes heads of the given seeds into a folder."""

    def written(name: str, seeds: range, affine: np.ndarray | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        grid = np.diag([8.0, 8, 10, 1]) if affine is None else affine
        for seed in seeds:
            nib.save(nib.Nifti1Image(_head(seed), grid), folder / f"sub-{seed:02d}.nii.gz")
        return folder

    return written


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files and a cache of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pictures take many times longer than the figures of such small scans: one test draws them."""
    if request.node.name != "test_files_give_the_figures_of_their_voxels":
        monkeypatch.setattr("medgan.workflows.run_report.write_synthesis_card", lambda path, *_, **__: path.touch())


def test_files_give_the_figures_of_their_voxels(write: Write, tmp_path: Path, temporary: Path) -> None:
    real, synthetic, holdout = write("real", range(8)), write("made", range(8, 13)), write("unseen", range(13, 16))
    card = evaluate_synthesis_files(real, synthetic, tmp_path / "out", holdout=holdout)

    def normalised(seed: int) -> np.ndarray:
        volume = _head(seed)
        low, high = (float(value) for value in np.percentile(volume, (0.5, 99.5)))
        return ((volume - low) / (high - low)).clip(-1, 4)

    real_voxels, made, unseen = ([normalised(s) for s in seeds] for seeds in (range(8), range(8, 13), range(13, 16)))
    expected = evaluate_synthesis(real_voxels, made, holdout=unseen, spacing=(8, 8, 10)).to_dict()
    assert card["counts"] == {"real": 8, "synthetic": 5, "holdout": 3}
    assert card["spacing"] == (8, 8, 10)
    assert card["spectrum"]["unit"] == "1/mm"
    for name in ("kid", "mmd", "frechet", "kid_floor"):
        assert card[name]["value"] == pytest.approx(expected[name]["value"], rel=1e-4, abs=1e-6)
    for name in ("spectrum_distance", "intensity_distance"):
        assert card[name] == pytest.approx(expected[name], rel=1e-4)
    assert json.loads((tmp_path / "out" / "card.json").read_text())["kid"] == card["kid"]
    assert (tmp_path / "out" / "card.html").is_file()
    assert list(temporary.iterdir()) == []


def test_second_evaluation_encodes_nothing(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan.evaluation.features import RandomEncoder

    real, synthetic = write("real", range(6)), write("made", range(6, 11))
    first = evaluate_synthesis_files(real, synthetic, tmp_path / "first")
    kept = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    # Six real scans and their mirror images, five synthetic ones.
    assert len(kept) == 17
    for path, content in kept.items():
        assert b"sub-" not in content
        assert "sub-" not in str(path.relative_to(tmp_path))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(RandomEncoder, "extract", refuse)
        assert evaluate_synthesis_files(real, synthetic, tmp_path / "second") == first
        with pytest.raises(AssertionError, match="encoded again"):
            evaluate_synthesis_files(real, synthetic, tmp_path / "third", cache=False)
    evaluate_synthesis_files(real, synthetic, tmp_path / "fourth", cache=False)
    assert {path for path in (tmp_path / "cache").rglob("*") if path.is_file()} == set(kept)


def test_other_spacing_and_shape_are_refused_with_the_file(write: Write, tmp_path: Path, temporary: Path) -> None:
    real, wide = write("real", range(5)), write("wide", range(5, 9), np.diag([8.0, 8.3, 10, 1]))
    with pytest.raises(MedganError, match=r"sub-05.*8 x 8.3 x 10 mm.*8 x 8 x 10 mm"):
        evaluate_synthesis_files(real, wide, tmp_path / "out")
    other = write("other", range(5, 9))
    nib.save(nib.Nifti1Image(_head(7)[1:], np.diag([8.0, 8, 10, 1])), other / "sub-07.nii.gz")
    with pytest.raises(MedganError, match=r"sub-07.*\(11, 14, 10\)"):
        evaluate_synthesis_files(real, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list(temporary.iterdir()) == []


def test_scans_of_another_orientation_are_turned(write: Write, tmp_path: Path) -> None:
    """The same heads, stored with their axes in another order, are the same heads."""
    real = write("real", range(5))
    turned = tmp_path / "turned"
    turned.mkdir()
    for path in sorted(real.iterdir()):
        image = nib.load(path)
        flipped = image.as_reoriented(nib.orientations.axcodes2ornt("SPL"))
        nib.save(flipped, turned / path.name)
    card = evaluate_synthesis_files(real, turned, tmp_path / "out")
    assert card["spectrum_distance"] == pytest.approx(0, abs=1e-4)
    assert [one["index"] for one in card["memorization"]["voxels"]["neighbours"]] == list(range(5))


def test_voxels_that_are_no_numbers_are_named(write: Write, tmp_path: Path) -> None:
    real, synthetic = write("real", range(5)), write("made", range(5, 9))
    broken = _head(6)
    broken[2, 2, 2] = np.nan
    nib.save(nib.Nifti1Image(broken, np.diag([8.0, 8, 10, 1])), synthetic / "sub-06.nii.gz")
    with pytest.raises(MedganError, match=r"sub-06.*not finite"):
        evaluate_synthesis_files(real, synthetic, tmp_path / "out")


def test_classes_by_label(write: Write, tmp_path: Path) -> None:
    real, synthetic = write("real", range(10)), write("made", range(10, 16))
    rows = [f"sub-{k:02d}\t{'old' if k % 2 else 'young'}" for k in range(10)]
    (real / "participants.tsv").write_text("participant_id\tGroup\n" + "\n".join(rows))
    with pytest.raises(MedganError, match="nothing here says which class"):
        evaluate_synthesis_files(real, synthetic, tmp_path / "out", label="group")
    samples = [{"file": f"sub-{k:02d}.nii.gz", "labels": {"group": "old"}} for k in range(10, 16)]
    (synthetic / "samples.json").write_text(json.dumps({"samples": samples}))
    card = evaluate_synthesis_files(real, synthetic, tmp_path / "out", label="group")
    found = [(one["name"], one["real"], one["synthetic"]) for one in card["classes"]["distances"]]
    assert found == [("old", 5, 6), ("young", 5, 0)]
    with pytest.raises(MedganError, match=r"no scan here has a label 'grup'.*'group'"):
        evaluate_synthesis_files(real, synthetic, tmp_path / "out", label="grup")
    (real / "participants.tsv").write_text("participant_id\tGroup\n" + "\n".join(rows[:-1]))
    with pytest.raises(MedganError, match=r"missing for 1 of 10 scans \(sub-09\)"):
        evaluate_synthesis_files(real, synthetic, tmp_path / "out", label="group")


def test_a_classifier_in_a_file(write: Write, tmp_path: Path) -> None:
    import torch

    class Corner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean(dim=(1, 2, 3, 4))
            return torch.stack([mean, -mean], dim=1)

    real, synthetic = write("real", range(5)), write("made", range(5, 9))
    torch.jit.save(torch.jit.script(Corner()), str(tmp_path / "corner.pt"))
    card = evaluate_synthesis_files(real, synthetic, tmp_path / "out", classifier=tmp_path / "corner.pt")
    assert card["classes"]["source"] == "classifier"
    assert 1 <= card["classes"]["inception_score"]["value"] < 1.2
    (tmp_path / "words.pt").write_text("no network")
    with pytest.raises(MedganError, match=r"words.pt.*no TorchScript"):
        evaluate_synthesis_files(real, synthetic, tmp_path / "out", classifier=tmp_path / "words.pt")


def test_on_the_command_line(write: Write, tmp_path: Path) -> None:
    real, synthetic = write("real", range(5)), write("made", range(5, 9))
    common = ["evaluate", "synthesis", "--real", str(real), "--synthetic", str(synthetic), "--out", str(tmp_path / "c")]
    answer = CliRunner().invoke(app, [*common, "--json", "--no-cache", "--encoder", "random"])
    assert answer.exit_code == 0, answer.output
    assert set(SynthesisFigures.__dataclass_fields__) <= set(json.loads(answer.stdout))
    assert not (tmp_path / "cache").exists()
    answer = CliRunner().invoke(app, [*common, "--encoder", "randm"])
    assert isinstance(answer.exception, MedganError)
    assert "randm" in str(answer.exception)


def test_the_scratch_folder_goes_in_any_case(temporary: Path) -> None:
    def read(number: int) -> np.ndarray:
        if number == 3:
            raise MedganError("scan 3 is broken")
        return np.full((2, 2, 2), number, np.float32)

    with scratch_folder() as scratch:
        stored = scratch.store("real", 3, read)
        assert [float(volume[0, 0, 0]) for volume in stored] == [0, 1, 2]
        assert len(stored[1:]) == 2
        (folder,) = temporary.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
    with pytest.raises(MedganError, match="scan 3"), scratch_folder() as scratch:
        scratch.store("real", 40, read)
    assert list(temporary.iterdir()) == []
