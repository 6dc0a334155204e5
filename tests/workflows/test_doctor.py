from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from medgan.workflows import doctor
from medgan.workflows.doctor import Check, diagnose, print_checks


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def with_version(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None) -> None:
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: version if name == package else installed(name))


def test_this_machine_can_run_the_tests_so_it_is_well(tmp_path: Path) -> None:
    checks = {check.name: check for check in diagnose(tmp_path)}
    assert {"python", "packages", "torch", "device", "threads", "DICOM decoders", "tracking store", "disk"} <= set(
        checks
    )
    for name in ("python", "packages", "torch", "tracking store"):
        assert checks[name].ok, checks[name]
    assert str(tmp_path / "runs" / "mlflow.db") in checks["tracking store"].detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "ok"), [("2.8.0", True), ("2.9.0", False), ("2.9.1+cu128", False), ("2.13.0", True)]
)
def test_slow_torch_is_refused(monkeypatch: pytest.MonkeyPatch, version: str, ok: bool) -> None:
    with_version(monkeypatch, "torch", version)
    check = doctor._torch()
    assert check.ok is ok
    assert version in check.detail
    assert ok or "pip install" in check.remedy


def test_missing_and_old_packages_are_named_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with_version(monkeypatch, "numpy", "1.20.0")
    requirements = ["numpy<3,>=1.26", "no-such-package>=2", "scipy>=1.13", "nilearn>=0.12; extra == 'demo'"]
    fitting, *problems = doctor._packages(requirements)
    assert fitting.ok
    assert fitting.detail.startswith("scipy ")
    assert [(check.name, check.ok) for check in problems] == [("numpy", False), ("no-such-package", False)]
    assert "1.20.0" in problems[0].detail
    assert problems[0].remedy == "pip install 'numpy<3,>=1.26'"
    assert problems[1].detail == "not installed"


def test_a_missing_decoder_is_named_with_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom.pixels

    def get_decoder(uid: str) -> Any:
        return SimpleNamespace(is_available=uid not in ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.201"))

    monkeypatch.setattr(pydicom.pixels, "get_decoder", get_decoder)
    check = doctor._decoders()
    assert not check.ok
    assert "2 of 12" in check.detail
    assert "JPEG Lossless, Non-Hierarchical, First-Order" in check.detail
    assert check.remedy == "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


def test_every_compressed_syntax_that_pydicom_knows_is_looked_at() -> None:
    from pydicom.pixels.decoders import base

    compressed = {uid for uid in base._PIXEL_DATA_DECODERS if uid.is_encapsulated}
    assert set(doctor._DECODERS) == {str(uid) for uid in compressed}


def test_a_server_is_named_without_its_password_and_not_contacted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@tracking.invalid:5000")
    check = doctor._tracking(tmp_path)
    assert check.ok
    assert "tracking.invalid" in check.detail
    assert "secret" not in check.detail


def test_stores_that_cannot_be_used_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    database = tmp_path / "runs" / "mlflow.db"
    database.write_text("not a database, this is a text")
    assert "no SQLite database" in doctor._tracking(tmp_path).detail
    database.unlink()
    assert doctor._tracking(tmp_path).ok
    with_version(monkeypatch, "mlflow", None)
    check = doctor._tracking(tmp_path)
    assert not check.ok
    assert "tracking.enabled=false" in check.remedy


def test_a_folder_without_permission_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = doctor._tracking(tmp_path)
    assert not check.ok
    assert "Permission denied" in check.detail


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30))
    check = doctor._disk(tmp_path)
    assert (check.ok, check.detail) == (False, "1.0 GiB free")


def test_an_unused_gpu_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: True)
    assert not doctor._device().ok
    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: False)
    assert doctor._device().ok
    assert doctor._device().detail == "CPU only"


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    check = doctor._device()
    assert check.ok
    assert check.detail.startswith("2 x NVIDIA H100, 80 GiB")
    assert check.detail.endswith("bf16")


def test_too_many_threads_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(doctor, "_container_cores", lambda: 1)
    check = doctor._threads()
    assert not check.ok
    assert check.remedy == "export OMP_NUM_THREADS=1"


def test_the_demo_extra_is_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    with_version(monkeypatch, "nilearn", None)
    check = doctor._demo()
    assert check.ok
    assert "medgan[demo]" in check.remedy


def test_problems_stand_out_and_are_counted() -> None:
    stream = StringIO()
    checks = [Check("torch", True, "2.13.0"), Check("disk", False, "0.1 GiB free", "Free [at least] 2 GiB.")]
    print_checks(checks, Console(file=stream, width=80))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == [
        "ok   torch  2.13.0",
        "fix  disk   0.1 GiB free",
        "            Free [at least] 2 GiB.",
        "1 to fix.",
    ]
    stream = StringIO()
    print_checks(checks[:1], Console(file=stream))
    assert "Everything that medgan needs is here." in stream.getvalue()
