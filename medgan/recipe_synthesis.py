"""Recipes that train a GAN: networks, the adversarial game and its stabilisers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from medgan.recipe_autoencoding import AutoencodingOptions
from medgan.recipe_families import AUTOENCODING_FIELDS, counts_in_game, fields_of, why_unused
from medgan.recipe_options import (
    Options,
    PenaltyOptions,
    Schedule,
    TrackingOptions,
    TrainingOptions,
    refuse_means_over_parts,
)
from medgan.recipe_synthesis_network import SynthesisNetwork


class SynthesisPenaltyOptions(PenaltyOptions):
    """How the discriminator of whole volumes is kept from becoming too steep."""

    kind: Literal["none", "r1", "r2", "r1+r2", "gradient_penalty", "dragan"] = "r1+r2"  # type: ignore[assignment]
    """Where the squared gradient is penalised: at real volumes (r1), at generated ones (r2), or at both; or where its
    norm is held at 1: between real and generated volumes (gradient_penalty, WGAN-GP) or around the real ones (dragan).
    """
    weight: Schedule | Literal["auto"] = "auto"
    """Gamma of r1 and r2, auto starting at 2e-4 times voxels over batch size and falling to a tenth of it; lambda of
    gradient_penalty and dragan, auto being 10.
    """

    @model_validator(mode="after")
    def _form_fits(self) -> SynthesisPenaltyOptions:
        if self.kind in ("gradient_penalty", "dragan") and self.form == "finite_difference":
            raise ValueError(
                f"form finite_difference estimates the square of the gradient's norm, but {self.kind} needs the norm "
                "of each volume itself; set form: exact"
            )
        return self


class LecamOptions(Options):
    """Holds the discriminator's logits near the running mean of the other side's (LeCam, Tseng et al. 2021)."""

    weight: float = Field(0.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    decay: float = Field(0.99, ge=0, lt=1)
    """What the running means keep of the past at each step."""
    first_image: int = Field(0, ge=0)
    """Images after which the term begins; the running means are kept from the start."""


class PathLengthOptions(Options):
    """Makes steps of one size in a generator's styles change volumes by one amount (Karras et al. 2019, StyleGAN2)."""

    weight: float = Field(0.0, ge=0)
    """Weight of the term; 0 leaves it out, published is 2. Only stylegan networks have styles."""
    interval: int = Field(4, ge=1)
    """Generator steps between two of them; the weight is multiplied by it."""
    decay: float = Field(0.99, ge=0, lt=1)
    """What the running mean of the lengths keeps of the past."""


class LabelOptions(Options):
    """Which labels of the scans the networks are told, so that samples can be asked for by them.

    The generator gets them beside the latent vector, embedded; the discriminator by projection (Miyato and Koyama
    2018): the inner product of what it sees with the embedded labels is added to its logit.
    """

    names: tuple[str, ...] = ()
    """Columns of the participants table; none trains without labels. Numbers are continuous labels, text is classes."""
    classes: tuple[str, ...] = ()
    """Those of them whose numbers stand for classes, such as 0 and 1."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the volumes that are trained on without their labels, so that samples of no label can be drawn too."""
    missing: Literal["refuse", "allow"] = "refuse"
    """Whether training scans may lack some of the labels; allow tells the networks that a value is not known."""
    embedding_size: int = Field(16, ge=1)
    """Numbers that the generator gets beside the latent vector."""

    @field_validator("names", "classes", mode="before")
    @classmethod
    def _from_one_text(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_fit(self) -> LabelOptions:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"names has {', '.join(twice)} twice")
        stray = [name for name in self.classes if name not in self.names]
        if stray:
            raise ValueError(f"classes has {', '.join(stray)}, which names has not")
        return self


