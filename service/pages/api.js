// Requests to the API, with the API key if the service needs one.

import { $ } from "./elements.js";
import { urlOf } from "./urls.js";

/** fetch with the API key in a header: URLs are logged in many places. Throws problems (RFC 9457). */
export async function request(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(urlOf(path), { ...options, headers });
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

/** Yield each state of a job from its server-sent events; EventSource cannot send a key. Throws problems. */
export async function* jobEvents(id) {
  const response = await request(`/v1/jobs/${id}/events`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const lines = (text + chunk.value).split(/\r?\n/);
    text = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const job = JSON.parse(line.slice(6));
      if (!job.state) throw job; // a problem, with which the server ends the stream
      yield job;
    }
  }
}
