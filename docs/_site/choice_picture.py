"""Draws docs/pictures/choice.svg: what is believed of three models, and the pmf that comes of it.

Run it as ``python docs/_site/choice_picture.py`` after a change of how a pmf is made; the numbers
come from the very function that the router draws with.
"""

from __future__ import annotations

from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from vl_convert import vegalite_to_svg

from bandit_router.pmf import argmax_pmf

NAMES = ("small", "medium", "large")
# Utility of each model for one request, quality less λ times dollars: mean and deviation.
MEAN = np.array([0.62, 0.70, 0.66])
DEVIATION = np.array([0.03, 0.10, 0.05])
COLOURS = ("#00695c", "#303f9f", "#b71c1c")
TITLE = "From beliefs to probabilities"
DESCRIPTION = (
    "Left: the belief about each model's utility for one request, a bell curve each. Small is "
    "narrow and lowest, large is wider and higher, medium is widest and has the highest mean. "
    "Right: the probability that each one is the best, which is what the model is drawn from."
)


def picture() -> str:
    """The picture as SVG."""
    pmf = argmax_pmf(MEAN, DEVIATION)
    grid = np.linspace(0.3, 1.1, 241)
    beliefs = pl.concat(
        pl.DataFrame(
            {
                "model": name,
                "utility": grid,
                "belief": np.exp(-0.5 * ((grid - mean) / sd) ** 2) / sd,
            }
        )
        for name, mean, sd in zip(NAMES, MEAN, DEVIATION, strict=True)
    )
    chances = pl.DataFrame({"model": NAMES, "probability": pmf})
    colour = alt.Color("model:N", sort=NAMES, scale=alt.Scale(domain=NAMES, range=COLOURS))
    left = (
        alt.Chart(beliefs, title="what is believed", width=360, height=190)
        .mark_line()
        .encode(
            alt.X("utility:Q", title="utility: quality − λ · dollars − μ · seconds"),
            alt.Y("belief:Q", axis=None),
            colour,
            strokeDash=alt.StrokeDash("model:N", sort=NAMES, legend=None),
        )
    )
    bars = alt.Chart(chances, title="what is drawn from, and logged", width=240, height=190)
    right = bars.mark_bar().encode(
        alt.X("model:N", sort=NAMES, title=None, axis=alt.Axis(labelAngle=0)),
        alt.Y("probability:Q", scale=alt.Scale(domain=[0, 1])),
        colour,
    )
    labels = bars.mark_text(dy=-8).encode(
        alt.X("model:N", sort=NAMES),
        alt.Y("probability:Q"),
        alt.Text("probability:Q", format=".2f"),
    )
    both = (left | (right + labels)).configure(background="#fafafa", padding=16)
    svg = vegalite_to_svg(both.to_dict())
    told = (
        f'role="img" aria-labelledby="t d"><title id="t">{TITLE}</title>'
        f'<desc id="d">{DESCRIPTION}</desc>'
    )
    return svg.replace(">", f" {told}", 1)


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("pictures/choice.svg").write_text(picture() + "\n")
