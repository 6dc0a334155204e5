from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medgan.data.cohort import Cohort
from medgan.workflows.prepare import described, prepare


def test_preparing_and_describing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(4):
        image = nib.Nifti1Image(rng.random((8, 8, 6)).astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
        nib.save(image, tmp_path / "in" / f"sub-{number}_T1w.nii.gz")
    (tmp_path / "in" / "sub-9_T1w.nii.gz").write_bytes(b"damaged")
    (tmp_path / "in" / "participants.tsv").write_text(
        "participant_id\tage\tsite\n" + "".join(f"sub-{i}\t{30 + i}\t{'ab'[i % 2]}\n" for i in range(4))
    )
    preparation = prepare([tmp_path / "in"], tmp_path / "cohort", spacing=(4, 4, 3), split=(0.75, 0.25, 0))
    assert preparation.cohort.manifest_sha256 == Cohort.load(tmp_path / "cohort").manifest_sha256
    assert described(preparation) == {
        "cohort": str(tmp_path / "cohort"),
        "scans": "4 of 4 subjects",
        "split": "3 train, 1 validation",
        "grid": "4 x 4 x 6 voxels of 4 x 4 x 3 mm, RAS",
        "labels": "age 30 to 33, site a / b",
        "left out": "1",
    }


def test_importing_the_workflow_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, medgan.workflows.prepare; print({'torch', 'numpy', 'scipy', 'nibabel'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
