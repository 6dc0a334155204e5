"""The command line: what it says and leaves behind, above all when something is wrong."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

import medgan
from medgan import cli
from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.tracking import RunSummary

SPACING = (2.0, 2.0, 4.0)
TINY = [
    "--device=cpu",
    "--steps=2",
    *(
        f"--set={assignment}"
        for assignment in (
            "network.width=8",
            "network.max_width=8",
            "network.latent_size=8",
            "synthesis.evaluation_samples=4",
            "training.batch_size=2",
            "tracking.enabled=false",
        )
    ),
]


class Answer:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def refuses(self, *words: object) -> None:
        """It left with 2, one message that holds all the words, and nothing that looks like a defect."""
        assert self.code == 2, (self.out, self.err)
        assert "Traceback" not in self.out + self.err
        messages = [line for line in self.err.splitlines() if line.startswith(("error: ", "failed: "))]
        assert len(messages) == 1, self.err
        for word in words:
            assert str(word) in self.err, (word, self.err)


Command = Callable[..., Answer]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `medgan ARGUMENTS` in this process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["medgan", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        captured = capsys.readouterr()
        return Answer(int(leaving.value.code or 0), captured.out, captured.err)

    return run


def scan(path: Path, array: np.ndarray | None = None, spacing: tuple[float, float, float] = SPACING) -> Path:
    """A scan of 10 x 12 x 8 smooth voxels, or of those given."""
    if array is None:
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (10, 12, 8)), indexing="ij")
        array = 100 * np.exp(-(x**2) - y**2 - z**2)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([*spacing, 1.0])), path)
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return scan(tmp_path / "good" / "a.nii.gz")


def _truncated(path: Path) -> None:
    content = scan(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _cut_short_uncompressed(path: Path) -> None:
    scan(path)
    path.write_bytes(path.read_bytes()[:1000])


def _not_a_number(path: Path) -> None:
    array = np.ones((6, 7, 8))
    array[1, 2, 3] = np.nan
    scan(path, array)


def _colours(path: Path) -> None:
    array = np.zeros((6, 6, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def _singular(path: Path) -> None:
    image = nib.Nifti1Image(np.ones((6, 6, 6), np.float32), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    content = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]))
    header["srow_x"], header["srow_y"], header["srow_z"] = (1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0)
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))


# The file's name, how to make it, the value that the message must name, and words of the next step.
BAD_SCANS = {
    "missing": ("a.nii.gz", lambda path: None, "no such file", "Check the spelling"),
    "empty file": ("a.nii.gz", lambda path: path.write_bytes(b""), "the file is empty", "Copy it again"),
    "text": ("a.nii", lambda path: path.write_text("hello"), "not readable as NIfTI", "convert it again"),
    "other format": ("a.txt", lambda path: path.write_text("hello"), "a.txt", "medgan reads NIfTI (.nii, .nii.gz)"),
    "truncated": ("a.nii.gz", _truncated, "cut short or damaged", "Copy or convert it again"),
    "short": ("a.nii", _cut_short_uncompressed, "more than the 1000 bytes of the file", "copy it again"),
    "2D": ("a.nii.gz", lambda path: scan(path, np.ones((10, 12))), "shape (10, 12)", "three are needed"),
    "4D": ("a.nii.gz", lambda path: scan(path, np.ones((6, 6, 6, 3))), "4D image of 3 volumes", "medgan convert"),
    "RGB": ("a.nii.gz", _colours, "colours (RGB)", "Convert the image"),
    "NaN": ("a.nii.gz", _not_a_number, "1 of 336 voxels are not finite", "Replace them"),
    "singular": ("a.nii.gz", _singular, "the affine is singular", "Repair the header"),
    "empty folder": ("folder", lambda path: path.mkdir(), "no ", "folder"),
}


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_a_bad_scan_is_refused_in_one_message(kind: str, command: Command, good: Path, tmp_path: Path) -> None:
    name, make, value, next_step = BAD_SCANS[kind]
    bad, out = tmp_path / name, tmp_path / "out"
    make(bad)
    command("convert", bad, out / "b.nii.gz").refuses(bad, value, next_step)
    if kind != "4D":
        command("upscale", bad, "--out", out).refuses(bad, value, next_step)
    command("prepare", bad, "--out", out).refuses(bad.name, value, next_step)
    command("evaluate", "restoration", "--reference", good, "--restored", bad).refuses(bad, value, next_step)
    command("evaluate", "synthesis", "--real", bad, "--synthetic", good.parent, "--out", out).refuses(bad, value)
    command("inspect", bad).refuses(bad)
    assert not out.exists()
    assert not list(tmp_path.glob(".tmp-*"))


def _dicom_series(folder: Path) -> list[Path]:
    """Four slices of 4 x 5 pixels."""
    folder.mkdir()
    series, paths = generate_uid(), []
    for k in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID, dataset.Modality, dataset.InstanceNumber = series, "MR", k + 1
        dataset.Rows, dataset.Columns, dataset.PixelSpacing = 4, 5, [1.0, 1.0]
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * k]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        dataset.PixelData = np.arange(k, k + 20, dtype=np.uint16).tobytes()
        paths.append(folder / f"{k}.dcm")
        pydicom.dcmwrite(paths[-1], dataset)
    return paths


def test_damaged_dicom_series_are_refused(command: Command, tmp_path: Path) -> None:
    slices = _dicom_series(tmp_path / "series")
    whole = slices[2].read_bytes()
    slices[2].write_bytes(whole[:-20])
    command("convert", tmp_path / "series", tmp_path / "out" / "a.nii").refuses(tmp_path / "series", "2.dcm")
    slices[2].unlink()
    command("upscale", tmp_path / "series", "--out", tmp_path / "out").refuses(tmp_path / "series")
    assert not (tmp_path / "out").exists()
    slices[2].write_bytes(whole)
    assert command("convert", tmp_path / "series", tmp_path / "a.nii").code == 0
    assert read_volume(tmp_path / "a.nii").shape == (5, 4, 4)


def test_one_bad_scan_does_not_cost_the_others(command: Command, tmp_path: Path) -> None:
    for index in range(4):
        scan(tmp_path / "in" / f"sub-{index}.nii.gz", np.random.default_rng(index).random((9, 10, 8)))
    bad = tmp_path / "in" / "sub-9.nii.gz"
    _not_a_number(bad)

    answer = command("upscale", tmp_path / "in", "--out", tmp_path / "up")
    assert answer.code == 1
    assert f"failed: {bad}: 1 of 336 voxels" in answer.err
    made = [f"sub-{i}.{end}" for i in range(4) for end in ("json", "nii.gz")]
    assert [name for name in files_in(tmp_path / "up") if not name.startswith(".")] == ["failures.tsv", *sorted(made)]

    answer = command("prepare", tmp_path / "in", "--out", tmp_path / "cohort", "--split", "0.5,0.25,0.25")
    assert answer.code == 1
    assert f"failed: {bad}: 1 of 336 voxels" in answer.err
    assert "4 scans (2 train, 1 validation, 1 test)" in answer.out

    answer = command("evaluate", "restoration", "--reference", tmp_path / "in", "--restored", tmp_path / "in", "--json")
    assert answer.code == 1
    assert f"failed: {bad}: 1 of 336 voxels" in answer.err
    assert [row["name"] for row in json.loads(answer.out)] == [f"sub-{i}" for i in range(4)]

    answer = command("inspect", tmp_path / "in", "--json")
    assert answer.code == 1
    assert f"failed: {bad}: 1 of 336 voxels" in answer.err
    assert len(json.loads(answer.out)) == 5


def test_when_every_scan_of_a_batch_is_bad_nothing_was_done(command: Command, tmp_path: Path) -> None:
    for name in "ab":
        _not_a_number(tmp_path / f"{name}.nii.gz")
    answer = command("upscale", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", "--out", tmp_path / "out")
    assert answer.code == 2
    assert answer.err.count("failed: ") == 2
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_among_the_inputs_is_named(command: Command, good: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    command("upscale", good, tmp_path / "nothing", "--out", tmp_path / "out").refuses(tmp_path / "nothing", "no scan")
    assert not (tmp_path / "out").exists()


def test_outputs_of_several_inputs_have_names_of_their_own(command: Command, tmp_path: Path) -> None:
    first = scan(tmp_path / "one" / "a.nii.gz")
    scan(tmp_path / "two" / "a.nii.gz")
    scan(tmp_path / "two" / "b.nii.gz")
    answer = command("upscale", first, tmp_path / "two", first.parent, "--out", tmp_path / "out")
    assert answer.code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "b.nii.gz",
        "one_a.nii.gz",
        "two_a.nii.gz",
    ]
    scan(tmp_path / "one" / "a.nii")
    answer = command("upscale", first, tmp_path / "one" / "a.nii", "--out", tmp_path / "same")
    assert sorted(path.name for path in (tmp_path / "same").glob("*.nii.gz")) == ["a.nii.gz", "a_2.nii.gz"]


@pytest.mark.parametrize(
    ("verb", "option", "text", "words"),
    [
        ("prepare", "--spacing", "0,0,0", "three numbers above 0"),
        ("prepare", "--spacing", "1,2", "three numbers above 0"),
        ("prepare", "--spacing", "nan", "three numbers above 0"),
        ("prepare", "--shape", "10.5,8,8", "three whole numbers above 0"),
        ("prepare", "--shape", "nan", "three whole numbers above 0"),
        ("prepare", "--shape", "", "three whole numbers above 0"),
        ("prepare", "--split", "1,2", "three shares (train, validation, test) that add up to 1"),
        ("prepare", "--split", "0.8", "three shares"),
        ("prepare", "--split", "0.5,0.5,0.5", "three shares"),
        ("upscale", "--spacing", "0,0,0", "three numbers above 0"),
        ("upscale", "--factor", "a,b,c", "three numbers above 0"),
        ("upscale", "--factor", "inf", "three numbers above 0"),
    ],
)
def test_numbers_that_make_no_sense(
    verb: str, option: str, text: str, words: str, command: Command, good: Path, tmp_path: Path
) -> None:
    answer = command(verb, good, "--out", tmp_path / "out", option, text)
    answer.refuses(f"{option} is '{text}'; it must be {words}", f"Write for example {option} ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--factor", "0.5"], ["(0.5, 0.5, 0.5)", "1 or more", "Write for example"]),
        (["--factor", "2", "--spacing", "1"], ["both a factor (2.0, 2.0, 2.0) and a spacing (1.0", "one of them"]),
        (["--thickness", "nan"], ["the slice thickness nan", "in mm"]),
        (["--thickness", "0"], ["the slice thickness 0", "in mm"]),
        (["--device", "toaster"], ["device 'toaster' is not usable", "--device auto or cpu"]),
        (["--model", "nowhere"], ["nowhere: no such model folder", "Give a run folder"]),
        (["--model", "."], ["no model here", "Give a run folder"]),
    ],
)
def test_what_no_scan_could_be_upscaled_by_is_said_once(
    options: list[str], words: list[str], command: Command, good: Path, tmp_path: Path
) -> None:
    other = scan(tmp_path / "b.nii.gz")
    command("upscale", good, other, "--out", tmp_path / "out", *options).refuses(*words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--spacing", "5"], ["coarser than the scan's own", "finer"]),
        (["--factor", "3000"], ["30000 x 36000 x 24000 voxels", "smaller factor"]),
        (["--spacing", "0.0001"], ["voxels, more than", "coarser spacing"]),
        (["--thickness", "900"], ["900", "mm"]),
    ],
)
def test_what_does_not_suit_a_scan_names_the_scan(
    options: list[str], words: list[str], command: Command, good: Path, tmp_path: Path
) -> None:
    command("upscale", good, "--out", tmp_path / "out", *options).refuses(good, *words)
    assert not (tmp_path / "out").exists()


def test_numbers_out_of_range_are_refused_by_the_options_themselves(command: Command, good: Path) -> None:
    for arguments in (
        ["prepare", good, "--out", "x", "--jobs", "0"],
        ["upscale", good, "--out", "x", "--fidelity", "nan"],
        ["generate", "model", "-n", "0", "--out", "x"],
        ["train", "synthesis/r3gan", "--data", "x", "--steps", "0"],
        ["upscale", good],
        ["sharpen", good],
    ):
        answer = command(*arguments)
        assert answer.code == 2
        assert "--help' for help" in answer.err


def test_places_that_cannot_be_written(command: Command, good: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder.nii.gz"
    file.write_text("kept")
    folder.mkdir()
    for path in (file, file / "deeper"):
        command("upscale", good, "--out", path).refuses(path, "a file stands where a folder is needed", "Choose")
        command("prepare", good, "--out", path).refuses(path, "a file stands where a folder is needed", "Choose")
        both = ["--real", good.parent, "--synthetic", good.parent]
        command("evaluate", "synthesis", *both, "--out", path).refuses(path, "a file stands", "Choose")
    command("upscale", good, "--out", file / "a.nii.gz").refuses(file, "a file stands", "Choose")
    command("convert", good, file / "a.nii.gz").refuses(file, "a file stands", "Choose")
    command("upscale", good, "--out", folder).refuses(folder, "a folder stands where the file", "Choose")
    command("convert", good, folder).refuses(folder, "a folder stands where the file", "Choose")
    command("upscale", good, "--out", tmp_path / "a.mgz").refuses("a.mgz", "'.mgz'", "Use .nii.gz, .nii")
    command("convert", good, tmp_path / "a.mgz").refuses("a.mgz", "'.mgz'", "Valid ones are .nii and .nii.gz")
    other = scan(tmp_path / "b.nii.gz")
    command("upscale", good, other, "--out", tmp_path / "c.nii.gz").refuses("2 scans cannot go into one", "folder")
    command("convert", good, tmp_path / ("n" * 300 + ".nii")).refuses("the name is too long", "shorter")
    assert file.read_text() == "kept"
    assert files_in(tmp_path) == ["b.nii.gz", "file", "good/a.nii.gz"]


def test_a_missing_folder_is_made_for_the_output(command: Command, good: Path, tmp_path: Path) -> None:
    assert command("upscale", good, "--out", tmp_path / "not" / "yet" / "b.nii.gz").code == 0
    assert files_in(tmp_path / "not") == ["yet/b.json", "yet/b.nii.gz"]


def test_no_output_replaces_its_own_scan(command: Command, good: Path) -> None:
    before = good.read_bytes()
    command("upscale", good.parent, "--out", good.parent).refuses(good, "replace the scan", "Choose another output")
    command("upscale", good, "--out", good).refuses(good, "replace the scan")
    command("convert", good, good).refuses(good, "replace the scan")
    assert good.read_bytes() == before
    assert files_in(good.parent) == ["a.nii.gz"]


def test_lacking_permission(command: Command, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(arguments[-1]))

    # The tests may run as root, to whom nothing is forbidden.
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        command("upscale", good, "--out", tmp_path / "out").refuses(tmp_path / "out", "no permission", "Choose another")
        command("prepare", good, "--out", tmp_path / "out").refuses(tmp_path / "out", "no permission", "Choose another")
    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", refuse)
        command("convert", good, tmp_path / "out.nii").refuses("out.nii", "no permission to write", "Choose another")
    with monkeypatch.context() as patch:
        patch.setattr(nib, "load", refuse)
        command("convert", good, tmp_path / "out.nii").refuses(good, "no permission to read")
    with monkeypatch.context() as patch:
        patch.setattr("medgan.workflows.convert.convert", refuse)
        command("convert", good, tmp_path / "out.nii").refuses("no permission", "Change the permissions")
    assert files_in(tmp_path) == ["good/a.nii.gz"]


def _write_and_run_out(image: nib.Nifti1Image, path: Path) -> None:
    Path(path).write_bytes(b"the first half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing(
    command: Command, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = ("the disk is full", "Free some space")
    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", _write_and_run_out)
        command("convert", good, tmp_path / "b.nii").refuses(tmp_path / "b.nii", *full)
        command("upscale", good, "--out", tmp_path / "out").refuses(tmp_path / "out" / "a.nii.gz", *full)
    write_text = Path.write_text

    def no_text(path: Path, text: str, **options: str) -> int:
        write_text(path, text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_text)
        # A scan without its sidecar would not say what was done to it.
        command("upscale", good, "--out", tmp_path / "a.nii.gz").refuses(tmp_path / "a.json", *full)
        command("upscale", good, "--out", tmp_path / "out").refuses(tmp_path / "out" / "a.nii.gz", *full)

    def no_page(path: Path, text: str, **options: str) -> int:
        return no_text(path, text) if path.name.endswith(".html") else write_text(path, text, **options)

    for index in range(4):
        scan(tmp_path / "in" / f"{index}.nii.gz", np.random.default_rng(index).random((9, 10, 8)))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_page)
        both = ["--real", tmp_path / "in", "--synthetic", tmp_path / "in"]
        command("evaluate", "synthesis", *both, "--out", tmp_path / "out").refuses("card.html", *full)

    def no_bytes(path: Path, content: bytes) -> int:
        write_text(path, "half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_bytes)
        command("prepare", tmp_path / "in", "--out", tmp_path / "out").refuses(tmp_path / "out", *full)
    assert files_in(tmp_path) == ["good/a.nii.gz", *(f"in/{index}.nii.gz" for index in range(4))]


def test_a_disk_that_is_really_full(command: Command, small_disk: Path, tmp_path: Path) -> None:
    big = scan(tmp_path / "big.nii", np.random.default_rng(0).random((40, 40, 40)))
    for name in ("a.nii", "a.nii.gz"):
        command("convert", big, small_disk / name).refuses(small_disk / name, "the disk is full", "Free some space")
    command("upscale", big, "--out", small_disk / "up").refuses(small_disk, "the disk is full", "Free some space")
    command("prepare", big, "--out", small_disk / "cohort", "--split", "1,0,0").refuses("the disk is full")
    assert files_in(small_disk) == []


def test_other_errors_are_defects_and_keep_their_traceback(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr("medgan.workflows.convert.convert", fail)
    monkeypatch.setattr(sys, "argv", ["medgan", "convert", str(good), str(tmp_path / "b.nii")])
    with pytest.raises(OSError, match="Connection reset"):
        cli.main()


def test_debug_shows_the_traceback(command: Command, tmp_path: Path) -> None:
    verb = ["convert", str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]
    assert command(*verb).err == f"error: {tmp_path / 'a.nii'}: no such file or folder. Check the spelling.\n"
    line = [sys.executable, "-m", "medgan.cli", "--debug", *verb]
    debug = subprocess.run(line, capture_output=True, text=True)
    assert debug.returncode != 0
    assert "Traceback (most recent call last)" in debug.stderr
    assert "MedganError" in debug.stderr


def test_evaluations_of_what_does_not_match(command: Command, good: Path, tmp_path: Path) -> None:
    small = scan(tmp_path / "small" / "b.nii.gz", np.random.default_rng(0).random((5, 6, 7)))
    scan(tmp_path / "two" / "a.nii.gz")
    scan(tmp_path / "two" / "c.nii.gz")
    restoration = ["evaluate", "restoration", "--reference", good, "--restored"]
    command(*restoration, small).refuses(small, "(5, 6, 7)", "(10, 12, 8)", "one grid")
    command("evaluate", "restoration", "--reference", good.parent, "--restored", tmp_path / "two").refuses(
        tmp_path / "two", ": c.", "equal names"
    )
    nothing = scan(tmp_path / "nothing.nii.gz", np.zeros((10, 12, 8)))
    command(*restoration, good, "--mask", nothing).refuses("mask is empty", "at least one voxel")
    command(*restoration, good, "--mask", small).refuses("mask", "(5, 6, 7)")
    command(*restoration, good, "--mask", tmp_path / "no.nii").refuses("no.nii", "no such file")
    synthesis = ["evaluate", "synthesis", "--out", tmp_path / "out", "--real"]
    command(*synthesis, good.parent, "--synthetic", small).refuses(small, "(5, 6, 7)", "(10, 12, 8)", "one grid")
    command(*synthesis, good.parent, "--synthetic", good).refuses("1 real scans", "at least 4", "Give more scans")
    command(*synthesis, good.parent, "--synthetic", nothing).refuses(nothing)
    assert not (tmp_path / "out").exists()


def test_a_cohort_too_small_to_split(command: Command, phantom_scans: Path, tmp_path: Path) -> None:
    two = [phantom_scans / f"sub-0{i}_T1w.nii.gz" for i in range(2)]
    command("prepare", *two, "--out", tmp_path / "out").refuses("2 subjects", "at least 3 are needed", "Add scans")
    assert not (tmp_path / "out").exists()


def test_bad_recipes(command: Command, phantom_cohort: Path, tmp_path: Path) -> None:
    out = ["--data", phantom_cohort, "--out", tmp_path / "out"]
    command("train", "synthesis/r3gam", *out).refuses("'synthesis/r3gam'", "Did you mean 'synthesis/r3gan'?")
    command("recipes", "show", "synthesis/r3gam").refuses("'synthesis/r3gam'", "Did you mean 'synthesis/r3gan'?")
    command("recipes", "show").refuses("no recipe was named", "medgan recipes show NAME")
    command("recipes", "list").refuses("'list'", "medgan recipes")
    command("train", "synthesis/r3gan", *out, "--set", "network.widht=3").refuses(
        "r3gan.yaml", "'network.widht'", "Did you mean 'width'?"
    )
    command("train", "synthesis/r3gan", *out, "--set", "network.width=wide").refuses("'network.width' is 'wide'")
    command("train", "synthesis/r3gan", *out, "--set", "network").refuses("'network' is no assignment", "Write --set")
    file = tmp_path / "mine.yaml"
    command("train", file, *out).refuses(file, "no such recipe file", "Check the path")
    for content, words in (
        ("task: [unclosed", "not readable as YAML"),
        ("- a", "mapping of fields to values"),
        ("task: painting", "'painting'"),
        ("task: synthesis\nnetwork: {widht: 4}", "Did you mean 'width'?"),
    ):
        file.write_text(content)
        command("train", file, *out).refuses(file, words)
    assert not (tmp_path / "out").exists()


def test_bad_cohorts(command: Command, good: Path, tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "no", "no such file or folder"),
        (good.parent, "no prepared cohort"),
        (good, "no prepared cohort"),
    ):
        command("train", "synthesis/r3gan", "--data", place, "--out", tmp_path / "out").refuses(place, words)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def run_folder(phantom_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of a tiny generator."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["medgan", "train", "synthesis/quickstart", "--data", str(phantom_cohort), "--out", str(folder), *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as leaving:
            cli.main()
    assert leaving.value.code == 0
    return folder


def test_a_run_is_continued_only_by_its_own_recipe(
    command: Command, run_folder: Path, phantom_cohort: Path, tmp_path: Path
) -> None:
    resume = ["--data", phantom_cohort, "--resume", run_folder]
    before = files_in(run_folder)
    command("train", "super_resolution/quickstart", *resume).refuses(
        run_folder, "started with recipe 'synthesis/quickstart', not 'super_resolution/quickstart'", "Resume with:"
    )
    command("train", "synthesis/quickstart", *resume, *TINY, "--set", "training.batch_size=3").refuses(
        run_folder, "training.batch_size was 2, is now 3", "start a new run"
    )
    command("train", "synthesis/quickstart", *resume, "--out", tmp_path / "out").refuses(run_folder, "--out", "Leave")
    command("train", "synthesis/quickstart", "--data", phantom_cohort, "--resume", tmp_path).refuses(
        tmp_path, "no run here to resume", "--out"
    )
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text("task: synthesis")
    command("train", "synthesis/quickstart", "--data", phantom_cohort, "--resume", tmp_path).refuses(
        tmp_path / "run.json", "lacks recipe", "Start a new run"
    )
    command("train", "synthesis/quickstart", "--data", phantom_cohort, "--out", run_folder, *TINY).refuses(
        run_folder, "holds a run already", "--resume"
    )
    (tmp_path / "file").write_text("")
    command("train", "synthesis/quickstart", "--data", phantom_cohort, "--out", tmp_path / "file", *TINY).refuses(
        tmp_path / "file", "a file stands where a folder is needed", "Choose"
    )
    assert files_in(run_folder) == before
    assert files_in(tmp_path) == ["file", "recipe.yaml", "run.json"]


def test_generating(
    command: Command, run_folder: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, out = good.parent, tmp_path / "out"
    command("generate", run_folder, "-n", 2, "--out", full).refuses(full, "not an empty folder", "Choose another --out")
    command("generate", run_folder, "-n", 2, "--out", good).refuses(good, "not an empty folder", "Choose another --out")
    command("generate", run_folder, "-n", 2, "--out", good / "out").refuses(good, "a file stands", "Choose another")
    command("generate", tmp_path / "no", "-n", 2, "--out", out).refuses("no such model folder", "Give a run folder")
    for text in ("0", "-1", "nan", "inf"):
        command("generate", run_folder, "-n", 2, "--out", out, "--truncation", text).refuses(f"truncation is {text}")
    command("upscale", good, "--model", run_folder, "--out", out).refuses(
        run_folder, "trained for synthesis, upscale needs one for super-resolution", "Choose another model"
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    command("generate", run_folder, "-n", 2, "--out", ".").refuses("the current folder", "Name another")
    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", _write_and_run_out)
        command("generate", run_folder, "-n", 2, "--out", out).refuses(
            f"error: {out / 'synthetic-0000.nii.gz'}: the disk is full", "Free some space"
        )
    assert files_in(tmp_path) == ["good/a.nii.gz"]
    assert command("generate", run_folder, "-n", 2, "--out", out).code == 0
    assert files_in(out) == ["samples.json", "synthetic-0000.nii.gz", "synthetic-0001.nii.gz"]


def test_steering_a_generator(command: Command, run_folder: Path, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("generate", run_folder, "--out", out).refuses("how many scans", "Add -n 4")
    way = ["--interpolate", 0, 1, "--out", out]
    command("generate", run_folder, *way).refuses("--steps is missing", "--steps 9")
    command("generate", run_folder, *way, "--steps", 3, "-n", 2).refuses("-n 2 and --interpolate", "--steps says")
    command("generate", run_folder, "--interpolate", 1, 1, "--steps", 3, "--out", out).refuses("are the same")
    command("generate", run_folder, "--interpolate", -1, 1, "--steps", 3, "--out", out).refuses("'-1'", "from 0")
    command("generate", run_folder, "--mix", 0, 1, "--out", out).refuses("no styles to mix", "synthesis/stylegan")
    command("generate", "mri-universal", "-n", 1, "--out", out).refuses("generate needs one for synthesis", "Choose")
    command("project", tmp_path / "no.nii.gz", run_folder, "--out", out).refuses("no.nii.gz", "no such file")
    command("explore", run_folder, "--out", tmp_path / "page.txt").refuses("page.txt", "FILE.html")
    assert files_in(tmp_path) == ["good/a.nii.gz"]
    assert command("generate", run_folder, *way, "--steps", 2, "--truncation", 0.5).code == 0
    assert files_in(out) == ["overview.html", "samples.json", "synthetic-0000.nii.gz", "synthetic-0001.nii.gz"]
    page = tmp_path / "page.html"
    assert command("explore", run_folder, "--out", page, "--directions", 1, "--steps", 2).out == f"{page}\n"
    # A scan of 20 mm in the model's 144 mm.
    command("project", good, run_folder, "--out", tmp_path / "p").refuses(good, "nothing to project", "medgan inspect")
    sample = out / "synthetic-0001.nii.gz"
    answer = command("project", sample, run_folder, "--out", tmp_path / "p", "--steps", 2, "--starts", 2)
    assert (answer.code, answer.out.splitlines()[-1]) == (0, str(tmp_path / "p"))
    assert "random samples" in answer.out


def test_damaged_models(command: Command, run_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in (run_folder / "model").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    weights = (model / "weights.safetensors").read_bytes()
    (model / "weights.safetensors").write_bytes(weights[:1000])
    command("generate", model, "-n", 1, "--out", tmp_path / "out").refuses("weights.safetensors", "damaged", "again")
    (model / "config.json").write_text("{")
    command("generate", model, "-n", 1, "--out", tmp_path / "out").refuses("config.json", "not readable as JSON")
    assert not (tmp_path / "out").exists()


def test_no_store_of_runs(command: Command, tmp_path: Path) -> None:
    command("runs", "--store", tmp_path).refuses(tmp_path, "no tracked runs here", "mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    command("runs", "--store", tmp_path).refuses(tmp_path / "mlflow.db", "no SQLite database")


def test_the_version_and_the_recipes(command: Command) -> None:
    assert command("--version").out == f"medgan {medgan.__version__}\n"
    listed = command("recipes")
    assert listed.code == 0
    assert {line.split()[0] for line in listed.out.splitlines()} >= {"synthesis/r3gan", "super_resolution/esrgan3d"}
    shown = command("recipes", "show", "synthesis/r3gan").out
    assert "training.batch_size = " in shown
    assert "Volumes or patches per step." in shown


def test_inspecting_and_converting(command: Command, good: Path, tmp_path: Path) -> None:
    answer = command("inspect", good, "--json")
    assert answer.code == 0
    (summary,) = json.loads(answer.out)
    assert (summary["shape"], summary["spacing"], summary["orientation"]) == ([10, 12, 8], list(SPACING), "RAS")
    assert "RAS" in command("inspect", good).out
    answer = command("convert", good, tmp_path / "b.nii")
    assert (answer.code, answer.out, answer.err) == (0, f"{tmp_path / 'b.nii'}\n", "")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").data, read_volume(good).data)


def test_preparing_and_the_plan_of_a_training(command: Command, phantom_scans: Path, tmp_path: Path) -> None:
    scans = [phantom_scans / f"sub-0{i}_T1w.nii.gz" for i in range(5)]
    options = ["--spacing", "16", "--shape", "9,11,8", "--split", "0.6,0.2,0.2"]
    answer = command("prepare", *scans, "--out", tmp_path / "cohort", *options)
    assert answer.code == 0
    assert "5 scans (3 train, 1 validation, 1 test), 9 x 11 x 8 voxels of" in answer.out
    answer = command("train", "synthesis/quickstart", "--data", tmp_path / "cohort", "--dry-run", *TINY)
    assert answer.code == 0
    assert json.loads(answer.out)["steps"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort"]


def test_tracked_runs_are_listed(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def listed(store: Path, limit: int) -> list[RunSummary]:
        asked.append((store, limit))
        return [RunSummary("0123456789abcdef" * 2, "one", "medgan", "FINISHED", datetime.now(UTC), 61.0, "psnr", 31.25)]

    monkeypatch.setattr("medgan.tracking.list_runs", listed)
    answer = command("runs", "--store", tmp_path, "--limit", 3)
    assert (answer.code, asked) == (0, [(tmp_path, 3)])
    assert "0123456789abcdef" * 2 in answer.out
    assert "31.25" in answer.out


def test_the_doctor_says_what_is_missing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan.workflows.doctor import Check

    checks = [Check("torch", True, "2.8.0")]
    monkeypatch.setattr("medgan.workflows.doctor.diagnose", lambda: checks)
    answer = command("doctor")
    assert answer.code == 0
    assert "2.8.0" in answer.out
    checks.append(Check("disk", False, "0.1 GiB free", "Free some space."))
    answer = command("doctor")
    assert answer.code == 1
    assert "Free some space." in answer.out


def test_user_errors_may_lack_a_file(command: Command, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MedganError("the moon is full", hint="Wait")

    monkeypatch.setattr("medgan.workflows.convert.convert", fail)
    answer = command("convert", good, "b.nii")
    assert (answer.code, answer.err) == (2, "error: the moon is full. Wait.\n")
