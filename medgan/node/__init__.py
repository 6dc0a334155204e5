"""A DICOM node: series come in by C-STORE, wait in a queue on disk, and go out derived to a destination.

The node knows nothing of how a series is derived; it is handed a function for that. `medgan.workflows.node` brings
the two together.
"""

from __future__ import annotations

from medgan.node.service import Made, Node
from medgan.node.settings import NodeSettings, Peer

__all__ = ["Made", "Node", "NodeSettings", "Peer"]
