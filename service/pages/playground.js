// The playground page. Its settings follow the selected model and task.

import { requestJson, saveKey } from "./api.js";
import { showControls } from "./controls.js";
import { $ } from "./elements.js";
import {
  clearMask, maskAll, paintAt, paintByKey, renderInputImage, setInputImage, showInputImage,
} from "./input_image.js";
import { cancel, generate } from "./jobs.js";
import { showEmbeddings, showLoras } from "./loras.js";
import { card, loadModels, showModelState } from "./models.js";
import { applyDefaults, showSettings } from "./settings.js";
import { showTasks } from "./tasks.js";

const INTERVAL_MS = 5000;
let defaultsOf = null;  // the model whose defaults were applied last

/** Show what the selected model can do; apply its defaults if another model was selected before. */
function update() {
  const model = card();
  if (!model) return;
  showModelState();
  showTasks(model);
  if (defaultsOf !== model.name) applyDefaults(model);
  defaultsOf = model.name;
  showSettings(model);
  showLoras(model);
  showEmbeddings(model);
  showControls(model);
  showInputImage();
}

async function refresh() {
  try {
    await loadModels();
    update();
    await requestJson("/readyz");
    $("health").textContent = "ready";
    $("health").className = "ready";
  } catch (problem) {
    $("health").textContent = problem.detail || "the service does not respond";
    $("health").className = "";
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); generate(); });
$("key-form").addEventListener("submit", (event) => { event.preventDefault(); saveKey(); refresh(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("form").requestSubmit(); }
});
$("cancel").addEventListener("click", cancel);
$("form").addEventListener("change", ({ target }) => {
  if (target.matches("[name], #border_by")) update();
  if (target.matches("#model, #width, #height, #resize_mode, [name=task]")) renderInputImage();
});
$("hires_scale").addEventListener("input", update);
$("file").addEventListener("change", () => { if ($("file").files[0]) setInputImage($("file").files[0]); });
$("mask").addEventListener("pointerdown", paintAt);
$("mask").addEventListener("pointermove", paintAt);
$("mask").addEventListener("keydown", paintByKey);
$("mask-all").addEventListener("click", maskAll);
$("clear-mask").addEventListener("click", clearMask);
refresh();
setInterval(refresh, INTERVAL_MS);
