"""The report as one HTML file: scripts, styles and data inlined, nothing loaded from outside."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from bandit_router import __version__
from simulations.report.charts import all_charts, styled
from simulations.report.content import Point, ReportContent
from simulations.report.images import write_images

TEMPLATES = Path(__file__).parent


def write_page(content: ReportContent, path: Path) -> None:
    """Write the report; about a megabyte, most of it Vega's scripts."""
    path.write_text(render_page(content), encoding="utf-8")


def write_files(content: ReportContent, html: Path | None, images: Path | None) -> None:
    """Write what was asked for: the page, the plots as images, or both."""
    if html is not None:
        write_page(content, html)
    if images is not None:
        write_images(content, images)


def render_page(content: ReportContent) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        dollars=dollars, number=number, interval=interval, saving=saving, signed=signed
    )
    charts = {name: styled(chart).to_dict() for name, chart in all_charts(content).items()}
    return environment.get_template("page.html.j2").render(
        content=content,
        reference=next((p for p in content.points if p.name == content.reference), None),
        charts=charts,
        specs=safe_json(charts),
        scripts=vega_scripts(),
        version=__version__,
    )


@cache
def vega_scripts() -> str:
    """Vega, Vega-Lite and vega-embed as one script; made once a process, which takes seconds."""
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub knows no default
    return bundle.replace("</script", "<\\/script")


def safe_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever texts are in it."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def dollars(amount: float | None) -> str:
    """Dollars with three significant digits."""
    if amount is None:
        return "unknown"
    if amount == 0.0:
        return "$0"
    if amount >= 0.01:
        return f"${amount:,.3f}"
    digits = 2
    scaled = amount
    while scaled < 1.0:
        scaled *= 10.0
        digits += 1
    return f"${amount:.{digits - 1}f}"


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 4) -> str:
    """An interval in words."""
    return "" if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign; a true minus, which lines up with the plus."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def saving(point: Point, reference: Point | None) -> str:
    """How much cheaper than the reference, in percent."""
    if reference is None or not reference.cost_usd or point.cost_usd is None:
        return "–"
    share = 1.0 - point.cost_usd / reference.cost_usd
    if abs(share) < 0.0005:
        return "the same"
    if share <= -1.0:
        return f"{1.0 - share:.1f} times as much"
    digits = 1 if share > 0.985 else 0
    return f"{abs(share):.{digits}%} {'less' if share > 0 else 'more'}"
