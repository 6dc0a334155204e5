"""Devices, precision, determinism and random states."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from medgan.errors import MedganError

Mode = Literal["fast", "exact"]
Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str = "auto") -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1" or "mps" to a device that works here.

    Raises:
        MedganError: the name is unknown or the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MedganError(f"device '{name}' is not usable ({reason})", hint="Use --device auto or cpu.") from error
    return device


def trains_in_bfloat16(device: torch.device) -> bool:
    """Whether networks can be trained in bfloat16 there: on a GPU that computes it itself, never on a CPU.

    On CPUs that compute it PyTorch 2.13 (its oneDNN, on AVX-512) returns wrong gradients of a 3D convolution's weights
    wherever a kernel reaches past both ends of the first axis, as one of 3 voxels does on 2, and with kernels of 4 in
    steps of 2 it writes past its memory. Nothing is reported.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast_dtype(device: torch.device, mode: Mode, precision: Precision = "auto") -> torch.dtype | None:
    """The half precision in which networks run, or None for float32.

    Args:
        device: where they run.
        mode: with precision "auto", only "fast" trainings take half precision.
        precision: the recipe's.

    Raises:
        MedganError: bfloat16 is asked for, and networks cannot be trained in it there.
    """
    if precision == "auto":
        return torch.bfloat16 if mode == "fast" and trains_in_bfloat16(device) else None
    if precision == "float32":
        return None
    if not trains_in_bfloat16(device):
        reason = (
            "gradients of 3D convolutions are wrong in it on CPUs"
            if device.type == "cpu"
            else "the device does not compute it: emulated, it is slower than float32 and saves nothing"
        )
        raise MedganError(
            f"training.precision is bfloat16, but this training runs on {device}: {reason}",
            hint="Set training.precision=auto, or train on a GPU of the Ampere generation or later.",
        )
    return torch.bfloat16


@contextmanager
def numerics(mode: Mode) -> Iterator[None]:
    """Set determinism and matrix precision for a training, and put the process back afterwards.

    exact: deterministic algorithms, no TF32, no kernel search. fast: TF32 and kernel search.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )
    exact = mode == "exact"
    if exact:
        # cuBLAS is deterministic only with a fixed workspace, read when its handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(exact)
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.backends.cudnn.allow_tf32 = before[2]
        torch.backends.cuda.matmul.allow_tf32 = before[3]


def random_state() -> dict[str, Any]:
    """The states of torch's random generators, as tensors."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Put torch's random generators back to `random_state()`."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
