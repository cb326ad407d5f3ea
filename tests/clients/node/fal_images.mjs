// Actions of the npm package `@fal-ai/client`, by its protocol for proxies.

import { createFalClient } from "@fal-ai/client";

import { serve } from "./lines.mjs";

const client = (url, credentials) =>
  createFalClient({ proxyUrl: { url: `${url}/api/fal/proxy`, when: "always" }, credentials });

const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

serve({
  async generate({ url, api_key, app, certificate, ...input }) {
    const { data, requestId } = await client(url, api_key).run(app, { input });
    return { ...data, requestId };
  },
  // Submit a request, follow it by the stream of its states, and get its result twice.
  async queue({ url, api_key, app, certificate, ...input }) {
    const { queue } = client(url, api_key);
    const { request_id: requestId } = await queue.submit(app, { input, priority: "low" });
    const states = [];
    const logs = [];
    for await (const state of await queue.streamStatus(app, { requestId, logs: true })) {
      states.push(state.status);
      logs.push(...state.logs.map((line) => line.message));
    }
    const found = await queue.status(app, { requestId, logs: true });
    return {
      states,
      logs,
      state: found.status,
      seconds: found.metrics.inference_time,
      result: (await queue.result(app, { requestId })).data,
      again: (await queue.result(app, { requestId })).data,
    };
  },
  async subscribe({ url, api_key, app, certificate, ...input }) {
    return (await client(url, api_key).subscribe(app, { input, pollInterval: 50 })).data;
  },
  async stream({ url, api_key, app, certificate, ...input }) {
    const stream = await client(url, api_key).stream(app, { input });
    const events = [];
    for await (const event of stream) events.push(event);
    return events;
  },
  // Cancel a request that has begun, and return its last state.
  async cancel({ url, api_key, app, certificate, ...input }) {
    const { queue } = client(url, api_key);
    const { request_id: requestId } = await queue.submit(app, { input });
    while ((await queue.status(app, { requestId })).status === "IN_QUEUE") await pause();
    await queue.cancel(app, { requestId });
    let state;
    do state = await queue.status(app, { requestId });
    while (state.status !== "COMPLETED");
    return { error_type: state.error_type };
  },
});
