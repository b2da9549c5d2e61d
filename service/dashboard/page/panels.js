// The overview: what the doors under /admin/stats tell, one function a panel.

import { bars, frontier, intervals, lines } from "./charts.js";
import { h, panel, redraw, table, tall, wide } from "./dom.js";
import { count, dollars, fixed, percent, quality, seconds, short, words } from "./format.js";
import { featureName, glossary, turned } from "./words.js";

/** The empty overview; the panels are filled as the data come. */
export function overview() {
  return [
    h("section", { id: "tiles", "aria-label": "Figures of the span" }, h("p", { class: "empty" }, "Asking the router …")),
    h("div", { class: "grid" },
      panel("advice", "Advice", "half", "What the sums of the last seven days say, or of the span where it is longer."),
      panel("alarms", "Alarms", "half", "What is wrong now."),
      panel("trends", "Trend", "", "Facts count at the moment of their decision: late feedback moves the past."),
      panel("models", "Models", "", "Quality is the mean reward of the answers that were judged; bad is a reward below 0.5."),
      panel("frontier", "Savings and frontier", "half", "What each model alone would have come to on this traffic, as predicted and corrected by its own bills and rewards; the diamond is the router."),
      panel("posterior", "What is believed of each model", "half", "Expected quality on the recent mix of requests, with its 95 % interval."),
      panel("policy", "The learned policy by feature", "half", "Share that each model gets among recent requests with much of the feature, and with little; what moves the choice most comes first."),
      panel("segments", "By topic and length", "half", "Labels that callers send, and how long the prompt is."),
      panel("exploration", "Exploration and budget", "half", "What trying costs, and what the budget allows."),
      panel("levers", "Levers", "half", "Every act is written to the audit log."),
      panel("challengers", "Challengers", "half", "Another policy on trial beside the one that serves; each step can be taken back."),
    ),
    h("div", { class: "below" }, panel("decisions", "Live decisions", "", "Newest first. Open one to see why it fell as it did.")),
    h("div", { class: "below" }, glossary()),
  ];
}

const body = (id) => {
  const section = document.getElementById(id);
  return section.querySelector(":scope > .body") ?? section.appendChild(h("div", { class: "body" }));
};

function change(now, before, better) {
  if (!now || !before) return "nothing to compare with";
  const share = now / before - 1;
  if (!Number.isFinite(share) || Math.abs(share) < 0.005) return "as in the span before";
  const good = better === 0 ? "" : share > 0 === better > 0 ? "better" : "worse";
  return h("span", { class: good }, `${share > 0 ? "▲" : "▼"} ${percent(Math.abs(share), 0)} to the span before`);
}

const tile = (name, figure, beside) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", { class: "figure" }, figure), h("dd", { class: "beside" }, beside));

/** cascades: as /admin/stats/cascades tells them; the tile is for those who have any. */
export function showTiles(summary, cascades) {
  const { total, before, savings, budget_usd_per_request: budget } = summary;
  const cascaded = cascades.reduce((sum, one) => sum + one.requests, 0), escalated = cascades.reduce((sum, one) => sum + one.escalations, 0);
  const node = document.getElementById("tiles");
  redraw(node, [total, before, savings, cascades], () => h("dl", { class: "tiles" },
    tile("Requests", count(total.decisions), change(total.decisions, before.decisions, 0)),
    tile("Quality", quality(total.quality), `${count(total.rewards)} of ${count(total.answers)} answers judged`),
    tile("Bad answers", percent(total.low_share), change(total.low_share, before.low_share, -1)),
    tile("Spent", dollars(total.cost_usd), budget ? `${dollars(total.cost_per_answer_usd)} a request; budget ${dollars(budget)}` : `${dollars(total.cost_per_answer_usd)} a request`),
    tile("Saved", savings ? percent(savings.share) : "–", savings ? `${dollars(savings.baseline_usd - savings.actual_usd)} against always ${savings.best}` : "no bills yet"),
    tile("Latency", seconds(total.latency_s), total.first_token_s ? `first token ${seconds(total.first_token_s)}` : change(total.latency_s, before.latency_s, -1)),
    tile("Escalations", percent(total.escalation_rate), `${count(total.escalations)} to a dearer model`),
    tile("Fallbacks", percent(total.fallback_rate), `${count(total.failures)} requests failed`),
    cascaded ? tile("Cascades", percent(escalated / cascaded), `${count(escalated)} of ${count(cascaded)} went on to a stronger model`) : null,
    tile("Forced looks", dollars(total.look_cost_usd), `${count(total.looks)} requests used to try a model`),
    tile("Tokens", total.input_tokens + total.output_tokens ? count(total.input_tokens + total.output_tokens) : "none told", total.output_tokens ? `${count(total.output_tokens)} of them in answers` : "by the models that answered"),
  ));
}

