"""What is known of an upscaled scan's faults and uncertainty, and what is written about it beside the scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.done import digest_of_result

if TYPE_CHECKING:
    from medgan.acquisition import Acquisition
    from medgan.evaluation.output_check import OutputCheck
    from medgan.inference.model import Model
    from medgan.inference.planning import Plan
    from medgan.volume import Volume
    from medgan.workflows.upscale_request import Request

SPREAD, UNCONFIRMED = "spread", "unconfirmed"
_NOTICE = "Made by software for research; not for diagnosis."
_MEANINGS = {
    SPREAD: (
        "Standard deviation of the network's answers to the scan mirrored along its axes and, where two axes were "
        "acquired alike, turned; in the units of the scan. High where the network is not sure. Low does not mean "
        "right: the answers share what the network was taught."
    ),
    UNCONFIRMED: (
        "Local root mean square of the part of the upscaled scan that the measured scan can neither confirm nor deny, "
        "x - A+ A x with the acquisition A and its regularised inverse A+, under a Gaussian as wide as a measured "
        "voxel is thick; in the units of the scan. It says how much detail stems from the model alone, and nothing of "
        "what is missing."
    ),
}


@dataclass(frozen=True)
class Findings:
    """What is known of one upscaled scan.

    Args:
        scan: the measured scan in RAS, as it was upscaled.
        plan: grids and slice thickness that were assumed.
        acquisition: the forward model that was inverted, in the axes of `scan`.
        checks: the output check of each channel.
        maps: `SPREAD` and `UNCONFIRMED`, those that were asked for and exist, in the scan's units.
        seconds: what upscaling took, reading and writing apart.
    """

    scan: Volume
    plan: Plan
    acquisition: Acquisition
    checks: tuple[OutputCheck, ...]
    maps: Mapping[str, Volume]
    seconds: float

    @property
    def faults(self) -> tuple[str, ...]:
        """What the output check found, with the volume if there are several."""
        many = len(self.checks) > 1
        return tuple(
            f"volume {number}: {fault}" if many else fault
            for number, check in enumerate(self.checks)
            for fault in check.faults
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should be told at once."""
        return tuple(f"WARNING, output check: {fault}" for fault in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """The output check as JSON can hold it."""
        checks = [check.to_dict() for check in self.checks]
        return {"passed": not self.faults, "faults": list(self.faults), "volumes": checks}


def looked_at(
    source: Volume,
    volume: Volume,
    maps: Mapping[str, Volume],
    model: Model | None,
    request: Request,
    seconds: float,
) -> Findings:
    """What is known of an upscaled scan.

    Args:
        source: as it was read.
        volume: the result.
        maps: those that were made with it.
        model: None for physics alone.
        request: what was asked for.
        seconds: what upscaling took.
    """
    from medgan.evaluation.output_check import check_output

    scan, plan, acquisition = _assumed(source, model, request)
    checks = tuple(
        check_output(restored, measured, acquisition)
        for restored, measured in zip(volume.reoriented("RAS").as_float(), scan.as_float(), strict=True)
    )
    known = dict(maps)
    if request.uncertainty and UNCONFIRMED not in known:
        known[UNCONFIRMED] = _unconfirmed(volume, plan, acquisition)
    return Findings(scan, plan, acquisition, checks, known, seconds)


def _assumed(source: Volume, model: Model | None, request: Request) -> tuple[Volume, Plan, Acquisition]:
    """The scan in RAS, and what was assumed of it when it was upscaled."""
    from medgan.inference.upscale import acquisition_of, prepared

    scan, plan = prepared(source, model, **request.of_plan())
    if request.self_supervised and plan.high_shape != scan.shape:
        from medgan.workflows.self_supervised import course_of, with_estimated_thickness

        scan = with_estimated_thickness(scan, plan, course_of(scan, plan))
        # The plan's profile has been turned with the scan.
        profile = plan.slices.profile
        scan, plan = prepared(scan, model, spacing=plan.high_spacing, thickness=request.thickness, profile=profile)
    return scan, plan, acquisition_of(replace(plan, order=(0, 1, 2)), scan.shape, model)


def _unconfirmed(volume: Volume, plan: Plan, acquisition: Acquisition) -> Volume:
    """The map of what the data cannot confirm, for a result that was made elsewhere."""
    import numpy as np

    from medgan.inference.uncertainty import UNCONFIRMED_STEP, local_energy, unconfirmed_part

    turned = volume.reoriented("RAS")
    energies = [local_energy(unconfirmed_part(one, acquisition), plan) for one in turned.data]
    place = turned.with_data(np.stack(energies), UNCONFIRMED_STEP)
    return place.reoriented(volume.orientation)


def map_path(target: Path, name: str) -> Path:
    """Where a map goes: NAME_spread.nii.gz beside NAME.nii.gz or the DICOM folder NAME; in a BIDS dataset the entity
    desc of the result takes the map's name.
    """
    from medgan.io.sidecar import sidecar_of

    stem = sidecar_of(target).name.removesuffix(".json")
    if "_desc-sr_" in stem:
        return target.with_name(f"{stem.replace('_desc-sr_', f'_desc-sr{name}_')}.nii.gz")
    return target.with_name(f"{stem}_{name}.nii.gz")


def write_maps(maps: Mapping[str, Volume], target: Path) -> None:
    """Write the maps of a result beside it, each with a JSON file that says what it shows: all or none.

    Maps are NIfTI files whatever the format of the result: viewers lay them over a scan, and DICOM's parametric maps
    are opened by few.

    Raises:
        MedganError: one cannot be written.
    """
    from medgan.files import read_json, write_json
    from medgan.io import write_volume
    from medgan.io.sidecar import sidecar_of

    result, digest = (read_json(sidecar_of(target)), digest_of_result(target)) if maps else ({}, None)
    # BIDS wants these of every derived image.
    shared = {field: result[field] for field in ("Resolution", "SkullStripped") if field in result}
    written: list[Path] = []
    try:
        for name, volume in maps.items():
            path = map_path(target, name)
            written += [path, sidecar_of(path)]
            write_volume(volume, path)
            about = {
                "Description": _MEANINGS[name],
                **shared,
                "Units": "those of the scan",
                "MedganHistory": list(volume.history),
                "MedganResultSHA256": digest,
                "MedganNotice": _NOTICE,
            }
            write_json(sidecar_of(path), about)
    except MedganError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def has_maps(target: Path, model: Model | None, request: Request) -> bool:
    """Whether the maps that are asked for stand beside a result, and belong to it."""
    if not request.uncertainty:
        return True
    names = (UNCONFIRMED,) if model is None or request.self_supervised else (SPREAD, UNCONFIRMED)
    digest = digest_of_result(target)
    return all(owner == digest for owner in _owners(target, names))


def _owners(target: Path, names: Sequence[str]) -> Iterator[str | None]:
    """Of which result each map is; None where there is no map."""
    from medgan.files import read_json
    from medgan.io.sidecar import sidecar_of

    for name in names:
        path = map_path(target, name)
        if not (path.is_file() and sidecar_of(path).is_file()):
            yield None
            continue
        content = read_json(sidecar_of(path))
        yield content.get("MedganResultSHA256") if isinstance(content, dict) else None
