from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.report.charts import scatter
from medgan.report.html import (
    Block,
    Commands,
    Curves,
    Excerpt,
    Heading,
    KeyFigure,
    KeyFigures,
    Measure,
    Measures,
    Picture,
    Span,
    Table,
    Text,
    VerdictCard,
    Verdicts,
    Viewer,
    Warning,
    render_report,
    shown,
    write_report,
)
from medgan.volume import Volume

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements in order, with attributes and text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def dots() -> bytes:
    return scatter({"a": [1.0, 2.0]}, label="x")


@pytest.fixture(scope="module")
def blocks(dots: bytes) -> list[Block]:
    return [
        KeyFigures([KeyFigure("KID", 0.51234, "floor 0.2"), KeyFigure("Flagged", "1 of 8")]),
        Warning("Sample 3 is close.\n\nLook at it."),
        *(Heading(title) for title in ("One", "Two", "Three", "Four")),
        Heading("Below", 3),
        Text("First paragraph, see http://example.org/paper.\n\nSecond paragraph."),
        Table(["name", "value", "ok"], [["a", 1.23456, True], ["b", None, False]], "A table", highlighted=[1]),
        Picture(dots, "Two dots", "A caption", chart=True),
        Curves({"loss": [(0, 1.0), (1, 0.5)]}, {"losses": ["loss"]}),
        Commands(["medgan train x", "medgan generate y"], "Again:"),
    ]


@pytest.fixture(scope="module")
def page(blocks: list[Block]) -> Page:
    return Page(render_report("A report", "of a run", blocks))


def test_headings_are_semantic(page: Page) -> None:
    assert page.text_of("title") == page.text_of("h1") == ["A report"]
    assert page.text_of("h2") == ["One", "Two", "Three", "Four"]
    assert page.text_of("h3") == ["Below"]
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    assert page.all("html")[0]["lang"] == "en"


def test_contents_lead_to_the_sections(page: Page) -> None:
    targets = {attributes["id"] for attributes in page.all("h2")}
    assert {link["href"] for link in page.all("a")} == {f"#{target}" for target in targets}
    assert Page(render_report("t", "", [Heading("Only")])).all("nav") == []


def test_nothing_is_loaded_from_anywhere(blocks: list[Block]) -> None:
    text = render_report("A report", "", blocks)
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)
    assert re.findall(r"https?://[^<\s]+", text) == ["http://example.org/paper."]


def test_pictures_are_embedded_with_their_descriptions(page: Page, dots: bytes) -> None:
    first, second = page.all("img")
    assert b64decode(str(first["src"]).removeprefix("data:image/png;base64,")) == dots
    assert first["alt"] == "Two dots"
    assert "losses" in str(second["alt"])
    assert page.text_of("figcaption") == ["A caption", "Again:"]
    assert [figure.get("class") for figure in page.all("figure")] == ["chart", "chart", "commands"]


def test_table(page: Page) -> None:
    assert page.text_of("caption") == ["A table"]
    assert page.text_of("td") == ["1.235", "yes", "–", "no"]
    assert [cell["scope"] for cell in page.all("th")] == ["col", "col", "col", "row", "row"]
    assert [cell.get("class") for cell in page.all("td")] == ["number", None, "number", None]
    assert [row.get("class") for row in page.all("tr")] == [None, None, "highlighted"]


def test_text_key_figures_and_commands(page: Page) -> None:
    assert "Second paragraph." in page.text_of("p")
    assert page.text_of("dd") == ["0.5123", "floor 0.2", "1 of 8"]
    assert page.text_of("code") == ["medgan train x\nmedgan generate y"]
    assert any("Research use only" in text for text in page.text_of("p"))


def rich_blocks() -> list[Block]:
    return [
        Verdicts([VerdictCard("faithful", "good", "As real ones."), VerdictCard("private", "bad", "Copies.")]),
        Measures(
            [
                Measure("KID", "0 is best", Span(2.0, 1.0, 4.0), Span(0.0, -1.0, 1.0), 2.0),
                Measure("Alone", "", Span(0.5)),
                Measure("Missing", "", None, Span(1.0)),
            ]
        ),
        Table(["a"], [["b"]], "Folded away", folded=True),
        Viewer([("Scan <1>", Volume(np.zeros((3, 4, 5)), np.eye(4)))]),
        Excerpt("We did this [1].\n\nAnd that.", ["Somebody. Something. 2020."], "Copy:"),
    ]


