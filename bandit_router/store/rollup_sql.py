"""The statements that add a range of transactions to the rollups.

Each takes the rows that transactions ``low`` up to, not including, ``high`` wrote, sums them
by the finest bucket, and adds the sums to the buckets of every width that is still kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ARRAY, Text, bindparam, text
from sqlalchemy.sql.elements import TextClause

# Seconds a bucket is wide, and for how long buckets of that width are kept.
WIDTHS = {5: 2 * 3600, 60: 2 * 86_400, 3600: 100 * 86_400, 86_400: 20 * 365 * 86_400}
SEGMENT_WIDTHS = (60, 3600, 86_400)
# Rewards below this count as bad answers.
LOW_REWARD = 0.5
REWARD_BINS = 10
# Bins of seconds: four to an octave, from a millisecond on, up to about twenty minutes.
LEAST_SECONDS = 0.001
BINS_PER_OCTAVE = 4
LAST_SECONDS_BIN = 80

EPOCH = "'epoch'::timestamptz"
FINEST = f"date_bin('5 seconds', d.created_at, {EPOCH})"
# The part of an expression that is a number: a NaN would stay in its sum for ever.
FINITE = "CASE WHEN {0} > '-Infinity' AND {0} < 'Infinity' THEN {0} ELSE 0 END"
SECONDS_BIN = (
    f"least({LAST_SECONDS_BIN}, greatest(0, floor({BINS_PER_OCTAVE} * "
    f"ln(greatest({{0}}, 1e-9) / {LEAST_SECONDS}) / ln(2.0))))::smallint"
)
LOOKED = "(d.look_arm >= 0 AND d.arms[d.look_arm + 1] = d.chosen)"
IN_RANGE = "xid >= :low AND xid < :high"
# Labels that the configuration names, and the length of the prompt.
SEGMENTS = """
    SELECT key || '=' || left(d.metadata ->> key, 60) AS segment FROM unnest(:keys) AS key
    WHERE d.metadata ->> key <> ''
    UNION ALL
    SELECT 'length=' || CASE WHEN d.input_tokens < 100 THEN 'under 100 tokens'
        WHEN d.input_tokens < 400 THEN '100 to 399 tokens'
        WHEN d.input_tokens < 1600 THEN '400 to 1,599 tokens'
        ELSE '1,600 tokens and more' END
"""
KNOWN_SEGMENTS = f"""
    SELECT CASE WHEN n.segment IS NULL THEN split_part(s.segment, '=', 1) || '=(other)'
        ELSE s.segment END AS segment
    FROM ({SEGMENTS}) s LEFT JOIN rollup_segment_names n ON n.segment = s.segment
"""
# What a decision would have cost in expectation had exploration not been mixed into its pmf.
EXPLORATION = """
    (a.pmf - ((a.pmf - CASE WHEN a.place = d.look_arm + 1 THEN d.look_probability ELSE 0 END)
              / nullif(1 - d.look_probability, 0) - a.floor)
             / nullif(1 - (SELECT sum(f) FROM unnest(d.exploration_floor) f), 0)) * a.cost_usd
