from __future__ import annotations

import pytest
import torch

from medgan.adversarial.matching import mean_feature_matching


def test_the_formula_of_two_layers() -> None:
    real = [torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([[2.0], [2.0]])]
    generated = [torch.tensor([[2.0, 2.0], [2.0, 2.0]]), torch.tensor([[0.0], [0.0]])]
    # First layer: equal means. Second: (0 - 2)^2 over a mean square of 4.
    assert mean_feature_matching(real, generated).item() == pytest.approx(0.5)


def test_only_means_count_and_layers_have_no_scale() -> None:
    torch.manual_seed(0)
    real, generated = torch.randn(4, 3, 2, 2, 2), torch.randn(4, 3, 2, 2, 2)
    value = mean_feature_matching([real], [generated])
    torch.testing.assert_close(mean_feature_matching([real], [generated[[2, 0, 3, 1]]]), value)
    torch.testing.assert_close(mean_feature_matching([100 * real], [100 * generated]), value)


def test_only_the_generated_side_learns() -> None:
    real, generated = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    mean_feature_matching([real], [generated]).backward()
    assert real.grad is None
    assert generated.grad is not None
    assert (generated.grad < 0).all()


def test_unequal_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 layers of real and 1 of generated"):
        mean_feature_matching([torch.ones(1, 1)] * 2, [torch.ones(1, 1)])
