"""The plots as static images, for a slide or a ticket: no browser is needed."""

from __future__ import annotations

from pathlib import Path

import vl_convert

from simulations.report.charts import all_charts, styled
from simulations.report.content import ReportContent

WIDTH = 820
SCALE = 2.0


def write_images(content: ReportContent, folder: Path) -> list[Path]:
    """Each plot as PNG (twice as fine as a screen) and SVG; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in all_charts(content).items():
        spec = with_width(styled(chart, width=WIDTH).to_dict(), WIDTH)
        spec["background"] = "white"
        png, svg = folder / f"{name}.png", folder / f"{name}.svg"
        png.write_bytes(vl_convert.vegalite_to_png(spec, scale=SCALE))
        svg.write_text(vl_convert.vegalite_to_svg(spec))
        written += [png, svg]
    return written


def with_width(spec: dict[str, object], width: int) -> dict[str, object]:
    """The spec with every ``container`` width made a number: outside a page there is none."""
    fixed: dict[str, object] = {}
    for key, value in spec.items():
        if key == "width" and value == "container":
            fixed[key] = width
        elif isinstance(value, dict):
            fixed[key] = with_width(value, width)
        elif isinstance(value, list):
            fixed[key] = [with_width(v, width) if isinstance(v, dict) else v for v in value]
        else:
            fixed[key] = value
    return fixed
