// The settings that the selected model, task and sampler have, and their defaults.

import { $, setOptions } from "./elements.js";
import { title } from "./models.js";
import { isTiled, takes, task } from "./tasks.js";

const isSet = (id) => $(id).value !== "";
export const denoises = () => task() !== "upscale" || !isSet("upscaler");
const isBySize = () => takes("border") && $("border_by").value === "size";
const hasHiresFix = () => takes("passes") && isSet("hires_scale") && !isSet("refiner");

// What a masked area, or a border, holds at the start. The first is the default.
const ORIGINAL = ["original", "original"];
const NEW_CONTENT = [["fill", "fill: colours around it"], ["noise", "noise"], ["nothing", "nothing"]];

// The condition under which each setting is visible; others always are.
const VISIBLE = {
  prompt: () => takes("prompt") && denoises(),
  negative_prompt: () => takes("prompt") && denoises(),
  prompt_syntax: () => takes("prompt") && denoises(),
  clip_skip: ({ max_clip_skip }) => takes("prompt") && denoises() && max_clip_skip > 0,
  size: () => takes("size") || isBySize(),
  image: () => takes("image") || takes("file"),
  strength: () => takes("strength"),
  noise_multiplier: () => takes("strength"),
  resize_mode: () => task() === "img2img" && !isTiled(),
  border: () => takes("border"),
  borders: () => takes("border") && !isBySize(),
  anchor: isBySize,
  edge_blend: () => takes("border"),
  masked_content: () => takes("mask") || takes("border"),
  ...Object.fromEntries(
    ["mask_source", "mask_mode", "mask_blur", "mask_grow", "mask_invert", "inpaint_area"]
      .map((name) => [name, () => takes("mask")])),
  mask_padding: () => takes("mask") && isSet("inpaint_area"),
  tile_size: () => takes("tiles"),
  tile_overlap: isTiled,
  class_id: () => takes("class_id"),
  boxes: () => takes("boxes"),
  loras: ({ loras }) => denoises() && loras.length > 0,
  controls: ({ controlnets }) => takes("controls") && controlnets.length > 0,
  refiner: ({ refiners }) => takes("passes") && refiners.length > 0,
  refiner_start: ({ refiners }) => takes("passes") && refiners.length > 0 && isSet("refiner"),
  aesthetic_score: ({ reads_aesthetic_score, refiners }) =>
    reads_aesthetic_score || (takes("passes") && refiners.length > 0 && isSet("refiner")),
  hires_scale: ({ refiners }) => takes("passes") && !(refiners.length > 0 && isSet("refiner")),
  hires_strength: hasHiresFix,
  hires_steps: hasHiresFix,
  hires_upscaler: hasHiresFix,
  upscaler: ({ upscalers }) => takes("upscaler") && upscalers.length > 0,
  scale: () => !denoises() || isTiled(),
  upscaler_2: () => !denoises(),
  upscaler_blend: () => !denoises() && isSet("upscaler_2"),
  sampling: denoises,
  image_guidance_scale: ({ default_image_guidance_scale }) =>
    task() === "img2img" && default_image_guidance_scale !== null,
  noise_level: ({ default_noise_level }) =>
    task() === "upscale" && denoises() && default_noise_level !== null,
  depth_map: ({ reads_depth_map }) => task() === "img2img" && reads_depth_map,
  guidance_rescale: denoises,
  audio_format: ({ outputs }) => denoises() && outputs.includes("sound"),
  audio_stereo: ({ outputs }) => denoises() && outputs.includes("sound") && isSet("audio_format"),
  eta: () => denoises() && $("sampler").value === "ddim",
  decoder: ({ decoders }) => denoises() && decoders.length > 1,
};

/** Show the settings of the model `card` for the selected task; hide all others. */
export function showSettings(card) {
  setOptions($("sampler"), withTitles("sampler", card.samplers), card.default_sampler);
  setOptions($("schedule"), withTitles("schedule", card.schedules), card.default_schedule);
  setOptions($("refiner"), [["", "none"], ...card.refiners.map((name) => [name, name])]);
  setUpscalers(card);
  setOptions($("masked_content"), takes("border") ? NEW_CONTENT : [ORIGINAL, ...NEW_CONTENT]);
  for (const setting of document.querySelectorAll("[data-setting]")) {
    const isVisible = VISIBLE[setting.dataset.setting];
    setting.hidden = Boolean(isVisible) && !isVisible(card);
  }
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector("[data-setting]:not([hidden])");
  }
}

/** Offer the upscalers, and where the model upscales itself, that too. */
function setUpscalers({ tasks, upscalers }) {
  const networks = upscalers.map(({ name, scale }) => [name, `${name} (${scale}×)`]);
  const all = [...networks, ["lanczos", "Lanczos"], ["nearest", "Nearest"]];
  const own = isTiled() ? [["", "Lanczos"]] : tasks.includes("upscale") ? [["", "the model"]] : [];
  setOptions($("upscaler"), upscalers.length > 0 ? [...own, ...all] : [["", ""]]);
  setOptions($("upscaler_2"), [["", "none"], ...all]);
  setOptions($("hires_upscaler"), [["", "latents"], ...all]);
}

const withTitles = (kind, names) => names.map((name) => [name, title(kind, name)]);

/** Set all settings to the defaults of the model. */
export function applyDefaults(card) {
  for (const side of ["width", "height"]) {
    $(side).value = card[`default_${side}`];
    Object.assign($(side), { min: card.min_side, max: card.max_side, step: card.size_multiple });
  }
  for (const name of ["steps", "guidance_scale", "strength"]) $(name).value = card[`default_${name}`];
  for (const id of ["steps", "hires_steps"]) $(id).max = card.max_steps;
  for (const id of ["tile_size", "tile_overlap"]) $(id).step = card.size_multiple;
  $("guidance_scale").max = card.max_guidance_scale;
  $("n").max = card.max_images;
  $("clip_skip").max = card.max_clip_skip;
  $("eta").placeholder = card.default_eta;
  $("noise_level").placeholder = card.default_noise_level;
  $("noise_level").max = card.max_noise_level;
  $("image_guidance_scale").placeholder = card.default_image_guidance_scale;
  for (const field of document.querySelectorAll(".group [name]")) {
    if (field.matches("select")) field.selectedIndex = 0;
    else Object.assign(field, { value: "", checked: false });
  }
  for (const kind of ["sampler", "schedule"]) {
    setOptions($(kind), withTitles(kind, card[`${kind}s`]));
    $(kind).value = card[`default_${kind}`];
  }
}

/** Return [name, value] of every visible setting that has a value; a prompt may be empty. */
export function formSettings() {
  const fields = [...$("form").querySelectorAll("[name]:not([type=radio])")]
    .filter((field) => !field.closest("[hidden]") || field.name === "model");
  return fields
    .map((field) => [field.name, field.type === "checkbox" ? (field.checked ? "true" : "") : field.value.trim()])
    .filter(([name, value]) => value !== "" || name === "prompt");
}
