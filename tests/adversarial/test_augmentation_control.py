from __future__ import annotations

import pytest
import torch

from medgan.adversarial.augmentation_control import AugmentationControl, real_signs


def _control(**options: float) -> AugmentationControl:
    return AugmentationControl(**{"target": 0.6, "images": 1000, "limit": 0.8, **options})  # type: ignore[arg-type]


def test_sure_discriminators_raise_it_and_doubtful_ones_lower_it() -> None:
    control = _control()
    control.observe(torch.ones(40, 1))
    control.observe(torch.ones(10, 1))
    control.adjust()
    assert control.probability.item() == pytest.approx(50 / 1000)
    control.observe(torch.tensor([[1.0]] * 12 + [[-1.0]] * 8))  # a mean sign of 0.2
    control.adjust()
    assert control.probability.item() == pytest.approx(30 / 1000)


def test_it_stays_between_nothing_and_its_limit() -> None:
    control = _control(images=10)
    control.observe(-torch.ones(4, 1))
    control.adjust()
    assert control.probability.item() == 0
    control.observe(torch.ones(40, 1))
    control.adjust()
    assert control.probability.item() == pytest.approx(0.8)


def test_without_news_nothing_moves() -> None:
    control = _control(images=10)
    control.observe(torch.ones(2, 1))
    control.adjust()
    before = control.probability.item()
    control.adjust()
    assert control.probability.item() == before == pytest.approx(0.2)


def test_patch_logits_count_as_one_volume() -> None:
    control = _control()
    control.observe(torch.ones(4, 1, 3, 3, 3))
    control.adjust()
    assert control.probability.item() == pytest.approx(4 / 1000)


def test_a_checkpoint_between_adjustments_holds_all_of_it() -> None:
    control, other = _control(images=7), _control(images=7)
    control.observe(torch.ones(3, 1))
    control.adjust()
    control.observe(torch.tensor([[1.0], [-1.0], [1.0]]))
    other.load_state_dict(control.state_dict())
    for one in (control, other):
        one.observe(torch.ones(5, 1))
        one.adjust()
    assert torch.equal(other.probability, control.probability)
    assert control.probability > 0


def test_signs_at_the_boundary_of_the_loss() -> None:
    real, generated = torch.tensor([0.2, 0.7, 0.5]), torch.tensor([0.0, 0.0, 0.0])
    assert real_signs(real, generated, boundary=0.0).tolist() == [1, 1, 1]
    assert real_signs(real, generated, boundary=0.5).tolist() == [-1, 1, 0]


def test_signs_of_losses_that_only_compare() -> None:
    real, generated = torch.tensor([2.0, 4.0, -1.0]), torch.tensor([0.0, -2.0, 1.0])
    signs = real_signs(real, generated, boundary=None)
    assert signs.tolist() == [1, 1, -1]
    assert torch.equal(real_signs(real + 100, generated + 100, boundary=None), signs)
