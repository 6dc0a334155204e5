"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans, named by MEDGAN_TEST_DATA or standing beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDGAN_TEST_DATA", default))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real scans at {folder}: set MEDGAN_TEST_DATA to run this test")
    return folder
