// Actions of the npm package `replicate`.

import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";

import { serve } from "./lines.mjs";

const client = (url, auth) => new Replicate({ auth, baseUrl: `${url}/v1` });

const file = (image) => new File([Buffer.from(image, "base64")], "image.png", { type: "image/png" });

// Blobs among the inputs are uploaded by the package.
function inputs(sent, images = {}) {
  const files = Object.entries(images).map(([name, image]) => [name, file(image)]);
  return { ...sent, ...Object.fromEntries(files) };
}

serve({
  async run({ url, api_key, model, input, images, ...params }) {
    const output = await client(url, api_key).run(model, { input: inputs(input, images), ...params });
    return output.map(String);
  },
  create({ url, api_key, ...params }) {
    return client(url, api_key).predictions.create(params);
  },
  async create_and_wait({ url, api_key, ...params }) {
    const replicate = client(url, api_key);
    const created = await replicate.predictions.create(params);
    const done = await replicate.wait(created, { interval: 100 });
    const { current, total } = parseProgressFromLogs(done);
    return { first: created.status, progress: [current, total], ...done };
  },
  create_version({ url, api_key, version, input }) {
    return client(url, api_key).predictions.create({ version, input, wait: true });
  },
  async deploy({ url, api_key, model, input }) {
    const { owner, name } = await client(url, api_key).deployments.get(...model.split("/"));
    const created = await client(url, api_key).deployments.predictions.create(owner, name, { input });
    return client(url, api_key).wait(created, { interval: 100 });
  },
  async cancel({ url, api_key, ...params }) {
    const replicate = client(url, api_key);
    const created = await replicate.predictions.create(params);
    await replicate.predictions.cancel(created.id);
    return replicate.predictions.get(created.id);
  },
  async predictions({ url, api_key }) {
    const replicate = client(url, api_key);
    const ids = [];
    for await (const page of replicate.paginate(replicate.predictions.list)) {
      ids.push(...page.map(({ id }) => id));
    }
    return ids;
  },
  async stream({ url, api_key, model, input }) {
    const events = [];
    for await (const { event, data } of client(url, api_key).stream(model, { input })) {
      events.push([event, String(data)]);
    }
    return events;
  },
  async models({ url, api_key }) {
    const { results } = await client(url, api_key).models.list();
    return results.map(({ owner, name }) => `${owner}/${name}`);
  },
  async model({ url, api_key, name }) {
    const { models } = client(url, api_key);
    const found = await models.get(...name.split("/"));
    const { results } = await models.versions.list(...name.split("/"));
    return { ...found, version: await models.versions.get(...name.split("/"), results[0].id) };
  },
  async files({ url, api_key, image }) {
    const { files } = client(url, api_key);
    const created = await files.create(file(image), { a: 1 });
    const found = await files.get(created.id);
    const { results } = await files.list();
    const same = found.etag === created.etag && results.some(({ id }) => id === created.id);
    return { ...created, same, deleted: await files.delete(created.id) };
  },
  async validate({ url, api_key, headers, body }) {
    const { key } = await client(url, api_key).webhooks.default.secret.get();
    const right = await validateWebhook({ headers, body }, key);
    const wrong = await validateWebhook({ headers, body }, `whsec_${"A".repeat(43)}=`);
    return right && !wrong;
  },
});
