// Serves actions as lines of JSON: see tests/clients/processes.py.

import { createInterface } from "node:readline";

// Answer each line of the input with what its action returns or throws.
export async function serve(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { action, arguments: params } = JSON.parse(line);
    let answer;
    try {
      answer = { value: (await actions[action](params)) ?? null };
    } catch (error) {
      answer = { error: described(error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}

// Run an action whose signal is aborted after a tenth of a second.
export function aborted(action) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 100);
  return action(controller.signal);
}

function described(error) {
  const kinds = [error.name];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) {
    kinds.push(kind.name);
  }
  const inner = error.data?.error ?? error; // the AI SDK keeps what the server said in `data`
  return {
    kinds,
    message: error.message,
    status:
      error.status ??
      error.statusCode ??
      error.httpResponse?.status ??
      error.response?.status ??
      null,
    code: inner.code ?? null,
    param: inner.param ?? null,
    type: inner.type ?? null,
    request_id: error.requestID ?? error.responseHeaders?.["x-request-id"] ?? null,
  };
}
