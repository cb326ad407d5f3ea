// Requests to the API, with the API key if the service needs one.

import { $ } from "./base/dom.js";
import { text } from "./strings.js";

// A proxy may serve the service below a path, so addresses start from this script's own.
export const urlOf = (path) => new URL(`../..${path}`, import.meta.url);

/** fetch with the API key in a header: URLs are logged in many places.
 *
 * Throws problems (RFC 9457); one without an answer of the service is `unreachable`. */
export async function request(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(urlOf(path), { ...options, headers }).catch(() => {
    throw { detail: text.no_service, unreachable: true };
  });
  if (response.status === 401) $("key-form").hidden = false;
  if (!response.ok) throw await response.json();
  return response;
}

export const requestJson = async (path, options) => (await request(path, options)).json();

/** Store the key in the form until the tab is closed. */
export function saveKey() {
  sessionStorage.setItem("key", $("key").value.trim());
  $("key-form").hidden = true;
}

/** Submit a job; the same `idempotencyKey` never submits twice. Returns the job. */
export function submit(task, fields, files, idempotencyKey) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  for (const [name, file] of Object.entries(files)) form.append(name, file, name);
  return requestJson(`/v1/${task}`, {
    method: "POST", body: form, headers: { Prefer: "respond-async", "Idempotency-Key": idempotencyKey },
  });
}

export const cancelJob = (id) => request(`/v1/jobs/${id}`, { method: "DELETE" });

/** Return the file of an image of a job, or of one of its extra files. */
export async function imageFile(job, index, kind) {
  return (await request(`/v1/jobs/${job}/images/${index}${kind ? `/${kind}` : ""}`)).blob();
}

/** Return the recipe in an image file. */
export function readRecipe(file) {
  const form = new FormData();
  form.append("image", file, "image");
  return requestJson("/v1/read", { method: "POST", body: form });
}

/** Yield each state of a job from its server-sent events; EventSource cannot send a key. Throws problems. */
export async function* jobEvents(id) {
  const response = await request(`/v1/jobs/${id}/events`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const lines = (unread + chunk.value).split(/\r?\n/);
    unread = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const job = JSON.parse(line.slice(6));
      if (!job.state) throw job; // a problem, with which the server ends the stream
      yield job;
    }
  }
}
