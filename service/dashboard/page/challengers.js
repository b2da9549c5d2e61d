// The challenger on trial: how it stands, in words and numbers, and the buttons of every step.

import { call, maybe } from "./api.js";
import { h, redraw, table } from "./dom.js";
import { count, fixed, moment, percent } from "./format.js";
import { confirmed } from "./levers.js";

let told = "";

const STEPS = {
  start: ["Start in shadow", "It is asked about every decision and followed in none.", false],
  canary: ["Give it its share", "It chooses for its share of the requests, by an exact mixture. It goes back by itself when it is worse.", false],
  shadow: ["Back to shadow", "Its share of the requests is taken away; it is only asked from now on.", false],
  promote: ["Promote", "It serves all requests from now on. One click undoes it.", true],
  abort: ["End the trial", "Who serves goes on serving; what the challenger learned is kept in the log's snapshots.", true],
  rollback: ["Undo the promotion", "Who served before serves again, having learned from everything since.", true],
};

function button(step, subject, body = { reason: "from the dashboard" }) {
  const [word, text, danger] = STEPS[step];
  return h("button", { type: "button", "data-step": step, class: danger ? "danger" : "primary", "aria-label": `${word}: ${subject}`, onclick: async () => {
    if (!await confirmed(`${word}: ${subject}?`, text, word, danger)) return;
    try {
      await call(`/admin/challengers/${step}`, { method: "POST", body });
      told = `Done: ${word.toLowerCase()}, ${subject}.`;
    } catch (error) {
      told = `Refused: ${error.message}`;
    }
    document.activeElement?.blur();
    await showChallengers();
    // What the router makes of the step is known a moment later.
    setTimeout(showChallengers, 2000);
  } }, word);
}

const signed = (value) => value < 0 ? fixed(value, 3) : `+${fixed(value, 3)}`;

function onTrial(trial) {
  const { challenger, numbers, verdict, stage } = trial;
  const name = challenger.name;
  return [
    h("p", { class: "row" },
      h("span", { class: trial.held ? "badge warning" : "badge good", id: "trial-stage" }, trial.held ? "sent back" : stage),
      h("strong", {}, name), stage === "canary" ? `chooses for ${percent(challenger.share, 0)} of requests` : "is asked and not followed"),
    trial.held ? h("p", { id: "trial-held" }, `Sent back: ${trial.held}`) : null,
    verdict ? h("p", { id: "trial-verdict" }, verdict.reason) : null,
    numbers?.rewards ? h("p", { class: "note" },
      `Reward beside the champion's: ${signed(numbers.difference)}, surely between ${signed(numbers.low)} and ${signed(numbers.high)}; ${count(numbers.rewards)} rewards, worth ${count(Math.round(numbers.effective_sample_size))} decisions of its own.`) : null,
    h("p", { class: "row" },
      button(stage === "canary" ? "shadow" : "canary", name), button("promote", name), button("abort", name)),
  ];
}

const waiting = (declared) => declared.length
  ? declared.map((one) => h("p", { class: "row" }, h("strong", {}, one.name), button("start", one.name, { name: one.name })))
  : h("p", { class: "empty" }, "Nobody is on trial, and the configuration declares no [[challengers]].");

export async function showChallengers() {
  const section = document.getElementById("challengers");
  if (!section) return;
  const node = section.querySelector(".body") ?? section.appendChild(h("div", { class: "body" }));
  const found = await maybe("/admin/challengers?limit=6");
  redraw(node, [found, told], () => found ? [
    h("p", { role: "status", id: "challenger-state" }, told),
    h("p", { class: "row" }, "Serving: ", h("strong", { id: "champion" }, found.serving.line), found.serving.promoted ? button("rollback", found.serving.promoted.name) : null),
    ...(found.trial ? onTrial(found.trial) : [waiting(found.declared)]),
    found.steps.length ? table("Steps of trials", [
      { title: "At", cell: (step) => moment(step.at) },
      { title: "Step", cell: (step) => step.action.replace("challengers.", "") },
      { title: "Challenger", cell: (step) => step.subject },
      { title: "By", cell: (step) => step.actor },
      { title: "Reason", wrap: true, cell: (step) => step.detail.error ?? step.detail.reason ?? "" },
    ], found.steps) : null,
  ] : h("p", { class: "empty" }, "Trials concern all tenants: this key may not see them."));
}
