from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan.evaluation.cache import FeatureCache, cache_folder, extracted, feature_key

Arrays = list[NDArray[np.float32]]


class Counting:
    """An encoder that counts what it encodes: mean and maximum of each volume."""

    def __init__(self, name: str = "counting-v1") -> None:
        self.name, self.encoded = name, 0

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> NDArray[np.float64]:
        rows = [[float(volume.mean()), float(volume.max())] for volume in volumes]
        self.encoded += len(rows)
        return np.array(rows)


def test_second_time_nothing_is_encoded(heads: Arrays, tmp_path: Path) -> None:
    encoder = Counting()
    first = extracted(encoder, heads[:6], FeatureCache(tmp_path))
    again = extracted(encoder, [heads[9], *heads[:6][::-1]], FeatureCache(tmp_path))
    assert encoder.encoded == 7
    assert np.array_equal(first, extracted(Counting(), heads[:6]))
    assert np.array_equal(again[1:], first[::-1])


def test_anything_that_changes_features_changes_the_key(heads: Arrays) -> None:
    volume = heads[0]
    other = volume.copy()
    other[3, 3, 3] = np.nextafter(other[3, 3, 3], np.float32(9))
    keys = [
        feature_key(volume, "a-v1"),
        feature_key(volume, "a-v2"),
        feature_key(other, "a-v1"),
        feature_key(volume[::-1], "a-v1"),
        feature_key(volume.reshape(20, 22, 24), "a-v1"),
        feature_key(volume, "a-v1", (1, 1, 1)),
        feature_key(volume, "a-v1", (1, 1, 2)),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == feature_key(np.asfortranarray(volume.astype(np.float64)), "a-v1")


@pytest.mark.parametrize("damage", [b"", b"short", "cut", "flipped"])
def test_damaged_entries_are_computed_again_and_said(heads: Arrays, tmp_path: Path, damage: bytes | str) -> None:
    first = extracted(Counting(), heads[:3], FeatureCache(tmp_path))
    path = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    content = path.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(damage if isinstance(damage, bytes) else {"cut": content[:-8], "flipped": flipped}[damage])
    said: list[str] = []
    encoder = Counting()
    again = extracted(encoder, heads[:3], FeatureCache(tmp_path, said.append))
    assert encoder.encoded == 1
    assert np.array_equal(first, again)
    assert len(said) == 1
    assert "damaged" in said[0]
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_costs_no_evaluation(heads: Arrays, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file stands here")
    said: list[str] = []
    rows = extracted(Counting(), heads[:4], FeatureCache(tmp_path, said.append))
    assert rows.shape == (4, 2)
    assert sum("not kept" in text for text in said) == 1


def test_equal_scans_are_encoded_once(heads: Arrays, tmp_path: Path) -> None:
    encoder = Counting()
    rows = extracted(encoder, [heads[0], heads[1], heads[0]], FeatureCache(tmp_path))
    assert encoder.encoded == 2
    assert np.array_equal(rows[0], rows[2])


def test_processes_may_share_it(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, numpy as np\n"
        "from medgan.evaluation.cache import FeatureCache\n"
        "cache = FeatureCache(pathlib.Path(sys.argv[1]), lambda text: sys.exit(text))\n"
        "for repeat in range(40):\n"
        "    for number in range(8):\n"
        "        key = f'{number:064x}'\n"
        "        found = cache.find(key)\n"
        "        assert found is None or np.array_equal(found, np.full(400, number)), found\n"
        "        cache.keep(key, np.full(400, float(number)))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 8


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MEDGAN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/medgan")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "medgan"


def test_only_its_owner_reads_it(heads: Arrays, tmp_path: Path) -> None:
    extracted(Counting(), heads[:1], FeatureCache(tmp_path))
    assert (tmp_path / "features").stat().st_mode & 0o077 == 0
