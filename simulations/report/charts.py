"""The plots, as Altair charts: one function a plot, each a pure function of the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from simulations.report.content import Curve, Point, ReportContent, Role

# Told apart without colour vision too (Okabe and Ito 2008), in an order of good contrast.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#7A5195", "#8C6D31", "#555555"),
)
INK, FAINT, GRID = "#1c2430", "#6b7685", "#e6e9ee"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
HEIGHT = 340
# Of quality: of curves that end so close to each other only one has its name above.
SAME_HEIGHT = 0.02


def all_charts(content: ReportContent) -> dict[str, Any]:
    """The plots that the content has data for, by the name of their section."""
    colours = colours_of(content.points)
    made: dict[str, Any] = {"frontier": frontier(content.points, content.curves, colours)}
    if content.hard.height:
        made["hard"] = hard(content.hard, colours)
    if content.segments.height:
        made["segments"] = segments(content.segments, colours)
    if content.over_time.height:
        made["over_time"] = over_time(content.over_time, content.over_time_name, colours)
    if content.shares.height:
        made["shares"] = shares(content.shares, colours)
    return made


def colours_of(points: Sequence[Point]) -> dict[str, str]:
    """One colour per policy in every plot; ``fixed:MODEL`` and the model itself share theirs."""
    ordered = sorted(points, key=lambda point: list(Role).index(point.role))
    palette = iter(PALETTE * (1 + len(points) // len(PALETTE)))
    colours: dict[str, str] = {}
    for point in ordered:
        colour = INK if point.role is Role.LOGGED else next(palette)
        colours[point.name] = colours[point.name.removeprefix("fixed:")] = colour
    return colours


def styled(chart: Any, *, width: int | str = "container") -> Any:
    """A chart with the page's fonts and colours; ``container`` makes it as wide as its place."""
    if not isinstance(chart, alt.VConcatChart):
        chart = chart.properties(width=width)
    return (
        chart.configure(font=FONT, background="transparent")
        .configure_axis(
            labelColor=FAINT,
            titleColor=INK,
            titleFontWeight=600,
            labelFontSize=12,
            titleFontSize=12,
            gridColor=GRID,
            domainColor=GRID,
            tickColor=GRID,
            titlePadding=10,
        )
        .configure_view(stroke=None)
        .configure_legend(
            labelColor=INK,
            labelFontSize=12,
            symbolStrokeWidth=3,
            orient="top",
            title=None,
            labelLimit=220,
            columns=3,
            symbolOpacity=1.0,
        )
        .configure_header(labelColor=INK, labelFontSize=12, labelFontWeight=600, title=None)
    )


def frontier(points: Sequence[Point], curves: Sequence[Curve], colours: Mapping[str, str]) -> Any:
    """Quality against dollars: lines for what bounds are known, a mark with bars per policy."""
    rows = [
        {
            "policy": point.name,
            "role": str(point.role),
            "cost": point.cost_usd,
            "quality": point.quality,
            "quality_low": point.quality_interval[0] if point.quality_interval else None,
            "quality_high": point.quality_interval[1] if point.quality_interval else None,
            "cost_low": max(point.cost_interval[0], 1e-9) if point.cost_interval else None,
            "cost_high": point.cost_interval[1] if point.cost_interval else None,
        }
        for point in points
        if point.quality is not None and point.cost_usd is not None
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    costs = [point.cost_usd for point in points if point.quality is not None and point.cost_usd]
    wide = bool(costs) and max(costs) > 8.0 * min(costs)
    x = alt.X(
        "cost:Q",
        title="dollars a request",
        scale=alt.Scale(type="log", nice=False, padding=30)
        if wide
        else alt.Scale(zero=False, nice=False, padding=30),
        axis=alt.Axis(format="$~g", labelOverlap=True, tickCount=6),
    )
    y = alt.Y(
        "quality:Q", title="mean quality", scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~f")
    )
    colour = _colour("policy", [str(row["policy"]) for row in rows], colours)
    base = alt.Chart(table)
    tooltip = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("quality:Q", format=".4f"),
        alt.Tooltip("cost:Q", title="dollars a request", format="$.3g"),
        alt.Tooltip("quality_low:Q", title="from", format=".4f"),
        alt.Tooltip("quality_high:Q", title="to", format=".4f"),
    ]
    drawn = [curve for curve in curves if len(curve.points) > 1]
    layers: list[Any] = [
        _curve(curve, x, y, wide, _below(place, drawn), _early(curve, costs, wide))
        for place, curve in enumerate(drawn)
    ]
    if any(row["quality_low"] is not None for row in rows):
        layers.append(
            base.transform_filter("isValid(datum.quality_low)")
            .mark_rule(strokeWidth=2, opacity=0.75)
            .encode(x=x, y=alt.Y("quality_low:Q"), y2="quality_high:Q", color=colour)
        )
    if any(row["cost_low"] is not None for row in rows):
        layers.append(
            base.transform_filter("isValid(datum.cost_low)")
            .mark_rule(strokeWidth=2, opacity=0.75)
            .encode(x=alt.X("cost_low:Q"), x2="cost_high:Q", y=y, color=colour)
        )
    layers.append(
        base.mark_point(filled=True, size=130, opacity=1.0, stroke="white", strokeWidth=1.2).encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape(
                "role:N",
                scale=alt.Scale(
                    domain=[str(role) for role in Role], range=["circle", "square", "diamond"]
                ),
                legend=None,
            ),
            tooltip=tooltip,
        )
    )
    return alt.layer(*layers).properties(height=HEIGHT + 40)


