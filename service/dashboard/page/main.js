// The page: where one is, what is asked for how often, and whether it is up to date.

import { Refused, call, keep, key, maybe, path } from "./api.js";
import { showChallengers } from "./challengers.js";
import { decisionPage, filtersOf, refreshDecisions, showFilters } from "./decisions.js";
import { h } from "./dom.js";
import { showLevers } from "./levers.js";
import * as panels from "./panels.js";

const FAST_MS = 2000, SLOW_MS = 6000;
const main = document.getElementById("main"), state = document.getElementById("state");
const span = document.getElementById("window"), tenant = document.getElementById("tenant");
const pause = document.getElementById("pause"), theme = document.getElementById("theme"), signOut = document.getElementById("sign-out");
let paused = false, last = "#/", shown = "", names = [], cascades = [], filters = {}, turn = 0;

function say(kind, text) {
  state.className = `state ${kind}`;
  if (state.textContent !== text) state.textContent = text;
}

function place() {
  const [where, query] = (location.hash || "#/").slice(1).split("?");
  const decision = /^\/decision\/([0-9a-f-]{36})$/i.exec(where)?.[1];
  return { decision, filters: filtersOf(new URLSearchParams(query ?? "")) };
}

async function fast() {
  const asked = { window: span.value, tenant: tenant.value.trim() };
  const [summary, trend] = await Promise.all([call(path("/admin/stats/summary", asked)), call(path("/admin/stats/trend", asked))]);
  if (shown !== "overview") return;
  names = summary.models.map((model) => model.model);
  panels.showTiles(summary, cascades);
  panels.showTrends(trend, names);
  panels.showModels(summary, names);
  panels.showFrontier(summary, names);
  showFilters(filters, names);
  await refreshDecisions(filters, asked.tenant);
  return summary;
}

/** What changes slowly. The panels are drawn once ``figures`` are, whose span they share. */
async function slow(figures) {
  const long = ["30d", "365d"].includes(span.value) ? span.value : "7d";
  const asked = { window: long, tenant: tenant.value.trim() };
  const [summary, staged, advice, segments, learned, policies, budget, exploration, models, alarms] = await Promise.all([
    figures, call(path("/admin/stats/cascades", { ...asked, window: span.value })),
    call(path("/admin/stats/advice", asked)), call(path("/admin/stats/segments", asked)), maybe("/admin/stats/policy"),
    maybe("/admin/policies"), maybe("/admin/budget"), maybe("/admin/exploration?newest_of=100"), maybe("/admin/models"), maybe("/admin/alarms"),
  ]);
  const serving = policies?.policies.find((one) => one.serving)?.name;
  const policy = serving ? await maybe(`/admin/policies/${encodeURIComponent(serving)}`) : null;
  if (shown !== "overview" || !summary) return;
  cascades = staged.cascades;
  panels.showTiles(summary, cascades);
  panels.showAdvice(advice.advice);
  panels.showSegments(segments, names);
  if (learned) panels.showPolicy(learned, names);
  if (policy) panels.showPosterior(policy, names, new Set((models?.models ?? []).filter((one) => one.last_resort).map((one) => one.name)));
  panels.showExploration(summary, budget, exploration);
  panels.showAlarms(models?.models ?? [], policy, alarmsOf(alarms));
  await showLevers();
  await showChallengers();
}

function alarmsOf(told) {
  return (told?.alarms ?? []).map((alarm) => ({
    title: `${String(alarm.kind).replaceAll("_", " ")}: ${alarm.subject}`,
    text: alarm.evidence,
  }));
}

async function update(whole) {
  const mine = ++turn;
  if (shown !== "overview") return;
  try {
    const figures = fast();
    await (whole ? slow(figures) : figures);
    if (mine === turn && !paused) say("live", `up to date, ${new Date().toLocaleTimeString([], { hour12: false })}`);
  } catch (error) {
    failed(error);
  }
}

function failed(error) {
  if (error instanceof Refused && [401, 403].includes(error.status)) {
    askForKey(error.message);
  } else {
    say("broken", error instanceof Refused ? error.message : "the service does not answer; trying again");
  }
}

function askForKey(why) {
  shown = "door";
  say("broken", "no access");
  signOut.hidden = true;
  main.replaceChildren(h("form", { class: "panel door", onsubmit: (event) => {
    event.preventDefault();
    keep(document.getElementById("key").value.trim());
    show();
  } },
    h("h2", {}, "API key"), key() ? h("p", { class: "error", role: "alert" }, why) : h("p", {}, "This router asks for a key with the scope admin."),
    h("label", { for: "key" }, "Key"), h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" }),
    h("p", { class: "note" }, "It stays in this tab and is forgotten when you close it. bandit-router keys create NAME --scope admin makes one."),
    h("button", { class: "primary", type: "submit" }, "Open")));
  document.getElementById("key").focus();
}

async function show() {
  const here = place();
  filters = here.filters;
  signOut.hidden = !key();
  if (here.decision) {
    shown = "decision";
    say("live", "one decision");
    try {
      const page = await decisionPage(here.decision, last);
      main.replaceChildren(page);
      main.focus();
      scrollTo(0, 0);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) askForKey(error.message);
      else main.replaceChildren(h("div", { class: "panel" }, h("a", { href: last, id: "back" }, "← Back to the overview"), h("p", { class: "error", role: "alert" }, error.message)));
    }
    return;
  }
  const back = shown === "decision", filtered = shown === "overview";
  last = location.hash || "#/";
  shown = "overview";
  if (filtered) {
    // Only the list changes; the panels stay where they are.
    const section = document.getElementById("decisions");
    const focused = document.activeElement?.id;
    section.replaceChildren(...[...section.children].slice(0, 2));
    showFilters(filters, names);
    document.getElementById(focused)?.focus();
    if (Object.values(filters).some(Boolean)) section.scrollIntoView({ block: "start" });
  } else {
    main.replaceChildren(...panels.overview());
  }
  await update(true);
  if (back) document.getElementById("decisions")?.scrollIntoView({ block: "start" });
}

function beat(whole, every) {
  setTimeout(async () => {
    if (!paused && !document.hidden && shown === "overview") await update(whole);
    beat(whole, every);
  }, every);
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  if (paused) say("", "paused");
  else update(true);
});
const THEMES = ["auto", "light", "dark"];
function dress(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Theme: ${name}`;
}
theme.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % THEMES.length];
  localStorage.setItem("theme", next);
  dress(next);
});
signOut.addEventListener("click", () => {
  keep(null);
  // Afresh, so that nothing that is still on its way is shown.
  location.reload();
});
for (const field of [span, tenant]) field.addEventListener("change", () => update(true));
addEventListener("hashchange", () => {
  if (location.hash !== "#main") show();
});
addEventListener("resize", () => shown === "overview" && update(false));
dress(localStorage.getItem("theme") ?? "auto");
if (sessionStorage.getItem("window")) span.value = sessionStorage.getItem("window");
span.addEventListener("change", () => sessionStorage.setItem("window", span.value));
show();
beat(false, FAST_MS);
beat(true, SLOW_MS);
