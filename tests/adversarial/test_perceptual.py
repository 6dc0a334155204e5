"""Feature matching on the discriminator, and on a TorchScript network made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medgan.adversarial.perceptual import PlanarPerception, feature_matching, load_planar_perception
from medgan.errors import MedganError
from medgan.networks.discriminators import PatchDiscriminator


def test_distance_in_units_of_the_real_features() -> None:
    real = [torch.full((1, 2, 3, 3, 3), 4.0), torch.full((1, 5, 2, 2, 2), -0.1)]
    generated = [torch.full((1, 2, 3, 3, 3), 5.0), torch.full((1, 5, 2, 2, 2), -0.05)]
    assert feature_matching(real, generated) == pytest.approx((0.25 + 0.5) / 2)
    scaled = feature_matching([100 * layer for layer in real], [100 * layer for layer in generated])
    assert scaled == pytest.approx(0.375)
    assert feature_matching(real, real) == 0


def test_dead_layers_do_not_divide_by_zero_and_layers_must_pair_up() -> None:
    assert torch.isfinite(feature_matching([torch.zeros(1, 2)], [torch.zeros(1, 2)]))
    for real in ([], [torch.zeros(1), torch.zeros(1)]):
        with pytest.raises(ValueError, match="cannot be matched"):
            feature_matching(real, [torch.zeros(1)])


def test_the_discriminators_features_end_with_its_logits() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=4, halvings=2).eval()
    candidate, condition = torch.rand(2, 1, 8, 12, 16), torch.rand(2, 1, 8, 12, 16)
    features = discriminator.features(candidate, condition)
    assert [tuple(layer.shape) for layer in features] == [
        (2, 4, 8, 12, 16),
        (2, 8, 4, 6, 8),
        (2, 16, 2, 3, 4),
        (2, 1, 2, 3, 4),
    ]
    assert torch.equal(features[-1], discriminator(candidate, condition))
    # The layers in a row are the module's own sequence, computed at once.
    torch.testing.assert_close(features[-1], discriminator.layers(torch.cat((candidate, condition), dim=1)))


def test_gradients_reach_the_restored_volume_and_not_the_true_one() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=4, halvings=1)
    truth = torch.rand(1, 1, 8, 8, 8, requires_grad=True)
    restored, start = torch.rand(1, 1, 8, 8, 8, requires_grad=True), torch.rand(1, 1, 8, 8, 8)
    loss = feature_matching(discriminator.features(truth, start), discriminator.features(restored, start))
    loss.backward()
    assert truth.grad is None
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0


class Edges(nn.Module):
    """Horizontal and vertical differences: what they answer can be computed by hand."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]]


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    path = tmp_path / "edges.pt"
    torch.jit.save(torch.jit.script(Edges()), str(path))
    return path


def test_a_scripted_network_sees_slices_of_all_three_axes(scripted: Path) -> None:
    """A ramp along one axis shows in the planes of the two others; of a ramp of double slope each edge is off by 1."""
    perception = load_planar_perception(scripted, slices=3)
    ramp = torch.linspace(0, 1, 10)
    for axis in range(3):
        shape = [1, 1, 10, 10, 10]
        view = [1] * 5
        view[axis + 2] = 10
        truth = ramp.view(view).expand(shape)
        assert perception(truth, truth) == 0
        # Planes along two of three axes see the ramp, each with one of its two edge maps.
        assert perception(2 * truth, truth) == pytest.approx((0.5 + 0.5 + 0) / 3, rel=1e-4)


def test_it_is_frozen_differentiable_and_drawn_by_pytorchs_random_state(scripted: Path) -> None:
    perception = load_planar_perception(scripted, slices=2).train()
    assert not perception.training
    truth = torch.rand(2, 1, 9, 10, 11)
    restored = torch.rand(2, 1, 9, 10, 11, requires_grad=True)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(perception(restored, truth).item())
    assert values[0] == values[1] != values[2]
    perception(restored, truth).backward()
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0


def test_networks_of_colour_pictures_get_three_equal_channels() -> None:
    seen: list[Tensor] = []

    class Remembering(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    perception = PlanarPerception(Remembering(), channels=3, slices=2)
    volume = torch.rand(2, 1, 5, 6, 7)
    perception(volume, volume)
    assert [tuple(planes.shape) for planes in seen[::2]] == [(4, 3, 6, 7), (4, 3, 5, 7), (4, 3, 5, 6)]
    assert all(torch.equal(planes[:, 0], planes[:, 2]) for planes in seen)
    with pytest.raises(ValueError, match="at least 1"):
        PlanarPerception(Remembering(), slices=0)


def test_only_a_torchscript_file_on_this_machine_is_run(scripted: Path, tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="is an address"):
        load_planar_perception("https://example.org/features.pt")
    with pytest.raises(MedganError, match="no such perceptual network"):
        load_planar_perception(tmp_path / "absent.pt")
    pickled = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, pickled)
    text = tmp_path / "notes.pt"
    text.write_text("not a network")
    for path in (pickled, text):
        with pytest.raises(MedganError, match="no TorchScript file"):
            load_planar_perception(path)


def test_a_network_for_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "colour.pt"
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 4, 3)), str(path))
    with pytest.raises(MedganError, match="cannot see slices of 16 x 16 pixels with 1 channels"):
        load_planar_perception(path)
    assert load_planar_perception(path, channels=3)(torch.rand(1, 1, 8, 8, 8), torch.rand(1, 1, 8, 8, 8)) > 0
