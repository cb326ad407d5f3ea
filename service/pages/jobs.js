// Asking for pictures: the request, its progress as it is told, its end.

import { ask, call, events } from "./calls.js";
import { appendControls } from "./controls.js";
import { $ } from "./elements.js";
import { hang } from "./gallery.js";
import { loras } from "./loras.js";
import { complain, forgive, say } from "./problems.js";
import { settings } from "./settings.js";
import { appendSource } from "./source.js";
import { boxes, takes, task } from "./tasks.js";

const ENDED = ["finished", "failed", "cancelled"];
const NOTHING_YET = "Nothing developed yet. Say what you would like to see.";
let job = null;  // the one being made: {id, recipe}

export async function develop() {
  if (job || $("go").disabled) return;
  forgive();
  working(true);
  try {
    const form = await request();
    const { id } = await ask(`/v1/${task()}`, {
      method: "POST", body: form, headers: { Prefer: "respond-async" },
    });
    job = { id, recipe: Object.fromEntries(form) };
    follow(id);
  } catch (problem) {
    working(false);
    complain(problem.detail ? problem : { detail: "The service does not answer." });
  }
}

export function stop() {
  if (job) call(`/v1/jobs/${job.id}`, { method: "DELETE" }).catch(complain);
}

async function request() {
  const form = new FormData();
  for (const [name, value] of settings()) form.append(name, value);
  form.append("previews", "true");
  if (takes("boxes")) form.append("boxes", JSON.stringify(boxes()));
  if (loras().length > 0) form.append("loras", JSON.stringify(loras()));
  if (takes("controls")) appendControls(form);
  await appendSource(form);
  return form;
}

async function follow(id) {
  for (;;) {
    try {
      for await (const told of events(id)) {
        show(told);
        if (ENDED.includes(told.state)) return await end(told);
      }
    } catch (problem) {
      if (problem.status === 404) { working(false); complain(problem); return; }
      say("Waiting for the service…");
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

function show({ state, progress, position }) {
  const { step = 0, steps = 1, preview } = progress ?? {};
  $("progress").value = state === "finished" ? 1 : step / Math.max(steps, 1);
  if (preview) {
    $("preview").src = `data:image/jpeg;base64,${preview}`;
    $("preview").hidden = false;
    $("empty").hidden = true;
  }
  if (state === "running") say(steps > 1 ? `Step ${step} of ${steps}` : "Starting…");
  if (state !== "queued") return;
  if (progress) say(`Loading the model, ${progress.step} %`);
  else say(position ? `${position} before yours` : "Next in line…");
}

async function end(told) {
  const { recipe } = job;
  try {
    if (told.state === "finished") await hang(told, recipe);
    working(false);
    if (told.state === "finished") say(`Done in ${told.result.timings.total.toFixed(1)} s`);
    if (told.state === "failed") complain(told.error ?? {});
    if (told.state === "cancelled") say("Stopped.");
  } catch (problem) {
    working(false);
    complain(problem);
  }
}

function working(busy) {
  $("go").disabled = busy;
  $("stop").hidden = !busy;
  $("progress").hidden = !busy;
  $("preview").hidden = true;
  $("empty").hidden = $("gallery").childElementCount > 0;
  $("empty").textContent = busy ? "Developing…" : NOTHING_YET;
  if (busy) { $("progress").value = 0; say("Sending…"); } else job = null;
}
