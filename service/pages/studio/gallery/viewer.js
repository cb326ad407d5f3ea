// A single image in the whole window, or two side by side, with zoom and pan.

import { PanZoom } from "../canvas/pan_zoom.js";
import { $, element } from "../base/dom.js";
import { text } from "../strings.js";
import { fileOf, nameOf } from "./records.js";

let panes = [];      // {view, image, caption}
let shown = [];      // the records in the panes
let list = [];       // the records that the arrow keys go through
let together = false;  // while one pane follows the other

/** Open the viewer on one record, or on two to compare them. `records`: those that can be stepped through. */
export function openViewer(opened, records, placeholder) {
  list = records;
  shown = opened;
  const dialog = $("viewer");
  panes = opened.map(() => pane());
  $("viewer-panes").replaceChildren(...panes.map(({ figure }) => figure));
  for (const id of ["viewer-previous", "viewer-next"]) $(id).hidden = records.length < 2;
  if (!dialog.open) dialog.showModal();
  opened.forEach((record, index) => show(index, record, placeholder));
  dialog.onkeydown = (event) => key(event, placeholder);
  $("viewer-close").onclick = () => dialog.close();
  $("viewer-previous").onclick = () => step(-1, placeholder);
  $("viewer-next").onclick = () => step(1, placeholder);
  $("viewer-fit").onclick = () => panes.forEach(({ view }) => view.fit());
  $("viewer-in").onclick = () => panes[0].view.zoom(1.25);
  $("viewer-out").onclick = () => panes[0].view.zoom(0.8);
}

function pane() {
  const image = element("img", { alt: "", draggable: false });
  const sheet = element("div", { className: "sheet" }, image);
  const viewport = element("div", { className: "viewport" }, sheet);
  const caption = element("figcaption", {});
  const figure = element("figure", {}, viewport, caption);
  const view = new PanZoom(viewport, sheet, { pans: () => true, onchange: follow, most: 64 });
  return { figure, image, caption, view };
}

/** Give the other pane the same zoom and place. */
function follow(moved) {
  if (together || panes.length < 2) return;
  together = true;
  for (const { view } of panes) {
    if (view === moved) continue;
    if (moved.fitted) view.fit();
    else {
      view.scale = moved.scale * moved.width / view.width;
      Object.assign(view, { x: moved.x, y: moved.y });
      view.show(false);
    }
  }
  together = false;
}

async function show(index, record, placeholder) {
  const { image, caption, view } = panes[index];
  shown[index] = record;
  image.src = placeholder(record);
  image.alt = caption.textContent = `${nameOf(record)} · ${record.width} × ${record.height} · ${text.fields.seed} ${record.seed}`;
  view.resize(record.width, record.height);
  view.fit();
  const { blob } = await fileOf(record);
  if (shown[index] === record) image.src = URL.createObjectURL(blob);
}

function step(by, placeholder) {
  const next = list[list.indexOf(shown[0]) + by];
  if (next) show(0, next, placeholder);
}

function key(event, placeholder) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && panes.length === 1) step(by, placeholder);
  else if (!panes[0].view.key(event, true)) return;
  event.preventDefault();
  event.stopPropagation();
}
