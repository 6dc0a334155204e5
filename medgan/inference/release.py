"""The gate before samples and models leave: a model whose samples copy training scans is refused.

The audit is stored beside the weights as `audit.json`: counts and rates, nothing of the scans, because what tells
training scans apart would itself give them away.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medgan.errors import MedganError
from medgan.files import read_json, write_json
from medgan.inference.model import Model

AUDIT = "audit.json"
OVERRIDE = "--allow-memorised"


@dataclass(frozen=True)
class ReleaseAudit:
    """What an audit for copies of training scans came to.

    Args:
        model_sha256: of the weights that were audited.
        samples: how many samples were looked at.
        flagged: how many of them are suspiciously close to one training scan.
        allowed: the most that chance flags among as many innocent ones, 95 times of 100.
        certain: how many are so close that not one innocent sample in all would be, 99 times of 100.
        false_alarm_rate: part of innocent samples that the audit was set to flag.
        training_scans: how many training scans they were held against.
        held_out_scans: how many scans that were not trained on calibrated the audit beside these.
        membership: area under the curve of a membership attack with "low" and "high"; None without held-out scans.
        medgan_version: that made the audit.
    """

    model_sha256: str
    samples: int
    flagged: int
    allowed: int
    certain: int
    false_alarm_rate: float
    training_scans: int
    held_out_scans: int
    membership: dict[str, float] | None
    medgan_version: str

    @property
    def is_memorised(self) -> bool:
        """Whether there are more copies than chance explains."""
        return self.flagged > self.allowed or self.certain > 0

    def __str__(self) -> str:
        """The figures in words."""
        words = (
            f"the audit flagged {self.flagged} of {self.samples} samples as suspiciously close to one of "
            f"{self.training_scans} training scans; chance flags up to {self.allowed}"
        )
        return f"{words}, and {self.certain} are beyond any doubt" if self.certain else words


def store_audit(folder: Path, audit: ReleaseAudit) -> None:
    """Write the audit beside the weights of a model folder."""
    write_json(folder / AUDIT, asdict(audit))


def audit_of(folder: Path, model_sha256: str) -> ReleaseAudit | None:
    """The audit of a model folder; None if it was never audited.

    Raises:
        MedganError: the file is damaged, or was made of other weights.
    """
    path = folder / AUDIT
    if not path.is_file():
        return None
    content: Any = read_json(path)
    known = {one.name for one in fields(ReleaseAudit)}
    if not isinstance(content, dict) or not known <= content.keys():
        raise MedganError("this is no audit of a model", file=path, hint="Repeat it with medgan evaluate synthesis.")
    audit = ReleaseAudit(**{name: content[name] for name in known})
    if audit.model_sha256 != model_sha256:
        raise MedganError(
            f"the audit is of other weights ({audit.model_sha256[:12]}) than those beside it ({model_sha256[:12]})",
            file=path,
            hint="Repeat it with medgan evaluate synthesis --model, or take the folder from the run again.",
        )
    return audit


def require_release(model: Model, *, allow_memorised: bool = False) -> str | None:
    """Refuse a model that copies training scans.

    Args:
        model: a loaded model of any task; only those for synthesis are audited.
        allow_memorised: go on all the same.

    Returns:
        What the user should hear: that there is no audit, or that its outcome is being ignored; None if nothing.

    Raises:
        MedganError: its audit flagged more samples than chance explains, and `allow_memorised` is not set.
    """
    if model.task != "synthesis":
        return None
    audit = audit_of(model.folder, model.sha256)
    if audit is None:
        return "This model was never audited for copies of its training scans: nothing is known of its privacy."
    if not audit.is_memorised:
        return None
    if not allow_memorised:
        raise MedganError(
            f"this model gives training scans away: {audit}",
            file=model.folder,
            hint="Look at the pairs in the run's report. More scans, augmentation or a shorter training help. "
            f"{OVERRIDE} goes on all the same: treat what comes out as real scans of patients.",
        )
    return f"Going on because of {OVERRIDE}, though {audit}. Treat what comes out as real scans of patients."
