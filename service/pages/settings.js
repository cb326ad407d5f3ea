// The plain settings: which of them the chosen model, task and sampler have, and their defaults.

import { $, fill } from "./elements.js";
import { title } from "./models.js";
import { takes } from "./tasks.js";

const is = (id) => $(id).value !== "";
const secondPass = () => takes("passes") && is("hires_scale") && !is("refiner");

// When each is offered; a setting that is not here always is.
const OFFERED = {
  prompt: () => takes("words"),
  negative_prompt: () => takes("words"),
  prompt_syntax: () => takes("words"),
  clip_skip: ({ max_clip_skip }) => takes("words") && max_clip_skip > 0,
  size: () => takes("size"),
  image: () => takes("image") || takes("file"),
  strength: () => takes("strength"),
  class_id: () => takes("class_id"),
  boxes: () => takes("boxes"),
  loras: ({ loras }) => loras.length > 0,
  controls: ({ controlnets }) => takes("controls") && controlnets.length > 0,
  refiner: ({ refiners }) => takes("passes") && refiners.length > 0,
  refiner_start: ({ refiners }) => takes("passes") && refiners.length > 0 && is("refiner"),
  aesthetic_score: ({ reads_aesthetic_score, refiners }) =>
    reads_aesthetic_score || (takes("passes") && refiners.length > 0 && is("refiner")),
  hires_scale: ({ refiners }) => takes("passes") && !(refiners.length > 0 && is("refiner")),
  hires_strength: secondPass,
  hires_steps: secondPass,
  audio_format: ({ outputs }) => outputs.includes("sound"),
  audio_stereo: ({ outputs }) => outputs.includes("sound") && is("audio_format"),
  eta: () => $("sampler").value === "ddim",
  decoder: ({ decoders }) => decoders.length > 1,
};

/** Show what can be set, and nothing else. */
export function offerSettings(known) {
  fill($("sampler"), named("sampler", known.samplers), known.default_sampler);
  fill($("schedule"), named("schedule", known.schedules), known.default_schedule);
  fill($("refiner"), [["", "none"], ...known.refiners.map((name) => [name, name])]);
  for (const part of document.querySelectorAll("[data-of]")) {
    const offered = OFFERED[part.dataset.of];
    part.hidden = Boolean(offered) && !offered(known);
  }
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector("[data-of]:not([hidden])");
  }
}

const named = (kind, names) => names.map((name) => [name, title(kind, name)]);

/** Begin anew with what is usual for the model. */
export function takeDefaults(known) {
  for (const side of ["width", "height"]) {
    $(side).value = known[`default_${side}`];
    Object.assign($(side), { min: known.min_side, max: known.max_side, step: known.size_multiple });
  }
  for (const name of ["steps", "guidance_scale", "strength"]) $(name).value = known[`default_${name}`];
  for (const id of ["steps", "hires_steps"]) $(id).max = known.max_steps;
  $("guidance_scale").max = known.max_guidance_scale;
  $("n").max = known.max_images;
  $("clip_skip").max = known.max_clip_skip;
  $("eta").placeholder = known.default_eta;
  for (const field of document.querySelectorAll(".group [name]")) {
    if (field.matches("select")) field.selectedIndex = 0;
    else Object.assign(field, { value: "", checked: false });
  }
  for (const kind of ["sampler", "schedule"]) {
    fill($(kind), named(kind, known[`${kind}s`]));
    $(kind).value = known[`default_${kind}`];
  }
}

/** The name and value of everything that is offered and was filled in; a prompt may be empty. */
export function settings() {
  const fields = [...$("form").querySelectorAll("[name]:not([type=radio])")]
    .filter((field) => !field.closest("[hidden]") || field.name === "model");
  return fields
    .map((field) => [field.name, field.type === "checkbox" ? (field.checked ? "true" : "") : field.value.trim()])
    .filter(([name, value]) => value !== "" || name === "prompt");
}
