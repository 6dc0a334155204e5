"""The gate: who copies does not leave, and is told why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from typer.testing import CliRunner

from medgan.errors import MedganError
from medgan.inference.generate import generate
from medgan.inference.model import load_model
from medgan.inference.release import ReleaseAudit, audit_of, store_audit
from medgan.inference.served import ServedModel
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import model_hash, save_model
from medgan.reporter import Reporter
from medgan.workflows.control import Control, control_scans
from medgan.workflows.generate import generate_scans
from medgan.workflows.release import audit_from_card, export_model, require_samples_of, store_card_audit

AUDIT = ReleaseAudit("", 24, 9, 1, 2, 0.01, 80, 12, {"auc": 0.9, "low": 0.8, "high": 0.95}, "0")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = R3Generator(
        shapes=[(5, 6, 4)], channels=[8], out_shape=(9, 12, 8), latent_size=4, blocks=1, haar_head=True
    )
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": "r3_generator", "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": 5.0},
        "affine": np.diag([3.0, 3.0, 4.0, 1.0]).tolist(),
        "training": {"scans": 80, "manifest_sha256": "0"},
    }
    return save_model(tmp_path / "model", config, network.state_dict())


def audited(folder: Path, **changes: Any) -> Path:
    store_audit(folder, replace(AUDIT, model_sha256=model_hash(folder), **changes))
    return folder


class Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_model_that_copies_is_refused_everywhere_with_its_figures(model: Path, tmp_path: Path) -> None:
    audited(model)
    control = Control(interpolate=("0", "1"), steps=2)
    for attempt in (
        lambda: generate_scans(model, 1, tmp_path / "out"),
        lambda: control_scans(model, None, control, tmp_path / "out"),
        lambda: export_model(model, tmp_path / "out"),
        lambda: next(generate(load_model(model), 1)),
        lambda: ServedModel(load_model(model)).predict(1),
    ):
        with pytest.raises(MedganError, match=r"flagged 9 of 24 samples.*80 training scans.*2 are beyond") as caught:
            attempt()
        assert "--allow-memorised" in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_who_insists_is_told_and_gets_it(model: Path, tmp_path: Path) -> None:
    audited(model)
    heard = Heard()
    assert len(generate_scans(model, 1, tmp_path / "out", allow_memorised=True, reporter=heard)) == 1
    folder = export_model(model, tmp_path / "handed", allow_memorised=True, reporter=heard)
    assert len(heard.lines) == 2
    assert all("flagged 9 of 24" in line for line in heard.lines)
    assert "gives training scans away" in (folder / "README.md").read_text()


def test_without_an_audit_nothing_is_claimed(model: Path, tmp_path: Path) -> None:
    heard = Heard()
    generate_scans(model, 1, tmp_path / "out", reporter=heard)
    assert heard.lines == ["This model was never audited for copies of its training scans: nothing is known of its "
                           "privacy."]  # fmt: skip
    assert "never audited" in (export_model(model, tmp_path / "handed") / "README.md").read_text()


def test_a_clean_model_leaves_with_its_audit_and_makes_the_same_samples(model: Path, tmp_path: Path) -> None:
    audited(model, flagged=1, certain=0)
    heard = Heard()
    handed = export_model(model, tmp_path / "handed", reporter=heard)
    assert heard.lines == []
    assert sorted(path.name for path in handed.iterdir()) == [
        "README.md", "audit.json", "config.json", "weights.safetensors"
    ]  # fmt: skip
    ours, theirs = (next(generate(load_model(folder), 1)).data for folder in (model, handed))
    np.testing.assert_array_equal(ours, theirs)


def test_an_audit_of_other_weights_is_none(model: Path, tmp_path: Path) -> None:
    store_audit(model, replace(AUDIT, model_sha256="f" * 64))
    with pytest.raises(MedganError, match="the audit is of other weights"):
        generate_scans(model, 1, tmp_path / "out")
    (model / "audit.json").write_text("{}")
    with pytest.raises(MedganError, match="no audit"):
        audit_of(model, model_hash(model))


def test_the_command_line_leaves_with_two(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan.cli import app, main

    audited(model)
    for verb in (["generate", str(model), "-n", "1"], ["export", str(model)]):
        monkeypatch.setattr("sys.argv", ["medgan", *verb, "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert leaving.value.code == 2
    done = CliRunner().invoke(app, ["export", str(model), "--out", str(tmp_path / "out"), "--allow-memorised"])
    assert done.exit_code == 0, done.output


def card(samples: int, flagged: int, chances: list[float]) -> dict[str, Any]:
    memorization = {"flagged": list(range(flagged)), "copies": {"chances": chances}, "membership": None}
    return {"memorization": memorization, "counts": {"real": 80, "synthetic": samples, "holdout": 0}}


@pytest.mark.parametrize("samples", [8, 24, 100, 400])
def test_chance_is_binomial(samples: int) -> None:
    allowed = audit_from_card(card(samples, 0, []), "f").allowed
    assert allowed == stats.binom.ppf(0.95, samples, 0.01)
    assert not audit_from_card(card(samples, allowed, [0.02] * samples), "f").is_memorised
    assert audit_from_card(card(samples, allowed + 1, [0.02] * samples), "f").is_memorised
    # One sample that not one innocent one in ten thousand sets would match.
    assert audit_from_card(card(samples, 1, [1e-6, *[0.5] * (samples - 1)]), "f").is_memorised


def test_a_smaller_audit_does_not_take_back_a_larger_one(model: Path) -> None:
    store_card_audit(model, card(50, 20, [0.02] * 50))
    with pytest.raises(MedganError, match="does not take that back"):
        store_card_audit(model, card(40, 0, [0.5] * 40))
    assert not store_card_audit(model, card(200, 0, [0.5] * 200)).is_memorised


def test_only_samples_of_the_model_speak_for_it(model: Path, tmp_path: Path) -> None:
    generate_scans(model, 1, tmp_path / "samples")
    require_samples_of(model, tmp_path / "samples")
    about = tmp_path / "samples" / "samples.json"
    content = json.loads(about.read_text())
    about.write_text(json.dumps(content | {"audit": {"left_out": [{"seed": 0, "index": 3}]}}))
    with pytest.raises(MedganError, match="left out"):
        require_samples_of(model, tmp_path / "samples")
    about.write_text(json.dumps(content | {"model_sha256": "f" * 64}))
    with pytest.raises(MedganError, match="another model"):
        require_samples_of(model, tmp_path / "samples")
    about.unlink()
    with pytest.raises(MedganError, match=r"no samples\.json"):
        require_samples_of(model, tmp_path / "samples")


def test_samples_that_copy_the_cohort_are_left_out(
    model: Path, phantom_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator whose every second sample is a training scan, mirrored."""
    from medgan.data.cohort import Cohort
    from medgan.inference.generate import as_scan

    cohort = Cohort.load(phantom_cohort)
    config = json.loads((model / "config.json").read_text())
    config["training"]["manifest_sha256"] = cohort.manifest_sha256
    (model / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)
    stolen = np.array(cohort.voxels(cohort.split("train")[1]))[::-1]

    def drawn(loaded: Any, count: int, **options: Any) -> Any:
        for index in range(count):
            fresh = ndimage.gaussian_filter(random.standard_normal(cohort.shape), 1.5)
            voxels = stolen if index % 2 else fresh / fresh.std()
            sample = torch.from_numpy(np.ascontiguousarray((voxels / np.ptp(voxels))[None], dtype=np.float32))
            yield as_scan(loaded, sample, "", {"seed": 0, "index": index, "truncation": 1.0})

    monkeypatch.setattr("medgan.inference.generate.generate", drawn)
    generate_scans(model, 3, tmp_path / "out", audit=phantom_cohort)
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert [one["index"] for one in about["samples"]] == [0, 2, 4]
    assert [one["index"] for one in about["audit"]["left_out"]] == [1, 3]
    with pytest.raises(MedganError, match="not the one that the model was trained on"):
        other = shutil.copytree(phantom_cohort, tmp_path / "other")
        lines = (other / "manifest.jsonl").read_text().splitlines()
        (other / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
        generate_scans(model, 1, tmp_path / "more", audit=other)