export function showAdvice(told) {
  redraw(body("advice"), told, () => h("ul", { class: "advice" }, told.map((one) =>
    h("li", { class: one.severity, "data-kind": one.kind }, h("strong", {}, one.headline), h("p", {}, one.detail), h("p", { class: "do" }, one.action)))));
}

export function legend(models) {
  return h("ul", { class: "legend", "aria-label": "Models and their colours" }, models.map((name, index) =>
    h("li", { title: name }, h("span", { class: `swatch f${index % 8}`, "aria-hidden": "true" }), short(name, models))));
}

function perStep(trend, part, whole) {
  const steps = new Map();
  for (const point of trend.points) {
    const weight = whole(point);
    if (!weight || part(point) === null) continue;
    const step = steps.get(point.start) ?? steps.set(point.start, [0, 0]).get(point.start);
    step[0] += part(point) * weight;
    step[1] += weight;
  }
  return [...steps].map(([start, [sum, weight]]) => [Date.parse(start), sum / weight]);
}

function perModel(trend, models, value) {
  return models.map((name, index) => ({
    name,
    colour: index % 8,
    points: trend.points.filter((p) => p.model === name && value(p) !== null && value(p) !== undefined).map((p) => [Date.parse(p.start), value(p)]),
  })).filter((one) => one.points.length);
}

const RATES = ["escalations", "fallbacks"];

export function showTrends(trend, models) {
  const node = body("trends");
  if (!node.firstChild) {
    node.append(h("div", { id: "trend-legend" }), h("div", { class: "charts" }, [
      ["requests", "Requests by model"], ["quality", "Quality by model"], ["cost", "Dollars per answer, all models"],
      ["latency", "Latency by model"], ["spend", "Dollars spent by model"], ["rates", "Share of requests that escalated or fell back"],
    ].map(([id, title]) => h("div", {}, h("h3", {}, title), id === "rates" ? legend(RATES) : null, h("div", { id: `trend-${id}` })))));
  }
  const at = (id) => document.getElementById(`trend-${id}`);
  redraw(at("legend"), models, () => legend(models));
  const data = [trend.since, trend.points, models];
  redraw(at("requests"), data, () => bars(at("requests"), trend, models, (p) => p.decisions, count, "Requests over time, by model"));
  redraw(at("quality"), data, () => lines(at("quality"), trend, perModel(trend, models, (p) => p.quality), quality, "Mean reward over time, by model", 1));
  redraw(at("cost"), data, () => lines(at("cost"), trend, [{ name: "dollars per answer", colour: "ink", points: perStep(trend, (p) => p.cost_per_answer_usd, (p) => p.answers) }], dollars, "Dollars per answer over time"));
  redraw(at("latency"), data, () => lines(at("latency"), trend, perModel(trend, models, (p) => p.latency_s), seconds, "Mean latency over time, by model"));
  redraw(at("spend"), data, () => bars(at("spend"), trend, models, (p) => p.cost_usd, dollars, "Dollars spent over time, by model"));
  redraw(at("rates"), data, () => lines(at("rates"), trend, [
    { name: RATES[0], colour: 0, points: perStep(trend, (p) => p.escalations / p.decisions, (p) => p.decisions) },
    { name: RATES[1], colour: 1, points: perStep(trend, (p) => p.fallback_rate, (p) => p.outcomes) },
  ], (v) => percent(v, 0), "Share of requests that escalated (first colour) and fell back (second colour) over time"));
}

