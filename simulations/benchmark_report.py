"""The tables that a person reads after a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_budgets(rows: Sequence[Mapping[str, Any]], peer_note: str, console: Console) -> None:
    """One line per budget: reward and spend here, beside the yardsticks."""
    table = Table(title="ParetoBandit's protocol: mean test reward (spend over budget)")
    for name in ("budget", "this router", "worst spend", "static mix", "published", "peer, cold"):
        table.add_column(name, justify="right")
    table.add_column("peer, with prior", justify="right")
    for row in rows:
        table.add_row(
            f"${row['budget_usd']:.2g}",
            pair(row["reward"], row["spend_ratio"]),
            number(row["spend_ratio_worst"], 2),
            number(row["static_mix"]),
            pair(row["published"], row["published_spend_ratio"]),
            pair(row["peer"], row["peer_spend_ratio"]),
            pair(row["peer_with_prior"], row["peer_with_prior_spend_ratio"]),
        )
    console.print(table)
    console.print("static mix: the best random mix of fixed models at the same spend")
    console.print(f"peer: {peer_note}")


def print_scenarios(scenarios: Mapping[str, Sequence[Mapping[str, Any]]], console: Console) -> None:
    """One line per scenario, budget and phase."""
    if not any(scenarios.values()):
        return
    table = Table(title="Scenarios")
    for name in ("scenario", "budget", "phase"):
        table.add_column(name)
    for name in ("reward", "static mix", "without it", "spend", "its share", "after 200", "steps"):
        table.add_column(name, justify="right")
    for scenario, reports in scenarios.items():
        for report in reports:
            name = f"{scenario}, {report['variant']}" if "variant" in report else scenario
            steps = [report[key] for key in report if key.startswith("steps_to")]
            for phase in report["phases"]:
                last = phase is report["phases"][-1]
                table.add_row(
                    name,
                    f"${report['budget_usd']:.3g}",
                    phase["phase"],
                    number(phase["reward"]),
                    number(phase["static_mix"]),
                    number(phase["static_mix_without"]),
                    number(phase.get("spend_ratio"), 2),
                    number(phase["share"], 2),
                    number(phase["share_after_200"], 2),
                    number(steps[0], 0) if last else "",
                )
    console.print(table)
    console.print(
        "its: the model that fails, changes its price or joins; without it: the best static mix "
        "of the others; steps: median requests until it is back, taken up or adopted"
    )


def print_suite(result: Mapping[str, Any], console: Console) -> None:
    """Feedback scenarios by stretches of requests, then worlds that change by phases."""
    budget_usd = result["budget_usd"]
    at = "no budget" if budget_usd is None else f"${budget_usd:.3g} a request"
    table = Table(title=f"Feedback, {result['policy']}, {at}: mean reward by stretches of requests")
    table.add_column("feedback")
    for name in ("to request", "reward", "static mix", "above it", "worst seed", "spend"):
        table.add_column(name, justify="right")
    phased: dict[str, list[Mapping[str, Any]]] = {}
    for name, report in result["scenarios"].items():
        for stretch in report.get("stretches", ()):
            table.add_row(
                name,
                f"{stretch['to']:,}",
                number(stretch["reward"]),
                number(stretch["static_mix"]),
                f"{stretch['above_static_mix']:+.3f}",
                f"{stretch['above_static_mix_worst']:+.3f}",
                number(stretch["spend_ratio"], 2),
            )
        variants = report.get("variants", {})
        found = [{**each, "variant": variant} for variant, each in variants.items()]
        if "phases" in report:
            found.append(report)
        if found:
            phased[name] = [{"budget_usd": budget_usd or 0.0, **each} for each in found]
    if table.row_count:
        console.print(table)
    for name, report in result["scenarios"].items():
        if "share_moved" in report:
            console.print(
                f"{name}: a key with 5 % of the requests moves a model's share by "
                f"{report['share_moved']:.1%} (worst seed {report['share_moved_worst']:.1%}), "
                f"and another that says nothing by {report['by_chance']['share_moved']:.1%} "
                f"(worst {report['by_chance']['share_moved_worst']:.1%}); "
                f"if every key were believed, by {report['unguarded']['share_moved']:.1%}"
            )
            for model, shift in report["shifts"].items():
                known_to = shift["shift_ci95"]
                within = "" if known_to is None else f" give or take {known_to:.1%}"
                console.print(f"  {model}: {shift['shift']:+.1%} in the mean{within}")
        if "left_out" in report:
            console.print(f"{name}: left out, {report['left_out']}")
    print_scenarios(phased, console)


def print_routellm(result: Mapping[str, Any], console: Console) -> None:
    """The curve's points, then the measures."""
    table = Table(title=f"RouteLLM's measures, {result['policy']}, {result['scored']} scored")
    for name in ("target share", "strong calls", "gap recovered"):
        table.add_column(name, justify="right")
    for point in result["points"]:
        table.add_row(
            number(point["target_share"], 2),
            number(point["strong_share"]),
            number(point["recovered"]),
        )
    console.print(table)
    console.print(
        f"APGR {result['apgr']:.3f} (random mix 0.500), "
        f"CPT(50 %) {result['cpt_50']:.1%}, CPT(80 %) {result['cpt_80']:.1%}"
    )


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def pair(reward: float | None, spend_ratio: float | None) -> str:
    """``.877 (1.00)``."""
    return "–" if reward is None else f"{number(reward)} ({number(spend_ratio, 2)})"


