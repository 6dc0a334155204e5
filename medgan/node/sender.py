"""The side of the node that hands results on: C-STORE to the destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt

from medgan.node.settings import NodeSettings

# Whichever of the two the destination prefers; pynetdicom turns one into the other.
_UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


class DeliveryError(Exception):
    """Results could not be delivered.

    Args:
        what: what happened.
        is_final: whether the destination has seen a result and will not have it, so that trying again is no help.
    """

    def __init__(self, what: str, *, is_final: bool = False) -> None:
        super().__init__(what)
        self.is_final = is_final


def deliver(files: Sequence[Path], settings: NodeSettings, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Send every file to the destination, by one association.

    Sending them again does no harm: an archive knows an instance by its UID.

    Raises:
        DeliveryError: the destination cannot be reached, or did not take them all.
    """
    peer = settings.destination
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_pdu_size = settings.max_pdu
    entity.network_timeout = entity.dimse_timeout = settings.network_timeout
    entity.acse_timeout = entity.connection_timeout = min(30.0, settings.network_timeout)
    entity.requested_contexts = _contexts(files)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        max_pdu=settings.max_pdu,
        evt_handlers=[(evt.EVT_ABORTED, _unblock), (evt.EVT_CONN_CLOSE, _unblock)],
    )
    if not association.is_established:
        raise DeliveryError("the destination cannot be reached" if not association.is_rejected else "it rejects us")
    try:
        for number, path in enumerate(files):
            if should_stop():
                raise DeliveryError(f"stopped after {number} of {len(files)} instances")
            _send(association, path)
    except BaseException:
        association.abort()
        raise
    association.release()


def _send(association: Any, path: Path) -> None:
    """Send one file, and look at the answer."""
    try:
        answer = association.send_c_store(pydicom.dcmread(path))
    except RuntimeError as error:
        raise DeliveryError("the association broke off") from error
    except ValueError as error:
        raise DeliveryError("the destination does not accept this kind of image", is_final=True) from error
    if "Status" not in answer:
        raise DeliveryError("the destination gave no answer")
    status = int(answer.Status)
    # Warnings, B000 to BFFF, are given for instances that are stored (DICOM PS3.4 B.2.3).
    if status != 0 and status >> 12 != 0xB:
        raise DeliveryError(f"the destination answered with status {status:04X}", is_final=status >> 8 != 0xA7)


def _contexts(files: Sequence[Path]) -> list[Any]:
    """Presentation contexts for the files: each kind of object in the coding it has, or uncompressed."""
    kinds: dict[str, set[str]] = {}
    for path in files:
        meta = pydicom.filereader.read_file_meta_info(path)
        kinds.setdefault(str(meta.MediaStorageSOPClassUID), set()).add(str(meta.TransferSyntaxUID))
    contexts = []
    for kind, codings in sorted(kinds.items()):
        if codings & set(_UNCOMPRESSED):
            contexts.append(build_context(kind, list(_UNCOMPRESSED)))
        contexts += [build_context(kind, coding) for coding in sorted(codings - set(_UNCOMPRESSED))]
    return contexts


def _unblock(event: evt.Event) -> None:
    """Let a send that has just begun on a dying association fail.

    It waits, without end, for the association's thread to pause; a thread that ended does not.
    """
    event.assoc._is_paused = True