export function showModels(summary, names) {
  const colour = (name) => names.indexOf(name) % 8;
  redraw(body("models"), [summary.models, summary.by_mode], () => [table("Models", [
    { title: "Model", cell: (m) => [h("span", { class: `swatch f${colour(m.model)}`, "aria-hidden": "true" }), h("a", { href: `#/?model=${encodeURIComponent(m.model)}`, title: m.model }, short(m.model, names))] },
    { title: "Share", cell: (m) => h("span", { class: "bar", role: "img", "aria-label": percent(m.share) }, wide(h("span", { class: `f${colour(m.model)}` }), m.share)) },
    { title: "Requests", number: true, cell: (m) => `${count(m.decisions)} (${percent(m.share)})` },
    { title: "Quality", number: true, cell: (m) => quality(m.quality) },
    { title: "Bad", number: true, cell: (m) => percent(m.low_share) },
    { title: "Judged", number: true, cell: (m) => count(m.rewards) },
    { title: "Rewards 0 to 1", cell: (m) => satisfaction(m, colour(m.model)) },
    { title: "$ per answer", number: true, cell: (m) => dollars(m.cost_per_answer_usd) },
    { title: "Latency", number: true, cell: (m) => seconds(m.latency_p50_s) },
    { title: "Slowest 5 %", number: true, cell: (m) => seconds(m.latency_p95_s) },
    { title: "First token", number: true, cell: (m) => seconds(m.first_token_s) },
    { title: "Fallbacks", number: true, cell: (m) => percent(m.fallback_rate) },
  ], summary.models), h("h3", { class: "second" }, "By who chose"), table("Satisfaction by who chose", [
    { title: "Chosen by", cell: (m) => CHOSEN_BY[m.mode] ?? words(m.mode) },
    { title: "Requests", number: true, cell: (m) => count(m.decisions) },
    { title: "Quality", number: true, cell: (m) => quality(m.quality) },
    { title: "Bad", number: true, cell: (m) => percent(m.low_share) },
    { title: "Judged", number: true, cell: (m) => count(m.rewards) },
    { title: "$ per answer", number: true, cell: (m) => dollars(m.cost_per_answer_usd) },
    { title: "Mean latency", number: true, cell: (m) => seconds(m.latency_s) },
    { title: "Escalations", number: true, cell: (m) => m.mode === "policy" ? percent(m.escalation_rate) : "–" },
    { title: "Fallbacks", number: true, cell: (m) => percent(m.fallback_rate) },
  ], summary.by_mode)]);
}

const CHOSEN_BY = { policy: "the policy", override: "the caller, by name", sticky: "the session before", rule: "a rule" };

function satisfaction(model, colour) {
  const most = Math.max(...model.reward_histogram, 1);
  return h("span", { class: "spark", role: "img", "aria-label": `Rewards in ten classes from 0 to 1: ${model.reward_histogram.join(", ")}` },
    model.reward_histogram.map((n) => tall(h("span", { class: `f${colour}` }), n / most)));
}

export function showFrontier(summary, names) {
  const node = body("frontier"), { frontier: told, savings } = summary;
  redraw(node, [told, savings], () => [
    savings ? h("p", {}, `${count(savings.requests)} routed requests cost ${dollars(savings.actual_usd)}; always ${savings.best} would have cost about ${dollars(savings.baseline_usd)}: `, h("strong", {}, `${percent(savings.share)} saved`), ".") : h("p", { class: "empty" }, "No bills yet."),
    frontier(node, told.fixed.map((p) => ({ ...p, name: short(p.model, names), colour: names.indexOf(p.model) % 8 })), { ...told.operating_point, name: "the router" }, dollars,
      "Cost against quality: each model alone, and the router"),
  ]);
}

export function showPosterior(policy, names, resting) {
  const node = body("posterior");
  const shown = policy.models.filter((m) => !resting.has(m.model));
  redraw(node, [policy.snapshot_version, shown.map((m) => m.quality)], () => [
    intervals(node, shown.map((m) => ({ name: short(m.model, names), mean: m.quality, low: m.quality_low, high: m.quality_high, colour: names.indexOf(m.model) % 8, note: `${count(m.effective_sample_size)} rewards, ${dollars(m.cost_usd)}, ${seconds(m.latency_s)}` })), quality,
      shown.map((m) => `${m.model}: ${quality(m.quality)} between ${quality(m.quality_low)} and ${quality(m.quality_high)}`).join("; ")),
    h("p", { class: "note" }, `Policy ${policy.name}, snapshot ${policy.snapshot_version}. ${policy.learner?.leads ? "This process learns." : "Another process learns."}`),
  ]);
}

