"""medgan inside other tools. Each module here imports the tool that it plugs into, and nothing else imports it."""

from __future__ import annotations
