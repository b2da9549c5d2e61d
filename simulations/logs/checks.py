"""What is wrong with a row of logged traffic, found lazily; and how many rows were left out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from bandit_router.errors import DataError
from simulations.logs.schema import REQUIRED, TYPES, ColumnType

# A pmf written with six digits for each of fifty arms is still one.
SUM_TOLERANCE = 1e-3
PROPENSITY_TOLERANCE = 1e-4
# Above this share of faulty rows the log is refused: what is left would be another log.
MOST_FAULTY = 0.1

# The kinds of fault, with the remedy that is printed. In the order in which they are looked
# for; a row has the first one that fits.
FAULTS = {
    "missing": "decision_id, arms, pmf, chosen or propensity is null: write them with the decision",
    "doubled": "decision_id was seen before: keep one row for each decision",
    "arms_repeated": "arms names a model twice",
    "shape": "pmf, eligible or a prediction is not as long as arms",
    "pmf_range": "pmf has an entry below 0, above 1 or not finite",
    "pmf_sum": "pmf does not sum to 1: log the vector that was drawn from, floors included",
    "unknown_chosen": "chosen is not among arms",
    "propensity_zero": "the chosen arm has propensity 0: it cannot have been drawn from this pmf",
    "propensity_differs": "propensity is not the chosen arm's entry of pmf",
    "masked_mass": "pmf gives weight to an arm that was not eligible",
    "reward_range": "reward lies outside [0, 1] or is not finite: rescale it",
    "cost_range": "cost_usd or latency_s is negative or not finite",
    "features_odd": "features are not finite, or not as many as in the other rows",
}
# Not faults: rows that are sound and of no use for evaluation.
SET_ASIDE = {
    "not_policy": "decided by an override, a sticky session or a rule: no policy drew the model",
}


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many rows were read and kept, and why the others were not.

    faults: rows per key of FAULTS. set_aside: rows per key of SET_ASIDE. examples: the first
    decision_id of each.
    """

    read: int
    kept: int
    faults: dict[str, int]
    set_aside: dict[str, int]
    examples: dict[str, str]

    def sentences(self) -> list[str]:
        """One sentence for each reason, for a report."""
        told = []
        for counts, words in ((self.faults, FAULTS), (self.set_aside, SET_ASIDE)):
            for key, count in counts.items():
                first = self.examples.get(key)
                where = f" (first: {first})" if first else ""
                told.append(f"{count:,} rows left out: {words[key]}{where}")
        return told

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return {
            "rows_read": self.read,
            "rows_kept": self.kept,
            "faults": self.faults,
            "set_aside": self.set_aside,
            "examples": self.examples,
        }


def with_types(frame: pl.LazyFrame, source: str) -> pl.LazyFrame:
    """The schema's columns in its types; those that the data lack are null.

    Lists may come as JSON text, as CSV has them. Raises DataError for a missing column or a
    type that cannot be.
    """
    found = frame.collect_schema()
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise DataError(
            f"{source}: logged traffic needs the columns {', '.join(REQUIRED)}, and "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there; it has "
            f"{', '.join(found.names())}. docs/log-schema.md describes each"
        )
    columns = []
    for name, kind in TYPES.items():
        if name not in found:
            default = "policy" if name == "mode" else None
            columns.append(pl.lit(default, dtype=kind).alias(name))
            continue
        columns.append(_cast(name, found[name], kind, source))
    return frame.select(columns)


