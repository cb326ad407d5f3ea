// The settings that the selected model, task and sampler have.

import { $, setOptions } from "../base/dom.js";
import { inputImage } from "../inputs/input_image.js";
import { text } from "../strings.js";
import { title } from "./models.js";
import { isTiled, takes, takesInputImage, task } from "./tasks.js";

const isSet = (id) => $(id).value !== "";
export const denoises = () => task() !== "upscale" || !isSet("upscaler");
export const isBySize = () => takes("border") && $("border_by").value === "size";
const hasHiresFix = () => takes("passes") && isSet("hires_scale") && !isSet("refiner");

/** Return true if the result gets the size of the input image, so that no size is sent. */
export const usesOwnSize = () => takes("image") && Boolean(inputImage()) && $("size_source").value === "image";

// The first is the default; for a border, the first of the others.
const CONTENTS = Object.entries(text.options.masked_content);
const INPAINTING = ["mask_source", "mask_mode", "mask_blur", "mask_grow", "mask_invert", "inpaint_area"];

// The condition under which each setting is visible; others always are.
const VISIBLE = {
  prompt: () => takes("prompt") && denoises(),
  negative_prompt: () => takes("prompt") && denoises(),
  prompt_syntax: () => takes("prompt") && denoises(),
  clip_skip: ({ max_clip_skip }) => takes("prompt") && denoises() && max_clip_skip > 0,
  image_guidance_scale: ({ default_image_guidance_scale: scale }) => task() === "img2img" && scale !== null,
  noise_level: ({ default_noise_level: level }) => task() === "upscale" && denoises() && level !== null,
  depth_map: ({ reads_depth_map }) => task() === "img2img" && reads_depth_map,
  size: () => (takes("size") && !usesOwnSize() && !isTiled()) || isBySize(),
  aspect: () => takes("size"),
  size_source: () => takes("image") && Boolean(inputImage()),
  image: takesInputImage,
  strength: () => takes("strength"),
  noise_multiplier: () => takes("strength"),
  resize_mode: () => takes("image") && Boolean(inputImage()) && !usesOwnSize() && !(takes("mask") && isSet("inpaint_area")),
  border_by: () => takes("border"),
  borders: () => takes("border") && !isBySize(),
  anchor: isBySize,
  edge_blend: () => takes("border"),
  masked_content: () => takes("mask") || takes("border"),
  ...Object.fromEntries(INPAINTING.map((name) => [name, () => takes("mask")])),
  mask_padding: () => takes("mask") && isSet("inpaint_area"),
  tile_size: () => takes("tiles"),
  tile_overlap: isTiled,
  class_id: () => takes("class_id"),
  boxes: () => takes("boxes"),
  map: () => takes("map"),
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
  ...Object.fromEntries(["steps", "n", "guidance_scale", "sampler", "schedule", "guidance_rescale", "guidance_start",
    "guidance_end"].map((name) => [name, denoises])),
  audio_format: ({ outputs }) => denoises() && outputs.includes("sound"),
  audio_stereo: ({ outputs }) => denoises() && outputs.includes("sound") && isSet("audio_format"),
  eta: () => denoises() && $("sampler").value === "ddim",
  decoder: ({ decoders }) => denoises() && decoders.length > 1,
  quality: () => $("output_format").value !== "png",
};

/** Show the settings of the model `card` for the selected task; hide all others. */
export function showSettings(card) {
  setOptions($("sampler"), withTitles("sampler", card.samplers), card.default_sampler);
  setOptions($("schedule"), withTitles("schedule", card.schedules), card.default_schedule);
  setOptions($("refiner"), [["", text.none], ...card.refiners.map((name) => [name, name])]);
  setUpscalers(card);
  setOptions($("masked_content"), takes("border") ? CONTENTS.slice(1) : CONTENTS);
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
  const every = [...networks, ["lanczos", text.lanczos], ["nearest", text.nearest]];
  const own = isTiled() ? [["", text.lanczos]] : tasks.includes("upscale") ? [["", text.the_model]] : [];
  setOptions($("upscaler"), upscalers.length > 0 ? [...own, ...every] : [["", ""]]);
  setOptions($("upscaler_2"), [["", text.none], ...every]);
  setOptions($("hires_upscaler"), [["", text.latents], ...every]);
}

export const withTitles = (kind, names) => names.map((name) => [name, title(kind, name)]);

// Fields of text; all other values of the form are numbers, or text that the API refuses with a reason.
const TEXTS = ["prompt", "negative_prompt", "model"];

/** Return the value of every visible setting that has one, by its name in the API. A prompt may be empty. */
export function settingValues() {
  const values = {};
  for (const field of $("form").querySelectorAll("[name]:not([type=radio])")) {
    if (field.closest("[hidden]") && field.name !== "model") continue;
    const value = valueOf(field);
    if (value !== "" || field.name === "prompt") values[field.name] = value;
  }
  return values;
}

function valueOf({ type, name, checked, value }) {
  if (type === "checkbox") return checked || "";
  if (name === "metadata") return value === "false" ? false : "";
  const trimmed = TEXTS.includes(name) ? value : value.trim();
  const isNumber = type === "number" || name === "seed" || name === "class_id";
  return isNumber && trimmed !== "" && Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
}
