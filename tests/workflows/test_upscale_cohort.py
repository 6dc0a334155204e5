"""Many scans: by several processes, in shards, interrupted and repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.workflows.upscale import upscale_scans
from medgan.workflows.upscale_cohort import parsed_shard
from medgan.workflows.workers import threads_in_all


def _saved(path: Path, seed: int = 0, shape: tuple[int, int, int] = (8, 9, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).random(shape).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 4.0, 1.0])), path)
    return path


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for index in range(5):
        _saved(tmp_path / "in" / f"s{index}.nii.gz", index)
    return tmp_path / "in"


def _names(paths: tuple[Path, ...]) -> list[str]:
    return sorted(path.name for path in paths)


def _stamps(paths: tuple[Path, ...]) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in paths}


def test_what_is_done_is_skipped_and_what_changed_is_done_again(scans: Path, tmp_path: Path) -> None:
    def again(**options: object) -> tuple[list[str], dict[str, int]]:
        result = upscale_scans([scans], tmp_path / "out", **{"model": "physics", **options})  # type: ignore[arg-type]
        assert len(result.written) == 5
        return _names(result.skipped), _stamps(result.written)

    skipped, before = again()
    assert skipped == []
    everything = sorted(before)
    skipped, after = again()
    assert (skipped, after) == (everything, before)
    # Another scan, another option, a result that somebody touched, one that was taken away, a sidecar with news.
    _saved(scans / "s0.nii.gz", 99)
    assert again()[0] == everything[1:]
    assert again(thickness=3.0)[0] == []
    assert again(thickness=3.0)[0] == everything
    (tmp_path / "out" / "s1.nii.gz").write_bytes(b"x")
    (tmp_path / "out" / "s2.nii.gz").unlink()
    (scans / "s3.json").write_text('{"SliceThickness": 3}')
    assert again(thickness=3.0)[0] == ["s0.nii.gz", "s4.nii.gz"]
    (tmp_path / "out" / ".medgan" / "s0.nii.gz.json").write_text("damaged")
    assert again(thickness=3.0)[0] == everything[1:]


def test_marks_name_nobody(tmp_path: Path) -> None:
    _saved(tmp_path / "Jane_Doe" / "a.nii.gz")
    _saved(tmp_path / "Jane_Doe" / "b_mask.nii.gz")
    upscale_scans([tmp_path / "Jane_Doe"], tmp_path / "out", model="physics")
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"Jane" not in content


def test_a_single_named_file_is_made_anew_without_a_mark(scans: Path, tmp_path: Path) -> None:
    for _ in range(2):
        result = upscale_scans([scans / "s0.nii.gz"], tmp_path / "up" / "a.nii.gz", model="physics")
        assert result.skipped == ()
    assert sorted(path.name for path in (tmp_path / "up").iterdir()) == ["a.json", "a.nii.gz"]


def test_shards_are_all_scans_each_once_in_whatever_order_they_are_named(scans: Path, tmp_path: Path) -> None:
    files = sorted(scans.iterdir())
    made = []
    for number, named in ((1, files), (2, files[::-1]), (3, [scans])):
        made += _names(upscale_scans(named, tmp_path / "out", model="physics", shard=(number, 3)).written)
    assert made[:2] == ["s0.nii.gz", "s3.nii.gz"]
    assert sorted(made) == [f"s{index}.nii.gz" for index in range(5)]
    assert upscale_scans([scans], tmp_path / "out", model="physics", shard=(7, 8)).written == ()


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2"])
def test_shards_are_i_of_n(text: str) -> None:
    with pytest.raises(MedganError, match="--shard is"):
        parsed_shard(text)
    assert parsed_shard("2/4") == (2, 4)
    assert parsed_shard(None) is None


def test_failures_are_in_a_table_until_they_are_mended(scans: Path, tmp_path: Path) -> None:
    (scans / "s1.nii.gz").write_bytes(b"x")
    result = upscale_scans([scans], tmp_path / "out", model="physics")
    assert len(result.written) == 4
    header, row = (tmp_path / "out" / "failures.tsv").read_text().splitlines()
    assert header.split("\t") == ["scan", "reason", "advice"]
    assert row.split("\t")[0] == "s1"
    assert str(tmp_path) not in row
    _saved(scans / "s1.nii.gz")
    result = upscale_scans([scans], tmp_path / "out", model="physics")
    assert (len(result.written), len(result.skipped)) == (5, 4)
    assert not (tmp_path / "out" / "failures.tsv").exists()


def test_several_processes_make_what_one_makes(scans: Path, tmp_path: Path) -> None:
    (scans / "s1.nii.gz").write_bytes(b"x")
    one = upscale_scans([scans], tmp_path / "one", model="physics")
    two = upscale_scans([scans], tmp_path / "two", model="physics", jobs=2)
    assert _names(one.written) == _names(two.written)
    assert one.failures == two.failures
    for path in one.written:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    with pytest.raises(MedganError, match="number of jobs must be at least 1"):
        upscale_scans([scans], tmp_path / "two", model="physics", jobs=0)


_WORK = """
import os, signal, sys, time
from pathlib import Path
from medgan.workflows.workers import worked

def start(base):
    def work(item):
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return base + item * int(os.environ["OMP_NUM_THREADS"])
    return work

def start_to_sleep(folder):
    def work(item):
        (Path(folder) / str(os.getpid())).touch()
        time.sleep(600)
    return work

if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(sorted(worked(start, 100, range(5), jobs=2), key=lambda answer: answer[0]))
    else:
        list(worked(start_to_sleep, sys.argv[1], range(2), jobs=2))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(_WORK)
    return path


def test_a_killed_process_costs_its_item_alone_and_threads_are_shared(script: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "6"}
    command = [sys.executable, str(script)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert answer.stdout.strip() == "[(0, 100), (1, 103), (2, Killed(signal=9)), (3, 109), (4, 112)]"


def test_threads_are_those_of_the_environment_else_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads_in_all() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads_in_all() >= 1


_COHORT = """
import sys
from medgan.io import nifti
from medgan.workflows import upscale_one
from medgan.workflows.upscale import upscale_scans

save = nifti.nib.save

def save_and_stop(image, path):
    save(image, path)
    if "s2" in str(path):
        print("half", flush=True)
        sys.stdin.read()

nifti.nib.save = save_and_stop
upscale_scans([sys.argv[1]], sys.argv[2], model="physics")
"""


def test_killed_between_writing_and_renaming_nothing_is_half_there_and_a_repeat_goes_on(
    scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", _COHORT, str(scans), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert [path.name for path in sorted(out.glob("s*.nii.gz"))] == [f"s{index}.nii.gz" for index in (0, 1)]
    assert len(list(out.glob(".tmp-*"))) == 1
    result = upscale_scans([scans], out, model="physics")
    assert _names(result.skipped) == ["s0.nii.gz", "s1.nii.gz"]
    assert len(result.written) == 5
    assert list(out.glob(".tmp-*")) == []
    for path in result.written:
        nib.load(path).get_fdata()
        assert json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["history"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_processes_end_with_the_one_that_started_them(script: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    started.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(started)])
    while len(list(started.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    workers = [Path("/proc") / path.name for path in started.iterdir()]
    for _ in range(600):
        if not any(map(_is_running, workers)):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the processes go on alone")


def _is_running(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
