// The images of the gallery: what the browser keeps of each, and its file while the service keeps that.

import { imageFile } from "../api.js";
import * as database from "../base/database.js";

const THUMBNAIL_SIDE = 320;      // pixels; a smaller image is its own thumbnail
const MAX_INPUT_BYTES = 8 * 2 ** 20;  // of the input files kept with an image
const files = new Map();         // promises of files, by record id and kind
const MAX_FILES = 30;            // kept in memory

/** Keep the images of a finished job. Returns their records. */
export async function addImages({ id, task, fields, files: inputs, status: { result } }) {
  const now = Date.now();
  const bytes = Object.values(inputs).reduce((sum, { size }) => sum + size, 0);
  const { n, ...settings } = fields;
  const records = await Promise.all(result.images.map(async (image) => ({
    id: `${id}/${image.index}`, job: id, index: image.index, created: now - image.index / 1000, task,
    fields: "seed" in settings || "steps" in settings ? { ...settings, seed: image.seed } : settings,
    files: bytes <= MAX_INPUT_BYTES ? inputs : {},
    seed: image.seed, width: image.width, height: image.height, format: image.format,
    extras: image.extras ?? [], flagged: image.finish_reason === "content_filtered", favourite: false,
    thumbnail: await thumbnail(await imageFile(id, image.index)),
  })));
  for (const record of records) await database.put("images", record);
  return records;
}

async function thumbnail(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = THUMBNAIL_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return blob;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, bitmap.width * scale), height: Math.max(1, bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/webp", 0.85));
}

/** Return the file of an image, or of one of its extra files; {blob, isThumbnail}. */
export function fileOf(record, kind = "") {
  const key = `${record.id} ${kind}`;
  if (!files.has(key)) {
    files.set(key, fetched(record, kind));
    if (files.size > MAX_FILES) files.delete(files.keys().next().value);
  }
  return files.get(key);
}

async function fetched(record, kind) {
  try {
    return { blob: await imageFile(record.job, record.index, kind), isThumbnail: false };
  } catch {
    files.delete(`${record.id} ${kind}`);
    return { blob: kind ? null : record.thumbnail, isThumbnail: true };
  }
}

export const keep = (record) => database.put("images", record);

export const forget = (record) => database.remove("images", record.id);

/** Return the name under which a file of an image is saved. */
export const fileName = ({ seed, format }, kind) =>
  (kind ? `darkroom-${seed}-${kind.kind}.${kind.format}` : `darkroom-${seed}.${format}`);

export const nameOf = ({ fields }) => fields.prompt || fields.model || "";
