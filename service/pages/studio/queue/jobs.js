// The jobs of this page, until they have ended. They are kept in the browser, so a reload finds them again.

import { darkroom, submit } from "../api.js";
import * as database from "../base/database.js";

const ENDED = ["finished", "failed", "cancelled"];
const MAX_STREAMS = 3;       // browsers open six connections to a host, also for images
const POLL_MS = 2000;        // of a job without a stream
const RECONNECT_MS = 1000;   // after the client has given up
const LOADING_MS = 10_000;   // in which an image that shows a preview has surely loaded it

export const jobs = [];      // {id, task, fields, files, created, status, preview, previews, startedAt}
export const changes = new EventTarget();  // "change", and "end" with the job as detail
let streams = 0;

/** Free a preview, but not while an image is loading it: that would be an error. */
const release = (url) => url && setTimeout(() => URL.revokeObjectURL(url), LOADING_MS);
const announce = (type, job) => changes.dispatchEvent(new CustomEvent(type, { detail: job }));
const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Submit a request and follow its job. */
export async function enqueue(task, fields, files) {
  const { id } = await submit(task, { ...fields, previews: true }, files);
  const job = { id, task, fields, files, created: Date.now() };
  await database.put("jobs", job);
  start(job);
  return job;
}

/** Follow the jobs that were open when the page was closed. */
export async function resume() {
  const known = await database.all("jobs");
  for (const job of known.sort((a, b) => a.created - b.created)) start(job);
}

function start(job) {
  jobs.push({ ...job, status: { state: "queued" }, previews: [] });
  announce("change", jobs.at(-1));
  follow(jobs.at(-1));
}

/** Follow a job to its end, over lost connections. */
async function follow(job) {
  while (!ENDED.includes(job.status.state)) {
    try {
      if (streams < MAX_STREAMS) await stream(job);
      else {
        update(job, await darkroom.job(job.id).status());
        if (!ENDED.includes(job.status.state)) await pause(POLL_MS);
      }
    } catch (problem) {
      if ([404, 410].includes(problem.status)) update(job, { state: "failed", error: problem });
      else {
        update(job, { ...job.status, unreachable: true });
        await pause(RECONNECT_MS);
      }
    }
  }
  job.previews.forEach(release);
  await database.remove("jobs", job.id);
  announce("end", job);
}

async function stream(job) {
  streams += 1;
  try {
    for await (const status of darkroom.job(job.id).events()) {
      update(job, status);
      if (ENDED.includes(status.state)) return;
    }
  } finally {
    streams -= 1;
  }
  await pause(RECONNECT_MS);
}

function update(job, status) {
  job.status = status;
  if (status.preview) {
    release(job.preview);
    job.preview = URL.createObjectURL(status.preview);
  }
  for (const { index, blob } of status.previews ?? []) {
    release(job.previews[index]);
    job.previews[index] = URL.createObjectURL(blob);
  }
  if (status.state === "running" && status.step > 0) job.startedAt ??= { time: Date.now(), step: status.step };
  announce("change", job);
}

/** Cancel a job; it ends when the service says so. */
export const cancel = (job) => darkroom.job(job.id).cancel();

/** Take a job that has ended off the list. */
export function dismiss(job) {
  jobs.splice(jobs.indexOf(job), 1);
  announce("change", job);
}

export const hasEnded = (job) => ENDED.includes(job.status.state);

/** Return how much of a job is done, 0 to 1. */
export function share({ status: { state, step, steps } }) {
  if (state === "finished") return 1;
  return state === "running" && steps ? step / steps : 0;
}

/** Return the seconds until a job ends, or begins if it waits; undefined if that is not known. */
export function secondsLeft({ status: { state, step, steps, eta_s }, startedAt }) {
  if (state === "queued") return eta_s;
  const done = startedAt ? step - startedAt.step : 0;
  return done > 0 ? (Date.now() - startedAt.time) / 1000 / done * (steps - step) : undefined;
}
