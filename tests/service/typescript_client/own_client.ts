// Uses the client of the service; the compiler checks its types (darkroom.d.ts).

import { Darkroom, InvalidRequest, JobCancelled, type Result } from "./darkroom.js";

const darkroom = new Darkroom({ url: "http://127.0.0.1:8000", key: null, retries: 2 });
const controller = new AbortController();

const result: Result = await darkroom.generate("red heart", {
  steps: 20,
  controls: [{ model: "canny", image: new Blob([]) }],
  previews: true,
  signal: controller.signal,
  onProgress: ({ state, step, steps, preview }) => {
    if (state === "running") console.log(step / steps, preview?.size);
  },
});
const [image] = result.images;
if (image === undefined) throw new Error("no image");
const seed: number = image.seed;
const depth: Uint8Array | undefined = await image.extras[0]?.bytes();
await darkroom.inpaint("blue heart", image, await image.blob(), { strength: 0.5, seed });
await darkroom.layoutToImage([{ class: "cat", x: 0, y: 0, width: 0.5, height: 0.5 }]);
const recipe = await image.recipe();
if (recipe.task !== undefined) await darkroom.run(recipe.task, { ...recipe.request });

const job = await darkroom.submit("txt2img", { prompt: "red heart", idempotencyKey: "one" });
for await (const status of job.events()) console.log(status.position, status.eta_s);
try {
  await (await job.retry()).wait();
} catch (error) {
  if (error instanceof InvalidRequest) console.log(error.field, error.bound);
  if (error instanceof JobCancelled) console.log(error.jobId, depth);
}
const batch = await darkroom.batch(["a", "b"], { steps: 4 });
const results: Result[] = await batch.wait({ onProgress: ({ done, count }) => done / count });
for await (const { id, model } of darkroom.jobs({ state: "finished", limit: 5 })) console.log(id, model);
console.log(results.length, (await darkroom.models())[0]?.default_width);

// @ts-expect-error: there is no such task
await darkroom.run("paint");
// @ts-expect-error: a seed is a number
await darkroom.generate("red heart", { seed: "7" });
