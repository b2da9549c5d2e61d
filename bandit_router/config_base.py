"""What every table of the configuration is made of: its base class and its kinds of values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][\w./:@+-]*$")]
MetricName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z][\w.-]*$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Beyond these a number is a slip, and no database or JSON reader would bring it back as it was.
MOST_DOLLARS = 1e9
MOST_TOKENS = 10**9
Dollars = Annotated[float, Field(ge=0, le=MOST_DOLLARS, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Section(BaseModel):
    """Base of every table: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
