// Live decisions with filters, and one decision: why this model.

import { call, path } from "./api.js";
import { h, panel, table, wide } from "./dom.js";
import { clock, count, dollars, expected, fixed, moment, percent, quality, seconds, words } from "./format.js";
import { featureName } from "./words.js";

const MODES = ["policy", "override", "sticky", "rule"];
const FILTERS = ["model", "mode", "status", "reward_high", "has_feedback"];

/** The filters that an address holds. */
export const filtersOf = (query) => Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
const hashOf = (filters) => path("#/", filters);

export function showFilters(filters, models) {
  const section = document.getElementById("decisions");
  if (section.querySelector(".filters")) return;
  const choice = (name, title, options) => h("label", {}, `${title} `, h("select", { id: `filter-${name}`, onchange: (event) => {
    location.hash = hashOf({ ...filters, [name]: event.target.value });
  } }, options.map(([value, text]) => h("option", { value, selected: filters[name] === value }, text))));
  section.append(
    h("div", { class: "filters", role: "group", "aria-label": "Filters" },
      choice("model", "Model", [["", "all"], ...models.map((m) => [m, m])]),
      choice("mode", "Mode", [["", "all"], ...MODES.map((m) => [m, m])]),
      choice("status", "Outcome", [["", "all"], ["ok", "ok"], ["unknown", "unknown"], ["timeout", "timeout"], ["rate_limited", "rate limited"], ["server_error", "server error"], ["cancelled", "cancelled"]]),
      choice("reward_high", "Reward", [["", "all"], ["0.5", "0.5 and below"], ["0.25", "0.25 and below"]]),
      choice("has_feedback", "Judged", [["", "all"], ["true", "yes"], ["false", "no"]]),
      h("a", { href: "#/", id: "clear-filters" }, "Clear filters")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Decisions" }, h("table", { id: "decision-rows" },
      h("thead", {}, h("tr", {}, ["Time", "Model", "Answered by", "Probability", "Expected quality", "Reward", "Cost", "Latency", "Mode", "Tenant"].map((title, i) =>
        h("th", { scope: "col", class: i >= 3 && i <= 7 ? "number" : null }, title)))),
      h("tbody", {}))),
    h("p", { class: "empty", id: "no-decisions", hidden: true }, "No decision fits these filters."));
}

const rowsById = new Map();

/** Bring the list up to date: rows that stay are left alone, so that focus and place are kept. */
export async function refreshDecisions(filters, tenant) {
  const list = document.querySelector("#decision-rows tbody");
  if (!list) return;
  const page = await call(path("/admin/decisions", { ...filters, tenant, limit: 25 }));
  if (!list.isConnected) return;
  const first = !list.firstChild;
  const rows = page.decisions.map((line) => {
    const data = JSON.stringify(line);
    const known = rowsById.get(line.decision_id);
    if (known?.data === data && known.row.isConnected) return known.row;
    const row = rowOf(line);
    if (known?.row.isConnected) {
      if (known.row.contains(document.activeElement)) return known.row;
      known.row.replaceWith(row);
    } else if (!first) row.classList.add("new");
    rowsById.set(line.decision_id, { data, row });
    return row;
  });
  const kept = new Set(rows);
  for (const row of [...list.children]) if (!kept.has(row) && !row.contains(document.activeElement)) row.remove();
  rows.forEach((row, index) => {
    if (list.children[index] === row || row.contains(document.activeElement)) return;
    list.insertBefore(row, list.children[index] ?? null);
  });
  for (const id of rowsById.keys()) if (!rowsById.get(id).row.isConnected) rowsById.delete(id);
  document.getElementById("no-decisions").hidden = rows.length > 0;
}

function rowOf(line) {
  const status = line.status === null ? h("span", { class: "badge" }, "unknown") : line.answered_by === null ? h("span", { class: "badge bad" }, words(line.status)) : line.answered_by === line.model ? h("span", { class: "soft" }, "as chosen") : h("span", { class: "badge warning" }, `fell back to ${line.answered_by}`);
  return h("tr", { "data-id": line.decision_id },
    h("td", {}, h("a", { href: `#/decision/${line.decision_id}`, "aria-label": `Why: decision of ${clock(line.created_at)} for ${line.model}` }, clock(line.created_at))),
    h("td", {}, line.model), h("td", {}, status),
    h("td", { class: "number" }, percent(line.propensity)), h("td", { class: "number" }, expected(line.predicted_quality)),
    h("td", { class: "number" }, line.reward === null ? "–" : line.reward < 0.5 ? h("span", { class: "badge bad" }, quality(line.reward)) : quality(line.reward)),
    h("td", { class: "number" }, dollars(line.cost_usd)), h("td", { class: "number" }, seconds(line.latency_s)), h("td", {}, line.mode), h("td", {}, line.tenant));
}

const facts = (pairs) => h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value ?? "–"))));