"""


def added(
    table: str, keys: Sequence[str], sums: dict[str, str], source: str, widths: Sequence[int]
) -> TextClause:
    """Add sums of rows to buckets. sums: column to SQL aggregate over ``source``, a FROM clause
    with the decision as ``d``; keys: SQL ``expression AS column`` besides the bucket."""
    names = [key.rpartition(" AS ")[2] for key in keys]
    plain, columns = ", ".join(names), ", ".join(sums)
    kept = ", ".join(f"({width}, {WIDTHS[width]})" for width in widths)
    return text(
        f"""
        WITH fresh AS (
            SELECT {FINEST} AS bucket, {", ".join(keys)},
                   {", ".join(f"{value} AS {column}" for column, value in sums.items())}
            FROM {source} GROUP BY 1, {plain}
        )
        INSERT INTO {table} (width_s, bucket, {plain}, {columns})
        SELECT width_s, date_bin(make_interval(secs => width_s), bucket, {EPOCH}) AS start,
               {plain}, {", ".join(f"sum({column})" for column in sums)}
        FROM fresh CROSS JOIN (VALUES {kept}) AS w (width_s, kept_s)
        WHERE bucket >= CAST(:now AS timestamptz) - make_interval(secs => kept_s)
        GROUP BY width_s, start, {plain}
        ON CONFLICT (width_s, bucket, {plain}) DO UPDATE SET
        {", ".join(f"{c} = {table}.{c} + excluded.{c}" for c in sums)}
        """
    )


def counted(condition: str) -> str:
    """How many rows a condition holds for."""
    return f"count(*) FILTER (WHERE {condition})"


def summed(value: str, condition: str = "true") -> str:
    """The sum of what is finite, over the rows that a condition holds for."""
    return f"coalesce(sum({FINITE.format(value)}) FILTER (WHERE {condition}), 0)"


def _by_model(model: str) -> list[str]:
    return ["d.tenant AS tenant", "d.mode AS mode", f"{model} AS model"]


MODEL_WIDTHS = tuple(WIDTHS)
DECISIONS = f"(SELECT * FROM decisions WHERE {IN_RANGE}) d"
CANDIDATES = added(
    "rollup_models",
    _by_model("a.model"),
    {
        "considered": "count(*)",
        "eligible": counted("a.eligible"),
        "pmf": summed("a.pmf"),
        "predicted_cost_usd": summed("a.cost_usd"),
        "predicted_quality": summed("a.quality"),
        "exploration_usd": summed(f"({EXPLORATION})", "d.mode = 'policy' AND a.eligible"),
    },
    f"{DECISIONS} CROSS JOIN LATERAL unnest(d.arms, d.eligible, d.pmf, d.predicted_cost_usd, "
    "d.predicted_quality, d.exploration_floor) WITH ORDINALITY "
    "AS a (model, eligible, pmf, cost_usd, quality, floor, place)",
    MODEL_WIDTHS,
)
OWN_COST = "d.predicted_cost_usd[array_position(d.arms, {0})]"
CHOSEN = added(
    "rollup_models",
    _by_model("d.chosen"),
    {
        "decisions": "count(*)",
        "escalations": counted(
            f"d.mode = 'policy' AND {OWN_COST.format('d.chosen')} > "
            "(SELECT min(c) FROM unnest(d.predicted_cost_usd, d.eligible) AS e (c, may) WHERE may)"
        ),
        "looks": counted(LOOKED),
        "entropy": summed("(SELECT -sum(p * ln(p)) FROM unnest(d.pmf) AS p WHERE p > 0)"),
        "chosen_predicted_cost_usd": summed(OWN_COST.format("d.chosen")),
    },
    DECISIONS,
    MODEL_WIDTHS,
)
OUTCOMES = f"(SELECT * FROM outcomes WHERE {IN_RANGE}) o JOIN decisions d ON d.id = o.decision_id"
ANSWERED_BY = "coalesce(o.answered_by, d.chosen)"
ENDINGS = added(
    "rollup_models",
    _by_model("d.chosen"),
    {
        "outcomes": "count(*)",
        "fallbacks": counted("o.answered_by <> d.chosen"),
        "failures": counted("o.answered_by IS NULL AND o.status <> 'cancelled'"),
        "cancellations": counted("o.status = 'cancelled'"),
        "look_cost_usd": summed("o.cost_usd", LOOKED),
    },
    OUTCOMES,
    MODEL_WIDTHS,
)
ANSWERS = added(
    "rollup_models",
    _by_model(ANSWERED_BY),
    {
        "answers": "count(o.answered_by)",
        "retries": "sum(greatest(o.attempts - 1, 0))",
        "costed": "count(o.cost_usd)",
        "cost_usd": summed("o.cost_usd"),
        "costed_predicted_usd": summed(OWN_COST.format("o.answered_by"), "o.cost_usd IS NOT NULL"),
        "latency_s": summed("o.latency_s", "o.answered_by IS NOT NULL"),
        "first_tokens": "count(o.first_token_s)",
        "first_token_s": summed("o.first_token_s"),
        "input_tokens": "coalesce(sum(o.input_tokens), 0)",
        "output_tokens": "coalesce(sum(o.output_tokens), 0)",
    },
    OUTCOMES,
    MODEL_WIDTHS,
)
TIMES = added(
    "rollup_bins",
    ["d.tenant AS tenant", "o.answered_by AS model", "t.kind AS kind", "t.bin AS bin"],
    {"entries": "count(*)"},
    f"{OUTCOMES} CROSS JOIN LATERAL (VALUES "
    f"('latency', {SECONDS_BIN.format('o.latency_s')}, o.latency_s), "
    f"('first_token', {SECONDS_BIN.format('o.first_token_s')}, o.first_token_s)) "
    "AS t (kind, bin, seconds) "
    "WHERE o.answered_by IS NOT NULL AND t.seconds IS NOT NULL",
    MODEL_WIDTHS,
)
# A learner row puts a reward in the place of another: the new one counts +1, the old one −1.
REWARDS = f"""
    (SELECT * FROM rewards WHERE {IN_RANGE}
     AND (reward IS NOT NULL OR previous_reward IS NOT NULL)) r
    JOIN decisions d ON d.id = r.decision_id
    CROSS JOIN LATERAL (VALUES (1, r.reward), (-1, r.previous_reward)) AS v (sign, value)
    WHERE v.value IS NOT NULL
