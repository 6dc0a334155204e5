from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medgan.errors import MedganError
from medgan.networks.families import pair_for
from medgan.networks.hagan import BoxedViews, HierarchicalDiscriminator, HierarchicalGenerator, halo
from medgan.networks.views import WholeViews, views_for
from medgan.recipe import SynthesisNetwork

SHAPE, SPACING = (21, 26, 11), (1.0, 1.0, 2.2)


def _pair(**changed: Any) -> tuple[HierarchicalGenerator, HierarchicalDiscriminator]:
    torch.manual_seed(0)
    options = SynthesisNetwork(kind="hagan", width=4, max_width=8, latent_size=5, base_size=3, **changed)
    generator, discriminator = pair_for(options, SHAPE, SPACING)
    assert isinstance(generator, HierarchicalGenerator)
    assert isinstance(discriminator, HierarchicalDiscriminator)
    return generator, discriminator


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_assembled_sub_volumes_are_the_full_pass(share: float) -> None:
    generator, _ = _pair(sub_volume=share)
    latents = torch.randn(2, 5)
    with torch.no_grad():
        full, assembled = generator(latents), generator.assembled(latents)
    assert full.shape == (2, 1, *SHAPE)
    torch.testing.assert_close(assembled, full, rtol=0, atol=1e-5)
    assert full.std() > 0.05


def test_each_sample_has_a_box_of_its_own_along_all_axes() -> None:
    generator, _ = _pair(sub_volume=0.4)
    latents, grid, size, factor = torch.randn(3, 5), generator.boxes.grid, generator.boxes.size, generator.factor
    last = [n - s for n, s in zip(grid, size, strict=True)]
    starts = [[0, 0, 0], [last[0], 0, last[2]], [1, last[1], 0]]
    with torch.no_grad():
        features = generator.features(latents)
        full, boxes = generator.enlarged(features), generator.boxed(features, starts)
    for volume, box, start in zip(full, boxes, starts, strict=True):
        place = tuple(slice(f * s, f * (s + n)) for f, s, n in zip(factor, start, size, strict=True))
        torch.testing.assert_close(box, volume[(slice(None), *place)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factors", [[(2, 2, 2), (2, 2, 1)], [(1, 2, 2), (2, 2, 2)], [(1, 1, 1), (1, 2, 1)]])
def test_the_halo_is_what_the_branch_can_see(factors: list[tuple[int, int, int]]) -> None:
    """Against the gradient of a box's voxels with respect to the trunk's features."""
    torch.manual_seed(0)
    sizes = [(9, 9, 9)]
    for factor in factors:
        sizes.append(tuple(n * f for n, f in zip(sizes[-1], factor, strict=True)))  # type: ignore[arg-type]
    generator = HierarchicalGenerator(
        shapes=sizes, channels=[3, 3, 3], out_shape=sizes[-1], box=(1, 1, 1), latent_size=2
    )
    features = torch.randn(1, 3, 9, 9, 9, requires_grad=True)
    centre = tuple(slice(4 * f, 5 * f) for f in generator.factor)
    volumes = generator.enlarged(features)
    (gradient,) = torch.autograd.grad((volumes[(0, 0, *centre)] ** 2).sum(), features)
    seen = gradient[0].abs().sum(dim=0).nonzero()
    reach = halo(factors)
    assert seen.min(dim=0).values.tolist() == [4 - r for r in reach]
    assert seen.max(dim=0).values.tolist() == [4 + r for r in reach]


def test_views_of_real_volumes_are_the_filtered_whole_and_a_true_part() -> None:
    _, discriminator = _pair()
    views = discriminator.views
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    volumes = torch.stack(axes)[:, None] / 10
    low, high, starts = views.unpacked(views.real(volumes))
    assert low.shape == (3, 1, *views.grid)
    for axis, (volume, box, start) in enumerate(zip(volumes, high, starts.long().tolist(), strict=True)):
        first = [f * s for f, s in zip(views.factor, start, strict=True)]
        inside = [slice(a, min(a + n, have)) for a, n, have in zip(first, views.fine_box, SHAPE, strict=True)]
        kept = tuple(slice(0, place.stop - place.start) for place in inside)
        torch.testing.assert_close(box[0][kept], volume[(0, *inside)])
        # A ramp stays a ramp in the middle, with the steps of the coarser grid.
        middle = low[axis, 0].movedim(axis, 0)[1:-2].diff(dim=0)
        torch.testing.assert_close(middle, torch.full_like(middle, views.factor[axis] / 10), rtol=1e-3, atol=1e-4)


def test_boxes_fall_everywhere_and_generated_ones_where_the_real_ones_did() -> None:
    generator, discriminator = _pair(sub_volume=0.4)
    views = discriminator.views
    torch.manual_seed(0)
    real = views.real(torch.zeros(400, 1, *SHAPE))
    starts = views.unpacked(real)[2]
    room = [n - b for n, b in zip(views.grid, views.box, strict=True)]
    assert starts.min(dim=0).values.tolist() == [0, 0, 0]
    assert starts.max(dim=0).values.tolist() == room
    with torch.no_grad():
        generated = views.generated(generator, torch.randn(6, 5), real[:6])
    assert generated.shape == real[:6].shape
    torch.testing.assert_close(views.unpacked(generated)[2], starts[:6], rtol=0, atol=0)
    # Noise on the views does not move the boxes.
    noisy = views.unpacked(real + 0.5 * torch.randn_like(real))[2]
    torch.testing.assert_close(noisy, starts, rtol=0, atol=0)
    places = views.places(starts)
    assert places.min() >= -1
    assert places.max() <= 1


def _views(count: int) -> tuple[HierarchicalGenerator, HierarchicalDiscriminator, Tensor]:
    generator, discriminator = _pair(minibatch_statistics="deviation")
    real = discriminator.views.real(torch.randn(count, 1, *SHAPE))
    return generator, discriminator, discriminator.views.generated(generator, torch.randn(count, 5), real)


def test_both_branches_and_both_judges_learn() -> None:
    generator, discriminator, views = _views(4)
    logits = discriminator(views)
    assert logits.shape == (4, 2)
    logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_places_are_known_to_the_judge_of_boxes_but_have_no_gradient() -> None:
    _, discriminator, views = _views(2)
    views = views.detach().requires_grad_()
    logits = discriminator(views)
    (gradient,) = torch.autograd.grad(logits.sum(), views)
    assert (gradient[:, -3:] == 0).all()
    assert (gradient[:, :-3] != 0).any()
    moved = views.detach().clone()
    moved[:, -3:] = 0
    moved[0, -3] = 64.0
    again = discriminator(moved)
    torch.testing.assert_close(again[:, 0], logits[:, 0], rtol=1e-4, atol=1e-5)
    moved[0, -3] = 0.0
    assert not torch.allclose(discriminator(moved)[0, 1], again[0, 1], atol=1e-6)


def test_other_networks_are_judged_whole() -> None:
    _, discriminator = pair_for(SynthesisNetwork(kind="dcgan", width=4, max_width=4), (8, 8, 8), (1, 1, 1))
    volumes = torch.randn(2, 1, 8, 8, 8)
    views = views_for(discriminator, (8, 8, 8))
    assert isinstance(views, WholeViews)
    assert views.real(volumes) is volumes
    assert isinstance(views_for(_pair()[1], SHAPE), BoxedViews)


def test_volumes_without_enough_stages_are_refused() -> None:
    options = SynthesisNetwork(kind="hagan", width=4, max_width=4)
    with pytest.raises(MedganError, match="8x8x8 voxels have only 2 stages"):
        pair_for(options, (8, 8, 8), (1, 1, 1))
