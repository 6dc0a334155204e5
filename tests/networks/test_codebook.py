"""Codes of the nearest vectors, and vectors that follow the features that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from medgan.networks.codebook import Codebook


def _features(seed: int = 0, *, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, 4, 3, 2, generator=torch.Generator().manual_seed(seed))


def _rows(features: Tensor) -> np.ndarray:
    return features.movedim(1, -1).flatten(0, -2).numpy()


def _state(codebook: Codebook) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in codebook.state_dict().items()}


def test_codes_are_those_of_the_nearest_vectors() -> None:
    codebook, features = Codebook(7, 3), _features()
    expected = cdist(_rows(features), codebook.vectors.detach().numpy()).argmin(1)
    quantised = codebook(features)
    np.testing.assert_array_equal(quantised.codes.flatten().numpy(), expected)
    np.testing.assert_allclose(_rows(quantised.features), codebook.vectors.detach().numpy()[expected], atol=1e-6)
    distance = np.square(_rows(features) - codebook.vectors.detach().numpy()[expected]).mean()
    assert quantised.commitment.item() == pytest.approx(distance, rel=1e-5)


def test_gradients_pass_through_and_commit() -> None:
    codebook, features = Codebook(7, 3), _features().requires_grad_()
    weights = torch.randn_like(features)
    (passed,) = torch.autograd.grad((codebook(features).features * weights).sum(), features)
    torch.testing.assert_close(passed, weights)
    quantised = codebook(features)
    (commitment,) = torch.autograd.grad(quantised.commitment, features)
    expected = 2 * (features - quantised.features).detach() / features.numel()
    torch.testing.assert_close(commitment, expected)


def test_it_begins_with_features_of_the_first_batch() -> None:
    codebook, features = Codebook(5, 3, decay=1 - 1e-7), 100 + _features()
    codebook(features, learn=True)
    # Without a past that counts for something else, every vector is one of the features.
    assert cdist(codebook.vectors.detach().numpy(), _rows(features)).min(1).max() < 1e-2
    assert codebook(features).commitment < 4


def test_vectors_are_means_of_what_they_stand_for() -> None:
    codebook, features = Codebook(4, 3, decay=0.0), _features()
    codebook(features, learn=True)
    codes = codebook(features, learn=True).codes.flatten().numpy()
    for code in np.unique(codes):
        mean = _rows(features)[codes == code].mean(0)
        np.testing.assert_allclose(codebook.vectors.detach().numpy()[code], mean, atol=1e-5)


@pytest.mark.slow
def test_vectors_move_as_in_monai() -> None:
    from monai.networks.layers.vector_quantizer import EMAQuantizer

    codebook, theirs = Codebook(6, 3, decay=0.9), EMAQuantizer(3, 6, 3, decay=0.9, commitment_cost=1.0, epsilon=1e-12)
    codebook(_features(), learn=True)
    theirs.embedding.weight.data.copy_(codebook.vectors)
    theirs.ema_w.copy_(codebook.sums)
    theirs.ema_cluster_size.copy_(codebook.sizes)
    for seed in range(1, 4):
        ours = codebook(_features(seed), learn=True)
        features, loss, codes = theirs.train()(_features(seed))
        torch.testing.assert_close(ours.codes, codes)
        torch.testing.assert_close(codebook.vectors.data, theirs.embedding.weight.data, rtol=1e-4, atol=1e-5)
        # Theirs says what was quantised before the vectors moved, and quantises by where they were.
        assert features.shape == ours.features.shape
        assert torch.isfinite(loss)


def test_codes_that_nothing_needs_are_given_away() -> None:
    codebook, features = Codebook(4, 3, decay=0.5), _features()
    codebook(features, learn=True)
    codebook.vectors.data[2] = 1e4
    codebook.sums[2] = 1e4 * codebook.sizes[2]
    kept = codebook.vectors.data[[0, 1, 3]].clone()
    for _ in range(12):
        codebook(features, learn=True)
    assert codebook.vectors.data[2].abs().max() < 10
    assert (codebook.vectors.data[[0, 1, 3]] - kept).abs().max() < 4
    assert codebook.perplexity(codebook(features).codes) > 2.5


def test_without_learning_nothing_moves_and_nothing_is_drawn() -> None:
    codebook = Codebook(5, 3)
    codebook(_features(), learn=True)
    before, random = _state(codebook), torch.get_rng_state()
    codebook.train()(_features(1))
    assert all(torch.equal(value, before[name]) for name, value in codebook.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert before.keys() == {"vectors", "sizes", "sums"}


def test_perplexity_counts_codes_in_use() -> None:
    codebook = Codebook(8, 1)
    assert codebook.perplexity(torch.arange(8)).item() == pytest.approx(8)
    assert codebook.perplexity(torch.zeros(5, dtype=torch.int64)).item() == pytest.approx(1)
    assert codebook.perplexity(torch.tensor([0, 3, 3, 0])).item() == pytest.approx(2)
