"""Measures of synthetic and restored scans; each says what it compares with and how sure it is."""

from __future__ import annotations

from medgan.evaluation.synthesis import SynthesisFigures, evaluate_synthesis

__all__ = ["SynthesisFigures", "evaluate_synthesis"]
