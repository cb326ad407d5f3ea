// A client of Darkroom's API for browsers and for Node 18 or newer, in this one file.
//
//   const darkroom = new Darkroom({ url: "http://127.0.0.1:8000" });
//   const { images } = await darkroom.generate("red heart", { steps: 20 });
//   const file = await images[0].blob();
//
// Fields of a request have the names of the API. darkroom.d.ts has the types.

const LOCAL = "http://127.0.0.1:8000";
const TYPE_PREFIX = "urn:darkroom:problem:";
const ENDED = ["finished", "failed", "cancelled"];
const RETRIED = [429, 502, 503, 504];
const FIRST_WAIT_MS = 250;  // between two tries; twice as long each time
const LONGEST_WAIT_MS = 60_000;  // a server that asks for more gets no other try
const LONGEST_SILENCE_MS = 60_000;  // of an event stream; the server sends comments more often
const PAGE = 100;  // jobs

/** A request failed. `kind` is the last part of the problem's type; `problem` has all of it (RFC 9457). */
export class DarkroomError extends Error {
  constructor(problem = {}, { cause, retryAfter } = {}) {
    super(problem.detail || problem.title || "The request failed.", { cause });
    this.name = new.target.name;
    this.problem = problem;
    this.kind = (problem.type ?? "").replace(TYPE_PREFIX, "");
    this.retryAfter = retryAfter;  // seconds
    ({ status: this.status, field: this.field, value: this.value, bound: this.bound } = problem);
    this.requestId = problem.request_id;
    this.jobId = problem.job?.split("/").pop();
  }
}
export class ServerUnreachable extends DarkroomError {}
export class BadRequest extends DarkroomError {}
export class Unauthorized extends DarkroomError {}
export class Forbidden extends DarkroomError {}
export class NotFound extends DarkroomError {}
export class Conflict extends DarkroomError {}
export class JobCancelled extends Conflict {}
export class Gone extends DarkroomError {}
export class InvalidRequest extends DarkroomError {}
export class LimitReached extends DarkroomError {}
export class ServerError extends DarkroomError {}
export class JobFailed extends ServerError {}
export class Unavailable extends ServerError {}
export class JobLost extends Unavailable {}
export class DeadlineExceeded extends ServerError {}

const BY_KIND = { "job-cancelled": JobCancelled, "job-failed": JobFailed, "job-lost": JobLost };
const BY_STATUS = {
  401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: InvalidRequest,
  429: LimitReached, 503: Unavailable, 504: DeadlineExceeded,
};

function errorOf(problem, retryAfter) {
  const kind = (problem.type ?? "").replace(TYPE_PREFIX, "");
  const others = problem.status < 500 ? BadRequest : ServerError;
  return new (BY_KIND[kind] ?? BY_STATUS[problem.status] ?? others)(problem, { retryAfter });
}

async function errorOfResponse(response) {
  const { status, url, headers } = response;
  const text = await response.text();
  const isProblem = headers.get("content-type")?.startsWith("application/problem+json");
  const problem = isProblem ? JSON.parse(text) : { status, detail: `${url} answered ${status}` };
  const seconds = Number(headers.get("retry-after") ?? NaN);
  return errorOf(problem, Number.isNaN(seconds) ? undefined : seconds);
}

/** A server. `key` is its API key, if it needs one, and may be changed. */
export class Darkroom {
  #base;
  #fetch;

  constructor({ url = ownUrl(), key, retries = 4, fetch = globalThis.fetch } = {}) {
    this.#base = String(url).replace(/\/+$/, "");
    this.#fetch = (...args) => fetch(...args);
    this.key = key;
    this.retries = retries;
  }

  generate(prompt, options) { return this.run("txt2img", { ...options, prompt }); }

  imageToImage(prompt, image, options) { return this.run("img2img", { ...options, prompt, image }); }

  inpaint(prompt, image, mask, options) {
    return this.run("inpaint", { ...options, prompt, image, mask });
  }

  outpaint(prompt, image, options) { return this.run("outpaint", { ...options, prompt, image }); }

  upscale(image, options) { return this.run("upscale", { ...options, image }); }

  unconditional(options) { return this.run("unconditional", { ...options }); }

