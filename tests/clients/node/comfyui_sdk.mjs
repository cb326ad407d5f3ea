// Actions of the package `@saintno/comfyui-sdk`.

import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";

import { serve } from "./lines.mjs";

async function connected({ url, api_key }) {
  const credentials = { type: "bearer_token", token: api_key };
  const api = new ComfyApi(url, crypto.randomUUID(), { credentials });
  api.init(1, 100);
  await api.waitForReady();
  return api;
}

async function closed(action, params) {
  const api = await connected(params);
  try {
    return await action(api, params);
  } finally {
    api.destroy();
  }
}

const encoded = async (blob) => Buffer.from(await blob.arrayBuffer()).toString("base64");

// Run a graph; `changed` is called at each progress.
function run(api, graph, onProgress = () => {}) {
  return new Promise((resolve, reject) => {
    const seen = { progress: [] };
    const builder = new PromptBuilder(graph, [], ["images"]).setOutputNode("images", "9");
    new CallWrapper(api, builder)
      .onProgress((progress) => {
        seen.progress.push([progress.value, progress.max]);
        onProgress();
      })
      .onFinished((data) => resolve({ ...seen, images: data.images.images }))
      .onFailed(reject)
      .run();
  });
}

async function generated(api, { graph }) {
  const found = await run(api, graph);
  const files = await Promise.all(found.images.map(async (image) => encoded(await api.getImage(image))));
  return { ...found, files };
}

serve({
  lists: (params) =>
    closed(
      async (api) => ({
        checkpoints: await api.getCheckpoints(),
        loras: await api.getLoras(),
        samplers: await api.getSamplerInfo(),
        stats: await api.getSystemStats(),
        queue: await api.getQueue(),
      }),
      params,
    ),
  generate: (params) => closed(generated, params),
  edit: (params) =>
    closed(async (api, { graph, image }) => {
      const file = new Blob([Buffer.from(image, "base64")], { type: "image/png" });
      const { info } = await api.uploadImage(file, "sdk.png", { override: true });
      graph["10"].inputs.image = info.filename;
      return generated(api, { graph });
    }, params),
  cancel: (params) => closed((api, { graph }) => run(api, graph, () => api.interrupt()), params),
});
