// Actions of the npm package `@huggingface/inference`.

import { InferenceClient } from "@huggingface/inference";

import { aborted, serve } from "./lines.mjs";

const client = (url, token, path) => new InferenceClient(token).endpoint(`${url}${path}`);

const base64 = async (blob) => Buffer.from(await blob.arrayBuffer()).toString("base64");

// `extra_body` is what the Python package calls further parameters.
const parametersOf = ({ extra_body, ...params }) => ({ ...params, ...extra_body });

function generated({ url, api_key, path, prompt, ...params }, options) {
  const body = { inputs: prompt, parameters: parametersOf(params) };
  return client(url, api_key, path).textToImage(body, options);
}

serve({
  async generate(params) {
    return base64(await generated(params));
  },
  async edit({ url, api_key, path, image, ...params }) {
    const inputs = new Blob([Buffer.from(image, "base64")], { type: "image/png" });
    const parameters = Object.keys(params).length ? { parameters: params } : {};
    return base64(await client(url, api_key, path).imageToImage({ inputs, ...parameters }));
  },
  abort: (params) => aborted((signal) => generated(params, { signal })),
});