  classToImage(class_id, options) { return this.run("class", { ...options, class_id }); }

  layoutToImage(boxes, options) { return this.run("layout", { ...options, boxes }); }

  semanticToImage(image, options) { return this.run("semantic", { ...options, image }); }

  /** Run a task and return its result. An aborted `signal` cancels the job. */
  async run(task, { onProgress, signal, ...options } = {}) {
    signal?.throwIfAborted();
    // The signal does not end the submission: only its answer tells which job to cancel.
    const job = await this.submit(task, options);
    return job.wait({ onProgress, signal });
  }

  /** Queue a job and return it. */
  async submit(task, { idempotencyKey = newKey(), ...fields } = {}) {
    const headers = { "Idempotency-Key": idempotencyKey, Prefer: "respond-async" };
    const { id } = await this.json("POST", `/v1/${task}`, { body: await encoded(fields), headers });
    return new Job(this, id);
  }

  /** Queue a job for each prompt, all of them or none. */
  async batch(prompts, { idempotencyKey = newKey(), ...fields } = {}) {
    const body = await encoded({ ...fields, prompts });
    const headers = { "Idempotency-Key": idempotencyKey };
    const { id, count } = await this.json("POST", "/v1/batches", { body, headers });
    return new Batch(this, id, count);
  }

  /** Return the job with this id, without asking the server. */
  job(id) { return new Job(this, id); }

  /** Yield the jobs of the API key, the newest first. `filter` has the parameters of GET /v1/jobs. */
  async *jobs({ limit = Infinity, ...filter } = {}) {
    for (let cursor, left = limit; left > 0;) {
      const page = await this.json("GET", "/v1/jobs", {
        query: { ...filter, cursor, limit: Math.min(left, PAGE) },
      });
      for (const job of page.jobs) yield statusOf(job);
      left -= page.jobs.length;
      cursor = page.next_cursor;
      if (cursor === undefined) return;
    }
  }

  /** Return the recipe in an image file: a Blob, bytes or base64. */
  async readRecipe(image) {
    return this.json("POST", "/v1/read", { body: await encoded({ image }) });
  }

  async models() { return (await this.json("GET", "/v1/models")).models; }

  samplers() { return this.json("GET", "/v1/samplers"); }

  loadModel(name) { return this.json("POST", `/v1/models/${encodeURIComponent(name)}/load`); }

  unloadModel(name) { return this.json("POST", `/v1/models/${encodeURIComponent(name)}/unload`); }

  /** Send a request and return the JSON of its response. */
  async json(method, path, options) { return (await this.request(method, path, options)).json(); }

  /**
   * Send a request, again after errors that may pass, and return its response. A POST is repeated
   * only with an idempotency key, or after an answer that says that nothing was done.
   */
  async request(method, path, { body, headers = {}, query, signal } = {}) {
    const repeatable = method !== "POST" || "Idempotency-Key" in headers;
    const options = {
      method,
      signal,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    };
    for (let tried = 0; ; tried += 1) {
      try {
        return await this.#once(path + queryOf(query), options);
      } catch (error) {
        const wait = waitOf(error, tried);
        if (tried >= this.retries || wait === null || !(repeatable || error.status)) throw error;
        await paused(wait, signal);
      }
    }
  }

  async #once(path, options) {
    const authorization = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    let response;
    try {
      const headers = { ...options.headers, ...authorization };
      response = await this.#fetch(this.#base + path, { ...options, headers });
    } catch (cause) {
      if (options.signal?.aborted) throw cause;
      const reason = cause.cause?.message || cause.message;  // Node says more in the cause
      const detail = `no Darkroom answers at ${this.#base} (${reason})`;
      throw new ServerUnreachable({ detail }, { cause });
    }
    if (!response.ok) throw await errorOfResponse(response);
    return response;
  }
}

/** A job of a server. */
export class Job {
  #client;

  constructor(client, id) {
    this.#client = client;
    this.id = id;
  }

  get #path() { return `/v1/jobs/${this.id}`; }

