"""The viewer: its packed voxels decoded by other means, and what a real browser makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan.report.blocks import Viewer
from medgan.report.html import render_report, write_report
from medgan.report.packing import packed_scans
from medgan.volume import Volume

SHAPE = (12, 9, 7)


def oblique_scan() -> nib.Nifti1Image:
    """Axes towards posterior, left and superior, voxels of 1, 2 and 3 mm, a little turned."""
    affine = np.array([[0, -2, 0.2, 30], [-1, 0, 0.1, -12], [0.05, 0, 3, 7], [0, 0, 0, 1]], dtype=float)
    return nib.Nifti1Image(np.random.default_rng(0).uniform(-50, 900, SHAPE).astype(np.float32), affine)


def greys(packed: dict[str, Any]) -> NDArray[np.uint8]:
    differences = np.frombuffer(zlib.decompress(b64decode(packed["voxels"])), dtype=np.uint8)
    return (np.cumsum(differences, dtype=np.int64) % 256).reshape(packed["shape"], order="F").astype(np.uint8)


def test_voxels_and_places_are_those_that_nibabel_finds() -> None:
    image = oblique_scan()
    (packed,) = packed_scans([("one", Volume.from_nibabel(image))], window=(0, 800))
    upright = nib.as_closest_canonical(image)
    expected = np.clip(np.asarray(upright.dataobj) / 800, 0, 1) * 255
    assert packed["shape"] == list(upright.shape)
    np.testing.assert_allclose(greys(packed), expected, atol=0.5001)
    np.testing.assert_allclose(packed["affine"], upright.affine[:3], atol=1e-3)
    np.testing.assert_allclose(packed["spacing"], nib.affines.voxel_sizes(upright.affine), atol=1e-3)
    assert packed["window"] == [0, 800]
    assert packed["thinned"] == [1, 1, 1]


def test_large_scans_become_means_of_blocks_in_the_same_place() -> None:
    voxels = np.random.default_rng(1).uniform(0, 100, (8, 8, 4)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = 5, -3, 11
    (packed,) = packed_scans([("one", Volume(voxels, affine))], window=(0, 100), most_voxels=64)
    assert packed["thinned"] == [2, 2, 1]
    means = sum(voxels[i::2, j::2] for i in range(2) for j in range(2)) / 4
    np.testing.assert_allclose(greys(packed), means / 100 * 255, atol=0.501)
    # The mean place of the voxels of a block is where the viewer has to say that the block is.
    np.testing.assert_allclose(np.array(packed["affine"]) @ [1, 2, 3, 1], affine[:3] @ [2.5, 4.5, 3, 1])


def test_the_budget_is_shared_and_odd_sides_are_filled() -> None:
    scans = [("a", Volume(np.ones((9, 9, 9)), np.eye(4)))] * 3
    packed = packed_scans(scans, most_voxels=600)
    assert all(np.prod(one["shape"]) <= 200 for one in packed)
    (odd,) = packed_scans([("b", Volume(np.full((5, 1, 1), 7.0), np.eye(4)))], window=(0, 14), most_voxels=3)
    assert np.unique(greys(odd)).tolist() == [128]


def test_titles_cannot_leave_the_page_s_data() -> None:
    evil = "</script><script>alert(1)</script>"
    text = render_report("t", "", [Viewer([(evil, Volume(np.ones((2, 2, 2)), np.eye(4)))])])
    assert "<script>alert" not in text
    data = text[text.index('<script type="application/json"') :]
    assert json.loads(data[data.index(">") + 1 : data.index("</script>")])[0]["title"] == evil


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


def run(page: Path, *options: str) -> str:
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=10000", "--window-size=1280,900"]
    answer = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120)
    return answer.stdout


@pytest.fixture(scope="module")
def marked_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark scan, stored from right to left, with bright balls: one to the patient's left, one in front and above."""
    x, y, z = np.meshgrid(np.arange(40), np.arange(50), np.arange(30), indexing="ij")
    left = (x - 32) ** 2 + (y - 25) ** 2 + ((z - 15) * 2) ** 2 < 36  # x grows to the left
    front = (x - 19) ** 2 + (y - 40) ** 2 + ((z - 24) * 2) ** 2 < 36
    affine = np.array([[-2, 0, 0, 39], [0, 2, 0, -49], [0, 0, 4, -58], [0, 0, 0, 1]], dtype=float)
    scan = Volume((1000.0 * (left | front)).astype(np.float32), affine)
    path = tmp_path_factory.mktemp("page") / "page.html"
    return write_report(path, "Viewer", "", [Viewer([("marked", scan)], window=(0, 1000))])


@pytest.mark.slow
def test_a_browser_opens_the_viewer_and_says_where_the_cross_hair_is(marked_page: Path) -> None:
    dom = run(marked_page, "--dump-dom")
    assert 'class="viewer ready"' in dom
    read_out = dom[dom.index('class="read-out"') :]
    # The voxel beyond the middle in RAS order: 20 of 40 to the right, 25 of 50 to the front, 15 of 30 upwards.
    assert "R 1.0  A 1.0  S 2.0 mm; intensity at most 0" in read_out[: read_out.index("</p>")]


@pytest.mark.slow
def test_left_is_on_the_right_hand_side_in_a_browser(marked_page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    run(marked_page, f"--screenshot={shot}")
    picture = np.asarray(Image.open(shot).convert("L")).astype(int)
    rows = np.flatnonzero((picture < 5).mean(axis=1) > 0.5)
    band = picture[rows.min() : rows.max() + 1]
    columns = np.flatnonzero((band < 5).mean(axis=0) > 0.5)
    edges = np.flatnonzero(np.diff(columns) > 3)
    starts, ends = [columns[0], *columns[edges + 1]], [*columns[edges], columns[-1]]
    planes = [(a, b) for a, b in zip(starts, ends, strict=True) if b - a > 100]
    assert len(planes) == 3
    halves = []
    for a, b in planes:
        bright = np.argwhere(band[:, a : b + 1] > 250)
        assert len(bright) > 100
        below, across = bright.mean(axis=0) / (band.shape[0], b - a)
        halves.append((round(float(across), 1), round(float(below), 1)))
    # Radiological: left on the right of axial and coronal planes; the face on the left of sagittal planes, up is up.
    # The ball to the left is 32.5 of 40 from the right; that in front 40.5 of 50 from the back, 24.5 of 30 from below.
    assert halves == [(0.8, 0.5), (0.8, 0.5), (0.2, 0.2)]
