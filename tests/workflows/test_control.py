from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.inference.points import Point
from medgan.io import read_volume
from medgan.networks.r3gan import R3Generator
from medgan.networks.saved import save_model
from medgan.networks.stylegan import StyleGenerator
from medgan.workflows.control import Control, control_scans
from medgan.workflows.generate import generate_scans

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])
SHAPES, OUT = [(3, 4, 3), (6, 7, 5)], (6, 7, 5)


def _saved(folder: Path, name: str, network: Any) -> Path:
    config = {
        "medgan_version": "0",
        "task": "synthesis",
        "network": {"name": name, "arguments": network.arguments},
        "normalisation": {"low": 10.0, "high": 210.0, "minimum": 5.0},
        "shape": list(OUT),
        "spacing": [3.0, 3.0, 4.0],
        "affine": AFFINE.tolist(),
    }
    return save_model(folder, config, network.state_dict())


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else here together; one test draws."""
    monkeypatch.setattr("medgan.report.figures.midplanes", lambda *columns, **options: b"\x89PNG")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = R3Generator(shapes=SHAPES, channels=[8, 4], out_shape=OUT, latent_size=5, blocks=1)
    return _saved(tmp_path_factory.mktemp("plain") / "model", "r3_generator", network)


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = StyleGenerator(shapes=SHAPES, channels=[8, 4], out_shape=OUT, latent_size=5, style_size=4)
    for name, parameter in network.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.constant_(parameter, 0.2)
    return _saved(tmp_path_factory.mktemp("styled") / "model", "style_generator", network)


def directions_file(path: Path, model: Path, space: str, size: int) -> Path:
    from medgan.networks.saved import model_hash

    content = {
        "format": "medgan directions 1",
        "model_sha256": model_hash(model),
        "space": space,
        "seed": 0,
        "changes": [1.0, 0.5],
        "shares": [0.8, 0.2],
        "vectors": np.eye(size)[:2].tolist(),
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("kind", ["plain", "styled"])
def test_the_ends_of_a_way_are_the_samples_themselves(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    samples = generate_scans(model, 4, tmp_path / "samples", seed=2, truncation=0.8)
    control = Control(interpolate=("3", "1"), steps=5)
    way = control_scans(model, None, control, tmp_path / "way", seed=2, truncation=0.8)
    assert [path.name for path in way] == [f"synthetic-{n:04d}.nii.gz" for n in range(5)]
    volumes = [read_volume(path) for path in way]
    for end, sample in ((volumes[0], samples[3]), (volumes[4], samples[1])):
        np.testing.assert_array_equal(end.data, read_volume(sample).data)
    for volume in volumes:
        np.testing.assert_allclose(volume.affine, AFFINE)
        assert volume.metadata["synthetic"] is True
    steps = [np.abs(one.data - other.data).mean() for one, other in pairwise(volumes)]
    assert 0 < max(steps) < np.abs(volumes[0].data - volumes[4].data).mean()
    about = json.loads((tmp_path / "way" / "samples.json").read_text())
    assert about["truncation"] == 0.8
    path = {"plain": "spherical", "styled": "linear"}[kind]
    assert about["interpolation"]["path"] == path
    assert about["samples"][1]["made"]["interpolation"] == {"from": "sample 3", "to": "sample 1", "share": 0.25}


def test_a_page_shows_the_way(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    control_scans(plain, None, Control(interpolate=("0", "1"), steps=9), tmp_path / "way")
    page = (tmp_path / "way" / "overview.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "From sample 0 to sample 1" in page
    assert str(tmp_path) not in page


def test_dicom_ends_are_the_series_of_the_samples_and_others_have_identities_of_their_own(
    plain: Path, tmp_path: Path
) -> None:
    import pydicom

    samples = generate_scans(plain, 2, tmp_path / "samples", format="dicom")
    way = control_scans(plain, None, Control(interpolate=("0", "1"), steps=3), tmp_path / "way", format="dicom")
    for end, sample in ((way[0], samples[0]), (way[2], samples[1])):
        for one, other in zip(sorted(end.iterdir()), sorted(sample.iterdir()), strict=True):
            assert one.read_bytes() == other.read_bytes()
    first, middle = (pydicom.dcmread(next(path.iterdir())) for path in way[:2])
    assert first.PatientID != middle.PatientID
    assert first.FrameOfReferenceUID != middle.FrameOfReferenceUID
    assert middle.PatientID.endswith("-I0-1-0.5")


def test_a_way_as_bids(plain: Path, tmp_path: Path) -> None:
    control = Control(interpolate=("0", "1"), steps=3)
    way = control_scans(plain, None, control, tmp_path / "way", format="bids", contrast="T1w")
    sidecar = json.loads(way[1].with_name(way[1].name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["MedganMade"]["interpolation"]["share"] == 0.5
    assert "overview.html" in (tmp_path / "way" / ".bidsignore").read_text().splitlines()


def test_styles_are_mixed_stage_by_stage(styled: Path, plain: Path, tmp_path: Path) -> None:
    mixes = control_scans(styled, None, Control(mix=("0", "1")), tmp_path / "all")
    (chosen,) = control_scans(styled, None, Control(mix=("0", "1"), from_stage=1), tmp_path / "one")
    assert len(mixes) == 1
    np.testing.assert_array_equal(read_volume(mixes[0]).data, read_volume(chosen).data)
    samples = [read_volume(path).data for path in generate_scans(styled, 2, tmp_path / "samples")]
    assert all(not np.array_equal(read_volume(chosen).data, sample) for sample in samples)
    record = json.loads((tmp_path / "one" / "samples.json").read_text())["samples"][0]["made"]
    assert record == {"mixing": {"coarse": "sample 0", "fine": "sample 1", "from_stage": 1}}
    with pytest.raises(MedganError, match="r3_generator have no styles to mix"):
        control_scans(plain, None, Control(mix=("0", "1")), tmp_path / "no")
    with pytest.raises(MedganError, match=r"has 2 stages.*Choose from 1"):
        control_scans(styled, None, Control(mix=("0", "1"), from_stage=2), tmp_path / "no")


@pytest.mark.parametrize("kind", ["plain", "styled"])
def test_samples_are_moved_along_directions(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    space, size = ("latents", 5) if kind == "plain" else ("styles", 4)
    file = directions_file(tmp_path / "d.json", model, space, size)
    samples = generate_scans(model, 2, tmp_path / "samples")
    still = control_scans(model, 2, Control(along=("1:0",), directions=file), tmp_path / "still")
    there = control_scans(model, 2, Control(along=("1:2", "2:-1"), directions=file), tmp_path / "there")
    for one, two, three in zip(samples, still, there, strict=True):
        np.testing.assert_allclose(read_volume(two).data, read_volume(one).data, rtol=1e-5, atol=1e-3)
        assert np.abs(read_volume(three).data - read_volume(one).data).max() > 0.1
    about = json.loads((tmp_path / "there" / "samples.json").read_text())
    assert about["samples"][1]["index"] == 1
    assert about["samples"][1]["made"]["moved"] == [
        {"direction": 1, "amount": 2.0},
        {"direction": 2, "amount": -1.0},
    ]


Refusal = tuple[Control, int | None, str]
REFUSALS: dict[str, Callable[[Path], Refusal]] = {
    "same ends": lambda file: (Control(interpolate=("2", "2"), steps=3), None, "which are the same"),
    "unknown end": lambda file: (Control(interpolate=("-1", "2"), steps=3), None, "'-1'.*neither the index"),
    "missing file": lambda file: (Control(interpolate=("a.json", "2"), steps=3), None, "'a.json'.*nor a file"),
    "not a point": lambda file: (Control(interpolate=(str(file), "2"), steps=3), None, "no file of point"),
    "one step": lambda file: (Control(interpolate=("0", "1"), steps=1), None, "--steps is 1"),
    "no steps": lambda file: (Control(interpolate=("0", "1")), None, "--steps is missing"),
    "count": lambda file: (Control(interpolate=("0", "1"), steps=2), 3, "-n 3 and --interpolate"),
    "two ways": lambda file: (Control(interpolate=("0", "1"), steps=2, mix=("0", "1")), None, "cannot go together"),
    "steps alone": lambda file: (Control(steps=3), 2, "--steps means nothing without --interpolate"),
    "stage alone": lambda file: (Control(from_stage=1), 2, "--from-stage means nothing without --mix"),
    "no directions": lambda file: (Control(along=("1:1",)), 2, "needs the file"),
    "no count": lambda file: (Control(along=("1:1",), directions=file), None, "Add -n 4"),
    "third of two": lambda file: (Control(along=("3:1",), directions=file), 1, "direction from 1 to 2"),
    "not a move": lambda file: (Control(along=("1=2",), directions=file), 1, "must be a direction"),
    "too far": lambda file: (Control(along=("1:1e9",), directions=file), 1, "from -10 to 10"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_makes_no_sense_is_refused_in_the_words_of_the_command_line(
    name: str, plain: Path, tmp_path: Path
) -> None:
    control, count, words = REFUSALS[name](directions_file(tmp_path / "d.json", plain, "latents", 5))
    with pytest.raises(MedganError, match=words):
        control_scans(plain, count, control, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_another_model_are_refused(plain: Path, styled: Path, tmp_path: Path) -> None:
    file = directions_file(tmp_path / "d.json", styled, "styles", 4)
    with pytest.raises(MedganError, match=r"d\.json: these directions belong to another model"):
        control_scans(plain, 1, Control(along=("1:1",), directions=file), tmp_path / "out")


def test_an_end_that_stands_for_a_real_scan_is_never_said_to_show_nobody(plain: Path, tmp_path: Path) -> None:
    from medgan.inference.model import load_model
    from medgan.workflows.points import write_point

    write_point(tmp_path / "point.json", Point(torch.arange(5.0) - 2), load_model(plain), {})
    control = Control(interpolate=(str(tmp_path / "point.json"), "0"), steps=3)
    way = control_scans(plain, None, control, tmp_path / "way")
    marks = [nib.load(path).header["descrip"].tobytes().rstrip(b"\0") for path in way]
    assert [mark.split(b":")[0] for mark in marks] == [b"PROJECTED", b"PROJECTED", b"SYNTHETIC"]
    assert read_volume(way[0]).metadata["projected"] is True
    about = json.loads((tmp_path / "way" / "samples.json").read_text())
    assert "may show its person" in about["notice"]
    assert about["samples"][0]["index"] is None
    assert "point.json" not in json.dumps(about)
    for format in ("dicom", "bids"):
        with pytest.raises(MedganError, match="would declare that the scans show nobody"):
            control_scans(
                plain, None, control, tmp_path / "no", format=format, contrast="T1w" if format == "bids" else None
            )


def test_networks_that_draw_codes_have_no_ways(plain: Path) -> None:
    from medgan.inference.model import load_model
    from medgan.networks.vqgan import CodeGenerator
    from medgan.workflows.points import require_smooth

    model = load_model(plain)
    require_smooth(model.network(), model)
    drawing = CodeGenerator.__new__(CodeGenerator)
    with pytest.raises(MedganError, match="jump from one to the next"):
        require_smooth(drawing, model)


def test_a_model_of_the_wrong_kind_is_refused_with_the_names_of_the_right_ones(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plain, tmp_path / "shipped" / "t1-head")
    shutil.copytree(plain, tmp_path / "shipped" / "sharper")
    config = tmp_path / "shipped" / "sharper" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task": "super_resolution"}))
    monkeypatch.setattr("medgan.pretrained._FOLDER", tmp_path / "shipped")
    with pytest.raises(MedganError, match=r"such as t1-head \(shipped with medgan\)"):
        generate_scans("sharper", 1, tmp_path / "out")
    assert len(generate_scans("t1-head", 1, tmp_path / "out")) == 1
