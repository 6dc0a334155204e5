"""One scan upscaled by what its own planes teach."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from medgan.acquisition import Acquisition
from medgan.cli import app
from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.inference.model import Model, load_model
from medgan.inference.upscale import upscale
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model
from medgan.recipe import SuperResolutionRecipe
from medgan.recipe_files import load_recipe
from medgan.volume import Volume
from medgan.workflows import self_supervised
from medgan.workflows.self_supervised import course_of, self_supervised_upscale, shipped_recipe
from medgan.workflows.upscale import upscale_scans


def _cells(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Two tissues with edges, alike in all directions."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.0)
    return (500 * ndimage.gaussian_filter((noise > 0).astype(np.float32), 0.5) + 100).astype(np.float32)


def _scan(shape: tuple[int, int, int] = (28, 30, 10), spacing: tuple[float, float, float] = (1, 1, 3)) -> Volume:
    """Thick slices of such tissues, touching."""
    wide = tuple(round(n * step) for n, step in zip(shape, spacing, strict=True))
    acquisition = Acquisition.between(wide, shape, high_spacing=(1.0, 1.0, 1.0))
    low = acquisition.forward(torch.from_numpy(_cells(wide)))
    return Volume(low.numpy(), np.diag([*spacing, 1.0]))


@pytest.fixture(scope="module")
def recipe() -> SuperResolutionRecipe:
    """The shipped recipe, but two short steps of it."""
    loaded = load_recipe(
        "super_resolution/self_supervised",
        ["super_resolution.patch=[8,8,12]", "network.channels=4", "network.blocks=1", "training.batch_size=2"],
    )
    assert isinstance(loaded, SuperResolutionRecipe)
    return loaded.with_steps(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A conditioned network with random weights, others at the end of texture."""
    torch.manual_seed(0)
    network = ConditionedNetwork(channels=4, blocks=1)
    weights = {
        f"{end}.{name}": value + 0.02 * torch.randn_like(value)
        for end in ("fidelity", "perceptual")
        for name, value in network.state_dict().items()
    }
    config = {
        "medgan_version": "0",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {"percentiles": [0.5, 99.5]},
        "acquisition": {"random": {}, "factor": [1, 1, 4], "profile": "gaussian", "regularisation": None},
    }
    return load_model(save_model(tmp_path_factory.mktemp("models") / "model", config, weights))


def test_the_shipped_recipe_tunes_gently_and_for_minutes() -> None:
    recipe = shipped_recipe()
    assert recipe.super_resolution.adversarial.images == 0
    assert 100 <= recipe.images / recipe.training.batch_size <= 500
    assert recipe.super_resolution.pretraining.learning_rate.start <= 1e-3
    assert recipe.training.mode == "exact"


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "SAL"])
@pytest.mark.parametrize("with_model", [False, True])
def test_place_and_measured_scan_are_kept(
    orientation: str, with_model: bool, model: Model, recipe: SuperResolutionRecipe
) -> None:
    low = _scan()
    result = self_supervised_upscale(low.reoriented(orientation), model if with_model else None, recipe=recipe)
    assert result.orientation == orientation
    high = result.reoriented("RAS")
    assert high.shape == (28, 30, 30)
    np.testing.assert_allclose(world_corners(high.affine, high.shape), world_corners(low.affine, low.shape), atol=1e-9)
    thickness = float(next(step for step in high.history if "mm thick" in step).split()[1])
    acquisition = Acquisition.between(
        (28, 30, 30), (28, 30, 10), high_spacing=(1.0, 1.0, 1.0), thickness=(1.0, 1.0, thickness)
    )
    again = acquisition.forward(torch.from_numpy(high.data.copy()))
    assert float((again - torch.from_numpy(low.data.copy())).square().mean().sqrt()) < 0.004 * np.ptp(low.data)