  async status() { return statusOf(await this.#client.json("GET", this.#path)); }

  /** Cancel the job; one that has ended is not changed. */
  async cancel() { return statusOf(await this.#client.json("DELETE", this.#path)); }

  /** Delete the job with its images and its prompt, in every state. */
  async delete() { await this.#client.request("DELETE", `${this.#path}?purge=true`); }

  /** Queue a failed or cancelled job again, and return the new one. */
  async retry({ idempotencyKey = newKey() } = {}) {
    const headers = { "Idempotency-Key": idempotencyKey };
    const { id } = await this.#client.json("POST", `${this.#path}/retry`, { headers });
    return new Job(this.#client, id);
  }

  /** Wait for the end and return the result. An aborted `signal` cancels the job. */
  async wait({ onProgress, signal } = {}) {
    try {
      for await (const status of this.events({ signal })) {
        onProgress?.(status);
        if (ENDED.includes(status.state)) return resultOf(this.#client, status);
      }
    } catch (error) {
      if (signal?.aborted) await this.cancel().catch(() => {});  // the reason of the abort comes first
      throw error;
    }
    return this.result();  // the stream of a job that has ended already may be empty
  }

  /** Return the result of a job that has finished. */
  async result() { return resultOf(this.#client, await this.status()); }

  /** Yield the state of the job at each change, up to the last. A lost connection is resumed. */
  async *events({ signal } = {}) {
    const seen = { id: "" };
    for (let failures = 0; ; failures += 1) {
      const before = seen.id;
      try {
        for await (const data of this.#stream(seen, signal)) {
          yield statusOf(data);
          if (ENDED.includes(data.state)) return;
        }
        if (seen.ended) return;
      } catch (error) {
        if (seen.id !== before) failures = 0;
        const wait = waitOf(error, failures);
        if (signal?.aborted || failures >= this.#client.retries || wait === null) throw error;
        await paused(wait, signal);
      }
    }
  }

  /** Yield the data of the events of one connection. Throws if it ends before the job. */
  async *#stream(seen, signal) {
    const silence = new AbortController();
    const aborted = () => silence.abort(signal.reason);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", aborted);
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), LONGEST_SILENCE_MS);
    };
    try {
      heard();
      const response = await this.#client.request("GET", `${this.#path}/events`, {
        headers: seen.id ? { "Last-Event-ID": seen.id } : {}, signal: silence.signal,
      });
      if (response.status === 204) {
        seen.ended = true;
        return;
      }
      for await (const { event, id, data, retry } of serverSentEvents(response.body, heard)) {
        const parsed = JSON.parse(data);
        if (event === "problem") throw errorOf(parsed, retry && retry / 1000);
        yield parsed;
        seen.id = id ?? seen.id;
      }
      throw new Error("the event stream has ended early");
    } catch (cause) {
      if (signal?.aborted || cause instanceof DarkroomError) throw cause;
      throw new ServerUnreachable({ detail: cause.message }, { cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
      silence.abort();  // also closes the connection when the reader stops
    }
  }
}

/** The jobs of a list of prompts, in their order. */
export class Batch {
  #client;

  constructor(client, id, count) {
    this.#client = client;
    this.id = id;
    this.count = count;
  }

  /** Return the number of jobs in each state. */
  async states() { return (await this.#page(undefined, 1)).states; }

  /** Yield the jobs. Those whose records have expired are left out. */
  async *jobs() {
    for (let cursor; ;) {
      const page = await this.#page(cursor, PAGE);
      for (const { id } of page.jobs) yield new Job(this.#client, id);
      cursor = page.next;
      if (cursor === undefined) return;
    }
  }

  /** Wait for all jobs and return their results. Throws the error of the first that has none. */
  async wait({ onProgress, signal } = {}) {
    const results = [];
    for await (const job of this.jobs()) {
      results.push(await job.wait({ signal }));
      onProgress?.({ done: results.length, count: this.count });
    }
    return results;
  }

  /** Cancel the jobs that have not ended. */
  async cancel() { await this.#client.json("DELETE", `/v1/batches/${this.id}`); }

  #page(cursor, limit) {
    return this.#client.json("GET", `/v1/batches/${this.id}`, { query: { cursor, limit } });
  }
}

/** A file of a finished job, fetched when it is asked for. */
export class ResultFile {
  #client;
  #path;
  #blob;

  constructor(client, path, { bytes: size, ...properties }) {
    this.#client = client;
    this.#path = path;
    Object.assign(this, properties, { size });
  }

  /** Return the file, fetched once. */
  blob() {
    this.#blob ??= this.#client.request("GET", this.#path).then((response) => response.blob());
    return this.#blob;
  }

  async bytes() { return new Uint8Array(await (await this.blob()).arrayBuffer()); }

  /** Return the recipe in the file: what to send to get the same image again. */
  async recipe() { return this.#client.readRecipe(await this.blob()); }
}

/** Return the images of a finished job. Throws the reason for which there are none. */
function resultOf(client, { id, state, error, result, warnings }) {
  if (state === "cancelled") {
    const detail = "the job was cancelled";
    throw new JobCancelled({ type: `${TYPE_PREFIX}job-cancelled`, status: 409, detail, job: id });
  }
  if (!result) throw errorOf({ status: 500, detail: `the job is ${state}`, ...error, job: id });
  const images = result.images.map(({ extras = [], finish_reason, ...image }) => {
    const path = `/v1/jobs/${id}/images/${image.index}`;
    return new ResultFile(client, path, {
      ...image,
      flagged: finish_reason === "content_filtered",
      extras: extras.map((extra) => new ResultFile(client, `${path}/${extra.kind}`, extra)),
    });
  });
  return { id, images, timings: result.timings, warnings };
}

/** Return a job as the server describes it with its progress: `step` of `steps`, previews as Blobs. */
function statusOf({ progress = {}, ...job }) {
  const { step = 0, steps = 0, phase, preview, previews } = progress;
  const blobOf = (base64) => new Blob([bytesOf(base64)], { type: "image/jpeg" });
  return {
    ...job, step, steps, phase,
    ...(preview && { preview: blobOf(preview) }),
    ...(previews && { previews: previews.map(({ index, base64 }) => ({ index, blob: blobOf(base64) })) }),
  };
}

/** Yield the events of a stream (text/event-stream). `onChunk` is called whenever something arrives. */
async function* serverSentEvents(body, onChunk) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let event = { data: [] };
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    onChunk();
    const lines = (text + chunk.value).split(/\r\n|\n/);
    text = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (line === "") {
        if (event.data.length > 0) yield { ...event, data: event.data.join("\n") };
        event = { data: [] };
      } else if (name === "data") event.data.push(value);
      else if (name === "event" || name === "id") event[name] = value;
      else if (name === "retry") event.retry = Number(value);
    }
  }
}

/** Return the milliseconds to wait before another try; null if none can help. */
function waitOf(error, tried) {
  const passes = error instanceof ServerUnreachable
    || (RETRIED.includes(error.status) && !(error instanceof JobLost));
  if (!passes) return null;
  const backoff = FIRST_WAIT_MS * 2 ** tried * (0.5 + Math.random() / 2);
  const wait = error.retryAfter === undefined ? backoff : error.retryAfter * 1000;
  return wait > LONGEST_WAIT_MS ? null : wait;
}

function paused(wait, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stopped);
      resolve();
    }, wait);
    if (signal?.aborted) stopped();
    else signal?.addEventListener("abort", stopped, { once: true });
  });
}

/** Return the fields of a request as JSON can hold them: files as base64, without undefined ones. */
async function encoded(fields) {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, value]) => [name, await encodedValue(value)])),
  );
}

async function encodedValue(value) {
  if (value instanceof ResultFile) return encodedValue(await value.blob());
  if (value instanceof Blob) return base64Of(new Uint8Array(await value.arrayBuffer()));
  if (value instanceof ArrayBuffer) return base64Of(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) {
    return base64Of(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  }
  if (Array.isArray(value)) return Promise.all(value.map(encodedValue));
  return value !== null && typeof value === "object" ? encoded(value) : value;
}

function base64Of(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {  // a call takes so many arguments
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

function queryOf(query = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== undefined)).toString();
  return text && `?${text}`;
}

/** Return a new idempotency key. It need not be secret, and pages without HTTPS lack crypto.randomUUID. */
const newKey = () => [0, 1].map(() => Math.random().toString(36).slice(2)).join("");

/** Return the address of the server that has sent this file, else that of a local one. */
function ownUrl() {
  return import.meta.url.startsWith("http") ? new URL("..", import.meta.url) : LOCAL;
}
