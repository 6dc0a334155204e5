"""The benchmarks are scripts that stand beside each other: their folder has to be on the path, as when they run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