def print_ope(result: Mapping[str, Any], console: Console) -> None:
    """Coverage and error by kind of log and target, and the timing."""
    for kind in ("explored", "default", "unexplored", "synthetic"):
        if kind not in result:
            continue
        table = Table(title=f"{kind} logs: share of intervals that hold the truth")
        for column in ("target", "estimate", "refused", "coverage", "rmse", "dr / ips"):
            table.add_column(column)
        for target, told in result[kind].items():
            for key, row in told["estimates"].items():
                shown = key == "dr/bootstrap" and told["dr_over_ips"] is not None
                table.add_row(
                    target,
                    key,
                    str(sum(row["refused"].values())),
                    "" if row["coverage"] is None else f"{row['coverage']:.3f}",
                    "" if row["rmse"] is None else f"{row['rmse']:.4f}",
                    f"{told['dr_over_ips']:.2f}" if shown else "",
                )
        console.print(table)
    if "speed" in result:
        speed = result["speed"]
        console.print(
            f"{speed['rounds']:,} rounds, {speed['arms']} arms, {speed['dimension']} features, "
            "all estimators of one target with the bootstrap:"
        )
        for name in ("reward", "all_outcomes"):
            took = speed[name]
            console.print(
                f"  {name.replace('_', ' ')}: {took['seconds']:.1f} s ({took['cpu_seconds']:.1f} s "
                f"of CPU), peak {took['peak_gb']:.2f} GB"
            )


def print_replay(result: Mapping[str, Any], console: Console) -> None:
    """Time, memory, and what was earned, in three lines."""
    budget_usd = result["budget_usd"]
    console.print(
        f"{result['decisions']:,} decisions among {result['arms']} models, {result['features']} "
        f"features, {result['coordinates']} coordinates in the end, "
        + ("no budget" if budget_usd is None else f"${budget_usd:g} a request")
    )
    console.print(
        f"{result['cpu_us']:.0f} µs of CPU a decision, {result['decisions_per_cpu_s']:,.0f} a "
        f"second, {result['cpu_s']:.0f} s in all ({result['seconds']:.0f} s by the clock); "
        f"{result['ratio']:.1f} times bare numpy ({result['yardstick_us']:.1f} µs); peak "
        f"{result['peak_gb']:.2f} GB"
    )
    console.print(
        f"reward {result['reward']:.4f} at ${result['cost_usd']:.3g} a request, "
        f"best single model {result['best_single']:.4f}"
    )


def print_updates(result: Mapping[str, Any], console: Console) -> None:
    """How far the posterior was from its sums, and the sums from their rows."""
    console.print(
        f"{result['updates']:,} updates at {result['dimension']} coordinates of rank "
        f"{result['rank']}, half-life {result['half_life']:,.0f}: {result['cpu_us']:.1f} µs each"
    )
    console.print(
        f"mean off its sums by at most {result['away']:.1e} prior sds, sums off their rows by "
        f"{result['sums_away']:.1e}, least eigenvalue of the covariance "
        f"{result['least_eigenvalue']:.1e}"
    )


def print_dashboard(result: Mapping[str, Any], console: Console) -> None:
    """One line per door, slowest marked, and the page in a browser."""
    from simulations.protocols.dashboard import BAR_MS, PAINT_BAR_MS

    console.print(
        f"{result['decisions']:,} decisions written in {result['written_s']:.0f} s, added up in "
        f"{result['added_up_s']:.0f} s"
    )
    table = Table(title=f"Milliseconds per door; the bar is {BAR_MS:.0f}")
    for name in ("panel", "door"):
        table.add_column(name, overflow="fold")
    for name in ("min", "median", "p95"):
        table.add_column(name, justify="right")
    for door in result["doors"]:
        style = "bold" if door["p95_ms"] > BAR_MS else None
        times = [f"{door[key]:.0f}" for key in ("min_ms", "median_ms", "p95_ms")]
        table.add_row(door["panel"], door["path"], *times, style=style)
    console.print(table)
    page = result["page"]
    if page["note"]:
        console.print(f"first paint was not measured: {page['note']}")
        return
    paints, whole = sorted(page["first_paint_ms"]), sorted(page["all_panels_ms"])
    console.print(
        f"first paint: median {paints[len(paints) // 2]:.0f} ms, worst {paints[-1]:.0f} ms (bar "
        f"{PAINT_BAR_MS:.0f}); all panels filled: median {whole[len(whole) // 2]:.0f} ms"
    )
    slowest = max(page["doors_ms"], key=lambda door: door[2])
    console.print(
        f"slowest answer that the page itself waited for, several asked at once: {slowest[0]} "
        f"with median {slowest[1]:.0f} ms, worst {slowest[2]:.0f} ms"
    )
