// What features are called, and what the terms on this page mean.

import { h, panel } from "./dom.js";
import { words } from "./format.js";

const TOGETHER = { likeness: "likeness to earlier requests" };

/** A feature in words; labels as callers wrote them, where that is known. */
export function featureName(name, known) {
  const label = known?.[name];
  if (label) return `${label.key}: ${[...label.high, ...label.low].join(" or ")}`;
  const hashed = /^metadata\.(.+)\[\d+\]$/.exec(name);
  if (hashed) return `${hashed[1]}: a value not known here`;
  return TOGETHER[name] ?? words(name);
}

/** Whether a hashed label is present where its feature is low. */
export const turned = (name, known) => Boolean(known?.[name]?.low.length && !known[name].high.length);

const TERMS = [
  ["Quality, reward", "What feedback said of an answer, from 0 (useless) to 1 (as good as can be). An answer that nobody judged has none; it does not count as 0. Bad is a reward below 0.5."],
  ["Policy", "The rule by which a model is chosen. It is learned from feedback; nobody writes it."],
  ["Probability (propensity)", "How likely this model was to be drawn for this request. The choice is drawn at random with these probabilities, so that the log can tell what other choices would have brought."],
  ["Utility", "Expected quality, less what the answer costs and how long it takes, both counted in quality. The model with the most utility looks best."],
  ["Price of a dollar (λ, lambda)", "How much quality a dollar has to bring to be spent. The router sets it by itself so that the budget holds: it rises while too much is spent."],
  ["Escalation", "A request that went to a dearer model than the cheapest one that could have taken it."],
  ["Cascade", "A request that a cheaper model answers first; where a check finds the answer wanting, a stronger model is asked as well. The figure is the share that went on."],
  ["Fallback", "A request that another model answered, because the one chosen failed."],
  ["Exploration, forced look", "Trying a model that does not look best, to notice when it has become better. A forced look is a try that is due because the model was used too little of late; it has a budget of its own."],
  ["Undecidedness (entropy)", "How evenly the probabilities are spread: 0 where one model is certain, 0.69 where two are equally likely."],
  ["Frontier", "The best quality for each price that single models reach. A point above the dashed line is better than any mix of them."],
  ["Snapshot", "A stored version of what was learned. One can go back to it."],
  ["Breaker", "Keeps requests away from a model that keeps failing, and tries it again now and then."],
  ["Mode", "Who chose: the policy, the caller by name (override), the session before (sticky), or a rule of the configuration."],
];

/** The terms, to be opened by whoever wants them. */
export const glossary = () => panel("words", "What the words mean", "", null,
  h("details", {}, h("summary", {}, "Show"), h("dl", { class: "terms" }, TERMS.map(([term, meaning]) => h("div", {}, h("dt", {}, term), h("dd", {}, meaning))))));
