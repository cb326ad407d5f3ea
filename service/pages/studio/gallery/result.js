// The image that is shown large, with its actions, its recipe and the others of its job.

import { fittingScale } from "../canvas/pan_zoom.js";
import { $, element } from "../base/dom.js";
import { size } from "../base/format.js";
import { title } from "../form/models.js";
import { changes, hasEnded, jobs } from "../queue/jobs.js";
import { text } from "../strings.js";
import { actionsFor } from "./actions.js";
import { markShown, shownRecords, thumbnailUrl } from "./grid.js";
import { fileOf, nameOf } from "./records.js";

const MARGIN = 20;
let record = null;
let urls = [];      // object URLs of the shown record's files
let extent = null;  // {width, height} of what is shown

export const shownRecord = () => record;

export function buildResult() {
  new ResizeObserver(place).observe($("result-view"));
  changes.addEventListener("change", showPreviews);
  $("gallery").addEventListener("favourite", ({ detail }) => {
    if (detail === record) $("favourite")?.setAttribute("aria-pressed", detail.favourite);
  });
  $("result").addEventListener("click", openFull);
  $("fullscreen").addEventListener("click", openFull);
}

/** Open the shown image in the whole window. */
export async function openFull() {
  if (!record) return;
  const { openViewer } = await import("./viewer.js");
  openViewer([record], shownRecords(), thumbnailUrl);
}

/** Show a record, or nothing. */
export async function showRecord(chosen) {
  record = chosen;
  markShown(record);
  for (const id of ["shown", "actions", "recipe", "result-tools"]) $(id).hidden = !record;
  $("empty").hidden = Boolean(record);
  $("siblings").replaceChildren();
  $("extras").replaceChildren();
  if (!record) return;
  setImage(thumbnailUrl(record), nameOf(record), record);
  $("flagged").hidden = !record.flagged;
  showRecipe();
  showSiblings();
  await showFiles(chosen);
}

async function showFiles(chosen) {
  const kinds = ["", ...chosen.extras.map(({ kind }) => kind)];
  const files = await Promise.all(kinds.map((kind) => fileOf(chosen, kind)));
  if (record !== chosen) return;  // another has been selected meanwhile
  urls.forEach(URL.revokeObjectURL);
  const byKind = Object.fromEntries(kinds.map((kind, index) =>
    [kind, files[index].blob && URL.createObjectURL(files[index].blob)]));
  urls = Object.values(byKind).filter(Boolean);
  setImage(byKind[""], nameOf(chosen), chosen);
  $("thumbnail-only").hidden = !files[0].isThumbnail;
  $("actions").replaceChildren(...actionsFor(chosen, byKind).filter(Boolean));
  showExtras(byKind, chosen);
}

function showExtras({ depth, sound }, { width, height }) {
  $("extras").replaceChildren(...[
    depth && element("img", { src: depth, alt: text.depth_of(nameOf(record)), width, height }),
    sound && element("audio", { src: sound, controls: true }),
  ].filter(Boolean));
}

function setImage(src, alt, { width, height }) {
  Object.assign($("result"), { src, alt });
  $("shown").hidden = false;
  $("empty").hidden = true;
  extent = { width, height };
  place();
}

/** Size the image: small ones by a whole multiple, large ones so that they fit. */
function place() {
  if (!extent || $("result-view").clientWidth === 0) return;
  const view = $("result-view");
  const room = { width: view.clientWidth - 2 * MARGIN, height: Math.max(view.clientHeight - 2 * MARGIN, 200) };
  const scale = fittingScale(extent.width, extent.height, room);
  Object.assign($("result").style, { width: `${extent.width * scale}px`, height: `${extent.height * scale}px` });
}

/** Show the previews of the oldest job while it runs, one of each of its images. */
function showPreviews() {
  const job = jobs.find((each) => !hasEnded(each) && each.preview);
  const urls = !job ? [] : job.previews.some(Boolean) ? job.previews : [job.preview];
  const frame = $("previews");
  frame.hidden = !job;
  frame.style.setProperty("--columns", Math.ceil(Math.sqrt(urls.length)));
  while (frame.children.length > urls.length) frame.lastElementChild.remove();
  for (const [index, url] of urls.entries()) {
    const image = frame.children[index] ?? frame.appendChild(element("img", {}));
    image.alt = urls.length > 1 ? text.preview_of(index + 1) : text.preview;
    image.hidden = !url;
    if (url && image.src !== url) image.src = url;
  }
}

function showSiblings() {
  const siblings = shownRecords().filter(({ job }) => job === record.job);
  if (siblings.length < 2) return;
  $("siblings").replaceChildren(...siblings.map((sibling) => {
    const button = element("button", { type: "button", ariaLabel: `${text.show(nameOf(sibling))}, ${text.fields.seed} ${sibling.seed}`,
      onclick: () => showRecord(sibling) }, element("img", { src: thumbnailUrl(sibling), alt: "" }));
    button.setAttribute("aria-pressed", sibling === record);
    return button;
  }));
}

const TITLED = { sampler: "sampler", schedule: "schedule" };
const LONG = ["prompt", "negative_prompt"];

/** Return [label, value] of each setting of a record. */
function entries({ task, fields, width, height, seed }) {
  const networks = (list) => list.map(({ name, model, weight }) => `${name ?? model} ${weight ?? 1}`).join(", ");
  const shown = { ...fields, seed };
  for (const name of ["width", "height", "loras", "controls", "boxes", "previews"]) delete shown[name];
  return [
    [text.task, text.tasks[task]],
    ...LONG.filter((name) => shown[name]).map((name) => [text.fields[name], shown[name]]),
    [text.size, size(width, height)],
    ...Object.entries(shown).filter(([name, value]) => !LONG.includes(name) && value !== "").map(([name, value]) =>
      [label(name), TITLED[name] ? title(name, value) : String(value)]),
    ...(fields.loras ? [[text.groups.loras, networks(fields.loras)]] : []),
    ...(fields.controls ? [[text.groups.controls, networks(fields.controls)]] : []),
  ];
}

/** Return the label of a setting in a recipe; those of hires fix have the name of their group before it. */
const label = (name) => (name.startsWith("hires_") ? `${text.groups.hires}: ${text.fields[name].toLowerCase()}` : text.fields[name] ?? name);

function showRecipe() {
  $("recipe-list").replaceChildren(...entries(record).map(([name, value]) => element("div", {},
    element("dt", { textContent: name }), element("dd", { textContent: value }))));
}
