"""Plots: points keep their order and their distance, colors come from the page, and nothing is left to chance."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.evaluation import plots
from ossia.evaluation.bootstrap import Interval
from ossia.evaluation.plots import FAMILY_COLORS, CatalogCurve, Curve, draw_file, plot_catalog, plot_curves, plot_quality
from ossia.evaluation.results import Row

places_on_a_line = st.lists(st.floats(0, 100), min_size=1, max_size=12)


@given(places_on_a_line, st.floats(0.5, 20))
def test_points_are_moved_apart_and_keep_their_order(places: list[float], step: float) -> None:
    moved = plots._apart(places, step)
    order = np.argsort(places, kind="stable")
    assert np.all(np.diff(np.array(moved)[order]) >= step - 1e-6)
    assert np.mean(moved) == pytest.approx(np.mean(places), abs=1e-6)


@given(places_on_a_line, st.floats(0.5, 20), st.integers(0, 10_000))
def test_no_other_way_to_move_them_apart_moves_less(places: list[float], step: float, seed: int) -> None:
    best = np.square(np.subtract(plots._apart(places, step), places)).sum()
    order = np.argsort(places, kind="stable")
    gaps = step + np.random.default_rng(seed).exponential(5, len(places))
    other = np.empty(len(places))
    other[order] = np.cumsum(gaps)
    other += np.mean(places) - other.mean()
    assert best <= np.square(other - places).sum() + 1e-6


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=8, unique_by=lambda place: round(place / 50)))
def test_points_that_are_far_apart_stay_where_they_are(places: list[float]) -> None:
    if np.all(np.diff(sorted(places)) >= 5):
        assert plots._apart(places, 5.0) == pytest.approx(places)


def test_every_kind_of_plot_takes_its_colors_from_the_page_and_names_nothing_outside() -> None:
    spot = Interval(0.05, 0.04, 0.06)
    drawn = {
        "quality": plot_quality([Row("<a> & $b$", "baseline", spot, spot), Row("b", "personal", spot, spot, 1000.0)]),
        "curves": plot_curves([Curve("backbone", (3.0, 2.0), (0.01, 0.02), 1), Curve("other", (1.0,), (0.3,), 0)]),
        "catalog": plot_catalog([CatalogCurve("own & <x>", "personal", ((0.05, spot), (0.2, spot)))], spot),
    }
    for name, svg in drawn.items():
        assert svg.count("<svg") == 2
        assert "http" not in svg
        assert not re.search(r"#f000[01]\d", svg), "a stand-in color was left"
        assert "var(--soft)" in svg
        ids = re.findall(r'\bid="([^"]*)"', svg)
        assert len(ids) == len(set(ids)), "two figures share an id"
        assert all(one.startswith(f"{name}-") for one in ids)
        assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)) <= {(one, "") for one in ids} | {
            ("", one) for one in ids
        }
    assert "&lt;a&gt; &amp; $b$" in drawn["quality"]
    assert "own &amp; &lt;x&gt;" in drawn["catalog"]
    assert "kept: epoch 2, 0.0200" in drawn["curves"]


def test_the_same_figures_give_the_same_drawing() -> None:
    curves = [Curve("backbone", (3.0, 2.0), (0.01, 0.02), 1)]
    assert plot_curves(curves) == plot_curves(curves)


def test_a_drawing_in_a_file_of_its_own_is_whole_and_brings_every_color_that_it_names() -> None:
    svg = draw_file("a line & more", (3.0, 2.0), lambda figure: figure.subplots().plot([1, 2], color=FAMILY_COLORS["personal"]))
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == "a line & more"
    named, given = set(re.findall(r"var\(--([\w-]+)\)", svg)), set(re.findall(r"--([\w-]+):", svg))
    assert "family-personal" in named <= given
