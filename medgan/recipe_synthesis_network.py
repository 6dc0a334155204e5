"""Kind and sizes of the networks of a synthesis recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from medgan.recipe_families import FAMILY_FIELDS, fields_of, kinds_with, third_party_networks
from medgan.recipe_options import Options


class SynthesisNetwork(Options):
    """Kind and sizes of generator and discriminator; shapes derive from the cohort.

    A recipe may only name fields that its kind has (`medgan.recipe_families`), and only these are saved.
    """

    kind: str = "r3gan"
    """r3gan: residual networks without normalisation; dcgan: plain convolutions; stylegan: modulated convolutions and
    noise; progressive: networks that grow during training; hagan: trained on sub-volumes, for large volumes;
    alpha_wgan: with an encoder, so that scans are reconstructed as well; vqgan: scans as codes of a learned codebook,
    and a prior that draws codes; or a name that another package registered.
    """
    latent_size: int = Field(64, ge=1)
    """Length of the latent vector."""
    width: int = Field(48, ge=1)
    """Feature channels of the finest stage."""
    max_width: int = Field(384, ge=1)
    """Most feature channels of a stage; channels double towards the coarser stages until they reach it."""
    blocks: int = Field(2, ge=1)
    """Of r3gan and vqgan: residual blocks per stage."""
    group_width: int = Field(16, ge=0)
    """Of r3gan: channels per group of the inner convolutions; 0 for dense blocks, which are faster on a CPU."""
    expansion: int = Field(2, ge=1)
    """Of r3gan: how many times wider a grouped block is inside."""
    common_pattern: bool = True
    """Of r3gan: whether untrained samples are variations of one pattern, as scans of one anatomy are; say false for a
    cohort of several kinds of scan.
    """
    discriminator: Literal["residual", "plain"] = "residual"
    """Of r3gan: residual blocks as published, or the plain strided convolutions of dcgan, a fifth of the cost and
    quicker to learn in a training of minutes.
    """
    principal_components: int = Field(0, ge=0)
    """Of r3gan, dcgan, stylegan, progressive and alpha_wgan: how many principal components of the training scans, with
    random weights, the generator's work is added to; training then begins with blurred but different scans instead of
    noise. No more are taken than latent_size, and than a quarter of the scans. 0: none, the classic start.
    """
    base_size: int = Field(4, ge=2)
    """Fewest voxels along an axis of the coarsest stage."""
    haar_head: bool = False
    """Whether the networks work on the eight Haar sub-bands at half the resolution, which costs about an eighth."""
    normalisation: Literal["batch", "instance", "none", "spectral"] = "batch"
    """Of dcgan and alpha_wgan: what generator and encoder are normalised by; spectral normalises weights instead of
    features.
    """
    discriminator_normalisation: Literal["batch", "instance", "none", "spectral"] = "none"
    """Of dcgan and alpha_wgan: what the discriminator is normalised by."""
    minibatch_statistics: Literal["none", "deviation", "discrimination"] = "none"
    """Of r3gan, dcgan, stylegan, progressive and hagan: what the discriminator sees of the other volumes: how much
    they differ (deviation), or their learned distances (discrimination).
    """
    style_size: int = Field(64, ge=1)
    """Of stylegan: length of a style."""
    mapping_layers: int = Field(4, ge=1)
    """Of stylegan: layers of the network that turns latent vectors into styles."""
    noise: bool = True
    """Of stylegan: whether convolutions get noise for what differs between scans of one style."""
    style_mixing: float = Field(0.5, ge=0, le=1)
    """Of stylegan: share of the training samples that are made of two styles."""
    fading: float = Field(0.08, gt=0, le=1)
    """Of progressive: share of the training in which each stage fades in."""
    stabilising: float = Field(0.08, ge=0, le=1)
    """Of progressive: share of the training for which each stage is trained before the next one fades in."""
    sub_volume: float = Field(0.5, gt=0, le=1)
    """Of hagan: share of each axis that the sub-volumes span on which the full resolution is trained."""
    halvings: int = Field(3, ge=1)
    """Of vqgan: how many times the resolution is halved from voxels to codes."""
    codebook_size: int = Field(256, ge=2)
    """Of vqgan: different codes."""
    code_channels: int = Field(16, ge=1)
    """Of vqgan: numbers that a code stands for."""
    discriminator_width: int = Field(32, ge=1)
    """Of vqgan: feature channels of the first layer of the discriminator, which judges patches."""
    prior_width: int = Field(256, ge=2)
    """Of vqgan: width of the transformer that draws codes; a multiple of prior_heads."""
    prior_layers: int = Field(6, ge=1)
    """Of vqgan: its layers."""
    prior_heads: int = Field(8, ge=1)
    """Of vqgan: its attention heads."""
    prior_dropout: float = Field(0.1, ge=0, lt=1)
    """Of vqgan: share of its features that are left out at random in training; with few scans it memorises less."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of another package's networks: what they are made with."""

    @field_validator("kind")
    @classmethod
    def _kind_exists(cls, kind: str) -> str:
        if kind not in FAMILY_FIELDS and kind not in third_party_networks():
            known = ", ".join([*FAMILY_FIELDS, *third_party_networks()])
            raise ValueError(f"neither medgan nor an installed package has such networks; there are {known}")
        return kind

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> SynthesisNetwork:
        for field in sorted(self.model_fields_set - fields_of(self.kind)):
            raise ValueError(f"'{field}' is a field of {', '.join(kinds_with(field))} networks, not of {self.kind}")
        if "group_width" in fields_of(self.kind) and self.group_width:
            for field in ("width", "max_width"):
                inner = getattr(self, field) * self.expansion
                if inner % self.group_width:
                    raise ValueError(
                        f"{field} times expansion is {inner}, which does not divide into groups of group_width "
                        f"{self.group_width}; choose a multiple, or 0 for dense blocks"
                    )
        if "prior_heads" in fields_of(self.kind) and self.prior_width % self.prior_heads:
            raise ValueError(f"prior_width {self.prior_width} does not divide into prior_heads {self.prior_heads}")
        return self

    @model_serializer(mode="wrap")
    def _fields_that_count(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {field: value for field, value in dump(self).items() if field in fields_of(self.kind)}
