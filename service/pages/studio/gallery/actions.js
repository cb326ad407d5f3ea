// What can be done with an image: save, reuse, vary, send to a task, copy as lines of code.

import { baseUrl, darkroom } from "../api.js";
import { $, download, element, icon, setField } from "../base/dom.js";
import { setMap, setMask } from "../canvas/canvas_view.js";
import { restoreRecipe } from "../form/restore.js";
import { card } from "../form/models.js";
import { showProblem, showStatus } from "../form/problems.js";
import { tasksOf } from "../form/tasks.js";
import { useAsInput } from "../inputs/drop.js";
import { setInputImage } from "../inputs/input_image.js";
import { enqueue } from "../queue/jobs.js";
import { text } from "../strings.js";
import { removeRecords, toggleFavourite } from "./grid.js";
import { fileName, fileOf } from "./records.js";

const VARIATION = { strength: 0.6, n: 4 };
const HIRES_SCALE = 2;

/** Return the buttons for a record; `urls` are those of its file and its extra files by kind. */
export function actionsFor(record, urls) {
  const tasks = tasksOf(card());
  const favourite = button("star", text.favourite, () => toggleFavourite(record));
  favourite.setAttribute("aria-pressed", record.favourite);
  favourite.id = "favourite";
  return [
    link(urls[""], fileName(record), text.save),
    ...record.extras.filter(({ kind }) => urls[kind]).map((extra) =>
      link(urls[extra.kind], fileName(record, extra), text.save_kind(extra.kind))),
    favourite,
    button("restore", text.use_settings, () => useSettings(record)),
    button("seed", text.use_seed, () => setField($("seed"), record.seed)),
    tasks.includes("img2img") ? button("variations", text.variations, () => vary(record)) : null,
    menu("send", text.send_to, sendTargets(record, tasks)),
    menu("copy", text.copy_as, Object.entries(text.copies).map(([format, label]) => [label, () => copy(record, format)])),
    button("trash", text.delete, () => removeRecords([record])),
  ];
}

const button = (name, label, action) => element("button",
  { type: "button", className: "action", onclick: () => Promise.resolve(action()).catch(showProblem) },
  icon(name), element("span", { textContent: label }));

const link = (href, name, label) => element("a", { href, download: name, className: "action" },
  icon("download"), element("span", { textContent: label }));

function menu(name, label, entries) {
  const created = element("details", { className: "menu" },
    element("summary", { className: "action" }, icon(name), element("span", { textContent: label })),
    element("div", { className: "entries" }, ...entries.map(([entry, action]) => element("button", {
      type: "button", textContent: entry,
      onclick: () => { created.open = false; Promise.resolve(action()).catch(showProblem); },
    }))));
  created.addEventListener("focusout", ({ relatedTarget }) => {
    if (!created.contains(relatedTarget) && relatedTarget) created.open = false;
  });
  created.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !created.open) return;
    event.stopPropagation();
    created.open = false;
    created.querySelector("summary").focus();
  });
  return created;
}

function sendTargets(record, tasks) {
  const images = ["img2img", "inpaint", "outpaint", "upscale"].filter((task) => tasks.includes(task));
  const targets = images.map((task) => [text.send[task], () => send(record, task)]);
  const hires = record.task === "txt2img" && !record.fields.hires_scale && !record.fields.refiner;
  return hires ? [...targets, [text.send.hires, () => sendToHiresFix(record)]] : targets;
}

async function send(record, task) {
  const { blob } = await fileOf(record);
  if (record.fields.prompt !== undefined) setField($("prompt"), record.fields.prompt);
  await useAsInput(blob, task);
  $("prompt").focus();
}

function sendToHiresFix(record) {
  restoreRecipe(record.task, { ...record.fields, hires_scale: HIRES_SCALE });
  $("hires_scale").closest("details").open = true;
}

/** Restore everything that the image was generated with, its input files too. */
async function useSettings(record) {
  const { image, mask } = record.files;
  restoreRecipe(record.task, record.fields, record.files);
  if (record.task === "semantic" && image) await setMap(image);
  else if (image) await setInputImage(image);
  restoreRecipe(record.task, record.fields, record.files);
  if (mask) await setMask(mask);
}

/** Generate images like this one: image to image, with other noise. */
async function vary(record) {
  const { blob } = await fileOf(record);
  const { prompt, negative_prompt, model, steps, guidance_scale, sampler, schedule, loras } = record.fields;
  const fields = { prompt: prompt ?? "", negative_prompt, model, steps, guidance_scale, sampler, schedule, loras, ...VARIATION };
  for (const [name, value] of Object.entries(fields)) if (value === undefined) delete fields[name];
  fields.n = Math.min(VARIATION.n, card().max_images);
  await enqueue("img2img", fields, { image: blob });
}

async function copy(record, format) {
  const files = format === "parameters" ? {} : namedFiles(record);
  const lines = format === "parameters" ? JSON.stringify({ task: record.task, ...record.fields }, null, 2)
    : await linesOf(record, format, Object.fromEntries(Object.entries(files).map(([field, { name }]) => [field, name])));
  try {
    await navigator.clipboard.writeText(lines);
  } catch {
    return showStatus(text.not_copied, true);
  }
  showStatus(text.copied(text.copies[format]));
  if (Object.keys(files).length) showFiles(Object.values(files));
}

async function linesOf({ task, fields, format: output_format }, language, files) {
  const { snippet } = await import("../../snippets.js");
  return snippet(language, { url: baseUrl(), task, fields: { ...fields, output_format }, files, needsKey: Boolean(darkroom.key) });
}

const ENDINGS = { "image/jpeg": "jpg", "image/webp": "webp", "image/avif": "avif" };

/** Return the input files of a record by field, with the names that the copied lines give them. */
function namedFiles({ files }) {
  return Object.fromEntries(Object.entries(files).map(([field, blob]) => [
    field.replace(/^control_image_(\d+)$/, "controls.$1.image"),
    { name: `${field}.${ENDINGS[blob.type] ?? "png"}`, blob },
  ]));
}

/** Offer the files that the copied lines read. */
function showFiles(files) {
  $("status").append(" ", text.files_needed, ...files.flatMap(({ name, blob }) =>
    [" ", element("button", { type: "button", className: "small", textContent: name, onclick: () => download(blob, name) })]));
}