def _below(place: int, curves: Sequence[Curve]) -> bool:
    """Whether a curve's name goes below its end: another one ends as high or little higher, and
    has its name above."""
    ends = [curve.points[-1][1] for curve in curves]
    return any(
        0.0 <= end - ends[place] < SAME_HEIGHT and (end, -other) > (ends[place], -place)
        for other, end in enumerate(ends)
    )


def _early(curve: Curve, costs: Sequence[float], wide: bool) -> bool:
    """Whether a curve ends so far to the left that its name has more room on the right."""
    scale = np.log if wide else np.asarray
    low, high, end = scale(min(costs)), scale(max(costs)), scale(curve.points[-1][0])
    return bool(end - low < 0.6 * (high - low))


def _curve(curve: Curve, x: Any, y: Any, wide: bool, below: bool, early: bool) -> Any:
    table = pl.DataFrame(
        {
            "cost": [cost for cost, _ in curve.points if cost > 0.0 or not wide],
            "quality": [quality for cost, quality in curve.points if cost > 0.0 or not wide],
            "line": [curve.name for cost, _ in curve.points if cost > 0.0 or not wide],
        }
    )
    oracle = "oracle" in curve.name
    line = (
        alt.Chart(table)
        .mark_line(
            color=FAINT if oracle else INK,
            strokeDash=[5, 4] if oracle else [1, 0],
            strokeWidth=1.6,
            opacity=0.8,
        )
        .encode(x=x, y=y, order=alt.Order("cost:Q"))
    )
    label = (
        alt.Chart(table.tail(1))
        .mark_text(
            align="left" if early else "right",
            dy=13 if below else -8,
            dx=8 if early else -2,
            color=FAINT,
            fontSize=11,
        )
        .encode(x=x, y=y, text="line:N")
    )
    return line + label


