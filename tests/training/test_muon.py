from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medgan.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonalised_keeps_directions_and_evens_out_their_sizes(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 7
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix)
    inner = u.T @ result @ vh.T  # diagonal in the bases of the matrix itself
    sizes = inner.diagonal()
    assert sizes.min() > 0.3
    assert sizes.max() < 1.3
    assert (inner - torch.diag(sizes)).abs().max() < 1e-3


def test_a_zero_matrix_stays_zero() -> None:
    assert not orthogonalised(torch.zeros(3, 5)).any()


def test_other_parameters_are_trained_as_adam_does() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)
    mine = Muon(ours, 3e-2, betas=(0.9, 0.99))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for _ in range(5):
        x = torch.randn(4, 5)
        for network, optimizer in ((ours, mine), (theirs, adam)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for here, there in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-7)


def test_it_trains_convolutions_and_resumes() -> None:
    def network() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 3, padding=1))

    def train(module: nn.Module, optimizer: Muon, steps: range) -> float:
        for step in steps:
            x = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(step))
            loss = (module(x) - x.roll(1, dims=2)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    whole = network()
    start = train(whole, optimizer := Muon(whole, 1e-2), range(1))
    end = train(whole, optimizer, range(1, 60))
    assert end < 0.5 * start

    first = network()
    train(first, before := Muon(first, 1e-2), range(30))
    second = network()
    second.load_state_dict(first.state_dict())
    after = Muon(second, 1e-2)
    after.load_state_dict(before.state_dict())
    train(second, after, range(30, 60))
    for here, there in zip(whole.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)
