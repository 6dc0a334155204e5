"""Draw synthetic scans at chosen points of a generator's space: on the way between two samples, of two samples' styles,
or moved along a direction of variation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.formats import NIFTI
from medgan.workflows.generate import Output, write_samples
from medgan.workflows.overview import Overview
from medgan.workflows.points import End, Sampling, end_named, load_directions, require_smooth, sample_end
from medgan.workflows.release import released_model

if TYPE_CHECKING:
    from medgan.inference.points import Point
    from medgan.labels import LabelValues
    from medgan.volume import Volume

# Longer moves leave what the network was trained on, several times over.
_LONGEST = 10.0
_PROJECTED_NOTICE = (
    "At least one end was projected from a real scan: these scans may show its person. Made by a generative model; not "
    "for diagnosis."
)


@dataclass(frozen=True)
class Control:
    """What is asked for instead of samples as they come; one of the three ways.

    Args:
        interpolate: the ends of a way, each the index of a sample or a file that `medgan project` wrote.
        steps: scans on it, with those at the ends.
        mix: two samples, the first of which gives the coarse stages' styles, the second the others.
        from_stage: the first stage, from 1, that the second gives; all possible ones in turn by default.
        along: moves of each sample, "DIRECTION:AMOUNT", directions counted from 1 and amounts in standard deviations.
        directions: the file with these directions, as `medgan explore` wrote it.
    """

    interpolate: tuple[str, str] | None = None
    steps: int | None = None
    mix: tuple[str, str] | None = None
    from_stage: int | None = None
    along: Sequence[str] = ()
    directions: Path | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anything is asked for."""
        ways = (self.interpolate, self.mix, self.along, self.directions)
        return any(ways) or self.steps is not None or self.from_stage is not None


@dataclass(frozen=True, eq=False)
class _Planned:
    """One scan to make: where, in words, as values, and for identities; `shown` is its title on the overview."""

    point: Point
    words: str
    made: Mapping[str, Any]
    shown: str
    index: int | None
    variant: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)
    is_projected: bool = False


@dataclass(frozen=True, eq=False)
class _Plan:
    """All scans to make; `title` and `text` are for the page that shows them."""

    scans: Sequence[_Planned]
    title: str
    text: str
    also: Mapping[str, Any] = field(default_factory=dict)


def control_scans(
    model: str | Path,
    count: int | None,
    control: Control,
    out: str | Path,
    *,
    seed: int = 0,
    truncation: float = 1.0,
    labels: LabelValues = MappingProxyType({}),
    device: str = "auto",
    format: str = NIFTI,
    contrast: str | None = None,
    allow_memorised: bool = False,
    reporter: Reporter | None = None,
) -> list[Path]:
    """Write the scans that are asked for, `samples.json`, and a page `overview.html` that shows them side by side.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        count: how many samples to move along a direction; None for the other ways, which have numbers of their own.
        control: what is asked for.
        out: a folder; it appears whole or not at all.
        seed: under which samples are numbered.
        truncation: see `medgan.inference.generate.generate`.
        labels: of a model that is told labels; those left out are drawn.
        device: "auto", "cpu", "cuda", ...
        format: see `medgan.workflows.generate.generate_scans`; ends that were projected from a real scan are written
            as NIfTI alone, because the others would declare that they show nobody.
        contrast: for BIDS.
        allow_memorised: draw from a model that copies training scans all the same.
        reporter: where progress goes.

    Raises:
        MedganError: the options contradict each other, an end is no sample, the network has no styles to mix or no
            way between its samples, or the directions belong to another model.
    """
    import torch

    _require_one_way(control, count)
    output = Output.checked(out, format, contrast, truncation)
    reporter = reporter or Reporter()
    loaded = released_model(model, device, "generate", allow_memorised=allow_memorised, reporter=reporter)
    network = loaded.network()
    require_smooth(network, loaded)
    sampling = Sampling(loaded, network, seed, truncation, labels)
    with torch.inference_mode():
        if control.interpolate:
            plan = _way(sampling, control.interpolate, control.steps)
        elif control.mix:
            plan = _mixture(sampling, control.mix, control.from_stage)
        else:
            plan = _moves(sampling, count or 1, control.along, control.directions)
    projected = any(one.is_projected for one in plan.scans)
    if projected and format != NIFTI:
        raise MedganError(
            f"an end was projected from a real scan, and --format {format} would declare that the scans show nobody",
            hint="Leave out --format, or choose samples as ends.",
        )
    text = f"{plan.text}\n\n{_PROJECTED_NOTICE}" if projected else plan.text
    overview = Overview(plan.title, text, [one.shown for one in plan.scans])
    also = {**plan.also, **({"notice": _PROJECTED_NOTICE} if projected else {})}
    volumes = overview.watched(_drawn(sampling, plan))
    return write_samples(volumes, len(plan.scans), output, loaded, reporter, also=also, finish=overview.write)


