"""The transformer that draws codes: against PyTorch's own, and against sampling without keeping anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.networks.code_prior import CodePrior

GRID, CODES = (2, 3, 2), 5
LENGTH = 12


def _prior(**changed: Any) -> CodePrior:
    torch.manual_seed(0)
    prior = CodePrior(**{"grid": GRID, "codebook_size": CODES, "width": 8, "layers": 2, "heads": 2, **changed})
    for parameter in prior.parameters():
        # An untrained prior gives all codes nearly the same probability.
        parameter.data += 0.3 * torch.randn_like(parameter)
    return prior


def _codes(batch: int, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (batch, LENGTH), generator=torch.Generator().manual_seed(seed))


def _as_torchs(prior: CodePrior) -> nn.TransformerEncoder:
    """PyTorch's transformer with the same weights."""
    layers = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    network = nn.TransformerEncoder(layers, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    for theirs, ours in zip(network.layers, prior.layers, strict=True):
        theirs.self_attn.in_proj_weight.data = ours.triple.weight.data  # type: ignore[union-attr]
        theirs.self_attn.in_proj_bias.data.zero_()  # type: ignore[union-attr, operator]
        pairs = (("self_attn.out_proj", "attended"), ("linear1", "widen"), ("linear2", "narrow"))
        for their, our in (*pairs, ("norm1", "before_attention"), ("norm2", "before_network")):
            theirs.get_submodule(their).load_state_dict(ours.get_submodule(our).state_dict())
    assert network.norm is not None
    network.norm.load_state_dict(prior.last.state_dict())
    return network.eval()


def test_logits_are_those_of_pytorchs_transformer() -> None:
    prior, codes = _prior(), _codes(3)
    x, y, z = (places.detach() for places in prior.places)
    places = torch.stack([x[i] + y[j] + z[k] for i in range(2) for j in range(3) for k in range(2)])
    before = torch.cat((torch.full((3, 1), CODES), codes[:, :-1]), dim=1)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    with torch.no_grad():
        hidden = _as_torchs(prior)(prior.meaning.weight[before] + places, mask=mask, is_causal=True)
        expected = hidden @ prior.logits.weight.t() + prior.logits.bias
        torch.testing.assert_close(prior(codes), expected, rtol=1e-4, atol=1e-4)


def test_a_code_depends_on_those_before_it_alone() -> None:
    prior, codes = _prior(), _codes(1)
    with torch.no_grad():
        whole = prior(codes)
        for place in range(LENGTH):
            changed = codes.clone()
            changed[:, place] = (changed[:, place] + 1) % CODES
            moved = (prior(changed) - whole).abs().amax(dim=-1)[0] > 1e-6
            assert not moved[: place + 1].any()
            assert moved[place + 1 :].all()


def _naively(prior: CodePrior, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """Codes one after the other, each from a pass over all places, by numpy's search in the running sum."""
    exact = _prior().double().eval()
    exact.load_state_dict(prior.state_dict())
    codes = torch.zeros(uniform.shape, dtype=torch.int64)
    for place in range(LENGTH):
        with torch.no_grad():
            probabilities = (exact(codes)[:, place] / temperature).softmax(-1).numpy()
        for row in range(len(codes)):
            chosen = np.searchsorted(np.cumsum(probabilities[row]), float(uniform[row, place]), side="right")
            codes[row, place] = min(int(chosen), CODES - 1)
    return codes


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_drawing_equals_sampling_without_keeping_anything(temperature: float) -> None:
    prior, uniform = _prior(dropout=0.5), torch.rand(20, LENGTH, generator=torch.Generator().manual_seed(1))
    drawn = prior.train().drawn(uniform, temperature=temperature)
    assert torch.equal(drawn, _naively(prior, uniform, temperature))
    assert len(drawn.unique()) == CODES
    # In parts, one by one and in another order they are the same.
    assert torch.equal(torch.cat([prior.drawn(one, temperature=temperature) for one in uniform.split(1)]), drawn)
    assert torch.equal(prior.drawn(uniform.flip(0), temperature=temperature).flip(0), drawn)


def test_codes_are_drawn_as_often_as_the_prior_says() -> None:
    prior, count = _prior(), 500
    uniform = torch.full((count, LENGTH), 0.5, dtype=torch.float64)
    uniform[:, 0] = (torch.arange(count) + 0.5) / count
    first = prior.drawn(uniform)[:, 0]
    with torch.no_grad():
        probabilities = prior.double()(_codes(1))[0, 0].softmax(-1)
    found = torch.bincount(first, minlength=CODES) / count
    # Evenly spaced numbers hit every share of the line to within one of them.
    assert (found - probabilities).abs().max() <= 1 / count
    assert (first.diff() >= 0).all()
    uniform[:, 0], uniform[:, 1] = 0.5, uniform[:, 0].clone()
    drawn = prior.drawn(uniform)
    with torch.no_grad():
        probabilities = prior(drawn)[0, 1].softmax(-1)
    assert (torch.bincount(drawn[:, 1], minlength=CODES) / count - probabilities).abs().max() <= 1 / count


def test_the_ends_of_the_line_give_codes_too() -> None:
    drawn = _prior().drawn(torch.tensor([[0.0] * LENGTH, [1.0] * LENGTH]))
    assert (drawn[0] == 0).all()
    assert (drawn[1] == CODES - 1).all()


def test_a_low_temperature_draws_the_likeliest_codes() -> None:
    prior = _prior()
    drawn = prior.drawn(torch.rand(8, LENGTH), temperature=1e-4)
    with torch.no_grad():
        assert torch.equal(prior(drawn).argmax(-1), drawn)
    assert len(drawn.unique(dim=0)) == 1


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width of 9 does not divide into 2 heads"):
        _prior(width=9)
