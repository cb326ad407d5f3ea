// Actions of the npm package `openai`.

import OpenAI, { toFile } from "openai";

import { aborted, serve } from "./lines.mjs";

const client = (url, apiKey) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

const file = (image) => toFile(Buffer.from(image, "base64"), "image.png", { type: "image/png" });

async function withFiles({ images, mask, extra, ...params }) {
  const files = await Promise.all(images.map(file));
  const masked = mask ? { mask: await file(mask) } : {};
  return { ...params, ...extra, ...masked, image: files.length === 1 ? files[0] : files };
}

const streamed = (url, api_key, params) =>
  client(url, api_key).images.generate({ ...params, stream: true });

async function collected(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

serve({
  async models({ url, api_key }) {
    return collected(client(url, api_key).models.list());
  },
  model({ url, api_key, name }) {
    return client(url, api_key).models.retrieve(name);
  },
  generate({ url, api_key, extra, ...params }) {
    return client(url, api_key).images.generate({ ...params, ...extra });
  },
  async edit({ url, api_key, ...params }) {
    return client(url, api_key).images.edit(await withFiles(params));
  },
  async variation({ url, api_key, image, ...params }) {
    const images = client(url, api_key).images;
    return images.createVariation({ image: await file(image), ...params });
  },
  async stream({ url, api_key, extra, ...params }) {
    return collected(await streamed(url, api_key, { ...params, ...extra }));
  },
  async stream_edit({ url, api_key, ...params }) {
    const body = { ...(await withFiles(params)), stream: true };
    return collected(await client(url, api_key).images.edit(body));
  },
  // Leave a stream after its first event, and return that.
  async stop_stream({ url, api_key, extra, ...params }) {
    const stream = await streamed(url, api_key, { ...params, ...extra });
    for await (const event of stream) {
      stream.controller.abort();
      return event;
    }
  },
  abort({ url, api_key, extra, ...params }) {
    const { images } = client(url, api_key);
    return aborted((signal) => images.generate({ ...params, ...extra }, { signal }));
  },
  time_out({ url, api_key, extra, ...params }) {
    const { images } = client(url, api_key);
    return images.generate({ ...params, ...extra }, { timeout: 100 });
  },
});
