// The tasks of a model, and the inputs of each task.

import { $, hasChanged } from "./elements.js";
import { card } from "./models.js";

// Inputs of each task in addition to the common settings. "file": the image is used as it is;
// "image": it is used as shown.
const INPUTS = {
  txt2img: ["prompt", "size", "controls", "passes"],
  img2img: ["prompt", "size", "controls", "image", "strength", "tiles"],
  inpaint: ["prompt", "size", "controls", "image", "mask", "strength"],
  outpaint: ["prompt", "file", "strength", "border"],
  upscale: ["prompt", "file", "upscaler"],
  unconditional: ["size"],
  class: ["size", "class_id"],
  layout: ["size", "boxes"],
  semantic: ["size", "file"],
};
// Of img2img in tiles, which scales the file up itself.
const TILED = ["prompt", "controls", "file", "strength", "upscaler", "tiles"];

const tabs = () => [...document.querySelectorAll("input[name=task]")];

export const task = () => tabs().find((tab) => tab.checked).value;

export const isTiled = () => task() === "img2img" && $("tile_size").value !== "";

export const takes = (input) => (isTiled() ? TILED : INPUTS[task()]).includes(input)
  && (input !== "prompt" || !card() || card().max_prompt_tokens > 0);

/** Select a task, with the same events as a click on its tab. */
export function selectTask(name) {
  const tab = tabs().find(({ value }) => value === name);
  tab.checked = true;
  tab.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Show the tabs of the model's tasks; one of them is selected. */
export function showTasks({ tasks: own, upscalers, class_names }) {
  const tasks = upscalers.length > 0 ? [...own, "upscale"] : own;
  for (const tab of tabs()) tab.parentElement.hidden = !tasks.includes(tab.value);
  if (!tasks.includes(task())) tabs().find(({ value }) => value === tasks[0]).checked = true;
  if (!hasChanged($("classes"), class_names)) return;
  $("classes").replaceChildren(...class_names.map((name, index) => new Option(name, index)));
}

/** Parse the boxes: on each line a class, by number or name, and four shares of the sides. */
export function boxes() {
  const lines = $("boxes").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => {
    const parts = line.split(/[\s,]+/);
    const [x, y, width, height] = parts.slice(-4).map(Number);
    const name = parts.slice(0, -4).join(" ");
    return { class: /^\d+$/.test(name) ? Number(name) : name, x, y, width, height };
  });
}
