"""The estimate of memory holds against what a process really takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medgan.errors import MedganError
from medgan.inference import memory
from medgan.inference.memory import Footprint, available_bytes, peak_bytes, require_memory, tile_for

_MEASURE = """
import sys
import numpy as np
from medgan.inference.upscale import upscale
from medgan.io import write_volume
from medgan.volume import Volume

channels = int(sys.argv[1])
voxels = np.random.default_rng(0).integers(0, 900, (channels, 40, 90, 110)).astype(np.int16)
write_volume(upscale(Volume(voxels, np.diag([-4.0, 1, -1, 1])), factor=(4, 1.5, 1.5)), sys.argv[2])
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("channels", [1, 3])
def test_the_estimate_is_enough_and_not_far_too_much(channels: int, tmp_path: object) -> None:
    command = [sys.executable, "-c", _MEASURE, str(channels), f"{tmp_path}/out.nii"]
    taken = 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    estimate = peak_bytes((40, 90, 110), (160, 135, 165), channels=channels)
    assert taken <= estimate <= 3 * taken


def test_networks_need_more_the_wider_they_are_but_no_more_than_one_tile() -> None:
    low, high = (100, 100, 100), (400, 400, 400)
    alone = peak_bytes(low, high)
    tile = 4 * 6 * 48 * 116**3
    side = (96, 96, 96)
    assert peak_bytes(low, high, footprint=Footprint(48, 1, (10, 10, 10)), tile=side) - alone == tile
    assert peak_bytes(low, high, footprint=Footprint(48, 8, (10, 10, 10)), tile=side) - alone == tile // 8


def test_tiles_are_as_large_as_memory_allows() -> None:
    footprint = Footprint(widest=10, folded=1, halo=(4, 4, 4))
    assert tile_for((60, 70, 80), footprint, memory=240 * 60 * 70 * 80) == (60, 70, 80)
    chosen = tile_for((60, 70, 80), footprint, memory=240 * 60 * 70 * 80 - 1)
    assert chosen == (60, 70, 40)
    assert footprint.of_tile(chosen, (60, 70, 80)) < 240 * 60 * 70 * 80
    assert tile_for((500, 500, 500), footprint, memory=1) == (32, 32, 32)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_limit_of_the_address_space_counts() -> None:
    code = (
        "import resource\nfrom medgan.inference.memory import available_bytes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\nprint(available_bytes())"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    free = available_bytes()
    assert free is not None
    assert 0 < int(answer.stdout) < min(2**31, free + 2**30)


def test_too_much_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * 2**30)
    require_memory((1, 1, 1), 7 * 2**30)
    with pytest.raises(MedganError, match="640 x 640 x 640 voxels, more than fit into memory: about 9 GiB") as caught:
        require_memory((640, 640, 640), 9 * 2**30)
    assert "smaller factor" in str(caught.value)
    with pytest.raises(MedganError, match="2 times at once, and 8 GiB are free") as caught:
        require_memory((640, 640, 640), 4 * 2**30, processes=2)
    assert "fewer --jobs" in str(caught.value)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    require_memory((640, 640, 640), 2**60)
