"""What a node is told: names, addresses, limits."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from medgan.errors import MedganError

# DICOM PS3.5 6.2: at most 16 characters of the default repertoire without backslash and control characters; spaces
# within are legal, and left out here because they cannot be told from padding.
_AE_TITLE = re.compile(r"[!-\[\]-~]{1,16}")
_PEER = re.compile(r"(?P<title>[^@]*)@(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\[\]]+)):(?P<port>\d+)")


def checked_ae_title(title: str, option: str) -> str:
    """`title`, if it can name an application entity.

    Raises:
        MedganError: it is empty, longer than 16 characters, or holds spaces or characters that are not ASCII.
    """
    if not _AE_TITLE.fullmatch(title):
        raise MedganError(
            f"{option} is '{title}', which is no AE title",
            hint="Use 1 to 16 letters, digits and signs, without spaces.",
        )
    return title


@dataclass(frozen=True)
class Peer:
    """Another application entity: its title, and where it listens."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str = "--destination") -> Peer:
        """A peer written as "AE@host:port"; an IPv6 address stands in square brackets.

        Raises:
            MedganError: it is written otherwise.
        """
        match = _PEER.fullmatch(text.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            raise MedganError(f"{option} is '{text}'", hint=f"Write for example {option} ARCHIVE@127.0.0.1:4242.")
        return cls(checked_ae_title(match["title"], option), match["v6"] or match["host"], int(match["port"]))


@dataclass(frozen=True)
class NodeSettings:
    """How a node listens, whom it lets in, and how much it takes.

    Args:
        storage: the folder of the queue; it holds scans as they came, patients' names included.
        destination: where derived series are sent.
        ae_title: what the node calls itself, and must be called by.
        host: the address to listen on; only loopback addresses cannot be reached from other machines.
        port: TCP port; 0 takes any free one.
        allow: calling AE titles that are let in; all when empty, which is possible on loopback only.
        max_associations: how many may be open at once; more are rejected as a transient fault.
        max_queue: how many series may be in the node at once; the first instance of one more is refused with the
            status A700, out of resources.
        quiet_seconds: when a series counts as complete whose association is still open or was broken off: so long
            after its last instance.
        settle_seconds: the same when all its associations were released; some senders open one per instance.
        max_pdu: largest protocol data unit that is accepted and sent, in bytes.
        min_free_bytes: instances are refused with A700 when the disk would have less left.
        network_timeout: seconds without any word after which a peer counts as gone.
        retry_seconds: first and longest wait between attempts to reach the destination; it doubles in between.

    Raises:
        MedganError: a value makes no sense, or others than this machine could send without being named.
    """

    storage: Path
    destination: Peer
    ae_title: str = "MEDGAN"
    host: str = "127.0.0.1"
    port: int = 11112
    allow: tuple[str, ...] = ()
    max_associations: int = 16
    max_queue: int = 100
    quiet_seconds: float = 30.0
    settle_seconds: float = 2.0
    max_pdu: int = 131072
    min_free_bytes: int = 1 << 30
    network_timeout: float = 60.0
    retry_seconds: tuple[float, float] = (1.0, 60.0)

    def __post_init__(self) -> None:
        checked_ae_title(self.ae_title, "--ae-title")
        for title in self.allow:
            checked_ae_title(title, "--allow")
        if not 0 <= self.port < 65536:
            raise MedganError(f"--port is {self.port}", hint="Give a port from 1 to 65535.")
        for name, value in (("--max-associations", self.max_associations), ("--max-queue", self.max_queue)):
            if value < 1:
                raise MedganError(f"{name} is {value}", hint="Give 1 or more.")
        if not self.quiet_seconds > 0:
            raise MedganError(f"--quiet-seconds is {self.quiet_seconds}", hint="Give seconds above 0.")
        if not self.allow and not self.is_loopback:
            raise MedganError(
                f"listening on {self.host} without --allow would take scans from anyone who reaches this machine",
                hint="Name the senders: --allow AE1,AE2.",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine can reach the address that the node listens on."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
