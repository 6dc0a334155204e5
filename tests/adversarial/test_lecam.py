from __future__ import annotations

import pytest
import torch

from medgan.adversarial.lecam import LecamAnchors

REAL, GENERATED = torch.tensor([[1.0], [3.0]]), torch.tensor([[-1.0], [0.0]])


def test_running_means_begin_with_the_first_batch() -> None:
    anchors = LecamAnchors(decay=0.9)
    anchors.update(REAL, GENERATED)
    assert (anchors.real.item(), anchors.generated.item()) == (2.0, -0.5)
    anchors.update(REAL + 10, GENERATED)
    assert anchors.real.item() == pytest.approx(0.9 * 2 + 0.1 * 12)


def test_the_published_formula() -> None:
    """Each side's logits against the mean of the other: ((1.5)^2 + (3.5)^2) / 2 + ((-3)^2 + (-2)^2) / 2."""
    anchors = LecamAnchors()
    anchors.update(REAL, GENERATED)
    assert anchors(REAL, GENERATED).item() == pytest.approx((2.25 + 12.25) / 2 + (9 + 4) / 2)


def test_logits_learn_and_anchors_do_not() -> None:
    anchors, logits = LecamAnchors(), REAL.clone().requires_grad_()
    anchors.update(logits, GENERATED)
    anchors(logits, GENERATED).backward()
    # The derivative of the mean of (d + 0.5)^2 is (d + 0.5).
    torch.testing.assert_close(logits.grad, REAL + 0.5)
    assert not anchors.real.requires_grad


def test_a_checkpoint_holds_them() -> None:
    anchors, other = LecamAnchors(), LecamAnchors()
    anchors.update(REAL, GENERATED)
    other.load_state_dict(anchors.state_dict())
    for one in (anchors, other):
        one.update(REAL + 1, GENERATED - 1)
    assert torch.equal(other.real, anchors.real)
    assert torch.equal(other.generated, anchors.generated)
