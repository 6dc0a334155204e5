"""The store of past samples."""

from __future__ import annotations

import torch

from medgan.training.image_pool import ImagePool


def _batch(first: int, count: int = 2) -> torch.Tensor:
    """Samples that are numbered, so that each can be told."""
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1, 1).expand(-1, 1, 2, 2, 2)


def _numbers(volumes: torch.Tensor) -> list[int]:
    return [int(volume.mean()) for volume in volumes]


def test_until_it_is_full_new_samples_are_shown_and_kept() -> None:
    pool = ImagePool(4, (2, 2, 2))
    assert _numbers(pool.exchanged(_batch(0))) == [0, 1]
    assert _numbers(pool.exchanged(_batch(2))) == [2, 3]
    assert _numbers(pool.samples) == [0, 1, 2, 3]


def test_then_half_are_past_ones_whose_place_is_taken() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4, (2, 2, 2))
    pool.exchanged(_batch(0, 4))
    past, held = 0, {0, 1, 2, 3}
    for number in range(4, 404):
        (shown,) = _numbers(pool.exchanged(_batch(number, 1)))
        assert shown in held | {number}
        past += shown != number
        held = held - {shown} | {number} if shown != number else held
        assert set(_numbers(pool.samples)) == held
    assert 160 < past < 240


def test_without_room_nothing_is_kept() -> None:
    pool = ImagePool(0, (2, 2, 2))
    for number in range(3):
        assert _numbers(pool.exchanged(_batch(number, 1))) == [number]


def test_its_state_is_all_in_buffers() -> None:
    torch.manual_seed(0)
    pool, again = ImagePool(3, (2, 2, 2)), ImagePool(3, (2, 2, 2))
    for number in range(9):
        pool.exchanged(_batch(number, 1))
    again.load_state_dict(pool.state_dict())
    state = torch.get_rng_state()
    expected = [_numbers(pool.exchanged(_batch(number, 1))) for number in range(9, 20)]
    torch.set_rng_state(state)
    assert [_numbers(again.exchanged(_batch(number, 1))) for number in range(9, 20)] == expected


def test_no_gradient_passes() -> None:
    volumes = _batch(0).clone().requires_grad_()
    assert not ImagePool(1, (2, 2, 2)).exchanged(volumes).requires_grad
