// The client of the API that the page uses, with the API key if the service needs one.

import { Darkroom, Unauthorized } from "../darkroom.js";
import { $ } from "./base/dom.js";

export const keptKey = () => sessionStorage.getItem("key") ?? undefined;
export const darkroom = new Darkroom({ key: keptKey() });
const once = new Darkroom({ key: keptKey(), retries: 0 });

/** Send a request once and return the JSON of its response; asks for an API key if there is need for one. */
export async function requestJson(path, body) {
  try {
    return await once.json(body ? "POST" : "GET", path, { body });
  } catch (error) {
    if (error instanceof Unauthorized) $("key-form").hidden = false;
    throw error;
  }
}

/** Keep a key until the tab is closed. */
export function keepKey(key) {
  darkroom.key = once.key = key;
  sessionStorage.setItem("key", key);
}

export const baseUrl = () => String(new URL("../..", import.meta.url));

/** Submit a job; the same `idempotencyKey` never submits twice. `files` are those of the request by field. */
export function submit(task, fields, files, idempotencyKey) {
  return darkroom.submit(task, { ...withFiles(fields, files), idempotencyKey });
}

const CONTROL_FILE = /^control_image_(\d+)$/;

/** Return the fields with each file at its place: that of a ControlNet belongs to its entry. */
function withFiles(fields, files) {
  const whole = structuredClone(fields);
  for (const [name, file] of Object.entries(files)) {
    const control = CONTROL_FILE.exec(name);
    if (control) whole.controls[control[1]].image = file;
    else whole[name] = file;
  }
  return whole;
}

/** Return the file of an image of a job, or of one of its extra files. */
export async function imageFile(job, index, kind) {
  const response = await darkroom.request("GET", `/v1/jobs/${job}/images/${index}${kind ? `/${kind}` : ""}`);
  return response.blob();
}
