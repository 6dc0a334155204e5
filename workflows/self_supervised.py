"""Upscale one scan by a network that was tuned on the scan itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError

if TYPE_CHECKING:
    from torch import nn

    from medgan.inference.model import Model
    from medgan.inference.planning import Plan
    from medgan.inference.slice_profile import AssumedProfile
    from medgan.recipe import SuperResolutionRecipe
    from medgan.training.self_supervised import Lesson
    from medgan.volume import Volume

RECIPE = "super_resolution/self_supervised"

# Slices must be so many times coarser than their planes for the planes to show what is missing.
_LEAST_FACTOR = 1.1
# Planes whose voxels are by so much longer than the new slices are thick do not show what is missing either.
_SAME = 1.05
# Estimates of the slice thickness beyond these shares of the slices' distance are no thicknesses.
_THINNEST, _THICKEST = 0.5, 2.0
# An in-plane axis with less fine detail than this share of the other's was interpolated. Anatomy alone, in thick slices
# of a brain that was acquired alike along both axes, came down to 0.41.
_LEAST_DETAIL = 0.25


@dataclass(frozen=True)
class Course:
    """What a RAS scan can be taught by its own planes.

    Args:
        slice_axis: the axis across the slices.
        sharp_axes: the in-plane axes that show the detail which is missing across the slices.
        spacing: mm of the slices that the planes teach to make.
    """

    slice_axis: int
    sharp_axes: tuple[int, ...]
    spacing: float


def self_supervised_upscale(
    volume: Volume,
    model: Model | None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: AssumedProfile | None = None,
    fidelity: float = 1.0,
    recipe: SuperResolutionRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan at a higher resolution, by a network tuned on this scan and nothing else.

    The planes of a scan with thick slices show the detail that is missing across the slices. The scan is upscaled by
    `model`; patches of the result, turned so that an in-plane axis lies across the slices, are sampled as the scan was,
    and a copy of the network learns to restore them. That copy upscales the scan twice, with the two in-plane axes in
    either order, and the mean is the result. It explains the measured scan as every other upscaling does. A slice
    thickness that nobody stated is estimated from the scan.

    The planes teach slices as thin as the planes' own voxels, and no more: what else is asked for is done afterwards
    by `model` as it was.

    Args:
        volume: see `medgan.inference.upscale.upscale`. All channels are upscaled by one network, tuned on all.
        model: where the tuning starts; None for a network without experience, over the physics inverse.
        factor: see there, as are the arguments below that are not named here.
        spacing: see there.
        thickness: see there.
        profile: see there; the tuning samples patches by it too.
        fidelity: see there; the network is tuned for fidelity, texture comes from `model` as it was.
        recipe: steps, learning rates, patch and seed; the shipped recipe when None.
        progress: called with (steps and tiles done, in all).

    Raises:
        MedganError: as `medgan.inference.upscale.upscale`; or no axis of the scan is finer than another, or the slices
            are to stay as they are or coarser than the planes: nothing can be learned from such a scan.
    """
    from medgan.inference.inputs import require_finite
    from medgan.inference.upscale import prepared, unchanged, upscale

    require_finite(volume)
    scan, plan = prepared(volume, model, factor=factor, spacing=spacing, thickness=thickness, profile=profile)
    if plan.high_shape == scan.shape:
        return unchanged(volume)
    course = course_of(scan, plan)
    scan = with_estimated_thickness(scan, plan, course)
    wanted = list(scan.spacing)
    wanted[course.slice_axis] = course.spacing
    _, first = prepared(scan, model, spacing=wanted, thickness=thickness, profile=plan.slices.profile)
    taught = _taught(scan, first, course, model, fidelity, recipe or shipped_recipe(), progress)
    if taught.shape != plan.high_shape:
        rest = [high / low for high, low in zip(plan.high_shape, taught.shape, strict=True)]
        taught = upscale(taught, model, factor=rest, fidelity=fidelity)
    return taught.reoriented(volume.orientation)


def shipped_recipe() -> SuperResolutionRecipe:
    """The recipe `super_resolution/self_supervised`."""
    from medgan.recipe import SuperResolutionRecipe
    from medgan.recipe_files import load_recipe

    recipe = load_recipe(RECIPE)
    assert isinstance(recipe, SuperResolutionRecipe)
    return recipe


def new_model(recipe: SuperResolutionRecipe) -> Model:
    """A model without experience, which upscales as the physics inverse does; the same for the same seed."""
    import torch

    from medgan.inference.model import Model
    from medgan.training.restoration import restorer_for

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        network = restorer_for(recipe.network, recipe.acquisition.factor)
    config: dict[str, Any] = {
        "task": "super_resolution",
        "network": {"name": recipe.network.kind, "arguments": network.arguments},
        "acquisition": {"profile": "gaussian", "regularisation": recipe.acquisition.regularisation},
    }
    weights = {f"fidelity.{name}": value for name, value in network.state_dict().items()}
    return Model(Path(), config, torch.device("cpu"), "", weights)