def test_verdicts_have_words_and_signs_beside_colours() -> None:
    page = Page(render_report("t", "", rich_blocks()))
    assert [item.get("class") for item in page.all("li")][:2] == ["good", "bad"]
    words = page.text_of("p")
    for word in ("Good", "Faithful", "As real ones.", "Bad", "Private", "Copies."):
        assert word in words
    assert page.text_of("span")[:2] == ["✓", "✕"]
    with pytest.raises(MedganError, match="level 'superb'"):
        render_report("t", "", [Verdicts([VerdictCard("faithful", "superb", "")])])


def test_measures_stand_on_one_scale_with_their_floor() -> None:
    page = Page(render_report("t", "", rich_blocks()))
    assert len(page.all("svg")) == 2  # nothing is drawn where nothing was measured
    (band,) = page.all("rect")
    # From -1 to 4 over 94 percent of the length, 3 left at each end.
    assert float(str(band["x"])) == 3
    assert float(str(band["width"])) == pytest.approx(94 * 2 / 5, abs=0.02)
    values = [line for line in page.all("line") if line["class"] == "value"]
    assert float(str(values[0]["x1"])) == pytest.approx(3 + 94 * 3 / 5, abs=0.02)
    assert "2 ×" in page.text_of("td")
    assert page.all("svg")[0]["aria-label"] == "KID: synthetic 2, real 0"


def test_a_page_with_a_viewer_runs_its_own_script_alone() -> None:
    text = render_report("t", "", rich_blocks())
    page = Page(text)
    policy = str(
        next(meta["content"] for meta in page.all("meta") if "content" in meta and "src" in str(meta["content"]))
    )
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = page.all("script")
    assert [script.get("type") for script in scripts] == ["application/json", None]
    body = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = b64encode(hashlib.sha256(body.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|fetch\(|XMLHttp|import\(|WebSocket", body)
    assert "script-src" not in render_report("t", "", [Text("plain")])


def test_excerpts_and_folded_tables() -> None:
    page = Page(render_report("t", "", rich_blocks()))
    assert page.text_of("summary") == ["Folded away"]
    (quote,) = page.all("blockquote")
    (button,) = [one for one in page.all("button") if one.get("class") == "copy"]
    assert button["data-copies"] == quote["id"]
    assert "Somebody. Something. 2020." in page.text_of("li")
    assert page.text_of("option") == ["Scan <1>"]
    with pytest.raises(MedganError, match="no scans"):
        render_report("t", "", [Viewer([])])


def test_user_text_is_escaped(dots: bytes) -> None:
    evil = '</title></style><script>alert("1")</script>&amp;'
    blocks: list[Block] = [
        Heading(evil),
        Text(evil),
        Warning(evil),
        KeyFigures([KeyFigure(evil, evil, evil)]),
        Table([evil], [[evil]], evil),
        Picture(dots, evil, evil),
        Commands([evil], evil),
    ]
    page = Page(render_report(evil, evil, blocks))
    assert page.all("script") == []
    assert page.text_of("h1") == page.text_of("h2") == page.text_of("caption") == page.text_of("dt") == [evil]
    assert page.text_of("th") == page.text_of("figcaption") == [evil, evil]
    assert page.all("img")[0]["alt"] == evil
    assert page.text_of("code") == [evil]


def test_unusable_blocks_are_named(dots: bytes) -> None:
    with pytest.raises(MedganError, match="1 cells for 2 columns"):
        render_report("t", "", [Table(["a", "b"], [["only"]])])
    with pytest.raises(MedganError, match="level 4"):
        render_report("t", "", [Heading("deep", 4)])
    with pytest.raises(MedganError, match="'broken' is not a PNG"):
        render_report("t", "", [Picture(dots[1:], "broken")])


def test_empty_table_and_empty_report() -> None:
    assert Page(render_report("t", "", [Table(["a", "b"], [])])).all("td") == []
    assert Page(render_report("t", "", [])).text_of("h1") == ["t"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        (1234567, "1 234 567"),
        (0.0, "0"),
        (0.000123, "1.230e-04"),
        (1234.56, "1235"),
        (12345678.0, "1.235e+07"),
        ("as it is", "as it is"),
    ],
)
def test_cells(value: str | float | None, text: str) -> None:
    assert shown(value) == text


def test_written_whole(tmp_path: Path, blocks: list[Block]) -> None:
    path = write_report(tmp_path / "deep" / "report.html", "A report", "of a run", blocks)
    assert path.read_text(encoding="utf-8") == render_report("A report", "of a run", blocks)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
