"""Networks of any family that are told labels: the generator by an embedding, the discriminator by projection.

The generator's latent vector is followed by the embedded labels. To the discriminator's logit is added the inner
product of what the logit is made of with the embedded labels (Miyato and Koyama 2018, "cGANs with projection
discriminator", equation 4): the form that the log ratio of two distributions takes where labels are classes, or
numbers that scatter evenly around what a scan shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.errors import MedganError
from medgan.label_distribution import LabelDistribution
from medgan.labels import LabelValues
from medgan.networks.hagan import HierarchicalDiscriminator
from medgan.networks.latents import latents as latent_vectors
from medgan.networks.principal import PrincipalGenerator
from medgan.networks.principal_styles import AnyStyleGenerator
from medgan.networks.stylegan import noise_seeds

# Latent vectors over which the mean style of a label is taken.
_CENTRE_SAMPLES = 256
# Of what labels first add to a logit: a random product would push the generator at random.
_FIRST_PRODUCT = 0.01


class LabelledGenerator(nn.Module):
    """Latent vectors and labels to volumes.

    Args:
        inner: a generator whose latent vectors are longer by `embedding_size`.
        record: registered name and arguments that rebuild it.
        labels: those of the training scans, as `LabelDistribution.to_json` gives them.
        latent_size: length of the latent vector, labels apart.
        embedding_size: length of the embedded labels.
        dropout: share of the training in which labels were dropped; without any, a sample of no label is one of the
            mean labels.
    """

    absent: Tensor

    def __init__(
        self,
        inner: nn.Module,
        *,
        record: Mapping[str, Any],
        labels: Mapping[str, Any],
        latent_size: int,
        embedding_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "inner": dict(record),
            "labels": dict(labels),
            "latent_size": latent_size,
            "embedding_size": embedding_size,
            "dropout": dropout,
        }
        self.inner, self.latent_size, self.dropout = inner, latent_size, dropout
        self.distribution = LabelDistribution.from_json(labels)
        self.coding = self.distribution.coding
        self.embedding = nn.Linear(self.coding.size, embedding_size)
        # Each label has a code of about unit length: its embedding starts with the variance of a latent vector.
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(len(self.coding.labels)))
        nn.init.zeros_(self.embedding.bias)
        code = self.coding.dropped() if dropout else self.coding.typical()
        self.register_buffer("absent", torch.from_numpy(code), persistent=False)
        if isinstance(inner, AnyStyleGenerator):
            inner.held_latents = embedding_size

    def widened(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_size) and codes (B, coding.size), none for no labels, to what the inner network takes:
        latents with the embedded labels, and the codes behind them where it has a linear model of labels.
        """
        codes = self.absent.expand(len(latents), -1) if labels is None else labels
        embedded = self.embedding(codes.to(self.embedding.weight.dtype))
        told = (codes,) if isinstance(self.inner, PrincipalGenerator) and self.inner.codes else ()
        return torch.cat([latents, *(part.to(latents.dtype) for part in (embedded, *told))], dim=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (B, latent_size), standard normal, and codes (B, coding.size) to volumes (B, 1, X, Y, Z)."""
        return self.inner(self.widened(latents, labels))

    def codes(self, values: Sequence[LabelValues]) -> Tensor:
        """Labels of several samples as codes (B, coding.size), where the network is."""
        rows = [torch.from_numpy(self.coding.coded(one)) for one in values]
        return torch.stack(rows).to(self.absent.device)


class LabelledStyleGenerator(LabelledGenerator):
    """The same around a generator with styles, whose truncation keeps the label: styles are pulled towards the mean
    style of the same labels, not of all scans.
    """

    truncates_styles = True
    inner: AnyStyleGenerator

    @property
    def layers(self) -> int:
        """Styles of one volume."""
        return self.inner.layers

    @property
    def mean_style(self) -> Tensor:
        """The mean style of all scans, (style_size,)."""
        return self.inner.mean_style

    def styles(self, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        """Latents (B, latent_size) and codes (B, coding.size) to styles (B, style_size)."""
        centre = None if truncation == 1.0 else self._centre(len(latents), labels)
        return self.inner.styles(self.widened(latents, labels), truncation=truncation, centre=centre)

    def synthesise(self, styles: Tensor, *arguments: Any) -> Tensor:
        """As `StyleGenerator.synthesise`."""
        return self.inner.synthesise(styles, *arguments)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """As `LabelledGenerator.forward`; noise belongs to the latent vector alone and stays where the label moves."""
        if self.training:
            return self.inner(self.widened(latents, labels))
        centre = None if truncation == 1.0 else self._centre(len(latents), labels)
        widened = self.widened(latents, labels)
        return self.inner(widened, truncation=truncation, seeds=seeds or noise_seeds(latents), centre=centre)

    def _centre(self, count: int, labels: Tensor | None) -> Tensor:
        """The mean style of each sample's labels, (B, style_size)."""
        codes = self.absent.expand(count, -1) if labels is None else labels
        vectors = latent_vectors(0, range(_CENTRE_SAMPLES), self.latent_size).to(codes.device)
        return torch.stack(
            [self.inner.styles(self.widened(vectors, code.expand(len(vectors), -1))).mean(dim=0) for code in codes]
        )


def labelled_generator(inner: nn.Module, **arguments: Any) -> LabelledGenerator:
    """A generator that is told labels, around `inner`; `arguments` as for `LabelledGenerator`."""
    kind = LabelledStyleGenerator if isinstance(inner, AnyStyleGenerator) else LabelledGenerator
    return kind(inner, **arguments)


class LabelledDiscriminator(nn.Module):
    """Volumes and labels to logits.

    What a logit is made of, (C, x, y, z), is summed over voxels with learned weights that start at random; its inner
    product with the embedded labels is added to the logit.

    Args:
        inner: a discriminator that shows its features, or that of a hierarchical pair; its attribute `described` holds
            the shape, per volume, of what each logit is made of.
        code_size: length of a label code.
        spectral: whether embeddings are normalised like the layers of a spectrally normalised network.
    """

    def __init__(self, inner: nn.Module, *, code_size: int, spectral: bool = False) -> None:
        super().__init__()
        self.inner = inner
        self.mixes_batch = bool(getattr(inner, "mixes_batch", True))
        shapes: Sequence[Sequence[int]] = inner.described  # type: ignore[assignment]
        self.bases = nn.ParameterList(
            nn.Parameter(torch.randn(1, *shape) / math.sqrt(math.prod(shape[1:]))) for shape in shapes
        )
        embeddings = [nn.Linear(code_size, shape[0], bias=False) for shape in shapes]
        for layer, shape in zip(embeddings, shapes, strict=True):
            nn.init.normal_(layer.weight, std=_FIRST_PRODUCT / math.sqrt(shape[0]))
        self.embeddings = nn.ModuleList(spectral_norm(layer) if spectral else layer for layer in embeddings)

    def projected(self, seen: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The inner products (B, logits) of features, one tensor (B, C, ...) for each logit, with labels (B, code)."""
        terms = []
        with torch.autocast(labels.device.type, enabled=False):
            for features, basis, embedding in zip(seen, self.bases, self.embeddings, strict=True):
                summed = (features.float() * basis).reshape(*features.shape[:2], -1).sum(dim=2)
                terms.append((summed * embedding(labels.float())).sum(dim=1))
        return torch.stack(terms, dim=1)

    def forward(self, volumes: Tensor, labels: Tensor) -> Tensor:
        """What the inner network takes, (B, ...), and codes (B, code_size), to its logits with the labels' part."""
        if isinstance(self.inner, HierarchicalDiscriminator):
            seen, logits = self.inner.judged(volumes)
            return logits + self.projected(seen, labels)
        return self.features(volumes, labels)[-1]

    def features(self, volumes: Tensor, labels: Tensor) -> list[Tensor]:
        """The inner network's features, and the logits that know the labels."""
        *seen, logits = self.inner.features(volumes)  # type: ignore[operator]
        added = self.projected(seen[-1:], labels)
        return [*seen, logits + added.view(len(added), -1, *[1] * (logits.ndim - 2))]


def labels_of_sample(network: nn.Module, asked: LabelValues, *, seed: int, index: int) -> dict[str, Any]:
    """A value for each label of sample `index` under `seed`: as asked, or else as the training scans have them.

    Args:
        network: a generator.
        asked: values by label; all of them None for a sample of no label.
        seed: of the latent vectors.
        index: of the sample.

    Returns:
        Nothing for a generator that is not told labels.

    Raises:
        MedganError: the generator knows no such label or class, a number is outside the training scans' range, or
            labels are to be left out in a way that the generator was not trained for.
    """
    if not isinstance(network, LabelledGenerator):
        if asked:
            raise MedganError(
                f"label {next(iter(asked))} is asked for, but the model was trained without labels",
                hint="Leave it out, or train with synthesis.labels.names.",
            )
        return {}
    checked = network.coding.checked(asked)
    left_out = [name for name, value in checked.items() if value is None]
    if left_out and (len(left_out) < len(network.coding.names) or not network.dropout):
        trained = f"with all of {', '.join(network.coding.names)}" + (" or none of them" if network.dropout else "")
        raise MedganError(
            f"a sample without label {', '.join(left_out)} is asked for, but the model was trained {trained}",
            hint="Do not name the label at all: it is drawn then, as the training scans have it.",
        )
    return network.distribution.drawn(checked, seed=seed, index=index)


def unlabelled(network: nn.Module) -> nn.Module:
    """The network inside one that is told labels; any other is returned as it is."""
    return network.inner if isinstance(network, LabelledGenerator | LabelledDiscriminator) else network


def drawn_labels(network: nn.Module, *, seed: int, indices: range) -> dict[str, Tensor]:
    """What a generator takes beside the latent vectors of samples `indices` under `seed`.

    Returns:
        {"labels": codes (len(indices), coding.size)} drawn as the training scans have them; nothing for a generator
        without labels.
    """
    if not isinstance(network, LabelledGenerator):
        return {}
    values = [labels_of_sample(network, {}, seed=seed, index=index) for index in indices]
    return {"labels": network.codes(values)}
