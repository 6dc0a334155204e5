"""What is asked of every scan that is to be upscaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError

if TYPE_CHECKING:
    from medgan.inference.slice_profile import AssumedProfile


@dataclass(frozen=True)
class Request:
    """What is asked of every scan, see `medgan.inference.upscale.upscale`; `self_supervised` for
    `medgan.workflows.self_supervised.self_supervised_upscale` instead. With `uncertainty` maps are written beside the
    result, which is the same with and without them.
    """

    factor: Sequence[float] | None = None
    spacing: Sequence[float] | None = None
    thickness: float | None = None
    fidelity: float = 1.0
    self_supervised: bool = False
    uncertainty: bool = False
    profile: AssumedProfile | None = None

    def of_plan(self) -> dict[str, Any]:
        """The options that `medgan.inference.upscale.prepared` takes."""
        return {
            "factor": self.factor,
            "spacing": self.spacing,
            "thickness": self.thickness,
            "profile": self.profile,
        }

    def values(self) -> dict[str, Any]:
        """The options that decide the result by name, as JSON could hold them."""
        triples = {"factor": self.factor, "spacing": self.spacing}
        listed = {name: None if value is None else list(value) for name, value in triples.items()}
        return {
            **listed,
            "thickness": self.thickness,
            "fidelity": self.fidelity,
            "self_supervised": self.self_supervised,
            "profile": None if self.profile is None else self.profile.values(),
        }


def check_request(request: Request) -> None:
    """Refuse what no scan could be upscaled by, once instead of for every scan.

    Raises:
        MedganError: an option makes no sense.
    """
    factor, spacing, thickness = request.factor, request.spacing, request.thickness
    if factor is not None and spacing is not None:
        raise MedganError(
            f"both a factor {tuple(factor)} and a spacing {tuple(spacing)} are given", hint="Give one of them."
        )
    if factor is not None and not (len(factor) == 3 and all(math.isfinite(one) and one >= 1 for one in factor)):
        raise MedganError(
            f"the factor {tuple(factor)} is not three numbers of 1 or more", hint="Write for example --factor 1,1,2."
        )
    if spacing is not None and not (len(spacing) == 3 and all(math.isfinite(one) and one > 0 for one in spacing)):
        raise MedganError(
            f"the spacing {tuple(spacing)} is not three numbers above 0", hint="Write for example --spacing 1,1,1."
        )
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise MedganError(f"the slice thickness {thickness:g} is no length", hint="Give --thickness in mm, above 0.")
    if not 0 <= request.fidelity <= 1:
        raise MedganError(
            f"the fidelity {request.fidelity:g} is out of range", hint="Give a number from 0 (texture) to 1 (fidelity)."
        )
