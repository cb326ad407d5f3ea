// The model's bounds and defaults, set when a model is selected.

import { $, setOptions } from "../base/dom.js";
import { updateSliders } from "./fields.js";
import { withTitles } from "./settings.js";

/** Set the bounds of the model, and all settings to its defaults. */
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
  $("n").value ||= 1;
  $("clip_skip").max = card.max_clip_skip;
  $("eta").placeholder = card.default_eta;
  $("image_guidance_scale").placeholder = card.default_image_guidance_scale;
  $("noise_level").placeholder = card.default_noise_level;
  $("noise_level").max = card.max_noise_level;
  for (const field of document.querySelectorAll(".group [name]")) {
    if (field.matches("select")) field.selectedIndex = 0;
    else Object.assign(field, { value: "", checked: false });
  }
  for (const kind of ["sampler", "schedule"]) {
    setOptions($(kind), withTitles(kind, card[`${kind}s`]));
    $(kind).value = card[`default_${kind}`];
  }
  updateSliders();
}
