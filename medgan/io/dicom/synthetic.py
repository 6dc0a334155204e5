"""Synthetic image series: images of nobody, which say so wherever a viewer, an archive or a program may look.

Each sample is a patient, a study and a frame of reference of its own. Nothing refers to a real image, and no clock or
computer leaves a trace: the same sample gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from medgan import __version__
from medgan.errors import MedganError
from medgan.io.dicom.encode import stored_pixels
from medgan.io.dicom.image_series import (
    STORAGE,
    ImageSeries,
    code_item,
    describe_equipment,
    single_frames,
    window_of,
    write_instances,
)
from medgan.io.dicom.layout import slice_stack
from medgan.io.dicom.uids import derived_uid
from medgan.volume import Volume

# Every PatientID begins so; no hospital's does.
PATIENT_ID_PREFIX = "MEDGAN-SYNTHETIC-"

_NOTICE = "Synthetic: made by a generative model, shows no real person, not for diagnosis."
# Transverse slices, as most viewers expect them.
_ORIENTATION = "LPS"
_SHORT_HASH = 12


@dataclass(frozen=True)
class SyntheticIdentity:
    """What a sample is a function of, and hence its identity.

    Args:
        model_sha256: of the generator's weights.
        seed: of the latent vectors.
        index: of the sample.
        truncation: factor on the latent vectors.
        variant: what was made of the sample, such as "I3-7-0.25" between two samples; letters, digits, points and
            dashes.
    """

    model_sha256: str
    seed: int
    index: int
    truncation: float = 1.0
    variant: str = ""

    @property
    def patient_id(self) -> str:
        """The PatientID: the prefix, the first digits of the model's hash, seed, index and whatever is special."""
        sample = f"{self.model_sha256[:_SHORT_HASH]}-{self.seed}-{self.index}"
        sample += "" if self.truncation == 1.0 else f"-T{self.truncation:g}"
        return PATIENT_ID_PREFIX + sample + (f"-{self.variant}" if self.variant else "")


def write_synthetic(
    volume: Volume, folder: str | Path, *, identity: SyntheticIdentity, modality: str = "MR"
) -> list[Path]:
    """Write a synthetic volume as an MR or CT image series.

    Args:
        volume: one channel, perpendicular axes.
        folder: a new folder; it appears whole or not at all.
        identity: which sample it is; all UIDs follow from it.
        modality: "MR" or "CT": what the sample looks like.

    Returns:
        The files, from the feet upwards.

    Raises:
        MedganError: the volume has several channels, sheared axes or values that are not finite; the modality is
            another; or the folder is not new.
    """
    if modality not in STORAGE:
        raise MedganError(f"the modality '{modality}' is not written", hint=f"Choose {' or '.join(STORAGE)}.")
    stack = slice_stack(volume, _ORIENTATION)
    series = ImageSeries(
        modality=modality,
        head=_head(identity, modality),
        facts=Dataset(),
        provenance=_provenance(identity),
        sources=(),
        flavour="AXIAL" if modality == "CT" else "OTHER",
        resampled=False,
        stack=stack,
        pixels=stored_pixels(stack.voxels),
        window=window_of(stack.voxels),
        thickness=stack.slice_spacing,
    )
    return write_instances(single_frames(series), Path(folder))


def _head(identity: SyntheticIdentity, modality: str) -> Dataset:
    """A patient who does not exist, a study that never took place."""
    special = (identity.variant,) if identity.variant else ()
    sample = (
        *(identity.model_sha256, identity.seed, identity.index, identity.truncation, *special),
        *(modality, __version__),
    )
    head = Dataset()
    head.SyntheticData = "YES"
    head.PatientName, head.PatientID = "MEDGAN-SYNTHETIC^NO REAL PERSON", identity.patient_id
    head.PatientComments = _NOTICE
    head.StudyInstanceUID = derived_uid("synthetic study", *sample)
    head.StudyDescription = "MEDGAN SYNTHETIC - shows no real person"
    head.Modality = modality
    head.SeriesInstanceUID = derived_uid("synthetic series", *sample)
    head.SeriesNumber = 1
    head.SeriesDescription = f"MEDGAN SYNTHETIC seed {identity.seed} sample {identity.index} {identity.variant}".strip()
    head.FrameOfReferenceUID = derived_uid("synthetic frame of reference", *sample)
    head.ImageComments = _NOTICE
    head.BurnedInAnnotation, head.LossyImageCompression = "NO", "00"
    head.ContentQualification = "RESEARCH"
    describe_equipment(head, identity.model_sha256)
    medgan = Dataset()
    describe_equipment(medgan, identity.model_sha256)
    medgan.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SynthesizingEquipment)]
    by = f"medgan {__version__}, model weights SHA-256 {identity.model_sha256}"
    medgan.ContributionDescription = f"synthesised by {by}"
    head.ContributingEquipmentSequence = [medgan]
    return head


def _provenance(identity: SyntheticIdentity) -> Dataset:
    part = Dataset()
    part.DerivationDescription = (
        f"{_NOTICE} Drawn by medgan {__version__} from the model with the weights {identity.model_sha256}, "
        f"seed {identity.seed}, sample {identity.index}, truncation {identity.truncation:g}"
        f"{f', variant {identity.variant}' if identity.variant else ''}."
    )
    return part
