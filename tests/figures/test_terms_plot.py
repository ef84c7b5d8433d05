"""The figure of the bound's terms."""

import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tinyddpm import errors
from tinyddpm.figures.style import check_can_draw, draw_and_save
from tinyddpm.figures.terms_plot import Terms, terms_figure

TERMS = Terms(
    "clipped",
    np.array([1, 2, 9]),
    np.array([0.5, 0.1, 0.0]),
    np.array([0.01, np.nan, 0.0]),
)


def test_terms_are_drawn_where_they_are():
    figure = terms_figure([TERMS, TERMS._replace(label="other")], title="The bound")
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    first, second = axes.containers
    np.testing.assert_array_equal(first.lines[0].get_xydata(), [[1, 0.5], [2, 0.1]])
    assert [first.get_label(), second.get_label()] == ["clipped", "other"]


def test_a_figure_is_a_function_of_its_terms(tmp_path):
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "c.PNG")]
    for path in paths:
        check_can_draw(path)
        draw_and_save(lambda: terms_figure([TERMS], title="The bound"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert ET.parse(paths[0]).getroot().tag.endswith("svg")
    with Image.open(paths[2]) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("name", "words"), [("terms.pdf", ".png or .svg"), ("no/folder/terms.png", "no folder")]
)
def test_what_cannot_be_drawn_is_known_before(tmp_path, name, words):
    with pytest.raises(errors.UsageError, match=words):
        check_can_draw(tmp_path / name)


def test_without_matplotlib_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(errors.UsageError, match=r"pip install \"tinyddpm\[plot\]\""):
        check_can_draw(tmp_path / "terms.png")
