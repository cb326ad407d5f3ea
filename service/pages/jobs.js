// Jobs: the request, the progress and the result.

import { jobEvents, request, requestJson } from "./api.js";
import { appendControls } from "./controls.js";
import { $ } from "./elements.js";
import { addToGallery } from "./gallery.js";
import { appendInputImage } from "./input_image.js";
import { selectedLoras } from "./loras.js";
import { clearProblem, showProblem, showStatus } from "./problems.js";
import { denoises, formSettings } from "./settings.js";
import { boxes, takes, task } from "./tasks.js";

const ENDED = ["finished", "failed", "cancelled"];
const NO_IMAGES = "No images yet. Enter a prompt.";
let job = null;  // the current one: {id, settings}

export async function generate() {
  if (job || $("generate").disabled) return;
  clearProblem();
  setBusy(true);
  try {
    const form = await requestForm();
    const { id } = await requestJson(`/v1/${task()}`, {
      method: "POST", body: form, headers: { Prefer: "respond-async" },
    });
    job = { id, settings: Object.fromEntries(form) };
    follow(id);
  } catch (problem) {
    setBusy(false);
    showProblem(problem.detail ? problem : { detail: "The service does not respond." });
  }
}

export function cancel() {
  if (job) request(`/v1/jobs/${job.id}`, { method: "DELETE" }).catch(showProblem);
}

async function requestForm() {
  const form = new FormData();
  for (const [name, value] of formSettings()) form.append(name, value);
  form.append("previews", "true");
  if (takes("boxes")) form.append("boxes", JSON.stringify(boxes()));
  if (denoises() && selectedLoras().length > 0) form.append("loras", JSON.stringify(selectedLoras()));
  if (takes("controls")) appendControls(form);
  await appendInputImage(form);
  return form;
}

async function follow(id) {
  for (;;) {
    try {
      for await (const state of jobEvents(id)) {
        showProgress(state);
        if (ENDED.includes(state.state)) return await finish(state);
      }
    } catch (problem) {
      if (problem.status === 404) { setBusy(false); showProblem(problem); return; }
      showStatus("Waiting for the service…");
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

function showProgress({ state, progress, position }) {
  const { step = 0, steps = 1, preview } = progress ?? {};
  $("progress").value = state === "finished" ? 1 : step / Math.max(steps, 1);
  if (preview) {
    $("preview").src = `data:image/jpeg;base64,${preview}`;
    $("preview").hidden = false;
    $("empty").hidden = true;
  }
  if (state === "running") showStatus(steps > 1 ? `Step ${step} of ${steps}` : "Starting…");
  if (state !== "queued") return;
  if (progress) showStatus(`Loading the model, ${progress.step} %`);
  else showStatus(position ? `Queued, ${position} ahead` : "Queued, next in line");
}

async function finish(ended) {
  const { settings } = job;
  try {
    if (ended.state === "finished") await addToGallery(ended, settings);
    setBusy(false);
    if (ended.state === "finished") showStatus(doneText(ended));
    if (ended.state === "failed") showProblem(ended.error ?? {});
    if (ended.state === "cancelled") showStatus("Cancelled.");
  } catch (problem) {
    setBusy(false);
    showProblem(problem);
  }
}

/** Return the time a job took, and the warnings about its request. */
const doneText = ({ result, warnings }) =>
  [`Done in ${result.timings.total.toFixed(1)} s`, ...warnings.map(({ detail }) => `Warning: ${detail}`)]
    .join(". ");

function setBusy(busy) {
  $("generate").disabled = busy;
  $("cancel").hidden = !busy;
  $("progress").hidden = !busy;
  $("preview").hidden = true;
  $("empty").hidden = $("gallery").childElementCount > 0;
  $("empty").textContent = busy ? "Generating…" : NO_IMAGES;
  if (busy) { $("progress").value = 0; showStatus("Sending…"); } else job = null;
}