def test_the_history_says_how(model: Model, recipe: SuperResolutionRecipe) -> None:
    history = self_supervised_upscale(_scan(), model, recipe=recipe).history
    assert any(step.startswith("slices ") and step.endswith("by the estimate from the scan itself") for step in history)
    made = next(step for step in history if step.startswith("upscaled to 1 x 1 x 1 mm"))
    assert f"model {model.sha256[:12]}, fidelity 1" in made
    assert "tuned on the scan itself along R and A, 2 steps, seed 0" in made
    new = self_supervised_upscale(_scan(), None, recipe=recipe, thickness=2.5).history
    assert any("by a new network, tuned on the scan itself" in step for step in new)
    assert any(step.startswith("slices 2.5 mm thick") and step.endswith("as asked for") for step in new)


def test_the_result_depends_on_the_seed_alone(model: Model, recipe: SuperResolutionRecipe) -> None:
    training = recipe.training.model_copy(update={"seed": 1})
    one, same, other = (
        self_supervised_upscale(_scan(), model, recipe=chosen).data
        for chosen in (recipe, recipe, recipe.model_copy(update={"training": training}))
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0
    assert np.abs(one - upscale(_scan(), model).data).max() > 0


def test_the_in_plane_axes_may_change_places(recipe: SuperResolutionRecipe, model: Model) -> None:
    """Without a step of tuning the mean over both orders is the same for a scan whose planes are transposed."""
    gentle = recipe.model_copy(
        update={
            "super_resolution": recipe.super_resolution.model_copy(
                update={
                    "pretraining": recipe.super_resolution.pretraining.model_copy(
                        update={
                            "learning_rate": recipe.super_resolution.pretraining.learning_rate.model_copy(
                                update={"start": 1e-30, "end": 1e-30}
                            )
                        }
                    )
                }
            )
        }
    )
    low = _scan()
    turned = Volume(np.ascontiguousarray(low.data.swapaxes(1, 2)), low.affine)
    one, other = (self_supervised_upscale(scan, model, recipe=gentle, thickness=3.0) for scan in (low, turned))
    np.testing.assert_allclose(one.data, other.data.swapaxes(1, 2), atol=0.02)


def test_echoes_are_tuned_on_together(model: Model, recipe: SuperResolutionRecipe) -> None:
    low = _scan()
    both = Volume(np.concatenate([low.data, 900 - low.data]), low.affine)
    high = self_supervised_upscale(both, model, recipe=recipe)
    assert high.data.shape == (2, 28, 30, 30)
    assert np.corrcoef(high.data[0].ravel(), high.data[1].ravel())[0, 1] < -0.95


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        ({"factor": (2, 2, 6)}, (56, 60, 60)),
        ({"spacing": (1, 1, 0.5)}, (28, 30, 60)),
        ({"factor": (1.5, 1, 3)}, (42, 30, 30)),
    ],
)
def test_what_planes_cannot_teach_is_added_by_the_model(
    wanted: dict[str, tuple[float, ...]], shape: tuple[int, int, int], model: Model, recipe: SuperResolutionRecipe
) -> None:
    low = _scan()
    high = self_supervised_upscale(low, model, recipe=recipe, **wanted)
    assert high.shape == shape
    np.testing.assert_allclose(world_corners(high.affine, high.shape), world_corners(low.affine, low.shape), atol=1e-9)
    assert ["tuned on the scan itself" in step for step in high.history if step.startswith("upscaled")] == [True, False]


def test_a_scan_that_has_the_wanted_spacing_is_unchanged(model: Model, recipe: SuperResolutionRecipe) -> None:
    low = _scan()
    np.testing.assert_array_equal(self_supervised_upscale(low, model, factor=(1, 1, 1), recipe=recipe).data, low.data)