def shares(table: pl.DataFrame, colours: Mapping[str, str]) -> Any:
    """Which model how much of the traffic goes to, along the log; one strip per policy."""
    strip = (
        alt.Chart(table)
        .mark_area()
        .encode(
            x=alt.X("request:Q", title="request", axis=alt.Axis(format="~s", tickCount=5)),
            y=alt.Y(
                "share:Q",
                stack="normalize",
                title=None,
                axis=alt.Axis(format="%", tickCount=3, grid=False),
            ),
            color=_colour("model", _in_order(table["model"]), colours),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("model:N"),
                alt.Tooltip("request:Q"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    policies = _in_order(table["policy"])
    strips = [
        strip.transform_filter(alt.datum.policy == policy).properties(
            height=92,
            width="container",
            title=alt.Title(
                policy, fontWeight=600, anchor="start", fontSize=12, color=INK, limit=280
            ),
        )
        for policy in policies
    ]
    return strips[0] if len(strips) == 1 else alt.vconcat(*strips, spacing=14)


def over_time(table: pl.DataFrame, name: str, colours: Mapping[str, str]) -> Any:
    """A line per policy along the log."""
    names = _in_order(table["policy"])
    base = alt.Chart(table).encode(
        x=alt.X("request:Q", title="request", axis=alt.Axis(format="~s", tickCount=6)),
        color=_colour("policy", names, colours),
    )
    layers: list[Any] = []
    if "low" in table.columns:
        layers.append(base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q"), y2="high:Q"))
    layers.append(
        base.mark_line(strokeWidth=2).encode(
            y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=False)),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("request:Q"),
                alt.Tooltip("value:Q", title=name, format=".4~f"),
            ],
        )
    )
    return alt.layer(*layers).properties(height=HEIGHT - 60)


def segments(table: pl.DataFrame, colours: Mapping[str, str]) -> Any:
    """Gain or loss in quality against the reference, per segment and policy."""
    names = _in_order(table["policy"])
    colour = _colour("policy", names, colours)
    y = alt.Y(
        "segment:N", title=None, sort=_in_order(table["segment"]), axis=alt.Axis(labelLimit=150)
    )
    offset = alt.YOffset("policy:N", sort=names)
    base = alt.Chart(table)
    rule = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, opacity=0.7)
        .encode(x=alt.X("low:Q"), x2="high:Q", y=y, yOffset=offset, color=colour)
    )
    dot = base.mark_point(filled=True, size=70, opacity=1.0).encode(
        x=alt.X("difference:Q", title="difference in quality"),
        y=y,
        yOffset=offset,
        color=colour,
        tooltip=[
            alt.Tooltip("segment:N"),
            alt.Tooltip("policy:N"),
            alt.Tooltip("difference:Q", format="+.4f"),
            alt.Tooltip("low:Q", title="from", format="+.4f"),
            alt.Tooltip("high:Q", title="to", format="+.4f"),
            alt.Tooltip("decisions:Q", format=","),
        ],
    )
    zero = (
        alt.Chart(pl.DataFrame({"zero": [0.0]}))
        .mark_rule(color=INK, opacity=0.5)
        .encode(x="zero:Q")
    )
    rows = table["segment"].n_unique() * max(len(names), 1)
    return alt.layer(zero, rule, dot).properties(height=max(26 * rows, 120))


def hard(table: pl.DataFrame, colours: Mapping[str, str]) -> Any:
    """Quality from the easiest to the hardest slice of requests, a line per policy."""
    names = _in_order(table["policy"])
    base = alt.Chart(table).encode(
        x=alt.X(
            "slice:O",
            title=None,
            sort=_in_order(table["slice"]),
            axis=alt.Axis(labelAngle=0),
        ),
        color=_colour("policy", names, colours),
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=55, filled=True)).encode(
        y=alt.Y("quality:Q", title="mean quality", scale=alt.Scale(zero=False)),
        tooltip=[
            alt.Tooltip("policy:N"),
            alt.Tooltip("slice:N"),
            alt.Tooltip("quality:Q", format=".4f"),
            alt.Tooltip("decisions:Q", format=","),
        ],
    )
    layers: list[Any] = [line]
    if "low" in table.columns and table["low"].null_count() < table.height:
        layers.insert(
            0,
            base.transform_filter("isValid(datum.low)")
            .mark_rule(strokeWidth=1.5, opacity=0.5)
            .encode(y=alt.Y("low:Q"), y2="high:Q"),
        )
    return alt.layer(*layers).properties(height=HEIGHT - 60)


def _colour(field: str, names: Sequence[str], colours: Mapping[str, str]) -> Any:
    """A colour encoding; names that are no policy of the report get greys."""
    greys = iter(("#6f7987", "#a3acb9", "#bcc3cd") * len(names))
    return alt.Color(
        f"{field}:N",
        scale=alt.Scale(
            domain=list(names), range=[colours.get(name) or next(greys) for name in names]
        ),
    )


def _in_order(values: pl.Series) -> list[Any]:
    return values.unique(maintain_order=True).to_list()
