// The studio at work: its settings follow the selected model and task. main.js has built the form.

import { DarkroomError } from "../darkroom.js";
import { requestJson } from "./api.js";
import { $ } from "./base/dom.js";
import { loadDescriptions, startTooltips } from "./base/tooltips.js";
import { buildCanvas, canvasKey, hasCanvas, setMap, updateCanvas } from "./canvas/canvas_view.js";
import { adoptImageSize, buildAspects, showAspect } from "./form/aspect.js";
import { buildClassInput } from "./form/class_input.js";
import { showControls } from "./form/controls.js";
import { applyDefaults } from "./form/defaults.js";
import { updateSliders } from "./form/fields.js";
import { showEmbeddings, showLoras } from "./form/loras.js";
import { recallSettings, rememberSettings } from "./form/memory.js";
import { card, loadModels, showModelState } from "./form/models.js";
import { clearProblem, showProblem, showStatus } from "./form/problems.js";
import { buildSeed, showSeed } from "./form/seed.js";
import { showSettings } from "./form/settings.js";
import { showTasks, task } from "./form/tasks.js";
import { countTokens } from "./form/tokens.js";
import { addToGrid, buildGallery } from "./gallery/grid.js";
import { addImages } from "./gallery/records.js";
import { buildResult, openFull, shownRecord, showRecord } from "./gallery/result.js";
import { startDropping } from "./inputs/drop.js";
import { onInputImage, setInputImage } from "./inputs/input_image.js";
import { buildInputPanel, showInputHint } from "./inputs/input_panel.js";
import { buildKeyForm } from "./key.js";
import { changes, dismiss, resume } from "./queue/jobs.js";
import { buildQueue, cancelOldest } from "./queue/queue_list.js";
import { generate, startSubmitting } from "./queue/submit.js";
import { text } from "./strings.js";

const INTERVAL_MS = 5000;
let defaultsOf = null;  // the model whose defaults were applied last

/** Show what the selected model can do; apply its defaults if another model was selected before. */
function update() {
  const model = card();
  if (!model) return;
  showModelState();
  showTasks(model);
  showLoras(model);
  if (defaultsOf !== model.name) applyDefaults(model);
  defaultsOf = model.name;
  showSettings(model);
  showEmbeddings(model);
  showControls(model);
  showSeed();
  showAspect();
  updateSliders();
  updateCanvas();
  showInputHint();
  showStageTabs();
  countTokens();
}

async function refresh() {
  try {
    await loadModels();
    const isFirst = defaultsOf === null;
    update();
    if (isFirst && card()) await recallSettings();
    await requestJson("/readyz");
    $("health").textContent = text.ready;
    $("health").className = "ready";
  } catch (problem) {
    if (!(problem instanceof DarkroomError)) throw problem;
    $("health").textContent = problem.message;
    $("health").className = "";
  }
}

/** Show the canvas or the result in the stage. */
function showView(name) {
  const canvas = name === "canvas" && hasCanvas();
  $("canvas-view").hidden = !canvas;
  $("result-view").hidden = canvas;
  $("canvas-tab").setAttribute("aria-pressed", canvas);
  $("result-tab").setAttribute("aria-pressed", !canvas);
  $("stage").classList.toggle("with-canvas", canvas);
}

function showStageTabs() {
  $("stage-tabs").hidden = !hasCanvas();
  if (!hasCanvas()) showView("result");
}

async function ended({ detail: job }) {
  const { state, result, error, warnings = [] } = job.status;
  if (state !== "failed") dismiss(job);
  if (state === "cancelled") showStatus(text.cancelled);
  if (state === "failed") showProblem(error ?? {});
  if (state !== "finished") return;
  try {
    const records = await addImages(job);
    addToGrid(records);
    await showRecord(records[0]);
    showView("result");
    const seconds = result.timings.total.toFixed(1);
    showStatus([text.done(seconds), ...warnings.map(({ detail }) => text.warning(detail))].join(". "));
  } catch (problem) {
    showProblem(problem);
  }
}

function setScaling(scaling) {
  localStorage.setItem("scaling", scaling);
  document.documentElement.dataset.scaling = scaling;
  for (const button of document.querySelectorAll("[data-scaling-to]")) {
    button.setAttribute("aria-pressed", button.dataset.scalingTo === scaling);
  }
}

const isTyping = ({ target }) => target.matches("input:not([type=range], [type=checkbox], [type=radio]), textarea, select");

function onKey(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    generate();
  } else if (event.key === "Escape") {
    if (!$("viewer").open) cancelOldest();
  } else if (isTyping(event) || $("viewer").open) return;
  else if (event.key === "f" && !event.ctrlKey && !event.metaKey) openFull();
  else if (!$("canvas-view").hidden && canvasKey(event)) event.preventDefault();
}

function connectForm() {
  startSubmitting();
  $("form").addEventListener("restore", update);
  $("tabs").addEventListener("change", () => { clearProblem(); adoptImageSize(); update(); showView("canvas"); rememberSettings(); });
  $("form").addEventListener("change", ({ target }) => {
    if (target.id === "model") clearProblem();
    update();
    rememberSettings();
  });
  $("form").addEventListener("input", ({ target }) => {
    if (target.matches("#hires_scale, #width, #height, #seed, #steps, #guidance_scale, #strength, #n")) update();
    if (target.matches("#prompt")) { countTokens(); rememberSettings(); }
  });
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) setInputImage($("file").files[0]).catch(showProblem);
  });
  $("map-file").addEventListener("change", () => {
    if ($("map-file").files[0]) setMap($("map-file").files[0]).catch(() => showProblem({ detail: text.unreadable, field: "map-file" }));
  });
  onInputImage(() => { adoptImageSize(); update(); showView("canvas"); });
  $("reset").addEventListener("click", () => { applyDefaults(card()); update(); rememberSettings(); });
}

function start() {
  buildAspects();
  buildSeed(() => shownRecord()?.seed);
  buildClassInput();
  buildInputPanel();
  buildCanvas();
  buildQueue();
  buildResult();
  connectForm();
  startDropping();
  startTooltips($("form"), task);
  setScaling(localStorage.getItem("scaling") ?? "pixels");
  for (const button of document.querySelectorAll("[data-scaling-to]")) {
    button.addEventListener("click", () => setScaling(button.dataset.scalingTo));
  }
  $("canvas-tab").addEventListener("click", () => showView("canvas"));
  $("result-tab").addEventListener("click", () => showView("result"));
  buildKeyForm(refresh);
  addEventListener("keydown", onKey);
  changes.addEventListener("end", ended);
}

start();
await buildGallery((record) => { showRecord(record); showView("result"); });
await refresh();
await resume();
setInterval(refresh, INTERVAL_MS);
await loadDescriptions();  // before the first tooltip, but after all that the page needs
