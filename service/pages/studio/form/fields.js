// The kind of each setting, and the elements built from it. Bounds of the model follow in defaults.js.

import { $, element } from "../base/dom.js";
import { text } from "../strings.js";

const number = (min, max, step = 1) => ({ type: "number", min, max, step });
const slider = (min, max, step = 1) => ({ ...number(min, max, step), slider: true });
const select = { type: "select" };
const checkbox = { type: "checkbox" };

const FIELDS = {
  n: slider(1, 10),
  steps: slider(1, 150),
  guidance_scale: slider(0, 30, 0.1),
  strength: slider(0.05, 1, 0.05),
  sampler: select,
  schedule: select,
  width: number(1, 16384),
  height: number(1, 16384),
  size_source: select,
  resize_mode: select,
  noise_multiplier: number(0, 1.5, 0.05),
  tile_size: number(8, 8192),
  tile_overlap: number(0, 4096),
  upscaler: select,
  scale: number(1, 16, 0.1),
  upscaler_2: select,
  upscaler_blend: number(0, 1, 0.05),
  border_by: select,
  left: number(0, 16384),
  right: number(0, 16384),
  top: number(0, 16384),
  bottom: number(0, 16384),
  anchor: select,
  edge_blend: number(0, 256),
  mask_source: select,
  mask_mode: select,
  mask_blur: number(0, 64),
  mask_grow: number(-64, 64),
  mask_invert: checkbox,
  inpaint_area: select,
  mask_padding: number(0, 512),
  masked_content: select,
  hires_scale: number(1.1, 8, 0.1),
  hires_strength: number(0.05, 1, 0.05),
  hires_steps: number(1, 150),
  hires_upscaler: select,
  refiner: select,
  refiner_start: number(0.05, 0.95, 0.05),
  aesthetic_score: number(0, 10, 0.5),
  prompt_syntax: select,
  clip_skip: number(0, 12),
  image_guidance_scale: number(1, 20, 0.1),
  noise_level: number(0, 1000),
  guidance_rescale: number(0, 1, 0.1),
  guidance_start: number(0, 1, 0.05),
  guidance_end: number(0, 1, 0.05),
  eta: number(0, 1, 0.1),
  decoder: select,
  audio_format: select,
  audio_stereo: checkbox,
  output_format: select,
  quality: number(1, 100),
  metadata: select,
  priority: select,
};
// Settings of the page that are no fields of the API.
const OWN = ["size_source", "border_by"];

/** Fill each element that names settings in data-fields with them. */
export function buildFields(root) {
  for (const place of root.querySelectorAll("[data-fields]")) {
    place.append(...place.dataset.fields.split(" ").map(setting));
  }
}

function setting(name) {
  const field = FIELDS[name];
  const input = field.type === "select" ? menu(name) : inputOf(name, field);
  const label = element("label", { htmlFor: name, textContent: text.fields[name] });
  const data = { setting: name, help: name };
  if (field.type === "checkbox") return element("div", { className: "check", data }, input, label);
  if (!field.slider) return element("div", { data }, label, input);
  return element("div", { className: "slider", data }, label, input, sliderOf(input));
}

function menu(name) {
  const options = Object.entries(text.options[name] ?? {});
  const created = element("select", { id: name, ...(!OWN.includes(name) && { name }) },
    ...options.map(([value, label]) => new Option(label, value)));
  return created;
}

function inputOf(name, { type, min, max, step }) {
  const bounds = type === "number" ? { min, max, step } : {};
  return element("input", { id: name, name, type, ...bounds, placeholder: text.placeholders[name] ?? "" });
}

/** Return a slider beside a number, for pointers only: the number is there for the keyboard. */
function sliderOf(input) {
  const { min, max, step } = input;
  const created = element("input", { type: "range", min, max, step, tabIndex: -1, data: { sliderFor: input.id } });
  created.setAttribute("aria-hidden", "true");
  created.addEventListener("input", () => {
    input.value = created.value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  created.addEventListener("change", () => input.dispatchEvent(new Event("change", { bubbles: true })));
  return created;
}

/** Move the sliders to the numbers beside them. */
export function updateSliders() {
  for (const slider of document.querySelectorAll("[data-slider-for]")) {
    const { min, max, step, value } = $(slider.dataset.sliderFor);
    Object.assign(slider, { min, max, step, value });
    const share = (slider.value - slider.min) / (slider.max - slider.min || 1);
    slider.style.setProperty("--share", `${100 * share}%`);
  }
}
