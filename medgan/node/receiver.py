"""The side of the node that takes instances in: C-STORE and C-ECHO, by pynetdicom."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from typing import Any

import pydicom
import pydicom.uid
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medgan.errors import MedganError
from medgan.io.dicom.headers import HEADER_ERRORS
from medgan.node.arrivals import Arrivals
from medgan.node.queue import QueueFullError, SeriesQueue, short_hash
from medgan.node.settings import NodeSettings

# Status of a C-STORE response, DICOM PS3.4 B.2.3.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

# What can be upscaled and written as a derived series. Reports, presentation states and pictures are refused when the
# association is negotiated, so that the sender learns it, instead of being taken and thrown away.
STORED_CLASSES = (
    pydicom.uid.CTImageStorage,
    pydicom.uid.EnhancedCTImageStorage,
    pydicom.uid.LegacyConvertedEnhancedCTImageStorage,
    pydicom.uid.MRImageStorage,
    pydicom.uid.EnhancedMRImageStorage,
    pydicom.uid.LegacyConvertedEnhancedMRImageStorage,
)

_IDENTIFIERS = ["SOPInstanceUID", "SeriesInstanceUID"]
# Connections that wait to be answered; pynetdicom's own five are too few for a burst of senders.
_BACKLOG = 128


class Receiver:
    """Listens, and puts every instance into the queue before it says that it is stored.

    Args:
        queue: where instances go.
        arrivals: is told what came by which association.
        settings: address, names and limits.
        say: takes lines of news; none holds anything of a patient.
    """

    def __init__(
        self, queue: SeriesQueue, arrivals: Arrivals, settings: NodeSettings, say: Callable[[str], None]
    ) -> None:
        self._queue, self._arrivals, self._settings, self._say = queue, arrivals, settings, say
        self._entity = AE(ae_title=settings.ae_title)
        self._entity.require_called_aet = True
        self._entity.require_calling_aet = list(settings.allow)
        self._entity.maximum_associations = settings.max_associations
        self._entity.maximum_pdu_size = settings.max_pdu
        self._entity.network_timeout = settings.network_timeout
        for storage_class in STORED_CLASSES:
            self._entity.add_supported_context(storage_class, ALL_TRANSFER_SYNTAXES)
        self._entity.add_supported_context(Verification)

    def start(self) -> tuple[str, int]:
        """Listen; the address and port that it listens on.

        Raises:
            MedganError: the address cannot be listened on.
        """
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._broken),
            (evt.EVT_CONN_CLOSE, self._broken),
            (evt.EVT_REJECTED, self._rejected),
        ]
        address = (self._settings.host, self._settings.port)
        try:
            server = self._entity.start_server(address, block=False, evt_handlers=handlers)
        except OSError as error:
            raise MedganError(
                f"cannot listen on {address[0]}:{address[1]} ({error.strerror})",
                hint="Choose another --port or --host, or stop what listens there.",
            ) from error
        assert server is not None
        assert server.socket is not None
        server.socket.listen(_BACKLOG)
        return str(server.server_address[0]), int(server.server_address[1])

    def stop(self) -> None:
        """Stop listening and break off the associations that are open; their senders learn it and send again."""
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        """Answer one C-STORE request with a status."""
        content = event.encoded_dataset()
        try:
            header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=_IDENTIFIERS)
            instance, series = str(header.SOPInstanceUID), str(header.SeriesInstanceUID)
        except HEADER_ERRORS:
            self._say("an instance without readable UIDs was refused")
            return CANNOT_UNDERSTAND
        if not series or not instance:
            self._say("an instance without UIDs was refused")
            return CANNOT_UNDERSTAND
        if instance != getattr(event.request, "AffectedSOPInstanceUID", None):
            self._say(f"series {short_hash(series)}: an instance was refused whose UID is not the one announced")
            self._arrivals.refused(short_hash(series), event.assoc)
            return DATA_SET_DOES_NOT_MATCH
        return self._queued(short_hash(series), short_hash(instance), content, event.assoc)

    def _queued(self, series: str, instance: str, content: bytes, association: Hashable) -> int:
        self._arrivals.came(series, association)
        try:
            self._queue.store(series, instance, content)
        except QueueFullError as full:
            self._say(f"series {series}: an instance was refused, {full}")
        except OSError as error:
            self._say(f"series {series}: an instance could not be stored ({error.strerror})")
        else:
            return SUCCESS
        self._arrivals.refused(series, association)
        return OUT_OF_RESOURCES

    def _released(self, event: evt.Event) -> None:
        self._arrivals.ended(event.assoc, released=True)

    def _broken(self, event: evt.Event) -> None:
        self._arrivals.ended(event.assoc, released=False)

    def _rejected(self, event: evt.Event) -> None:
        self._say("an association was rejected: not called or calling by an allowed AE title, or too many are open")
