from __future__ import annotations

import errno
import hashlib
import pickle
from pathlib import Path

import pytest

from medgan.errors import MedganError, nearest
from medgan.files import atomic_path, read_json, sha256_of, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "scan.nii.gz"
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with atomic_path(target) as temporary:
        assert temporary.name.endswith("scan.nii.gz")
        temporary.write_text("whole")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["scan.nii.gz"]


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("kept")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.mkdir()
        raise RuntimeError
    assert (target / "old").read_text() == "kept"
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="disk is full"), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with (
        pytest.raises(MedganError, match="file stands where a folder is needed"),
        atomic_path(tmp_path / "plain" / "x"),
    ):
        pass


def test_json_and_hash(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1.5})
    assert read_json(tmp_path / "a.json") == {"x": 1.5}
    assert sha256_of(tmp_path / "a.json") == hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(MedganError, match="not readable as JSON"):
        read_json(tmp_path / "c.json")


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MedganError("bad voxel 3", file="a.nii", hint="Mend it.")))
    assert str(error) == "a.nii: bad voxel 3. Mend it."


def test_nearest_name() -> None:
    assert nearest("batchsize", ["batch_size", "seed"]) == "Did you mean 'batch_size'?"
    assert nearest("zzz", ["seed", "batch"]) == "Valid names are: batch, seed."
