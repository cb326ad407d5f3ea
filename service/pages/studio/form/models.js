// The models of the service, the selected one, and its state.

import { requestJson } from "../api.js";
import { $, setOptions } from "../base/dom.js";
import { percent } from "../base/format.js";
import { text } from "../strings.js";

let cards = [];
const titles = { sampler: {}, schedule: {} };

/** Return the card of the selected model; undefined before the first `loadModels`. */
export const card = () => cards.find(({ name }) => name === $("model").value);

/** Return the card of a model by its name or alias. */
export const cardOf = (wanted) => cards.find(({ name, aliases }) => name === wanted || aliases.includes(wanted));

/** Return the usual title of a sampler or a schedule. */
export const title = (kind, name) => titles[kind][name] ?? name;

/** Load the models, samplers and schedules from the service. */
export async function loadModels() {
  const [{ models }, { samplers, schedules }] =
    await Promise.all([requestJson("/v1/models"), requestJson("/v1/samplers")]);
  cards = models;
  for (const sampler of samplers) titles.sampler[sampler.name] = sampler.title;
  for (const schedule of schedules) titles.schedule[schedule.name] = schedule.title;
  setOptions($("model"), cards.map((model) => [model.name, model.name + suffix(model)]));
}

/** Show the description and state of the selected model. */
export function showModelState() {
  const model = card();
  if (!model) return;
  const state = stateOf(model);
  const words = state && text.sentences[state[0]];
  const sentence = typeof words === "function" ? words(state[1]) : words;
  const sentences = [model.description, sentence].filter(Boolean);
  $("model-state").textContent = sentences.join(" ");
  $("model-state").hidden = sentences.length === 0;
  $("model-loading").hidden = model.ready || model.loading === null;
  $("model-loading").value = model.loading ?? 0;
}

/** Return the state of a model that is not ready and what belongs to it; null if it is ready. */
function stateOf({ ready, loading, trouble, on_demand }) {
  if (ready) return null;
  if (loading !== null) return ["loading", percent(loading)];
  if (trouble) return ["failed", trouble];
  return [on_demand ? "on_demand" : "not_served"];
}

function suffix(model) {
  const state = stateOf(model);
  if (!state) return "";
  const words = text.states[state[0]];
  return ` · ${typeof words === "function" ? words(state[1]) : words}`;
}
