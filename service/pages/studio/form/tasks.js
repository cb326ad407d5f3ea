// The tasks of a model, and the inputs of each task.

import { $ } from "../base/dom.js";
import { card } from "./models.js";

// Inputs of each task in addition to the common settings. "image": it may be resized to the size that is
// set; "file": it is used as it is.
const INPUTS = {
  txt2img: ["prompt", "size", "controls", "passes"],
  img2img: ["prompt", "size", "controls", "image", "strength", "tiles"],
  inpaint: ["prompt", "size", "controls", "image", "mask", "strength"],
  outpaint: ["prompt", "file", "strength", "border"],
  upscale: ["prompt", "file", "upscaler"],
  unconditional: ["size"],
  class: ["size", "class_id"],
  layout: ["size", "boxes"],
  semantic: ["size", "map"],
};
// Of img2img in tiles, which scales the file up itself.
const TILED = ["prompt", "controls", "file", "strength", "upscaler", "tiles"];

const tabs = () => [...document.querySelectorAll("input[name=task]")];

export const task = () => tabs().find((tab) => tab.checked).value;

export const isTiled = () => task() === "img2img" && $("tile_size").value !== "";

export const takes = (input) => (isTiled() ? TILED : INPUTS[task()]).includes(input)
  && (input !== "prompt" || !card() || card().max_prompt_tokens > 0);

export const takesInputImage = () => takes("image") || takes("file");

/** Return the tasks of a model; upscalers add one that the model itself need not have. */
export const tasksOf = ({ tasks, upscalers }) =>
  (upscalers.length > 0 && !tasks.includes("upscale") ? [...tasks, "upscale"] : tasks);

/** Select a task, with the same events as a click on its tab. */
export function selectTask(name) {
  const tab = tabs().find(({ value }) => value === name);
  if (tab.checked) return;
  tab.checked = true;
  tab.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Show the tabs of the model's tasks; one of them is selected. */
export function showTasks(model) {
  const tasks = tasksOf(model);
  for (const tab of tabs()) tab.parentElement.hidden = !tasks.includes(tab.value);
  if (!tasks.includes(task())) tabs().find(({ value }) => value === tasks[0]).checked = true;
}
