"""An autoregressive prior: a transformer that draws the codes of a volume one after the other, in raster order.

Decoder-only, normalised before each part (Radford et al. 2019), with one learned position for each place along each
axis. What it has drawn so far is kept as keys and values, so that a volume of n codes costs n small steps instead of n
passes over all of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.layers import as_shape

_WEIGHTS = 0.02
"""Standard deviation of initial weights (Radford et al. 2019)."""


class _Layer(nn.Module):
    """Causal attention and a network for each place, both added to what came in.

    Args:
        width: of the features.
        heads: of the attention; they divide the width.
        dropout: share of what is added that is left out in training.
        depth: layers of the whole transformer.
    """

    def __init__(self, width: int, heads: int, dropout: float, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.triple = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.triple, self.widen):
            nn.init.normal_(layer.weight, std=_WEIGHTS)
        for layer in (self.attended, self.narrow):
            # Two sums for each layer: their variances must not add up with the depth.
            nn.init.normal_(layer.weight, std=_WEIGHTS / math.sqrt(2 * depth))
        for layer in (self.attended, self.widen, self.narrow):
            nn.init.zeros_(layer.bias)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, L, width / heads), of features (B, L, width)."""
        parts = self.triple(self.before_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return query, key, value

    def _added(self, x: Tensor, attention: Tensor) -> Tensor:
        """The features (B, L, width) with what was attended to (B, heads, L, width / heads) and its network added."""
        x = x + self.dropout(self.attended(attention.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.before_network(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """Features of all places (B, L, width), each of which sees those before it and itself."""
        return self._added(x, F.scaled_dot_product_attention(*self._heads(x), is_causal=True))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """Features (B, 1, width) of one place; its key and value are written into those kept, (B, heads, L, ...)."""
        query, keys[:, :, place : place + 1], values[:, :, place : place + 1] = self._heads(x)
        seen = slice(place + 1)
        return self._added(x, F.scaled_dot_product_attention(query, keys[:, :, seen], values[:, :, seen]))


class CodePrior(nn.Module):
    """Probabilities of codes, each given those before it in raster order (the last axis runs fastest).

    Args:
        grid: codes along each axis.
        codebook_size: how many codes there are.
        width: of the features, a multiple of `heads`.
        layers: of the transformer.
        heads: of its attention.
        dropout: in training.
    """

    def __init__(
        self, *, grid: Sequence[int], codebook_size: int, width: int, layers: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} does not divide into {heads} heads")
        self.grid, self.codebook_size = as_shape(grid), codebook_size
        self.length = math.prod(self.grid)
        # One more than there are codes: what stands before the first.
        self.meaning = nn.Embedding(codebook_size + 1, width)
        self.places = nn.ParameterList(_WEIGHTS * torch.randn(size, width) for size in self.grid)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout, layers) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.logits = nn.Linear(width, codebook_size)
        nn.init.normal_(self.meaning.weight, std=_WEIGHTS)
        nn.init.normal_(self.logits.weight, std=_WEIGHTS)
        nn.init.zeros_(self.logits.bias)

    def _positions(self) -> Tensor:
        """One vector for each place, (L, width)."""
        x, y, z = self.places
        return (x[:, None, None] + y[None, :, None] + z[None, None, :]).flatten(0, 2)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (B, L), whole numbers, to the logits of each given those before it, (B, L, codebook_size)."""
        before = F.pad(codes[:, :-1], (1, 0), value=self.codebook_size)
        x = self.dropout(self.meaning(before) + self._positions())
        for layer in self.layers:
            x = layer(x)
        return self.logits(self.last(x))

    @torch.no_grad()
    def drawn(self, uniform: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Draw codes by the inverse of their cumulative distribution.

        Code k of a volume is the first whose cumulative probability, given the codes before it, exceeds number k. It is
        computed in double precision: single precision gives logits that differ a little with the size of the batch,
        and one code that tips over changes all that follow.

        Args:
            uniform: one number in [0, 1) for each code, (B, L).
            temperature: divides the logits; below 1 likely codes become likelier, above 1 all become more alike.

        Returns:
            Codes (B, L) on the device of `uniform`, where they are drawn.
        """
        exact = copy.deepcopy(self).to(uniform.device).double().eval()
        return exact._drawn(uniform.double(), temperature)

    def _drawn(self, uniform: Tensor, temperature: float) -> Tensor:
        batch, width = len(uniform), self.meaning.embedding_dim
        positions = self._positions()
        # A matrix instead of a running sum, which is not deterministic on GPUs.
        cumulate = torch.ones(2 * [self.codebook_size], dtype=uniform.dtype, device=uniform.device).triu()
        kept = [self._empty(layer, batch, width, uniform) for layer in self.layers]
        code = torch.full((batch, 1), self.codebook_size, device=uniform.device)
        codes = []
        for place in range(self.length):
            x = self.meaning(code) + positions[place]
            for layer, (keys, values) in zip(self.layers, kept, strict=True):
                x = layer.step(x, keys, values, place)  # type: ignore[operator]
            probabilities = (self.logits(self.last(x[:, 0])) / temperature).softmax(dim=-1)
            cumulative = probabilities @ cumulate
            threshold = uniform[:, place, None] * cumulative[:, -1:]
            code = (cumulative <= threshold).sum(dim=-1, keepdim=True).clamp_max(self.codebook_size - 1)
            codes.append(code)
        return torch.cat(codes, dim=1)

    def _empty(self, layer: nn.Module, batch: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for a layer's keys and values, each (B, heads, L, width / heads)."""
        heads = int(layer.heads)  # type: ignore[arg-type]
        size = (batch, heads, self.length, width // heads)
        return like.new_zeros(size), like.new_zeros(size)
