// The grid of all images in the gallery, newest first, with favourites and a selection.

import { newestImages } from "../base/database.js";
import { $, download, element, icon, iconButton } from "../base/dom.js";
import { showStatus } from "../form/problems.js";
import { text } from "../strings.js";
import { fileName, fileOf, forget, keep, nameOf } from "./records.js";

const PAGE = 60;
const urls = new WeakMap();   // of thumbnails, by record
let records = [];             // those in the grid
let onshow = () => {};        // called with the record that is to be shown
let current = null;

export const shownRecords = () => records;

/** Build the gallery; `show` is called with a record that the user selects. */
export async function buildGallery(show) {
  onshow = show;
  $("favourites-only").addEventListener("click", () => {
    const only = $("favourites-only").getAttribute("aria-pressed") !== "true";
    $("favourites-only").setAttribute("aria-pressed", only);
    load();
  });
  $("more").addEventListener("click", loadMore);
  $("compare").addEventListener("click", compare);
  $("zip").addEventListener("click", downloadZip);
  $("delete-selected").addEventListener("click", () => removeRecords(selected()));
  $("clear-selection").addEventListener("click", () => { setTicks(false); showSelection(); });
  await load();
}

const onlyFavourites = () => $("favourites-only").getAttribute("aria-pressed") === "true";
const page = (before) => newestImages(PAGE, before, ({ favourite }) => favourite || !onlyFavourites());

async function load() {
  const found = await page();
  records = found;
  $("gallery").replaceChildren(...records.map(item));
  showEnds(found);
}

async function loadMore() {
  const found = await page(records.at(-1)?.created);
  records.push(...found);
  $("gallery").append(...found.map(item));
  showEnds(found);
}

function showEnds(found) {
  $("more").hidden = found.length < PAGE;
  $("gallery-empty").hidden = records.length > 0;
  $("gallery-empty").textContent = onlyFavourites() ? text.no_favourites : text.empty_gallery;
  showSelection();
}

/** Add new records at the front. */
export function addToGrid(added) {
  records = [...added, ...records];
  $("gallery").prepend(...added.map(item));
  showEnds({ length: $("more").hidden ? 0 : PAGE });
}

export const thumbnailUrl = (record) => {
  if (!urls.has(record)) urls.set(record, URL.createObjectURL(record.thumbnail));
  return urls.get(record);
};

function item(record) {
  const name = nameOf(record);
  const tick = element("input", { type: "checkbox", className: "tick", ariaLabel: text.select(name), onchange: showSelection });
  const star = iconButton("star", text.favourite, () => toggleFavourite(record), { className: "star" });
  star.setAttribute("aria-pressed", record.favourite);
  const open = element("button", { type: "button", className: "open", ariaLabel: text.show(name), title: name,
    onclick: () => onshow(record) },
    element("img", { src: thumbnailUrl(record), alt: name, loading: "lazy", width: record.width, height: record.height }));
  return element("div", { className: "item", data: { id: record.id } }, open, tick, star,
    record.extras.length ? element("span", { className: "badge" }, icon("layers")) : null);
}

const itemOf = (record) => $("gallery").querySelector(`[data-id="${record.id}"]`);

/** Mark the record that is shown. */
export function markShown(record) {
  if (current) itemOf(current)?.classList.remove("shown");
  current = record;
  if (record) itemOf(record)?.classList.add("shown");
}

export async function toggleFavourite(record) {
  record.favourite = !record.favourite;
  await keep(record);
  itemOf(record)?.querySelector(".star").setAttribute("aria-pressed", record.favourite);
  $("gallery").dispatchEvent(new CustomEvent("favourite", { detail: record }));
}

/** Delete records from the gallery; the service keeps its files as long as it is set to. */
export async function removeRecords(removed) {
  for (const record of removed) {
    await forget(record);
    itemOf(record)?.remove();
  }
  const next = records[records.indexOf(removed[0]) + removed.length] ?? null;
  records = records.filter((record) => !removed.includes(record));
  showEnds({ length: $("more").hidden ? 0 : PAGE });
  showStatus(text.deleted(removed.length));
  if (removed.includes(current)) onshow(next && records.includes(next) ? next : records[0] ?? null);
}

const ticks = () => [...$("gallery").querySelectorAll(".tick")];
const setTicks = (checked) => { for (const tick of ticks()) tick.checked = checked; };

const selected = () => {
  const ids = ticks().filter(({ checked }) => checked).map((tick) => tick.parentElement.dataset.id);
  return records.filter(({ id }) => ids.includes(id));
};

function showSelection() {
  const count = selected().length;
  $("selection").hidden = count === 0;
  $("gallery").classList.toggle("selecting", count > 0);
  $("selected-count").textContent = text.selected(count);
  $("compare").hidden = count !== 2;
}

async function compare() {
  const { openViewer } = await import("./viewer.js");
  openViewer(selected().slice(0, 2), [], thumbnailUrl);
}

async function downloadZip() {
  const { zip } = await import("./zip.js");
  const names = new Set();
  const files = await Promise.all(selected().map(async (record) => {
    const { blob } = await fileOf(record);
    let name = fileName(record);
    for (let count = 2; names.has(name); count += 1) name = fileName(record).replace(/(?=\.[^.]*$)/, `-${count}`);
    names.add(name);
    return { name, bytes: new Uint8Array(await blob.arrayBuffer()), date: new Date(record.created) };
  }));
  download(zip(files), "darkroom.zip");
}
