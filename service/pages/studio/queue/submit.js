// From the form to a job: the settings, the extra networks and the files of the request.

import { mapFile, maskFile } from "../canvas/canvas_view.js";
import { boxValues } from "../canvas/boxes_editor.js";
import { $ } from "../base/dom.js";
import { selectedClass } from "../form/class_input.js";
import { selectedControls } from "../form/controls.js";
import { selectedLoras } from "../form/loras.js";
import { card } from "../form/models.js";
import { keepSettings } from "../form/memory.js";
import { clearProblem, showProblem, showStatus } from "../form/problems.js";
import { denoises, settingValues } from "../form/settings.js";
import { takes, takesInputImage, task } from "../form/tasks.js";
import { inputImage } from "../inputs/input_image.js";
import { text } from "../strings.js";
import { enqueue } from "./jobs.js";

/** Submit what the form says. */
export async function generate() {
  if (!card()) return;
  clearProblem();
  showStatus(text.sending);
  keepSettings();
  try {
    const { fields, files } = await formRequest();
    await enqueue(task(), fields, files);
  } catch (problem) {
    showProblem(problem);
  }
}

/** Return the request of the form: its fields, and its files by field. Throws a problem if one is missing. */
async function formRequest() {
  const fields = settingValues(), files = {};
  if (takes("boxes")) fields.boxes = boxValues();
  if (takes("boxes") && fields.boxes.length === 0) throw { detail: text.boxes_needed };
  if (takes("class_id")) fields.class_id = selectedClass();
  if (denoises() && selectedLoras().length > 0) fields.loras = selectedLoras();
  if (takesInputImage()) {
    if (!inputImage()) throw { detail: text.image_needed, field: "image" };
    files.image = inputImage().blob;
  }
  const mask = await maskFile();
  if (mask) files.mask = mask;
  const [depth] = $("depth_map").files;
  if (depth && !$("depth_map").closest("[hidden]")) files.depth_map = depth;
  if (takes("map")) files.image = await mapFile();
  if (takes("controls")) addControls(fields, files);
  return { fields, files };
}

function addControls(fields, files) {
  const { controls, files: images } = selectedControls();
  if (controls.length === 0) return;
  fields.controls = controls;
  Object.assign(files, images);
}

/** Take the form's submissions. Its button is disabled until then, or a browser would load the page again. */
export function startSubmitting() {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  $("generate").disabled = false;
}
