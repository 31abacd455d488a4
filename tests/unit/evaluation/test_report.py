"""The report stands alone, says what it was given, and never runs what a film is called."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ossia.errors import UsageError
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.pictures import UserCodes
from ossia.evaluation.plots import CatalogCurve, Curve
from ossia.evaluation.report import Headline, Ranking, Report, UserRankings, render_report, write_report
from ossia.evaluation.results import Comparison, Provenance, Row
from ossia.types import Slot

EVIL = "<b>&\"'<script>alert(1)</script>"
SPOT = Interval(0.08, 0.07, 0.09)
VOID = {"meta", "link", "br", "img", "path", "use", "line", "rect"}


def make_report(text: str = "Fargo (1996)") -> Report:
    """A report in which every text that can come from outside is `text`."""
    slots = (Slot("blocks.0.query", 70, 8), Slot("blocks.0.contract", 3, 16))
    codes = np.random.default_rng(0).integers(0, 4, (2, 73)).astype(np.uint8)
    return Report(
        title=text,
        promise=text,
        headlines=(Headline(text, text),),
        rows=(
            Row(text, "baseline", SPOT, SPOT, cases=943, repeat_share=0.125),
            Row(text, "personal", SPOT, SPOT, 158_120.0, 368.0, 368.0),
        ),
        comparisons=(Comparison(text, text, Interval(0.01, 0.005, 0.015, 0.002)),),
        slots=slots,
        users=tuple(UserCodes(text, text, row) for row in codes),
        curves=(Curve(text, (3.0, 2.0), (0.01, 0.02), 1),),
        rankings=(UserRankings(text, (text,), (Ranking(text, text, (text, "b"), (2.0, 1.0)),), met=text),),
        catalog=(CatalogCurve(text, "personal", ((0.05, SPOT), (0.2, SPOT))),),
        whole_table=SPOT,
        provenance=Provenance(text, (0,), text, {text: text}, text, text, text),
    )


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("text", ["Fargo (1996)", EVIL])
def test_the_report_asks_for_nothing_from_elsewhere_and_runs_nothing(text: str) -> None:
    document = render_report(make_report(text))
    reader = Reader(document)
    assert reader.open == []
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "base", "form", "a"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in reader.attributes if name.endswith("href"))
    assert not re.search(r"https?:|@import|url\((?!#)", document)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in reader.attributes


def test_text_that_looks_like_html_is_shown_and_not_obeyed() -> None:
    plain, evil = Reader(render_report(make_report())), Reader(render_report(make_report(EVIL)))
    assert evil.tags == plain.tags
    assert sum(EVIL in word for word in evil.words) == sum("Fargo (1996)" in word for word in plain.words) > 15


def test_every_section_and_figure_is_there() -> None:
    words = " ".join(Reader(render_report(make_report())).words)
    sections = (
        "Results",
        "Quality against bytes",
        "The personal catalog",
        "Codes",
        "Rankings",
        "Training",
        "Where this comes",
    )
    figures = (
        "0.0800",
        "± 0.0100",
        "158,120",
        "368",
        "943 held-out events",
        "12.5 %",
        "+0.0100",
        "0.002",
        "★",
        "bits on average",
    )
    for told in (*sections, *figures):
        assert told in words


def test_parts_without_content_are_left_out() -> None:
    bare = replace(make_report(), rows=(), comparisons=(), users=(), curves=(), rankings=(), catalog=())
    reader = Reader(render_report(bare))
    assert "svg" not in reader.tags
    assert [
        word for word in reader.words if word in ("Results", "Codes", "Rankings", "Training", "Quality against bytes")
    ] == []


def test_arrows_compare_with_the_first_list() -> None:
    before = Ranking("before", "", ("a", "b", "c"), (3.0, 2.0, 1.0))
    after = Ranking("after", "", ("c", "b", "d", "a"), (4.0, 3.0, 2.0, 1.0))
    document = render_report(replace(make_report(), rankings=(UserRankings("u", (), (before, after), met="d"),)))
    lists = re.findall(r'<ol class="ranking">(.*?)</ol>', document)
    assert [re.findall(r"▲\d+|▼\d+|new(?=<)", each) for each in lists] == [[], ["▲2", "new", "▼3"]]
    assert lists[1].count("★ d") == 1


def test_the_same_report_gives_the_same_bytes_and_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, make_report())
    first = path.read_bytes()
    write_report(path, make_report())
    assert path.read_bytes() == first
    assert first.decode().startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_contradicts_itself_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    wrong = replace(make_report(), users=(UserCodes("Ann", "", np.zeros(5, np.uint8)),))
    with pytest.raises(UsageError, match="codes of Ann"):
        write_report(tmp_path / "report.html", wrong)
    assert list(tmp_path.iterdir()) == []
