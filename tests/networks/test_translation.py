"""The network that translates between contrasts."""

from __future__ import annotations

import pytest
import torch

from medgan.inference.tiling import apply_tiled
from medgan.networks.saved import build_network
from medgan.networks.translation import ResidualUNet, _doubled, _halved


def _network(seed: int = 0, **arguments: object) -> ResidualUNet:
    torch.manual_seed(seed)
    return ResidualUNet(**{"channels": 4, "levels": 3, "blocks": 1, **arguments}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (13, 8, 7)])
@pytest.mark.parametrize("haar_head", [False, True])
def test_any_shape_comes_back(shape: tuple[int, int, int], haar_head: bool) -> None:
    assert _network(haar_head=haar_head)(torch.rand(2, 1, *shape)).shape == (2, 1, *shape)


def test_shapes_come_back_with_instance_normalisation() -> None:
    assert _network(normalisation="instance")(torch.rand(2, 1, 13, 8, 7)).shape == (2, 1, 13, 8, 7)


@pytest.mark.parametrize("options", [{}, {"haar_head": True}, {"normalisation": "instance"}, {"levels": 1}])
def test_every_parameter_gets_a_gradient(options: dict[str, object]) -> None:
    network = _network(**options)
    network(torch.rand(1, 1, 16, 12, 20)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # Instance normalisation takes out the bias of the convolution before it: no gradient but rounding.
        is_taken_out = options.get("normalisation") == "instance" and name.endswith(("first.bias", "second.bias"))
        assert is_taken_out or parameter.grad.abs().max() > 0, name


def test_arguments_rebuild_it() -> None:
    network = _network(haar_head=True, blocks=2)
    again = build_network("residual_u_net", network.arguments)
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 1, 9, 10, 11)
    torch.testing.assert_close(again.eval()(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"channels": 0}, {"normalisation": "batch"}, {"levels": 0}])
def test_impossible_sizes_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        _network(**options)


@pytest.mark.parametrize("options", [{}, {"haar_head": True, "levels": 2}, {"blocks": 2, "levels": 2}])
def test_tiled_equals_untiled(options: dict[str, object]) -> None:
    network = _network(**options)
    x = torch.rand(1, 1, 27, 11, 22)
    with torch.inference_mode():
        whole = network(x)
    tiled = apply_tiled(network, x, tile=(8, 8, 8), halo=network.receptive_field, multiple=network.multiple)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"haar_head": True}, {"blocks": 2}, {"levels": 1}, {"levels": 2}])
def test_no_voxel_beyond_the_receptive_field_matters(options: dict[str, object]) -> None:
    # In double precision, where what reaches far is not rounded away.
    network = _network(**options).double()
    size = 4 * network.receptive_field
    x = torch.rand(1, 1, 1, 1, size, dtype=torch.float64)
    with torch.inference_mode():
        changes = []
        for place in range(size // 2, size // 2 + network.multiple):
            changed = x.clone()
            changed[..., place] += 1.0
            moved = (network(changed) - network(x)).abs().amax(dim=(0, 1, 2, 3)) > 0
            reached = moved.nonzero()[:, 0]
            changes += [place - int(reached.min()), int(reached.max()) - place]
    assert max(changes) <= network.receptive_field
    # Nor is the halo much wider than it has to be.
    assert max(changes) >= 0.5 * network.receptive_field


def test_tiles_without_their_halo_would_differ() -> None:
    network = _network()
    x = torch.rand(1, 1, 24, 8, 8)
    with torch.inference_mode():
        whole = network(x)
    assert (apply_tiled(network, x, tile=(8, 8, 8), halo=0, multiple=network.multiple) - whole).abs().max() > 1e-3


def test_instance_normalisation_ties_all_voxels_together() -> None:
    network = _network(normalisation="instance", levels=1)
    assert not network.is_local
    assert _network().is_local
    x = torch.rand(1, 1, 2, 2, 60)
    changed = x.clone()
    changed[..., 0] += 1.0
    assert (network(changed) - network(x))[..., -1].abs().max() > 1e-6


def test_a_flat_volume_stays_flat_away_from_the_faces() -> None:
    network = _network(levels=3)
    inner = slice(network.receptive_field, -network.receptive_field)
    with torch.inference_mode():
        result = network(torch.full((1, 1, 1, 1, 4 * network.receptive_field), 0.7))[..., inner]
    assert float(result.max() - result.min()) < 1e-5


def test_halving_averages_and_doubling_interpolates() -> None:
    x = torch.rand(2, 3, 4, 6, 8)
    torch.testing.assert_close(_halved(x), torch.nn.functional.avg_pool3d(x, 2))
    expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    torch.testing.assert_close(_doubled(x), expected)
