// Actions of the AI SDK (`ai`) with the provider that the first argument names.

import { generateImage } from "ai";

import { aborted, serve } from "./lines.mjs";

const PROVIDERS = {
  async "@ai-sdk/openai"(url, apiKey) {
    const baseURL = `${url}/v1`;
    const { createOpenAI } = await import("@ai-sdk/openai");
    return createOpenAI({ baseURL, apiKey }).image;
  },
  async "@ai-sdk/openai-compatible"(url, apiKey) {
    const baseURL = `${url}/v1`;
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    return createOpenAICompatible({ name: "darkroom", baseURL, apiKey }).imageModel;
  },
  async "@ai-sdk/fal"(url, apiKey) {
    const { createFal } = await import("@ai-sdk/fal");
    return createFal({ baseURL: `${url}/fal/run`, apiKey }).image;
  },
  async "@ai-sdk/replicate"(url, apiToken) {
    const { createReplicate } = await import("@ai-sdk/replicate");
    return createReplicate({ baseURL: `${url}/v1`, apiToken }).image;
  },
};
const provider = process.argv[2];
const NAMES = { "@ai-sdk/openai": "openai", "@ai-sdk/fal": "fal", "@ai-sdk/replicate": "replicate" };
const NAME = NAMES[provider] ?? "darkroom"; // of the provider's own options

const decoded = (image) => Buffer.from(image, "base64");

async function generated({ url, api_key, model, extra, images, mask, ...params }, more = {}) {
  const image = await PROVIDERS[provider](url, api_key);
  const edit = images && {
    prompt: { text: params.prompt, images: images.map(decoded), ...(mask && { mask: decoded(mask) }) },
  };
  const result = await generateImage({
    model: image(model),
    maxRetries: 0,
    ...params,
    ...edit,
    ...(extra && { providerOptions: { [NAME]: extra } }),
    ...more,
  });
  return {
    data: result.images.map(({ base64, mediaType }) => ({ b64_json: base64, mediaType })),
    warnings: result.warnings,
  };
}

serve({
  generate: (params) => generated(params),
  edit: (params) => generated(params),
  abort: (params) => aborted((abortSignal) => generated(params, { abortSignal })),
});
