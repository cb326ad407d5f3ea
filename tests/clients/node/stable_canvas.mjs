// Actions of the package `@stable-canvas/comfyui-client`, which is given its `fetch` and WebSocket.

import { BasePipe, Client } from "@stable-canvas/comfyui-client";
import { WebSocket } from "ws";

import { serve } from "./lines.mjs";

async function closed(action, { url, api_key, ...params }) {
  const headers = { Authorization: `Bearer ${api_key}` };
  class Socket extends WebSocket {
    constructor(address) {
      super(address, { headers });
    }
  }
  const client = new Client({
    api_host: new URL(url).host,
    clientId: crypto.randomUUID(),
    WebSocket: Socket,
    fetch: (address, options = {}) =>
      fetch(address, { ...options, headers: { ...options.headers, ...headers } }),
  });
  try {
    await client.connect();
    return await action(client, params);
  } finally {
    client.close();
  }
}

// Return images, which come by address or as bytes of the WebSocket.
async function encoded(client, { images }) {
  const files = images.map(async ({ data }) => {
    const bytes = typeof data === "string" ? await (await client.fetch(data)).arrayBuffer() : data;
    return Buffer.from(bytes).toString("base64");
  });
  return { files: await Promise.all(files), kinds: images.map(({ type }) => type) };
}

serve({
  lists: (params) =>
    closed(
      async (client) => ({
        models: await client.getSDModels(),
        samplers: await client.getSamplers(),
        schedulers: await client.getSchedulers(),
        loras: await client.getLoRAs(),
        vaes: await client.getVAEs(),
        controlnets: await client.getCNetModels(),
        upscalers: await client.getUpscaleModels(),
        embeddings: await client.getEmbeddings(),
        stats: await client.getSystemStats(),
      }),
      params,
    ),
  pipe: (params) =>
    closed(async (client, { model, prompt, negative, size, seed, steps, cfg }) => {
      const pipe = new BasePipe()
        .with(client)
        .model(model)
        .prompt(prompt)
        .negative(negative)
        .size(...size)
        .seed(seed)
        .steps(steps)
        .cfg(cfg);
      return encoded(client, await pipe.save().wait());
    }, params),
  generate: (params) =>
    closed(async (client, { graph }) => {
      const progress = [];
      const result = await client.enqueue(graph, {
        progress: ({ value, max }) => progress.push([value, max]),
      });
      return { ...(await encoded(client, result)), progress };
    }, params),
  poll: (params) =>
    closed(
      async (client, { graph }) => encoded(client, await client.enqueue_polling(graph)),
      params,
    ),
});
