// Uses the API at the address in the first argument through a generated client; prints what it got.
// The compiler checks every name and type here against the OpenAPI description.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.ts";

declare const process: { argv: string[] };

type Generation = components["schemas"]["GenerationResponse"];

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });

type Job = components["schemas"]["JobResponse"];

// With `Accept: image/png` a response is the file itself, which is text to the type checker.
function images(data: Generation | Job | string | undefined): Generation {
  if (!data || typeof data === "string" || !("images" in data)) throw new Error("no images");
  return data;
}

function id(data: Generation | Job | string | undefined): string {
  return !data || typeof data === "string" ? "" : data.id;
}

const generated = await client.POST("/v1/txt2img", {
  body: { prompt: "a slice of pizza", seed: 7, loras: [], output_format: "png" },
});
const [image] = images(generated.data).images;
if (!image?.base64) throw new Error("the image has no file");

const edited = await client.POST("/v1/img2img", {
  body: { prompt: "a slice of pizza", image: image.base64, strength: 0.5 },
});

const uploaded = await client.POST("/v1/upscale", {
  body: { image: image.base64, response: "url" },
  bodySerializer: (body) => {
    const form = new FormData();
    form.append("image", new Blob([Uint8Array.from(atob(body.image), (c) => c.charCodeAt(0))]));
    form.append("response", body.response ?? "base64");
    return form;
  },
});

const queued = await client.POST("/v1/unconditional", {
  params: { header: { Prefer: "respond-async" } },
  body: {},
});
const job_id = id(queued.data);
const location = queued.response.headers.get("Location");
const events = await client.GET("/v1/jobs/{job_id}/events", {
  params: { path: { job_id } },
  parseAs: "text",
});
const job = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id } } });
const file = await client.GET("/v1/jobs/{job_id}/images/{index}", {
  params: { path: { job_id, index: 0 } },
  parseAs: "arrayBuffer",
});

const refused = await client.POST("/v1/txt2img", { body: { prompt: "x", width: 65 } });
const problem: components["schemas"]["Problem"] | undefined = refused.error;

const models = await client.GET("/v1/models");

console.log(JSON.stringify({
  image: image.base64,
  seed: image.seed,
  edited: images(edited.data).images.length,
  uploaded: images(uploaded.data).images[0]?.width,
  location,
  last_event: events.data?.trim().split("\n\n").at(-1)?.split("\n")[0],
  state: job.data?.state,
  file_bytes: file.data?.byteLength,
  job_bytes: job.data?.result?.images[0]?.bytes,
  problem: { status: problem?.status, field: problem?.field, bound: problem?.bound },
  models: models.data?.models.map(({ name }) => name),
}));
