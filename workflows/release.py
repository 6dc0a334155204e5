"""What may leave: models and samples whose audit for copies of training scans found no more than chance explains."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.models import model_for, resolve_model
from medgan.workflows.places import new_folder

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.inference.release import ReleaseAudit

OVERRIDE = "--allow-memorised"
# Chance that the closest of all innocent samples counts as beyond any doubt.
_DOUBT = 0.01


def audit_from_card(card: Mapping[str, Any], model_sha256: str) -> ReleaseAudit:
    """What an evaluation card says of copies.

    Args:
        card: as `medgan.evaluation.synthesis.SynthesisFigures.to_dict` gives it.
        model_sha256: of the weights that made the samples.

    Raises:
        MedganError: the card holds no search for copies.
    """
    from medgan import __version__
    from medgan.evaluation.verdicts import FALSE_ALARMS, chance_flags
    from medgan.inference.release import ReleaseAudit

    memorization, counts = card["memorization"], card["counts"]
    copies, attack = memorization.get("copies"), memorization.get("membership")
    if copies is None:
        raise MedganError("the evaluation holds no search for copies", hint="Repeat it with this version of medgan.")
    samples = counts["synthetic"]
    return ReleaseAudit(
        model_sha256=model_sha256,
        samples=samples,
        flagged=len(memorization["flagged"]),
        allowed=chance_flags(samples),
        certain=sum(chance * samples < _DOUBT for chance in copies["chances"]),
        false_alarm_rate=FALSE_ALARMS,
        training_scans=counts["real"],
        held_out_scans=counts["holdout"],
        membership=None if attack is None else {name: attack[name] for name in ("auc", "low", "high")},
        medgan_version=__version__,
    )


def store_card_audit(model: str | Path, card: Mapping[str, Any]) -> ReleaseAudit:
    """Put what an evaluation card says of copies beside the weights of the model that made the samples.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        card: see `audit_from_card`.

    Raises:
        MedganError: there is no such model, the card holds no search for copies, or an audit of more samples found
            copies.
    """
    from medgan.inference.release import audit_of, store_audit
    from medgan.networks.saved import model_hash

    folder = resolve_model(model)
    digest = model_hash(folder)
    audit, before = audit_from_card(card, digest), audit_of(folder, digest)
    if before is not None and before.is_memorised and audit.samples <= before.samples and not audit.is_memorised:
        raise MedganError(
            f"an audit of {before.samples} samples found copies ({before}); one of {audit.samples} that finds none "
            "does not take that back",
            file=folder,
            hint="Audit more samples than that.",
        )
    store_audit(folder, audit)
    return audit


def require_samples_of(model: str | Path, samples: str | Path) -> None:
    """Refuse an audit of scans that the model did not make, or of which copies were left out.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it.
        samples: folder that `medgan generate` wrote.

    Raises:
        MedganError: there is no `samples.json`, it names another model, or samples were left out by `--audit`.
    """
    from medgan.files import read_json
    from medgan.networks.saved import model_hash

    path = Path(samples) / "samples.json"
    again = f"Draw them with: medgan generate {model} -n 100 {OVERRIDE} --out SAMPLES"
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict):
        raise MedganError("nothing says which model made these scans (no samples.json)", file=samples, hint=again)
    if content.get("model_sha256") != model_hash(resolve_model(model)):
        raise MedganError("these scans were made by another model", file=path, hint=again)
    if content.get("audit", {}).get("left_out"):
        raise MedganError("copies were left out of these samples: they say nothing of the model", file=path, hint=again)


def released_model(name: str | Path, device: str, verb: str, *, allow_memorised: bool, reporter: Reporter) -> Model:
    """A model for synthesis, loaded on its device, unless its samples copy training scans.

    Args:
        name: as `medgan.workflows.models.resolve_model` takes it.
        device: "auto", "cpu", "cuda", ...
        verb: what is to be done with it, for the message.
        allow_memorised: go on all the same.
        reporter: hears that there is no audit, or that its outcome is being ignored.

    Raises:
        MedganError: as `medgan.workflows.models.model_for`, and if the audit refuses it.
    """
    from medgan.inference.release import require_release

    loaded = model_for("synthesis", name, device, verb)
    notice = require_release(loaded, allow_memorised=allow_memorised)
    if notice is not None:
        reporter.say(notice)
    return loaded


def export_model(
    model: str | Path, out: str | Path, *, allow_memorised: bool = False, reporter: Reporter | None = None
) -> Path:
    """Copy a model into a folder of its own that can be handed on: configuration, weights, audit and a page of text.

    Args:
        model: as `medgan.workflows.models.resolve_model` takes it, of any task.
        out: a folder; it appears whole or not at all.
        allow_memorised: go on though the audit found copies of training scans.
        reporter: hears that there is no audit, or that its outcome is being ignored.

    Raises:
        MedganError: there is no such model, its audit refuses it, or `out` exists and is not empty.
    """
    from medgan.files import atomic_path
    from medgan.inference.model import load_model
    from medgan.inference.release import AUDIT, audit_of, require_release
    from medgan.networks.saved import CONFIG, WEIGHTS

    folder = new_folder(out)
    loaded = load_model(resolve_model(model))
    notice = require_release(loaded, allow_memorised=allow_memorised)
    if notice is not None:
        (reporter or Reporter()).say(notice)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name in (CONFIG, WEIGHTS, AUDIT):
            if (loaded.folder / name).is_file():
                shutil.copyfile(loaded.folder / name, temporary / name)
        text = _page(loaded, audit_of(loaded.folder, loaded.sha256))
        (temporary / "README.md").write_text(text, encoding="utf-8")
    return folder


def _page(model: Model, audit: ReleaseAudit | None) -> str:
    """What somebody who is handed the folder should know."""
    training = model.config.get("training", {})
    lines = [
        f"# A medgan model for {model.task.replace('_', '-')}",
        "",
        f"Weights: sha256 {model.sha256}. Made by medgan {model.config['medgan_version']}"
        + (f" from {training['scans']} scans." if "scans" in training else "."),
        "",
        "## Privacy",
        "",
        *_privacy(model, audit),
        "",
        "For research, not for diagnosis.",
    ]
    return "\n".join(lines) + "\n"


def _privacy(model: Model, audit: ReleaseAudit | None) -> list[str]:
    if model.task != "synthesis":
        return ["Models for this task are not audited for copies of training scans."]
    if audit is None:
        return ["This model was never audited for copies of its training scans: nothing is known of its privacy."]
    words = str(audit)
    lines = [f"{words[0].upper()}{words[1:]}."]
    if audit.is_memorised:
        lines = ["**This model gives training scans away; it was handed on all the same.**", "", *lines]
    if audit.membership is not None:
        low, high = audit.membership["low"], audit.membership["high"]
        lines.append(
            f"A membership attack by distances reached an area under the curve of {audit.membership['auc']:.2f} "
            f"(95 %: {low:.2f} to {high:.2f}; 0.5 is guessing)."
        )
    return [*lines, "No audit finds every copy: this is no proof of anonymity."]