"""
REWARD_SUMS = {
    "rewards": "sum(v.sign)",
    "reward_sum": "sum(v.sign * v.value::numeric)",
    "low_rewards": f"coalesce(sum(v.sign) FILTER (WHERE v.value < {LOW_REWARD}), 0)",
}
OWN_QUALITY = "d.predicted_quality[array_position(d.arms, r.arm)]"
JUDGED = added(
    "rollup_models",
    _by_model("r.arm"),
    {
        **REWARD_SUMS,
        "rewarded_predicted": (
            f"coalesce(sum(v.sign * ({FINITE.format(OWN_QUALITY)})::numeric), 0)"
        ),
    },
    REWARDS,
    MODEL_WIDTHS,
)
REWARD_BIN_COUNTS = added(
    "rollup_bins",
    [
        "d.tenant AS tenant",
        "r.arm AS model",
        "'reward'::text AS kind",
        f"least({REWARD_BINS - 1}, floor(v.value * {REWARD_BINS}))::smallint AS bin",
    ],
    {"entries": "sum(v.sign)"},
    REWARDS,
    MODEL_WIDTHS,
)
NEW_SEGMENTS = text(
    f"""
    INSERT INTO rollup_segment_names (segment)
    SELECT DISTINCT s.segment FROM {DECISIONS} CROSS JOIN LATERAL ({SEGMENTS}) s
    WHERE NOT EXISTS (SELECT FROM rollup_segment_names n WHERE n.segment = s.segment)
    LIMIT greatest(0, :most - (SELECT count(*) FROM rollup_segment_names))
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("keys", type_=ARRAY(Text)))


def _by_segment(model: str, sums: dict[str, str], source: str) -> TextClause:
    """source: a FROM clause that ends before any WHERE."""
    keys = ["d.tenant AS tenant", "s.segment AS segment", f"{model} AS model"]
    return added("rollup_segments", keys, sums, source, SEGMENT_WIDTHS).bindparams(
        bindparam("keys", type_=ARRAY(Text))
    )


SEGMENT_CHOSEN = _by_segment(
    "d.chosen",
    {"decisions": "count(*)"},
    f"{DECISIONS} CROSS JOIN LATERAL ({KNOWN_SEGMENTS}) s",
)
SEGMENT_ANSWERS = _by_segment(
    ANSWERED_BY,
    {"answers": "count(o.answered_by)", "cost_usd": summed("o.cost_usd")},
    f"{OUTCOMES} CROSS JOIN LATERAL ({KNOWN_SEGMENTS}) s",
)
SEGMENT_REWARDS = _by_segment(
    "r.arm",
    REWARD_SUMS,
    REWARDS.replace("WHERE v.value", f"CROSS JOIN LATERAL ({KNOWN_SEGMENTS}) s WHERE v.value"),
)
STATEMENTS = (CANDIDATES, CHOSEN, ENDINGS, ANSWERS, TIMES, JUDGED, REWARD_BIN_COUNTS)
SEGMENT_STATEMENTS = (NEW_SEGMENTS, SEGMENT_CHOSEN, SEGMENT_ANSWERS, SEGMENT_REWARDS)