def course_of(scan: Volume, plan: Plan) -> Course:
    """What the planes of a RAS scan can teach.

    Raises:
        MedganError: nothing, and why.
    """
    import numpy as np

    from medgan.data.sharpness import detail_of_axes

    axis = int(np.argmax(scan.spacing))
    others = [other for other in range(3) if other != axis]
    shown = " x ".join(f"{step:.3g}" for step in scan.spacing)
    finest = min(scan.spacing[other] for other in others)
    if scan.spacing[axis] < _LEAST_FACTOR * finest:
        raise MedganError(
            f"the scan's voxels of {shown} mm are equally long along all axes: none shows finer detail from which the "
            "others could be learned",
            hint="Leave out --self-supervised; a trained model has learned from other scans.",
        )
    wanted = plan.high_spacing[axis]
    if plan.high_shape[axis] == scan.shape[axis] or wanted > _SAME * finest:
        raise MedganError(
            f"slices every {wanted:.3g} mm are wanted of a scan with voxels of {shown} mm; its planes can only teach "
            f"slices every {finest:.3g} mm",
            hint=f"Ask for a spacing of {finest:.3g} mm across the slices, or leave out --self-supervised.",
        )
    fine = [other for other in others if scan.spacing[other] <= _SAME * finest]
    detail = detail_of_axes(scan.data[0])
    most = max(detail[other] for other in fine)
    sharp = tuple(other for other in fine if detail[other] >= _LEAST_DETAIL * most)
    return Course(axis, sharp, wanted if wanted * _SAME >= finest else finest)


def with_estimated_thickness(scan: Volume, plan: Plan, course: Course) -> Volume:
    """A RAS scan with the thickness of its slices estimated from the scan itself, if nobody stated it; as it is where
    somebody did, or where it cannot be estimated: touching slices are assumed then.
    """
    from medgan.acquisition.noise_level import noise_level
    from medgan.acquisition.slice_thickness import estimate_fwhm
    from medgan.inference.planning import ASSUMED

    axis = course.slice_axis
    if plan.slices.source != ASSUMED or plan.slices.axis != axis:
        return scan
    voxels = scan.data[0]
    try:
        estimate = estimate_fwhm(voxels, scan.spacing, axis, noise=noise_level(voxels, _plane(axis)))
    except MedganError:
        # Too few slices to tell: the history will say that touching ones are assumed.
        return scan
    if not _THINNEST <= estimate / scan.spacing[axis] <= _THICKEST:
        return scan
    told = {"slice_thickness": estimate, "slice_thickness_source": "estimate from the scan itself"}
    return replace(scan, metadata={**scan.metadata, **told})


def _taught(
    scan: Volume,
    plan: Plan,
    course: Course,
    model: Model | None,
    fidelity: float,
    recipe: SuperResolutionRecipe,
    progress: Callable[[int, int], None] | None,
) -> Volume:
    """A RAS scan with the slices that its planes can teach, by a network tuned on it."""
    import numpy as np

    from medgan.inference.upscale import described, placed, restored_channel
    from medgan.training.self_supervised import tuned_on

    steps = -(-recipe.super_resolution.pretraining.images // recipe.training.batch_size)
    orders = [(*both, course.slice_axis) for both in (_plane(course.slice_axis), _plane(course.slice_axis)[::-1])]
    total = steps + len(orders) * scan.channels

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, total)

    begun = new_model(recipe) if model is None else model
    # A fidelity that the model does not have is refused before minutes are spent.
    begun.network(fidelity=fidelity)
    tuned = tuned_on(
        _lesson(scan, plan, course, model), begun.network(), recipe, on_tick=lambda tick: tell(tick.moment.step)
    )
    taught = _with_fidelity(begun, tuned)
    data = np.zeros((scan.channels, *plan.high_shape), np.float32)
    for channel, voxels in enumerate(scan.data):
        for number, order in enumerate(orders, start=1):
            turned = replace(plan, order=order)
            data[channel] += restored_channel(voxels, turned, taught, fidelity, None, None) / np.float32(len(orders))
            tell(steps + channel * len(orders) + number)
    along = " and ".join("RAS"[axis] for axis in course.sharp_axes)
    start = "a new network" if model is None else described(model, fidelity)
    return placed(
        data, scan, plan, f"{start}, tuned on the scan itself along {along}, {steps} steps, seed {recipe.training.seed}"
    )


def _lesson(scan: Volume, plan: Plan, course: Course, model: Model | None) -> Lesson:
    """What the tuning sees: the scan, upscaled by the model as it is, and how it was acquired."""
    import numpy as np

    from medgan.acquisition.noise_level import noise_level
    from medgan.inference.upscale import acquisition_of, intensity_range, restored_channel
    from medgan.training.self_supervised import Lesson

    axis = course.slice_axis
    volumes, noise = [], []
    for voxels in scan.data:
        low, length = intensity_range(voxels)
        restored = restored_channel(voxels, plan, model, 1.0, None, None)
        volumes.append(np.asarray((restored - np.float32(low)) / np.float32(length), dtype=np.float32))
        noise.append(noise_level(voxels, _plane(axis)) / length)
    acquisition = acquisition_of(replace(plan, order=(0, 1, 2)), scan.shape, model)
    return Lesson(
        volumes=tuple(volumes),
        slice_axis=axis,
        sharp_axes=course.sharp_axes,
        factor=acquisition.factor[axis],
        thickness=plan.thickness[axis] / plan.high_spacing[axis],
        profile=acquisition.profile[axis],
        noise=tuple(noise),
        regularisation=acquisition.regularisation,
        measured=acquisition.measured,
    )


def _with_fidelity(model: Model, tuned: nn.Module) -> Model:
    """The model with a tuned network in the place of its weights for fidelity; those for texture, if any, are kept."""
    own = {f"fidelity.{name}": value.detach().cpu() for name, value in tuned.state_dict().items()}
    return replace(model, weights={**model.weights, **own})


def _plane(slice_axis: int) -> tuple[int, int]:
    """The other two axes."""
    first, second = (axis for axis in range(3) if axis != slice_axis)
    return first, second