class AugmentationOptions(Options):
    """Random changes to every volume that the discriminator sees, real or generated, so that few scans last longer.

    Each change happens to each volume with the same probability, and well below 1, so that the generator does not
    learn them.
    """

    kind: Literal["none", "adaptive", "fixed"] = "none"
    """adaptive: the probability follows how much the discriminator overfits (Karras et al. 2020); fixed: it is
    given.
    """
    probability: Schedule = Schedule(start=0.3, end=0.3)
    """Of a fixed augmentation: the probability of each change."""
    target: float = Field(0.6, gt=0, lt=1)
    """Of an adaptive one: the mean sign of the discriminator's output at real volumes that is aimed at."""
    images: int = Field(500_000, ge=1)
    """Of an adaptive one: images over which the probability can move by one."""
    limit: float = Field(0.8, gt=0, le=0.9)
    """The largest probability; near 1 the generator would learn the changes."""
    rotation: float = Field(10.0, ge=0, le=180)
    """Largest rotation about each of the three axes, degrees."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Largest change in size, the same along all axes: 0.1 is about 10 % larger or smaller."""
    shift: float = Field(0.06, ge=0, lt=1)
    """Largest shift along each axis, as a share of the volume."""
    intensity: float = Field(0.2, ge=0, lt=1)
    """Largest change of the intensity scale: 0.2 is about 20 % brighter or darker."""
    gamma: float = Field(0.2, ge=0, lt=1)
    """Largest change of the exponent of intensity: 0.2 is from about 0.8 to 1.2."""
    bias_field: float = Field(0.2, ge=0, lt=1)
    """Root mean square of the logarithm of a smooth shading."""
    noise: float = Field(0.05, ge=0, lt=1)
    """Largest standard deviation of Gaussian noise, in normalised intensity."""
    cutout: float = Field(0.4, ge=0, lt=1)
    """Sides of a box that is emptied, as a share of the volume's."""

    @model_validator(mode="after")
    def _leaks_nothing(self) -> AugmentationOptions:
        highest = max(self.probability.start, self.probability.end)
        if min(self.probability.start, self.probability.end) < 0 or highest > self.limit:
            raise ValueError(f"probability must lie between 0 and the limit of {self.limit:g}")
        return self