def _require_one_way(control: Control, count: int | None) -> None:
    """Refuse options that do not belong together, in the words of the command line."""
    ways = [name for name, given in (("--interpolate", control.interpolate), ("--mix", control.mix)) if given]
    ways += ["--along"] if control.along else []
    if len(ways) > 1:
        raise MedganError(f"{' and '.join(ways)} cannot go together", hint="Make one call for each.")
    belongs = {
        "--steps": (control.steps is not None, "--interpolate"),
        "--from-stage": (control.from_stage is not None, "--mix"),
        "--directions": (control.directions is not None, "--along"),
    }
    for option, (is_given, other) in belongs.items():
        if is_given and other not in ways:
            raise MedganError(f"{option} means nothing without {other}", hint=f"Add {other}, or leave it out.")
    if control.along and control.directions is None:
        raise MedganError(
            "--along needs the file that holds the directions",
            hint="Add --directions FILE.json, as `medgan explore MODEL --out FILE.html` writes it.",
        )
    if count is not None and not control.along:
        raise MedganError(
            f"-n {count} and {ways[0]} cannot go together",
            hint="Leave out -n" + ("; --steps says how many scans." if control.interpolate else "."),
        )
    if control.along and count is None:
        raise MedganError("--along moves samples, and -n does not say how many", hint="Add -n 4, for example.")
    if control.interpolate and (control.steps is None or control.steps < 2):
        given = "is missing" if control.steps is None else f"is {control.steps}"
        raise MedganError(
            f"--steps {given}: a way has two ends at least", hint="Write for example --interpolate 0 1 --steps 9."
        )


def _pair(sampling: Sampling, texts: tuple[str, str], option: str) -> tuple[End, End]:
    one, other = (end_named(text, sampling, option) for text in texts)
    if one.name == other.name:
        raise MedganError(
            f"{option} names {texts[0]} and {texts[1]}, which are the same", hint="Name two different ones."
        )
    return one, other


def _way(sampling: Sampling, texts: tuple[str, str], steps: int | None) -> _Plan:
    from medgan.inference.points import LATENTS, between

    start, end = _pair(sampling, texts, "--interpolate")
    count = steps or 2
    scans = []
    for number in range(count):
        share = number / (count - 1)
        made = {"interpolation": {"from": start.name, "to": end.name, "share": share}}
        # An end is the sample itself, under its own identity.
        there = start if number == 0 else end if number == count - 1 else None
        scans.append(
            _Planned(
                between(start.point, end.point, share),
                f"{share:.4g} of the way from {start.name} to {end.name}, seed {sampling.seed}",
                made,
                there.name if there else f"{100 * share:.3g} %",
                (there or start).index,
                "" if there else f"I{start.index}-{end.index}-{share:.6g}",
                there.labels if there else {},
                (start.is_projected and share < 1) or (end.is_projected and share > 0),
            )
        )
    space = start.point.space
    how = (
        "The latent vector goes along the arc between them, its norm evenly from one to the other."
        if space == LATENTS
        else "Styles go straight from one to the other, and noise stays standard normal on the way."
    )
    also = {"interpolation": {"space": space, "path": "spherical" if space == LATENTS else "linear"}}
    return _Plan(scans, f"From {start.name} to {end.name}", how, also)


