// Levers: freeze and thaw, and back to an earlier snapshot. Each asks before it acts.

import { call, maybe } from "./api.js";
import { h, redraw, table } from "./dom.js";
import { moment } from "./format.js";

/** Ask in a dialog; resolves to whether the answer was yes. */
export function confirmed(title, text, word, danger) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
      h("h2", { id: "dialog-title" }, title), h("p", {}, text),
      h("div", { class: "row" },
        h("button", { type: "button", id: "confirm", class: danger ? "danger" : "primary", onclick: () => dialog.close("yes") }, word),
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

let told = "";

async function act(path, word, again, body) {
  try {
    await call(path, { method: "POST", body });
    told = word;
  } catch (error) {
    told = `Refused: ${error.message}`;
  }
  document.activeElement?.blur();
  await again();
}

export async function showLevers() {
  const section = document.getElementById("levers");
  if (!section) return;
  const node = section.querySelector(".body") ?? section.appendChild(h("div", { class: "body" }));
  const [frozen, found] = await Promise.all([maybe("/admin/live"), maybe("/admin/snapshots?limit=40")]);
  const snapshots = [...(found?.snapshots ?? [])].filter((one, index, all) => index < 3 || one.reason !== "fold" || index === all.length - 1).slice(0, 8);
  redraw(node, [frozen, snapshots, told], () => [
    h("p", { role: "status", id: "lever-state" }, told),
    frozen ? freezing(frozen) : null,
    h("h3", {}, "Snapshots of what was learned"),
    snapshots.length ? table("Snapshots", [
      { title: "Version", number: true, cell: (one) => String(one.version) },
      { title: "At", cell: (one) => moment(one.created_at) },
      { title: "Because of", cell: (one) => one.reason },
      { title: "", cell: (one) => frozen && one !== found.snapshots[0] ? h("button", { type: "button", "data-rollback": one.version, "aria-label": `Roll back to snapshot ${one.version}`, onclick: async () => {
        if (await confirmed(`Back to snapshot ${one.version}?`, "What that version believed is believed again, as a new snapshot. What was decided since teaches nothing any more; the log is kept.", "Roll back", true)) {
          await act("/admin/snapshots/rollback", `Rolled back to snapshot ${one.version}.`, showLevers, { version: one.version, reason: "from the dashboard" });
        }
      } }, "Roll back") : null },
    ], snapshots) : h("p", { class: "empty" }, "No snapshot yet."),
  ]);
}

function freezing(frozen) {
  const on = frozen.frozen;
  return h("p", { class: "row" },
    h("span", { class: on ? "badge warning" : "badge good", id: "frozen" }, on ? "exploration frozen" : "exploring"),
    h("button", { type: "button", id: "freeze", class: on ? "primary" : null, onclick: async () => {
      const path = on ? "/admin/exploration/unfreeze" : "/admin/exploration/freeze";
      const sure = await confirmed(on ? "Thaw?" : "Freeze?", on ? "The policy explores again." : "What looks best is chosen and nothing is tried, until you thaw it. Learning from feedback goes on.", on ? "Thaw" : "Freeze", false);
      if (sure) await act(path, on ? "Thawed." : "Frozen.", showLevers);
    } }, on ? "Thaw" : "Freeze"));
}
