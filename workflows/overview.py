"""A page that shows a few scans of a row side by side, gathered while they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgan.volume import Volume

_NAME = "overview.html"
# More columns than this leave a plane too few pixels on a page.
_COLUMNS = 7


class Overview:
    """Sees every scan pass, keeps those that will be shown, and writes the page.

    Args:
        title: of the page.
        text: what the scans have to do with each other.
        titles: of the scans, in their order.
    """

    def __init__(self, title: str, text: str, titles: Sequence[str]) -> None:
        self.title, self.text, self.titles = title, text, titles
        last, columns = len(titles) - 1, min(len(titles), _COLUMNS)
        self.shown = {round(number * last / max(1, columns - 1)) for number in range(columns)}
        self.kept: list[tuple[str, Volume]] = []

    def watched(self, volumes: Iterable[Volume]) -> Iterator[Volume]:
        """The same scans."""
        for number, volume in enumerate(volumes):
            if number in self.shown:
                self.kept.append((self.titles[number], volume))
            yield volume

    def write(self, folder: Path) -> None:
        """Put the page into a folder of finished scans."""
        from medgan.files import write_text
        from medgan.report.figures import midplanes
        from medgan.report.html import Picture, Text, write_report

        differences = []
        if len(self.kept) > 1:
            first, last = self.kept[0][1], self.kept[-1][1]
            differences = [("last − first", last.with_data(last.data - first.data))]
        caption = "One grey scale for all scans." + (" Right: the last less the first." if differences else "")
        picture = Picture(midplanes(self.kept, differences=differences), f"Mid-planes: {self.title}", caption)
        write_report(folder / _NAME, self.title, "", [Text(self.text), picture])
        ignored = folder / ".bidsignore"
        if ignored.is_file():
            write_text(ignored, ignored.read_text(encoding="utf-8") + f"{_NAME}\n")
