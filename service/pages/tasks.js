// What can be made, and what each task takes.

import { $, renewed } from "./elements.js";
import { card } from "./models.js";

// What each task takes beside the settings of all; a file is sent as it is, an image as it is shown.
const TAKES = {
  txt2img: ["words", "size", "controls", "passes"],
  img2img: ["words", "size", "controls", "image", "strength"],
  inpaint: ["words", "size", "controls", "image", "mask", "strength"],
  upscale: ["file"],
  unconditional: ["size"],
  class: ["size", "class_id"],
  layout: ["size", "boxes"],
  semantic: ["size", "file"],
};

const tabs = () => [...document.querySelectorAll("input[name=task]")];

export const task = () => tabs().find((tab) => tab.checked).value;

export const takes = (what) => TAKES[task()].includes(what)
  && (what !== "words" || !card() || card().max_prompt_tokens > 0);

/** Another task, as if the visitor had chosen it. */
export function choose(name) {
  const tab = tabs().find(({ value }) => value === name);
  tab.checked = true;
  tab.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Show the tasks that the model does; one of them is chosen. */
export function offerTasks({ tasks, class_names }) {
  for (const tab of tabs()) tab.parentElement.hidden = !tasks.includes(tab.value);
  if (!tasks.includes(task())) tabs().find(({ value }) => value === tasks[0]).checked = true;
  if (!renewed($("classes"), class_names)) return;
  $("classes").replaceChildren(...class_names.map((name, at) => new Option(name, at)));
}

/** The boxes as they were typed: a class, by number or name, and four shares on each line. */
export function boxes() {
  const lines = $("boxes").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => {
    const parts = line.split(/[\s,]+/);
    const [x, y, width, height] = parts.slice(-4).map(Number);
    const kind = parts.slice(0, -4).join(" ");
    return { class: /^\d+$/.test(kind) ? Number(kind) : kind, x, y, width, height };
  });
}
