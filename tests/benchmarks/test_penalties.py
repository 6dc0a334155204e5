"""The benchmark of penalties and heads on tiny sizes: each variant is what it is called, and is measured."""

from __future__ import annotations

from pathlib import Path

import penalties
import pytest
from gan_runs import synthesis_recipe

TINY = ["network.width=4", "network.max_width=4", "synthesis.evaluation_samples=4", "training.batch_size=2"]
ARGUMENTS = ["--size", "16", "--batch", "1", "--steps", "1", "--threads", "1"]
ARGUMENTS += [part for text in TINY for part in ("--set", text)]


@pytest.mark.parametrize("variant", penalties.VARIANTS)
def test_variants_differ_in_form_and_head_alone(variant: str) -> None:
    recipe = synthesis_recipe("synthesis/quickstart", penalties.settings(variant, TINY))
    assert recipe.synthesis.penalty.form == ("exact" if "exact" in variant else "finite_difference")
    assert recipe.network.haar_head == ("Haar" in variant)
    assert recipe.synthesis.penalty.kind == "r1+r2"
    changed = {"haar_head": False}
    reference = synthesis_recipe("synthesis/quickstart", penalties.settings(penalties.REFERENCE, TINY))
    assert recipe.network.model_copy(update=changed) == reference.network


def test_a_variant_is_measured(tmp_path: Path) -> None:
    options = penalties.parser().parse_args(ARGUMENTS)
    row = penalties.measured(penalties.LEANEST, options)
    assert row["seconds"] > 0
    assert row["peak_mb"] >= 0


@pytest.mark.slow
def test_the_whole_comparison(phantom_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medgan.files import read_json

    extra = ["--data", str(phantom_cohort), "--seconds", "1", "--json", str(tmp_path / "rows.json")]
    penalties.main([*ARGUMENTS, *extra])
    rows = read_json(tmp_path / "rows.json")
    assert set(rows) == set(penalties.VARIANTS)
    assert all(row["seconds"] > 0 and row["kid_low"] <= row["kid"] <= row["kid_high"] for row in rows.values())
    assert "1.00x" in capsys.readouterr().out