/** One decision, and the way back to the list as it was. */
export async function decisionPage(id, back) {
  const { decision, why, words: labels, outcome, attempts, feedback, reward, pmf_check: check } = await call(`/admin/decisions/${encodeURIComponent(id)}`);
  const chosen = why.candidates.find((candidate) => candidate.chosen);
  const moved = (chosen?.contributions ?? []).filter((part) => Math.abs(part.contribution) >= 0.0005);
  const most = Math.max(...moved.map((part) => Math.abs(part.contribution)), 1e-9);
  return h("div", { class: "grid" },
    h("p", { class: "panel" }, h("a", { href: back, id: "back" }, "← Back to the overview")),
    panel("why", `Why ${decision.model}?`, "", null,
      h("p", {}, why.sentence),
      table("Candidates", [
        { title: "Model", cell: (c) => c.chosen ? h("strong", {}, `${c.model} (chosen)`) : c.model },
        { title: "Probability", cell: (c) => h("span", { class: "bar", role: "img", "aria-label": percent(c.pmf) }, wide(h("span", { class: "f0" }), c.pmf)) },
        { title: "", number: true, cell: (c) => percent(c.pmf) },
        { title: "Quality ± sd", number: true, cell: (c) => `${expected(c.quality)} ± ${quality(c.quality_sd)}` },
        { title: "Cost", number: true, cell: (c) => dollars(c.cost_usd) },
        { title: "Latency", number: true, cell: (c) => seconds(c.latency_s) },
        ...(why.candidates.some((c) => c.first_token_s) ? [{ title: "First token", number: true, cell: (c) => seconds(c.first_token_s) }] : []),
        { title: "Utility", number: true, cell: (c) => fixed(c.utility, 3) },
        { title: "Eligible", cell: (c) => c.eligible ? "yes" : h("span", { class: "badge warning" }, words(c.masked ?? "no")) },
      ], why.candidates),
      h("p", { class: "note" }, `Utility is quality less λ × dollars${decision.price_of_second ? " and μ × seconds" : ""}: a tenth of a cent counted ${fixed(decision.price_of_dollar / 1000, 3)} quality${decision.price_of_second ? `, a second ${fixed(decision.price_of_second, 3)}` : ""}. Probability (propensity) is how likely the draw was to fall on each.`)),
    panel("moved", `What moved ${decision.model}'s expected quality`, "half", chosen?.base === null || chosen?.base === undefined ? "The state that the decision was made with is no longer kept." : `From ${expected(chosen.base)} for a typical request to ${expected(chosen.quality)} for this one.`,
      moved.length ? table("Features that moved it", [
        { title: "Feature", wrap: true, cell: (part) => featureName(part.feature, labels) },
        { title: "", cell: (part) => h("span", { class: "bar", role: "img", "aria-label": part.contribution.toFixed(3) }, wide(h("span", { class: part.contribution >= 0 ? "f2" : "f1" }), Math.abs(part.contribution) / most)) },
        { title: "By", number: true, cell: (part) => (part.contribution >= 0 ? "+" : "−") + Math.abs(part.contribution).toFixed(3) },
      ], moved) : null),
    panel("followed", "What followed", "half", null,
      outcome ? facts([["Answered by", outcome.answered_by ?? "nobody"], ["Status", words(outcome.status)], ["Latency", seconds(outcome.latency_s)], ["First token", seconds(outcome.first_token_s)], ["Cost", dollars(outcome.cost_usd)], ["Tokens in, out", `${count(outcome.input_tokens)}, ${count(outcome.output_tokens)}`], ["Reward now", quality(reward)]]) : h("p", { class: "empty" }, "The outcome is unknown."),
      attempts.length ? table("Attempts", [
        { title: "Model", cell: (a) => a.model }, { title: "Status", cell: (a) => a.status === "ok" ? h("span", { class: "badge good" }, "ok") : h("span", { class: "badge bad" }, words(a.status)) },
        { title: "Latency", number: true, cell: (a) => seconds(a.latency_s) }, { title: "Cost", number: true, cell: (a) => dollars(a.cost_usd) }, { title: "Error", wrap: true, cell: (a) => a.error ?? "" },
      ], attempts) : null,
      feedback.length ? table("Feedback", [
        { title: "At", cell: (f) => moment(f.feedback.received_at) }, { title: "Metric", cell: (f) => f.feedback.metric }, { title: "Value", number: true, cell: (f) => f.feedback.value === null ? "taken back" : String(f.feedback.value) },
        { title: "State", cell: (f) => f.state }, { title: "Source", cell: (f) => f.feedback.source }, { title: "Comment", wrap: true, cell: (f) => f.feedback.comment ?? "" },
      ], feedback) : h("p", { class: "empty" }, "Not judged.")),
    panel("record", "The record", "", null,
      facts([["Decision", decision.decision_id], ["At", moment(decision.created_at)], ["Mode", decision.mode], ["Policy", decision.policy], ["Snapshot", String(decision.snapshot_version)], ["Tenant", decision.tenant], ["Session", decision.session_id ?? "–"], ["Input tokens", count(decision.input_tokens)], ["Fallbacks", decision.fallbacks.join(", ") || "none"],
        ["Labels", Object.entries(decision.metadata).map(([k, v]) => `${k}: ${v}`).join(", ") || "none"],
        ["Probabilities drawn again", check.reason ?? (check.equal ? "equal to what was logged" : `differ by ${check.largest_difference}`)]]),
      decision.prompt ? [h("h3", {}, "Prompt"), h("pre", { id: "prompt", tabindex: "0" }, JSON.stringify(decision.prompt, null, 2))] : h("p", { class: "note" }, "The prompt is not stored; store.keep_prompts would do so.")));
}
