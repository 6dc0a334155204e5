"""A pair of networks of any family that can be told labels."""

from __future__ import annotations

from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.label_distribution import LabelDistribution
from medgan.networks.families import exported_generator, pair_for
from medgan.networks.labelled import LabelledDiscriminator, LabelledGenerator, labelled_generator
from medgan.recipe import LabelOptions, SynthesisNetwork


def labelled_pair(
    options: SynthesisNetwork,
    options_of_labels: LabelOptions,
    labels: LabelDistribution,
    *,
    shape: Shape,
    spacing: Spacing,
) -> tuple[LabelledGenerator, LabelledDiscriminator]:
    """Generator and discriminator of the kind that the options name, told labels, with fresh weights.

    Args:
        options: the recipe's `network`.
        options_of_labels: the recipe's `synthesis.labels`.
        labels: of the training scans, which the generator takes along.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.

    Raises:
        MedganError: as `pair_for` would, or the discriminator does not show what its logit is made of.
    """
    wide = options.model_copy(update={"latent_size": options.latent_size + options_of_labels.embedding_size})
    inner, judge = pair_for(wide, shape, spacing)
    if not hasattr(judge, "described"):
        raise MedganError(
            f"synthesis.labels names {', '.join(labels.coding.names)}, but the discriminator of {options.kind} "
            "networks cannot be told labels: it does not show what its logit is made of",
            hint="Leave synthesis.labels.names empty, choose another network.kind, or give the discriminator "
            "features(volumes) and described, as the page on conditional synthesis says.",
        )
    generator = labelled_generator(
        inner,
        record=exported_generator(wide, inner, shape=shape, spacing=spacing),
        labels=labels.to_json(),
        latent_size=options.latent_size,
        embedding_size=options_of_labels.embedding_size,
        dropout=options_of_labels.dropout,
    )
    spectral = options.kind == "dcgan" and options.discriminator_normalisation == "spectral"
    return generator, LabelledDiscriminator(judge, code_size=labels.coding.size, spectral=spectral)
