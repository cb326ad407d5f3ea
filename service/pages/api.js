// Calls of the API, with the visitor's key where one is needed.

import { $ } from "./elements.js";

/** fetch, with the key in a header: never in an address, which is written down in many places. */
export async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) $("door").hidden = false;
  if (!answer.ok) throw await answer.json();
  return answer;
}

export const ask = async (path, options) => (await call(path, options)).json();

/** Keep the key that was typed, for as long as the tab is open. */
export function takeKey() {
  sessionStorage.setItem("key", $("key").value.trim());
  $("door").hidden = true;
}

/** Each state of a job, as the service tells it; EventSource could not send a key. */
export async function* events(id) {
  const answer = await call(`/v1/jobs/${id}/events`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (text + piece.value).split(/\r?\n/);
    text = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}
