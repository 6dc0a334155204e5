"""The objective of an encoder that learns without labels what an evaluation has to see.

Most self-supervision teaches an encoder to overlook how an image was changed: two views under different blur, noise and
contrast are to get one descriptor. Here that would make it blind to just what a synthetic scan does wrong. So changes
are part of the identity: each patch is degraded in two ways that differ in one kind, two places of each are viewed, and
a view must find the other place under the *same* degradation among those of other scans and those of the same patch
degraded otherwise (van den Oord et al. 2018, arXiv:1807.03748, with these pairs). Beside that, the kinds and strengths
of the degradations must be read off the descriptor by a linear map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from medgan.networks.encoder import FeatureEncoder
from medgan.recipe_encoding import EncodingRecipe
from medgan.training.degradations import DEGRADATIONS, degraded, drawn_strengths
from medgan.training.patch_game import tuned
from medgan.training.phases import Moment, Phase

_AVERAGED_SHARE = 0.1
_PLACES = 2
# The weakest strength must differ from absence.
_WEAKEST_SCORE = 0.1


class EncodingObjective:
    """One encoder with two small heads; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Batches hold patches (B, 1, P, P, P), normalised to about [0, 1].

    Args:
        recipe: what to train.
        device: where to put the network.
    """

    averaged = "encoder"

    def __init__(self, recipe: EncodingRecipe, *, device: torch.device) -> None:
        self.recipe, self.images = recipe, recipe.images
        torch.manual_seed(recipe.training.seed)
        self.network = EncoderWithHeads(encoder_for(recipe)).to(device)
        rate = recipe.encoding.learning_rate
        optimizer = Adam(self.network.parameters(), lr=rate.at(0.0), betas=(0.9, 0.99))
        self._phases = (Phase("encoder", self.network, optimizer, self.loss, tuned(rate)),)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint must hold."""
        return {"encoder": self.network}

    @property
    def phases(self) -> Sequence[Phase]:
        """One."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged encoder in images, short at the beginning so that the start is forgotten."""
        return min(self.recipe.encoding.ema_images, _AVERAGED_SHARE * moment.images)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps."""

    def loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Both tasks on patches (B, 1, P, P, P)."""
        options = self.recipe.encoding
        count = len(volumes)
        # Scans keep their precision, whatever the network computes in.
        with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
            strengths = neighbouring_strengths(count, options.chance)
            patches = degraded(torch.cat((volumes, volumes)), strengths)
            coarse = bool(torch.rand(()) < options.coarse_share)
            views = torch.cat([self._view(patches, coarse) for _ in range(_PLACES)])
        told, identity = self.network(views)
        naming = F.mse_loss(told, scores(strengths).to(told).repeat(_PLACES, 1))
        finding, share = found_again(identity, _PLACES, options.temperature)
        loss = options.strength_weight * naming + options.contrastive_weight * finding
        return loss, {"naming": naming.detach(), "finding": finding.detach(), "found_share": share}

    def _view(self, patches: Tensor, coarse: bool) -> Tensor:
        """A cube cut out at one random place for all patches; a larger one at half the resolution if coarse."""
        side = self.recipe.encoding.view
        if coarse:
            side = min(2 * side, min(patches.shape[2:]) // 2 * 2 - 4)
        x, y, z = (int(torch.randint(0, size - side + 1, ())) for size in patches.shape[2:])
        cut = patches[:, :, x : x + side, y : y + side, z : z + side]
        return F.avg_pool3d(cut, 2) if coarse else cut

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged encoder."""
        encoder = average.encoder
        assert isinstance(encoder, FeatureEncoder)
        config = {"task": "encoding", "network": {"name": "feature_encoder", "arguments": encoder.arguments}}
        return config, dict(encoder.state_dict())


class EncoderWithHeads(nn.Module):
    """An encoder, and what is asked of its descriptors in training only."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.strengths = nn.Linear(encoder.size, len(DEGRADATIONS))
        self.identity = nn.Linear(encoder.size, encoder.size)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Views (B, 1, X, Y, Z) to scores of the kinds (B, kinds) and to what tells scan and degradation (B, D)."""
        described = self.encoder(views)
        return self.strengths(described), self.identity(described)


def encoder_for(recipe: EncodingRecipe) -> FeatureEncoder:
    """An encoder with fresh weights."""
    options = recipe.network
    return FeatureEncoder(channels=options.channels, hidden=options.hidden, descriptor=options.descriptor)


def neighbouring_strengths(count: int, chance: float) -> Tensor:
    """Strengths (2 * count, kinds) of twice as many degradations as patches: those in the second half are those in the
    first with one kind drawn anew.
    """
    first, drawn = drawn_strengths(count, chance), drawn_strengths(count, 0.5)
    kinds = torch.randint(0, first.shape[1], (count, 1))
    second = first.scatter(1, kinds, drawn.gather(1, kinds))
    # Where the kind was absent and stays absent it appears, so that no patch is its own opposite.
    same = (first == second).all(dim=1, keepdim=True)
    second = torch.where(same, second.scatter(1, kinds, torch.rand(count, 1)), second)
    return torch.cat((first, second))


def scores(strengths: Tensor) -> Tensor:
    """What the descriptor must tell of strengths: 0 where a kind is absent, 0.1 to 1 where it is present."""
    return torch.where(strengths < 0, 0.0, _WEAKEST_SCORE + (1 - _WEAKEST_SCORE) * strengths)


def found_again(described: Tensor, places: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of finding each view's partner, and the share of the views that find it.

    Args:
        described: (places * N, D), N patches at one place after the other.
        places: two.
        temperature: of the softmax over cosines.
    """
    unit = F.normalize(described.float(), dim=1)
    count = len(unit) // places
    cosines = unit @ unit.T / temperature
    cosines = cosines.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), float("-inf"))
    partner = torch.arange(len(unit), device=unit.device).roll(count)
    share = (cosines.argmax(dim=1) == partner).float().mean()
    return F.cross_entropy(cosines, partner), share.detach()
