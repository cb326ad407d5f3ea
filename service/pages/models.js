// The models of the service, the selected one, and its state.

import { requestJson } from "./api.js";
import { $, setOptions } from "./elements.js";

let cards = [];
const titles = { sampler: {}, schedule: {} };

/** Return the card of the selected model; undefined before the first `loadModels`. */
export const card = () => cards.find(({ name }) => name === $("model").value);

/** Return the usual title of a sampler or a schedule. */
export const title = (kind, name) => titles[kind][name] ?? name;

/** Load the models, samplers and schedules from the service. */
export async function loadModels() {
  const [{ models }, { samplers, schedules }] =
    await Promise.all([requestJson("/v1/models"), requestJson("/v1/samplers")]);
  cards = models;
  for (const sampler of samplers) titles.sampler[sampler.name] = sampler.title;
  for (const schedule of schedules) titles.schedule[schedule.name] = schedule.title;
  setOptions($("model"), cards.map((model) => [model.name, model.name + shortState(model)]));
}

/** Show the description and state of the selected model; nothing for a single model without them. */
export function showModelState() {
  const model = card();
  if (!model) return;
  const sentences = [model.description, state(model)].filter(Boolean);
  $("model-choice").hidden = cards.length < 2;
  $("model-state").textContent = sentences.join(" ");
  $("model-state").hidden = sentences.length === 0;
}

function shortState({ ready, loading, trouble, on_demand }) {
  if (ready) return "";
  if (loading !== null) return ` · loading, ${percent(loading)}`;
  if (trouble) return " · failed to load";
  return on_demand ? " · on demand" : " · not served";
}

function state({ ready, loading, trouble, on_demand }) {
  if (ready) return "";
  if (loading !== null) return `It is being loaded: ${percent(loading)}.`;
  if (trouble) return `It could not be loaded: ${trouble}`;
  return on_demand ? "It is loaded when a job needs it." : "No worker serves it at the moment.";
}

const percent = (share) => `${Math.round(100 * share)} %`;
