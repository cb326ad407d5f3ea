// A recipe, as a request of the API, brought back into the form.

import { $ } from "../base/dom.js";
import { setClass } from "./class_input.js";
import { setBoxes } from "../canvas/boxes_editor.js";
import { setControls } from "./controls.js";
import { applyDefaults } from "./defaults.js";
import { setLoras } from "./loras.js";
import { card, cardOf } from "./models.js";
import { selectTask, tasksOf } from "./tasks.js";

/** Set the form to a request; what it does not name gets the model's default. `files` are its files by field. */
export function restoreRecipe(task, fields, files = {}) {
  const model = cardOf(fields.model)?.name;
  if (model) $("model").value = model;
  const sameModel = !fields.model || model === card().name;
  applyDefaults(card());
  $("form").dispatchEvent(new CustomEvent("restore"));
  if (tasksOf(card()).includes(task)) selectTask(task);
  for (const id of ["prompt", "negative_prompt", "seed"]) $(id).value = "";
  $("n").value = 1;
  // Menus and dependent settings come into view as others are set, so once more.
  for (let round = 0; round < 2; round += 1) {
    setFields(task, fields);
    $("form").dispatchEvent(new CustomEvent("restore"));
  }
  setLoras(fields.loras ?? []);
  setControls(fields.controls ?? [], files);
  if (fields.boxes) setBoxes(fields.boxes);
  if (fields.class_id !== undefined) setClass(fields.class_id);
  $("form").dispatchEvent(new CustomEvent("restore"));
  return sameModel;
}

function setFields(task, fields) {
  const hasSize = "width" in fields || "height" in fields;
  $("size_source").value = hasSize ? "set" : "image";
  $("border_by").value = task === "outpaint" && hasSize ? "size" : "pixels";
  for (const [name, value] of Object.entries(fields)) {
    const field = $("form").querySelector(`[name="${name}"]`);
    if (!field || value === null || name === "model") continue;
    if (field.type === "checkbox") field.checked = value === true;
    else if (field.matches("select") && ![...field.options].some((option) => option.value === String(value))) continue;
    else field.value = value;
  }
}
