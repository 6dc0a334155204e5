from __future__ import annotations

import pytest
import torch

from medgan.networks.r3gan import R3Discriminator, R3Generator, ResidualBlock
from medgan.networks.stages import stage_shapes


def _arguments(shape: tuple[int, int, int], *, haar_head: bool, group_width: int) -> dict[str, object]:
    inner = tuple(-(-n // 2) for n in shape) if haar_head else shape
    shapes = stage_shapes((inner[0], inner[1], inner[2]), (1, 1, 1))
    return {
        "shapes": shapes,
        "channels": [32] * (len(shapes) - 1) + [16],
        "out_shape": shape,
        "blocks": 1,
        "group_width": group_width,
        "haar_head": haar_head,
    }


@pytest.mark.parametrize("haar_head", [False, True])
@pytest.mark.parametrize("group_width", [0, 8])
@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 10, 13)])
def test_any_shape_in_and_out(shape: tuple[int, int, int], group_width: int, haar_head: bool) -> None:
    arguments = _arguments(shape, haar_head=haar_head, group_width=group_width)
    generator, discriminator = R3Generator(latent_size=8, **arguments), R3Discriminator(**arguments)  # type: ignore[arg-type]
    samples = generator(torch.randn(3, 8))
    assert samples.shape == (3, 1, *shape)
    assert discriminator(samples).shape == (3, 1)
    discriminator(samples).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_rebuilt_from_its_saved_arguments() -> None:
    generator = R3Generator(latent_size=8, **_arguments((16, 12, 10), haar_head=True, group_width=0))  # type: ignore[arg-type]
    again = R3Generator(**generator.arguments)
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(2, 8)
    torch.testing.assert_close(again(latents), generator(latents), rtol=0, atol=0)


@pytest.mark.parametrize("group_width", [0, 16])
def test_residual_blocks_start_as_the_identity(group_width: int) -> None:
    block = ResidualBlock(32, group_width=group_width, expansion=2, depth=4)
    x = torch.randn(1, 32, 5, 4, 6)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)


def test_each_volume_is_judged_alone() -> None:
    """Nothing in the discriminator mixes the batch, so that its gradient is one per volume."""
    discriminator = R3Discriminator(**_arguments((16, 16, 16), haar_head=True, group_width=0))  # type: ignore[arg-type]
    volumes = torch.randn(4, 1, 16, 16, 16)
    torch.testing.assert_close(discriminator(volumes)[:1], discriminator(volumes[:1]), atol=1e-4, rtol=1e-4)


def test_samples_start_at_about_unit_variance() -> None:
    """Variance is kept through the stages: untrained samples are neither silent nor exploding."""
    torch.manual_seed(0)
    generator = R3Generator(latent_size=64, **_arguments((24, 24, 24), haar_head=False, group_width=0))  # type: ignore[arg-type]
    deviation = generator(torch.randn(16, 64)).std().item()
    assert 0.1 < deviation < 3


def test_a_discriminator_with_statistics_sees_the_other_volumes() -> None:
    arguments = _arguments((16, 16, 16), haar_head=True, group_width=0)
    discriminator = R3Discriminator(minibatch_statistics="deviation", **arguments)  # type: ignore[arg-type]
    volumes = torch.randn(4, 1, 16, 16, 16)
    repeated = volumes[:1].expand(4, -1, -1, -1, -1)
    assert discriminator.mixes_batch
    assert (discriminator(volumes)[:1] - discriminator(repeated)[:1]).abs().item() > 1e-3


def test_untrained_samples_share_a_pattern_or_none() -> None:
    """With mixing weights of mean one and deviation one half, two samples correlate by 1 / (1 + 0.5^2) = 0.8."""
    for common, expected in ((True, 0.8), (False, 0.0)):
        torch.manual_seed(0)
        arguments = _arguments((16, 16, 16), haar_head=False, group_width=0) | {"channels": [256, 64, 16]}
        generator = R3Generator(latent_size=64, common_pattern=common, **arguments)  # type: ignore[arg-type]
        with torch.inference_mode():
            samples = generator(torch.randn(24, 64)).flatten(1)
        unit = samples / samples.norm(dim=1, keepdim=True)
        correlations = (unit @ unit.T)[~torch.eye(24, dtype=torch.bool)]
        assert correlations.mean().item() == pytest.approx(expected, abs=0.15)
