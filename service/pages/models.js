// The models there are, which of them is chosen, and how it is with it.

import { ask } from "./calls.js";
import { $, fill } from "./elements.js";

let cards = [];
const titles = { sampler: {}, schedule: {} };

/** The card of the chosen model, as of late; undefined before any is known. */
export const card = () => cards.find((known) => known.name === $("model").value);

/** What people call a sampler or a schedule. */
export const title = (kind, name) => titles[kind][name] ?? name;

/** Ask what there is now. */
export async function look() {
  const [{ models }, { samplers, schedules }] =
    await Promise.all([ask("/v1/models"), ask("/v1/samplers")]);
  cards = models;
  for (const known of samplers) titles.sampler[known.name] = known.title;
  for (const known of schedules) titles.schedule[known.name] = known.title;
  fill($("model"), cards.map((known) => [known.name, known.name + inShort(known)]));
}

/** Say how it is with the model, unless all is well with the only one there is. */
export function tell() {
  const known = card();
  if (!known) return;
  const words = [known.description, inWords(known)].filter(Boolean);
  $("choice").hidden = cards.length < 2;
  $("model-state").textContent = words.join(" ");
  $("model-state").hidden = words.length === 0;
}

function inShort({ ready, loading, trouble, on_demand }) {
  if (ready) return "";
  if (loading !== null) return ` · loading, ${percent(loading)}`;
  if (trouble) return " · in trouble";
  return on_demand ? " · on demand" : " · away";
}

function inWords({ ready, loading, trouble, on_demand }) {
  if (ready) return "";
  if (loading !== null) return `It is being loaded: ${percent(loading)}.`;
  if (trouble) return `It could not be loaded: ${trouble}`;
  return on_demand ? "It is loaded when it is asked for." : "No worker has it at the moment.";
}

const percent = (share) => `${Math.round(100 * share)} %`;