@pytest.mark.parametrize(
    ("spacing", "wanted", "match"),
    [
        ((1, 1, 1), {"factor": (2, 2, 2)}, r"equally long along all axes"),
        ((1, 1, 3), {"factor": (2, 2, 1)}, r"slices every 3 mm are wanted"),
        ((1, 1, 4), {"spacing": (1, 1, 2)}, r"slices every 2 mm are wanted .* can only teach slices every 1 mm"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    spacing: tuple[float, float, float], wanted: dict[str, tuple[float, ...]], match: str, model: Model
) -> None:
    with pytest.raises(MedganError, match=match) as refused:
        self_supervised_upscale(_scan((12, 12, 8), spacing), model, **wanted)
    assert "--self-supervised" in str(refused.value)


def test_an_interpolated_in_plane_axis_teaches_nothing() -> None:
    from medgan.inference.upscale import prepared

    low = _scan((32, 32, 10))
    blurred = Volume(ndimage.gaussian_filter1d(low.data, 1.5, axis=2), low.affine)
    for scan, axes in ((low, (0, 1)), (blurred, (0,))):
        assert course_of(*prepared(scan, None)).sharp_axes == axes


def test_by_the_command_line(
    tmp_path: Path, model: Model, recipe: SuperResolutionRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_supervised, "shipped_recipe", lambda: recipe)
    low = _scan()
    nib.save(nib.Nifti1Image(low.data[0], low.affine), tmp_path / "scan.nii.gz")
    out = tmp_path / "sharper.nii.gz"
    arguments = ["upscale", str(tmp_path / "scan.nii.gz"), "--out", str(out), "--model", str(model.folder)]
    answer = CliRunner().invoke(app, [*arguments, "--self-supervised", "--device", "cpu"])
    assert answer.exit_code == 0, answer.output
    assert nib.load(out).shape == (28, 30, 30)
    told = json.loads((tmp_path / "sharper.json").read_text())
    assert told["model_sha256"] == model.sha256
    assert any("tuned on the scan itself along R and A, 2 steps, seed 0" in step for step in told["history"])


def test_a_result_is_made_anew_when_the_tuning_is_asked_for(
    tmp_path: Path, recipe: SuperResolutionRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_supervised, "shipped_recipe", lambda: recipe)
    low = _scan((16, 16, 6))
    nib.save(nib.Nifti1Image(low.data[0], low.affine), tmp_path / "scan.nii.gz")
    plain = upscale_scans([tmp_path / "scan.nii.gz"], tmp_path / "out", model="physics")
    before = nib.load(plain.written[0]).get_fdata()
    tuned = upscale_scans([tmp_path / "scan.nii.gz"], tmp_path / "out", model="physics", self_supervised=True)
    assert not tuned.skipped
    assert np.abs(nib.load(tuned.written[0]).get_fdata() - before).max() > 0
    again = upscale_scans([tmp_path / "scan.nii.gz"], tmp_path / "out", model="physics", self_supervised=True)
    assert again.skipped == tuned.written


def test_texture_that_nobody_trained_is_refused_before_anything_is_tuned(
    recipe: SuperResolutionRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned_on(*arguments: object, **options: object) -> None:
        raise AssertionError("tuned in vain")

    monkeypatch.setattr("medgan.training.self_supervised.tuned_on", tuned_on)
    with pytest.raises(MedganError, match="trained for fidelity alone"):
        self_supervised_upscale(_scan(), None, recipe=recipe, fidelity=0.5)


def test_texture_comes_from_the_model_as_it_was(model: Model, recipe: SuperResolutionRecipe) -> None:
    """At the end of texture the tuned weights play no part: what is left is the mean over both orders."""
    low = _scan()
    turned = Volume(np.ascontiguousarray(low.data.swapaxes(1, 2)), low.affine)
    plain = [upscale(scan, model, fidelity=0.0, thickness=3.0).data for scan in (low, turned)]
    tuned = self_supervised_upscale(low, model, fidelity=0.0, thickness=3.0, recipe=recipe)
    np.testing.assert_allclose(tuned.data, (plain[0] + plain[1].swapaxes(1, 2)) / 2, atol=0.02)
