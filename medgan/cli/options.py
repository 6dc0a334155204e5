"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Subject = Annotated[str | None, typer.Option(help="For BIDS: the subject's label, unless names say sub-LABEL.")]
Contrast = Annotated[str | None, typer.Option(help="For BIDS: T1w, T2w, PDw, T2starw, FLAIR ..., unless names say it.")]
Reference = Annotated[
    Path | None, typer.Option(help="Folder of the DICOM series that a NIfTI file was made from, to write DICOM.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AllowMemorised = Annotated[
    bool, typer.Option("--allow-memorised", help="Go on though the model's audit found copies of training scans.")
]