export function showPolicy(told, names) {
  const share = (shares) => h("span", { class: "bar", role: "img", "aria-label": names.map((n) => `${n} ${percent(shares[n] ?? 0, 0)}`).join(", ") },
    names.map((name, index) => wide(h("span", { class: `f${index % 8}`, title: `${name} ${percent(shares[name] ?? 0, 0)}` }), shares[name] ?? 0)));
  redraw(body("policy"), told, () => told.features.length ? table("Shares by feature", [
    { title: "Feature", wrap: true, cell: (f) => featureName(f.feature, told.words) },
    { title: "Much of it, or with the label", cell: (f) => share(turned(f.feature, told.words) ? f.low : f.high) },
    { title: "Little of it, or without", cell: (f) => share(turned(f.feature, told.words) ? f.high : f.low) },
    { title: "Moves", number: true, cell: (f) => percent(f.shift, 0) },
  ], told.features) : h("p", { class: "empty" }, "Too few requests since the start to tell features apart."));
}

export function showSegments(told, names) {
  const rows = told.segments.slice(0, 14);
  redraw(body("segments"), rows, () => rows.length ? table("Kinds of requests", [
    { title: "Kind", wrap: true, cell: (k) => k.segment.replace("=", ": ") },
    { title: "Requests", number: true, cell: (k) => count(k.decisions) },
    { title: "Shares", cell: (k) => h("span", { class: "bar", role: "img", "aria-label": names.map((n) => `${n} ${percent((k.models[n]?.decisions ?? 0) / k.decisions, 0)}`).join(", ") },
      names.map((name, index) => wide(h("span", { class: `f${index % 8}` }), (k.models[name]?.decisions ?? 0) / k.decisions))) },
    { title: "Quality", number: true, cell: (k) => {
      const parts = Object.values(k.models).filter((m) => m.rewards);
      const judged = parts.reduce((sum, m) => sum + m.rewards, 0);
      return judged ? quality(parts.reduce((sum, m) => sum + m.quality * m.rewards, 0) / judged) : "–";
    } },
    { title: "Most bad answers", wrap: true, cell: (k) => {
      const worst = Object.entries(k.models).filter(([, m]) => m.rewards >= 5).sort((a, b) => b[1].low_share - a[1].low_share)[0];
      return worst ? `${percent(worst[1].low_share, 0)} by ${short(worst[0], names)}` : "–";
    } },
  ], rows) : h("p", { class: "empty" }, "No requests in this span."));
}

export function showExploration(summary, budget, exploration) {
  const total = summary.total;
  redraw(body("exploration"), [total.exploration_usd, total.looks, budget, exploration], () => h("dl", { class: "facts" }, [
    ["Exploration spend: trying changed the expected bill by", `${dollars(total.exploration_usd)} (${percent(total.cost_usd ? total.exploration_usd / total.cost_usd : null)})`],
    ["Forced looks", `${count(total.looks)} for ${dollars(total.look_cost_usd)}`],
    ["Looks' budget left today", exploration ? dollars(exploration.look_budget.left_usd) : "–"],
    ["Exploration", exploration ? (exploration.enabled ? "on" : "off") : "–"],
    ["Undecidedness (entropy)", total.pmf_entropy === null ? "–" : `${fixed(total.pmf_entropy, 2)} nats`],
    ["Budget per request", budget?.usd_per_request ? dollars(budget.usd_per_request) : "none"],
    ["Spent per request, last day", budget ? dollars(budget.last_day.usd_per_request) : "–"],
    ["On the account", budget ? dollars(budget.account_usd) : "–"],
    ["Price of a dollar (λ)", budget ? `a tenth of a cent must bring ${fixed(budget.price_of_dollar / 1000, 3)} quality` : "–"],
  ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

/** Alarms that were raised, models that rest, and a learner that stands still. */
export function showAlarms(models, policy, alarms) {
  const found = [];
  for (const alarm of alarms) found.push(["bad", alarm.title, alarm.text]);
  for (const model of models) {
    if (model.breaker.state !== "closed") found.push([model.breaker.state === "open" ? "bad" : "warning", `${model.name}'s breaker is ${words(model.breaker.state)}`, model.breaker.reason ?? ""]);
    if (model.paused) found.push(["warning", `${model.name} is paused`, "The policy does not choose it."]);
  }
  if (policy?.learner?.error) found.push(["bad", "The learner fails", policy.learner.error]);
  if (policy?.learner?.quarantine?.length) found.push(["warning", `${policy.learner.quarantine.length} rows could not be learned from`, policy.learner.quarantine.at(-1).reason]);
  redraw(body("alarms"), found, () => h("ul", { class: "advice" }, found.length
    ? found.map(([kind, title, text]) => h("li", { class: kind }, h("strong", {}, title), h("p", {}, text)))
    : h("li", { class: "good" }, h("strong", {}, "No alarm."), h("p", {}, "Every model takes requests, and the learner keeps up."))));
}