def _cast(name: str, found: pl.DataType, wanted: ColumnType, source: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(wanted, pl.List) and found == pl.String:
        return column.str.json_decode(wanted)
    if isinstance(wanted, pl.Datetime):
        if found == pl.String:
            return column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        if isinstance(found, pl.Datetime) and found.time_zone is None:
            return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return column.cast(wanted)
    if isinstance(found, pl.List | pl.Array) != isinstance(wanted, pl.List) and found != pl.Null:
        raise DataError(
            f"{source}: column {name} has type {found}, and should be "
            f"{'a list' if isinstance(wanted, pl.List) else 'no list'}; see docs/log-schema.md"
        )
    if name == "metadata" and isinstance(found, pl.Struct):
        return column.struct.json_encode()
    return column.cast(wanted, strict=not found.is_numeric())


def fault_column(feature_count: int | None) -> pl.Expr:
    """Per row the key of its first fault, null where it has none."""
    arms, pmf = pl.col("arms"), pl.col("pmf")
    size = arms.list.len()

    def other_length(name: str) -> pl.Expr:
        return (pl.col(name).list.len() != size).fill_null(False)

    chosen_mass = pl.col("_chosen_mass")
    masked_mass = pl.col("_masked_mass")
    checks = {
        "missing": pl.any_horizontal([pl.col(name).is_null() for name in REQUIRED]),
        "doubled": ~pl.col("decision_id").is_first_distinct(),
        "arms_repeated": arms.list.n_unique() != size,
        "shape": (pmf.list.len() != size)
        | other_length("eligible")
        | other_length("predicted_quality")
        | other_length("predicted_cost_usd")
        | other_length("predicted_latency_s"),
        "pmf_range": (pmf.list.min() < 0.0)
        | (pmf.list.max() > 1.0 + SUM_TOLERANCE)
        | ~pmf.list.sum().is_finite()
        | (pmf.list.eval(pl.element().is_null()).list.any()),
        "pmf_sum": (pmf.list.sum() - 1.0).abs() > SUM_TOLERANCE,
        "unknown_chosen": ~arms.list.contains(pl.col("chosen")),
        "propensity_zero": ~(pl.col("propensity") > 0.0) | ~(chosen_mass > 0.0),
        "propensity_differs": (pl.col("propensity") - chosen_mass).abs() > PROPENSITY_TOLERANCE,
        "masked_mass": masked_mass > PROPENSITY_TOLERANCE,
        "reward_range": ~pl.col("reward").is_between(0.0, 1.0),
        "cost_range": pl.any_horizontal(
            [
                ~(pl.col(name) >= 0.0) | pl.col(name).is_infinite()
                for name in ("cost_usd", "latency_s")
            ]
        ),
        "features_odd": ~pl.col("features").list.sum().is_finite()
        | (pl.col("features").list.len() != (feature_count or 0)),
    }
    fault = pl.lit(None, dtype=pl.String)
    for key in reversed(FAULTS):
        fault = pl.when(checks[key].fill_null(False)).then(pl.lit(key)).otherwise(fault)
    return fault.alias("_fault")


def checked(frame: pl.LazyFrame, source: str) -> tuple[pl.LazyFrame, Dropped]:
    """The sound rows that a policy decided, still lazy, and the count of the others.

    One pass over the data for the counts. Raises DataError where nothing is left, or where
    more than a tenth of the rows is at fault.
    """
    widths = (
        frame.select(pl.col("features").list.len().alias("width")).drop_nulls().head(1).collect()
    )
    width = int(widths["width"][0]) if widths.height else None
    marked = (
        frame.with_row_index("_row")
        .with_columns(
            pl.struct("arms", "pmf", "chosen")
            .map_batches(_chosen_mass, return_dtype=pl.Float64)
            .alias("_chosen_mass"),
            pl.struct("eligible", "pmf")
            .map_batches(_masked_mass, return_dtype=pl.Float64)
            .alias("_masked_mass"),
        )
        .with_columns(fault_column(width))
        .with_columns(
            pl.when(pl.col("_fault").is_null() & (pl.col("mode") != "policy"))
            .then(pl.lit("not_policy"))
            .otherwise(pl.col("_fault"))
            .alias("_reason")
        )
    )
    counts = (
        marked.group_by("_reason")
        .agg(pl.len().alias("count"), pl.col("decision_id").sort_by("_row").first().alias("first"))
        .collect(engine="streaming")
    )
    table = {row["_reason"]: row for row in counts.to_dicts()}
    read = int(counts["count"].sum())
    kept = int(table[None]["count"]) if None in table else 0
    dropped = Dropped(
        read=read,
        kept=kept,
        faults={key: int(table[key]["count"]) for key in FAULTS if key in table},
        set_aside={key: int(table[key]["count"]) for key in SET_ASIDE if key in table},
        examples={key: str(row["first"]) for key, row in table.items() if key is not None},
    )
    if read == 0:
        raise DataError(f"{source}: no rows; export a longer time")
    faulty = sum(dropped.faults.values())
    if faulty > MOST_FAULTY * read or kept == 0:
        raise DataError(
            f"{source}: {kept:,} of {read:,} rows are left, too few to stand for the log: "
            + "; ".join(dropped.sentences())
        )
    return marked.filter(pl.col("_reason").is_null()).drop(
        "_row", "_fault", "_reason", "_chosen_mass", "_masked_mass"
    ), dropped


def _chosen_mass(rows: pl.Series) -> pl.Series:
    return _listwise(rows, pl.col("arms") == pl.col("chosen"))


def _masked_mass(rows: pl.Series) -> pl.Series:
    return _listwise(rows, ~pl.col("eligible"))


def _listwise(rows: pl.Series, counted: pl.Expr) -> pl.Series:
    """Σ of pmf over the entries of each row for which ``counted`` holds; null for odd shapes."""
    frame = rows.struct.unnest().with_row_index("_at")
    lists = [name for name in ("arms", "pmf", "eligible") if name in frame.columns]
    lengths = [pl.col(name).list.len() for name in lists]
    even = frame.filter(pl.all_horizontal([length == lengths[0] for length in lengths]))
    if even.height == 0:
        return pl.Series(rows.name, [None] * frame.height, dtype=pl.Float64)
    sums = (
        even.filter(lengths[0] > 0)
        .explode(lists)
        .with_columns(pl.when(counted).then(pl.col("pmf")).otherwise(0.0).alias("_mass"))
        .group_by("_at")
        .agg(pl.col("_mass").sum())
    )
    lined = frame.select("_at").join(sums, on="_at", how="left", maintain_order="left")
    return lined["_mass"].alias(rows.name)