class OptimizerOptions(Options):
    """Adam for generator and discriminator."""

    learning_rate: Schedule = Schedule(start=2e-4, end=5e-5)
    """Learning rate of the generator."""
    discriminator_learning_rate: Schedule | None = None
    """Learning rate of the discriminator; the generator's when empty."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: Schedule = Schedule(start=0.9, end=0.99)
    """Decay of the second moment."""
    lazy_rescaling: bool = False
    """Whether a penalty at every k-th step lowers the discriminator's learning rate and betas by k / (k + 1), as
    published with lazy regularisation (Karras et al. 2019, StyleGAN2, appendix B).
    """


class SynthesisOptions(Options):
    """Games and averages of a synthesis training."""

    images: int = Field(200_000, ge=1)
    """Real volumes shown to the discriminator in the whole training, repeats counted."""
    loss: Literal[
        "relativistic",
        "relativistic_average",
        "non_saturating",
        "saturating",
        "least_squares",
        "hinge",
        "wasserstein",
    ] = "relativistic"
    """The adversarial loss."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """How far the label of real volumes lies below 1 (one-sided; Salimans et al. 2016); for losses with labels, which
    are non_saturating, saturating and least_squares.
    """
    instance_noise: Schedule = Schedule(start=0, end=0)
    """Standard deviation of noise on every volume that the discriminator sees, in normalised intensity; it must end
    at 0.
    """
    feature_weight: float = Field(0.0, ge=0)
    """Weight of the difference between the mean features that the discriminator has of real and of generated volumes,
    beside the generator's adversarial loss (feature matching; Salimans et al. 2016).
    """
    labels: LabelOptions = LabelOptions()
    """What the networks are told of the scans."""
    autoencoding: AutoencodingOptions = AutoencodingOptions()
    """How scans are encoded, for the kinds of networks that do so."""
    lecam: LecamOptions = LecamOptions()
    """A regularisation for few scans."""
    path_length: PathLengthOptions = PathLengthOptions()
    """A regularisation of generators with styles."""
    augmentation: AugmentationOptions = AugmentationOptions()
    """Changes to the volumes that the discriminator sees."""
    penalty: SynthesisPenaltyOptions = SynthesisPenaltyOptions()
    """The gradient penalty."""
    optimizer: OptimizerOptions = OptimizerOptions()
    """Learning rates and momenta."""
    discriminator_steps: int = Field(1, ge=1)
    """Discriminator steps per generator step."""
    ema_images: Schedule = Schedule(start=0, end=10_000)
    """Half-life of the averaged generator, in images."""
    flip: bool = True
    """Whether volumes are mirrored left to right at random (sensible for brains, wrong where the side matters)."""
    evaluation_samples: int = Field(64, ge=4)
    """Synthetic volumes drawn for the evaluation after training."""

    @model_validator(mode="after")
    def _parts_fit(self) -> SynthesisOptions:
        if self.penalty.kind == "gradient_penalty" and self.loss != "wasserstein":
            raise ValueError(
                "penalty gradient_penalty holds the gradient's norm at 1, which the Wasserstein distance asks for and "
                f"no other loss; with loss {self.loss} use penalty r1, r1+r2 or dragan"
            )
        if self.label_smoothing and self.loss not in ("non_saturating", "saturating", "least_squares"):
            raise ValueError(
                "label_smoothing needs a loss with labels (non_saturating, saturating, least_squares); loss "
                f"{self.loss} has none"
            )
        if self.instance_noise.end != 0 or self.instance_noise.start < 0:
            raise ValueError("instance_noise must begin at 0 or more and end at 0, or the samples stay noisy")
        if self.optimizer.lazy_rescaling and (self.penalty.kind == "none" or self.penalty.interval < 2):
            raise ValueError("optimizer.lazy_rescaling needs a penalty with an interval of 2 or more")
        return self


class SynthesisRecipe(Options):
    """Train a GAN on a cohort."""

    task: Literal["synthesis"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    network: SynthesisNetwork = SynthesisNetwork()
    """Sizes of generator and discriminator."""
    synthesis: SynthesisOptions = SynthesisOptions()
    """The adversarial game."""
    training: TrainingOptions = TrainingOptions()
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> SynthesisRecipe:
        kind, game = self.network.kind, self.synthesis
        for field in sorted(game.model_fields_set):
            if not counts_in_game(kind, field):
                raise ValueError(why_unused(kind, f"synthesis.{field}"))
        for field in sorted(game.autoencoding.model_fields_set - AUTOENCODING_FIELDS.get(kind, frozenset())):
            raise ValueError(why_unused(kind, f"synthesis.autoencoding.{field}"))
        return self

    @model_serializer(mode="wrap")
    def _fields_that_count(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        saved, kind = dump(self), self.network.kind
        game = {field: value for field, value in saved["synthesis"].items() if counts_in_game(kind, field)}
        if "autoencoding" in game:
            encoding, named = game["autoencoding"], AUTOENCODING_FIELDS[kind]
            game["autoencoding"] = {field: value for field, value in encoding.items() if field in named}
        return {**saved, "synthesis": game}

    @model_validator(mode="after")
    def _encoding_fits_batches(self) -> SynthesisRecipe:
        kind, options = self.network.kind, self.training
        if kind == "alpha_wgan" and options.batch_size // options.accumulation < 2:
            raise ValueError(
                "alpha_wgan networks judge reconstructions in one half of a batch, samples in the other: each of the "
                "training.accumulation parts of a batch needs 2 volumes, so a training.batch_size of 2 or more"
            )
        if kind == "vqgan" and options.accumulation > 1:
            raise ValueError(
                "the codebook of vqgan networks follows whole batches, which training.accumulation splits; set "
                "training.accumulation: 1 and a smaller training.batch_size"
            )
        return self

    @model_validator(mode="after")
    def _game_fits_parts_of_batches(self) -> SynthesisRecipe:
        game = self.synthesis
        refuse_means_over_parts("synthesis", self.training, loss=game.loss, feature_weight=game.feature_weight)
        return self

    @model_validator(mode="after")
    def _game_fits_networks(self) -> SynthesisRecipe:
        fields, penalty = fields_of(self.network.kind), self.synthesis.penalty.kind
        batch = self.network.discriminator_normalisation == "batch" and "discriminator_normalisation" in fields
        if self.network.kind == "hagan" and (self.synthesis.augmentation.kind != "none" or penalty == "dragan"):
            part = "penalty dragan" if penalty == "dragan" else "augmentation"
            raise ValueError(f"{part} works on whole volumes, but hagan networks are trained on views of them")
        if batch and penalty != "none":
            raise ValueError(
                f"penalty {penalty} limits the gradient at each volume, but with network.discriminator_normalisation "
                "batch a logit depends on the other volumes too; choose instance, spectral or none"
            )
        batch = batch or (self.network.normalisation == "batch" and "normalisation" in fields)
        if batch and self.training.batch_size == 1:
            raise ValueError(
                "batch normalisation needs a training.batch_size of 2 or more; or choose network.normalisation instance"
            )
        statistics = self.network.minibatch_statistics if "minibatch_statistics" in fields else "none"
        if statistics != "none" and self.training.batch_size // self.training.accumulation < 2:
            raise ValueError(
                f"network.minibatch_statistics {statistics} compares the volumes of a batch: it needs a "
                "training.batch_size of 2 or more"
            )
        return self

    @property
    def images(self) -> int:
        """Images of the whole training."""
        return self.synthesis.images

    def with_steps(self, steps: int) -> SynthesisRecipe:
        """The same recipe shortened or lengthened to `steps` steps; schedules stretch with it."""
        seen = self.training.batch_size * self.synthesis.discriminator_steps
        options = self.synthesis.model_copy(update={"images": steps * seen})
        return self.model_copy(update={"synthesis": options})
