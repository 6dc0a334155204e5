from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import medgan
from medgan import provenance
from medgan.provenance import collect, without_paths


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "analysis.py").write_text("threshold = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_repository(repository: Path) -> None:
    found = collect(repository)
    assert found.git_commit == git(repository, "rev-parse", "HEAD")
    assert (found.git_dirty, found.git_diff, found.git_untracked, found.git_problem) == (False, "", (), None)


def test_changes_are_kept_as_a_patch_that_applies(repository: Path, tmp_path: Path) -> None:
    (repository / "analysis.py").write_text("threshold = 2\n")
    (repository / "a new file.py").write_text("")
    found = collect(repository)
    assert found.git_dirty
    assert found.git_untracked == ("a new file.py",)
    git(repository, "stash", "-q")
    (tmp_path / "changes.diff").write_text(found.git_diff)
    git(repository, "apply", str(tmp_path / "changes.diff"))
    assert (repository / "analysis.py").read_text() == "threshold = 2\n"


def test_a_long_patch_is_cut_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DIFF_LIMIT", 100)
    (repository / "analysis.py").write_text("x = 1\n" * 1000)
    found = collect(repository)
    assert len(found.git_diff) == 100
    assert found.git_diff_truncated


def test_a_subfolder_and_the_working_directory_serve(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "sub").mkdir()
    monkeypatch.chdir(repository / "sub")
    assert collect().git_commit == git(repository, "rev-parse", "HEAD")


def test_no_repository_and_no_commit_are_said(tmp_path: Path) -> None:
    assert collect(tmp_path).git_problem == "no git repository"
    git(tmp_path, "init", "-q")
    found = collect(tmp_path)
    assert (found.git_commit, found.git_problem) == (None, "the repository has no commit yet")


def test_no_git_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = collect(repository)
    assert (found.git_commit, found.git_problem) == (None, "git is not installed")


def test_the_record_is_plain_json_and_names_nobody(tmp_path: Path) -> None:
    arguments = ["/home/anna/bin/medgan", "train", "--data", str(tmp_path / "cohort"), f"--out={tmp_path}/runs/one"]
    record = collect(tmp_path, seeds={"torch": 3, "numpy": 4}, device="NVIDIA H100", arguments=arguments).to_dict()
    text = json.dumps(record)
    assert json.loads(text) == record
    assert str(tmp_path) not in text
    assert "anna" not in text
    assert platform.node() not in (*record["host"], record["platform"])
    assert len(record["host"]) == 12
    assert record["command"] == ["medgan", "train", "--data", "PATH", "--out=PATH"]
    assert record["seeds"] == {"torch": 3, "numpy": 4}
    assert record["device"] == "NVIDIA H100"


def test_versions_are_the_installed_ones() -> None:
    found = collect()
    assert found.medgan_version == medgan.__version__
    assert found.versions["numpy"] == numpy.__version__
    assert f"numpy=={numpy.__version__}" in found.packages
    names = [package.split("==")[0] for package in found.packages]
    assert names == sorted(set(names))
    assert found.python == platform.python_version()
    assert 1 <= found.cores <= (os.cpu_count() or 1)


def test_nothing_heavy_is_imported_for_it() -> None:
    script = (
        "import sys; from medgan.provenance import collect; collect();"
        "print([name for name in ('torch', 'monai', 'numpy', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torch_is_asked_when_it_is_there() -> None:
    import torch

    found = collect()
    assert found.numerics["threads"] == str(torch.get_num_threads())
    assert found.numerics["deterministic"] == str(torch.are_deterministic_algorithms_enabled())


def test_the_commit_of_medgan_itself_is_known_in_a_source_tree() -> None:
    root = Path(medgan.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        pytest.skip("medgan is installed as a package here")
    commit = collect(Path("/")).medgan_commit
    assert commit is not None
    assert commit.removesuffix("-dirty") == git(root, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("/data/patients/anna", "PATH"),
        ("~/cohort/", "PATH"),
        ("../elsewhere/cohort", "PATH"),
        ("--out=/data/runs/one", "--out=PATH"),
        ("C:\\Users\\anna\\cohort", "PATH"),
        ("/home/anna/recipes/mine.yaml", "mine.yaml"),
        ("synthesis/r3gan", "synthesis/r3gan"),
        ("training.lr=2e-4", "training.lr=2e-4"),
        ("runs:/abc/model", "runs:/abc/model"),
        ("--seed", "--seed"),
        ("", ""),
        ("/", "PATH"),
    ],
)
def test_of_paths_only_the_names_of_code_are_kept(argument: str, expected: str) -> None:
    assert without_paths(argument) == expected


def test_a_relative_path_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "patients" / "anna").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert without_paths("patients/anna") == "PATH"
    assert without_paths("patients/berta") == "patients/berta"


def test_the_value_of_an_option_is_a_path_if_it_exists_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("anna", "train"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    given = ["/opt/bin/medgan", "train", "synthesis/r3gan", "--data", "anna", "--seed", "1"]
    assert collect(arguments=given).command == ("medgan", "train", "synthesis/r3gan", "--data", "PATH", "--seed", "1")


def test_of_a_repository_only_code_is_described(repository: Path) -> None:
    (repository / "participants.tsv").write_text("nobody\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    (repository / "participants.tsv").write_text("anna\n")
    (repository / "anna").mkdir()
    (repository / "anna" / "look.py").write_text("")
    (repository / "anna.nii.gz").write_text("")
    found = collect(repository)
    assert found.git_dirty
    assert found.git_diff == ""
    assert "anna" not in repr(found)
