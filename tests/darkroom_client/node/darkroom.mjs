// Actions of the JavaScript client.

import { pathToFileURL } from "node:url";

import { serve } from "../../clients/node/lines.mjs";

const pages = process.argv[2];
const { Darkroom, ...errors } = await import(pathToFileURL(`${pages}/darkroom.js`));
const { snippet } = await import(pathToFileURL(`${pages}/snippets.js`));

const client = (url, key, fetch) => new Darkroom({ url, key, ...(fetch && { fetch }) });
const file = (base64) => Uint8Array.from(Buffer.from(base64, "base64"));
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

async function described({ id, images, timings, warnings }) {
  const files = images.map(async (image) => ({
    seed: image.seed, width: image.width, height: image.height, flagged: image.flagged,
    type: (await image.blob()).type, size: image.size, content: base64(await image.bytes()),
    extras: await Promise.all(image.extras.map(async (extra) => [extra.kind, base64(await extra.bytes())])),
  }));
  return { id, images: await Promise.all(files), timings, warnings };
}

async function progress({ preview, previews = [], ...status }) {
  return {
    ...status,
    preview: preview && base64(await preview.arrayBuffer()),
    previews: await Promise.all(previews.map(async ({ index, blob }) =>
      ({ index, base64: base64(await blob.arrayBuffer()) }))),
  };
}

// Fetch that loses answers to POST and cuts streams after their first piece, and notes headers.
function flaky({ answers = 0, streams = 0 }, requests) {
  return async (url, options) => {
    const { method, headers } = options;
    requests.push({ method, path: new URL(url).pathname, headers });
    const response = await fetch(url, options);
    if (method === "POST" && answers > 0) {
      answers -= 1;
      await response.body.cancel();
      throw new TypeError("the connection was lost");
    }
    if (!url.endsWith("/events") || streams === 0) return response;
    streams -= 1;
    const reader = response.body.getReader();
    let pieces = 0;
    const body = new ReadableStream({
      async pull(controller) {
        if (pieces > 0) {
          await reader.cancel();
          controller.error(new TypeError("the connection was lost"));
          return;
        }
        pieces += 1;
        controller.enqueue((await reader.read()).value);
      },
    });
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

serve({
  snippet: ({ language, request }) => snippet(language, request),
  models: ({ url, key }) => client(url, key).models(),
  samplers: ({ url, key }) => client(url, key).samplers(),
  run: async ({ url, key, task, fields }) => described(await client(url, key).run(task, fields)),
  // Call a method whose first arguments may be files.
  async call({ url, method, files = [], values = [], options }) {
    return described(await client(url)[method](...values, ...files.map(file), options));
  },
  // The states of a job that is cancelled at its first preview.
  async watch({ url, fields }) {
    const controller = new AbortController();
    const seen = [];
    const onProgress = (status) => {
      seen.push(progress(status));
      if (status.preview) controller.abort();
    };
    const options = { ...fields, previews: true, signal: controller.signal, onProgress };
    await client(url).generate("a cat", options).catch(() => {});
    return Promise.all(seen);
  },
  // Image to image of a generated image, given as each kind of input.
  async inputs({ url }) {
    const darkroom = client(url);
    const [image] = (await darkroom.generate("a cat", { steps: 3, seed: 1 })).images;
    const bytes = await image.bytes();
    const kinds = [image, await image.blob(), bytes, bytes.buffer, base64(bytes)];
    const results = kinds.map((kind) => darkroom.imageToImage("a dog", kind, { steps: 3, seed: 2 }));
    const contents = (await Promise.all(results)).map(({ images }) => images[0].bytes());
    return { recipe: await image.recipe(), contents: (await Promise.all(contents)).map(base64) };
  },
  async flaky({ url, losses }) {
    const requests = [];
    const darkroom = client(url, undefined, flaky(losses, requests));
    const job = await darkroom.submit("txt2img", { prompt: "a cat", n: 2 });
    const seen = [];
    for await (const status of job.events()) seen.push([status.state, status.step, status.steps]);
    return { requests, seen, result: await described(await job.result()) };
  },
  // Abort a generation at its first event; returns how the job ended.
  async abort({ url }) {
    const controller = new AbortController();
    let id;
    const onProgress = (status) => { id = status.id; controller.abort(); };
    const darkroom = client(url);
    try {
      await darkroom.generate("a cat", { steps: 150, n: 4, signal: controller.signal, onProgress });
    } catch (error) {
      const ended = [];
      for await (const { state } of darkroom.job(id).events()) ended.push(state);
      return { name: error.name, state: ended.at(-1) };
    }
  },
  async cancel({ url }) {
    const job = await client(url).submit("txt2img", { prompt: "a cat", steps: 150, n: 4 });
    await job.cancel();
    const error = await job.wait().catch((reason) => reason);
    const again = await job.retry();
    await again.delete();
    const missing = await again.status().catch((reason) => reason);
    return { error: error.name, jobId: error.jobId, id: job.id, again: again.id, missing: missing.kind };
  },
  async batch({ url, prompts, fields }) {
    const darkroom = client(url);
    const batch = await darkroom.batch(prompts, fields);
    const done = [];
    const results = await batch.wait({ onProgress: (progress) => done.push(progress) });
    const listed = [];
    for await (const { id } of darkroom.jobs({ state: ["finished"], limit: prompts.length })) listed.push(id);
    return { done, states: await batch.states(), ids: results.map(({ id }) => id), listed };
  },
  // The class of each problem, as a server answers it.
  async errors({ problems }) {
    const found = [];
    for (const problem of problems) {
      const headers = { "Content-Type": "application/problem+json", "Retry-After": "7" };
      const answer = async () => new Response(JSON.stringify(problem), { status: problem.status, headers });
      try {
        await new Darkroom({ retries: 0, fetch: answer }).models();
      } catch (error) {
        const { name, kind, status, message, retryAfter, jobId } = error;
        const isOfClass = error instanceof errors[name] && error instanceof errors.DarkroomError;
        found.push({ name, kind, status, message, retryAfter, jobId, isOfClass });
      }
    }
    return found;
  },
});