def _mixture(sampling: Sampling, texts: tuple[str, str], from_stage: int | None) -> _Plan:
    from medgan.inference.points import has_styles, mixed, stages_of

    if not has_styles(sampling.network):
        raise MedganError(
            f"networks of the kind {sampling.model.config['network']['name']} have no styles to mix",
            file=sampling.model.folder,
            hint="Train a model by synthesis/stylegan, or use --interpolate, which works with any.",
        )
    stages = stages_of(sampling.network)
    if stages < 2 or (from_stage is not None and not 1 <= from_stage < stages):
        raise MedganError(
            f"--from-stage is {from_stage}, and this network has {stages} stages",
            hint=f"Choose from 1 (coarse) to {stages - 1} (fine), or leave it out to get all of them.",
        )
    coarse, fine = _pair(sampling, texts, "--mix")
    scans = [
        _Planned(
            mixed(coarse.point, fine.point, stage),
            f"styles of {coarse.name}, from stage {stage} on those of {fine.name}, seed {sampling.seed}",
            {"mixing": {"coarse": coarse.name, "fine": fine.name, "from_stage": stage}},
            f"from stage {stage}",
            coarse.index,
            f"M{fine.index}-{stage}",
            {},
            coarse.is_projected or fine.is_projected,
        )
        for stage in ([from_stage] if from_stage is not None else range(1, stages))
    ]
    text = f"Styles of the coarse stages and noise are those of {coarse.name}, styles from a stage on {fine.name}'s."
    return _Plan(scans, f"Styles of {coarse.name} and {fine.name}", text, {"stages": stages})


def _moves(sampling: Sampling, count: int, along: Sequence[str], file: Path | None) -> _Plan:
    from medgan.inference.points import moved

    directions, digest = load_directions(file, sampling)
    moves = [_parsed_move(text, len(directions.vectors)) for text in along]
    step = sum(amount * directions.vectors[number - 1] for number, amount in moves)
    words = ", ".join(f"{amount:+g} along direction {number}" for number, amount in moves)
    token = hashlib.sha256(f"{digest} {moves}".encode()).hexdigest()[:10]
    made = {"moved": [{"direction": number, "amount": amount} for number, amount in moves]}
    scans = []
    for index in range(count):
        begun = sample_end(sampling, index)
        said = f"seed {sampling.seed}, {begun.name}, moved {words}"
        scans.append(_Planned(moved(begun.point, step), said, made, begun.name, index, f"A{token}", begun.labels))
    text = "Amounts are in standard deviations of samples along the direction."
    return _Plan(scans, f"Samples moved {words}", text, {"directions_sha256": digest})


def _parsed_move(text: str, known: int) -> tuple[int, float]:
    """ "2:-1.5" as a direction, counted from 1, and an amount."""
    number, _, amount = text.partition(":")
    try:
        parsed = int(number), float(amount)
    except ValueError:
        parsed = 0, math.nan
    if not 1 <= parsed[0] <= known or not abs(parsed[1]) <= _LONGEST:
        raise MedganError(
            f"--along is '{text}'; it must be a direction from 1 to {known}, a colon, and an amount from "
            f"{-_LONGEST:g} to {_LONGEST:g} standard deviations",
            hint="Write for example --along 1:2.5.",
        )
    return parsed


def _drawn(sampling: Sampling, plan: _Plan) -> Iterator[Volume]:
    import torch

    from medgan.inference.generate import as_scan, variant_of
    from medgan.inference.points import rendered

    asked = variant_of(sampling.labels)
    for one in plan.scans:
        with torch.inference_mode():
            sample = rendered(sampling.network, one.point)[0]
        about: dict[str, Any] = {"seed": sampling.seed, "index": one.index, "truncation": sampling.truncation}
        about |= {"made": one.made, "variant": "-".join(filter(None, (one.variant, asked)))}
        about |= {"labels": one.labels} if one.labels else {}
        about |= {"projected": True} if one.is_projected else {}
        yield as_scan(sampling.model, sample, one.words, about)
