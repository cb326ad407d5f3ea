// The canvas of the selected task: the input image with a mask, borders, boxes, or a class map.

import { $, element } from "../base/dom.js";
import { percent } from "../base/format.js";
import { className } from "../form/classes.js";
import { card } from "../form/models.js";
import { usesOwnSize } from "../form/settings.js";
import { isTiled, takes, takesInputImage } from "../form/tasks.js";
import { inputImage } from "../inputs/input_image.js";
import { borders } from "./borders.js";
import { buildBoxes } from "./boxes_editor.js";
import { ClassMap } from "./class_map.js";
import { cssColour } from "./colours.js";
import { MaskEditor } from "./mask_editor.js";
import { PanZoom } from "./pan_zoom.js";
import { startPainting } from "./painting.js";
import { renderResized } from "./resized.js";

let view = null, mask = null, map = null;
let maskedImage = null;  // the image that the mask was painted for

/** Return true if the selected task has a canvas. */
export const hasCanvas = () => takesInputImage() || takes("boxes") || takes("map");

export function buildCanvas() {
  mask = new MaskEditor($("mask"));
  map = new ClassMap($("map"));
  view = new PanZoom($("viewport"), $("sheet"), {
    pans: () => !takes("mask") && !takes("map") && !takes("boxes"),
    onchange: ({ scale }) => { $("zoom").textContent = percent(scale); },
  });
  buildBoxes(view);
  startPainting(view, () => (takes("map") ? map : mask));
  $("zoom-in").addEventListener("click", () => view.zoom(1.25));
  $("zoom-out").addEventListener("click", () => view.zoom(0.8));
  $("zoom-fit").addEventListener("click", () => view.fit());
}

/** Show what the selected task works on. */
export function updateCanvas() {
  if (!hasCanvas()) return;
  const image = inputImage();
  const isEmpty = takesInputImage() && !image;
  $("canvas-empty").hidden = !isEmpty;
  $("sheet").hidden = isEmpty;
  $("mask").hidden = !takes("mask") || $("mask_source").value === "alpha";
  $("map").hidden = !takes("map");
  $("box-sheet").hidden = !takes("boxes");
  $("image").hidden = takes("map");
  $("paint-tools").hidden = $("mask").hidden && $("map").hidden;
  for (const tool of document.querySelectorAll("[data-tool-of]")) tool.hidden = !takes(tool.dataset.toolOf);
  if (takes("map")) updateMap();
  else if (!isEmpty) showImage(image);
  if (takes("mask") && image && image !== maskedImage) {
    maskedImage = image;
    mask.reset(image.width, image.height);
    setBrushBounds(image);
  }
}

/** Set the bounds of the brush by the size of what is painted on. */
function setBrushBounds({ width, height }) {
  const side = Math.max(width, height);
  $("brush-size").max = Math.max(16, Math.round(side / 2));
  $("brush-size").value = Math.max(2, Math.round(side / 8));
  $("brush-size").dispatchEvent(new Event("input"));
}

function showImage(image) {
  const canvas = $("image"), context = canvas.getContext("2d");
  const size = sheetSize(image);
  Object.assign(canvas, size);  // clears it, too
  view.resize(size.width, size.height);
  $("sheet").classList.toggle("checkered", takes("border") || takes("boxes"));
  if (!image || takes("boxes")) return;
  if (takes("border")) {
    const { left, top } = borders(image.width, image.height);
    context.drawImage(image.bitmap, left, top);
  } else if (isResized()) renderResized(canvas, image.bitmap, $("resize_mode").value);
  else context.drawImage(image.bitmap, 0, 0);
}

/** A mask is painted on the image in its own resolution. */
const isResized = () => takes("image") && !takes("mask") && !usesOwnSize() && !isTiled();

function sheetSize(image) {
  if (takes("boxes") || isResized()) return { width: Number($("width").value) || 64, height: Number($("height").value) || 64 };
  if (!takes("border")) return { width: image.width, height: image.height };
  const { right, bottom } = borders(image.width, image.height);
  return { width: right, height: bottom };
}

function updateMap() {
  const width = Number($("width").value) || 64, height = Number($("height").value) || 64;
  if (map.canvas.width !== width || map.canvas.height !== height || $("palette").childElementCount === 0) {
    map.resize(width, height);
    setBrushBounds({ width, height });
    showPalette();
  }
  view.resize(width, height);
}

/** Show a button for each class, in its colour. */
function showPalette() {
  const count = Math.min(card().classes, 256);
  $("palette").replaceChildren(...Array.from({ length: count }, (_, index) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = cssColour(index);
    return element("button", { type: "button", className: "small class", data: { index }, onclick: () => pick(index) },
      swatch, className(card(), index));
  }));
  pick(Math.min(map.value, count - 1));
}

function pick(index) {
  map.value = index;
  for (const button of $("palette").children) button.setAttribute("aria-pressed", Number(button.dataset.index) === index);
}

/** Return the mask, or null if none is painted here. */
export const maskFile = () => (takes("mask") && $("mask_source").value !== "alpha" ? mask.export() : null);

export const mapFile = () => map.export();

/** Take a mask, white on black, for the input image. */
export async function setMask(blob) {
  updateCanvas();
  mask.import(await createImageBitmap(blob));
}

/** Take a class map from a file, whose levels are the numbers of classes. */
export async function setMap(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  $("width").value = bitmap.width;
  $("height").value = bitmap.height;
  updateCanvas();
  map.import(bitmap);
}

/** Handle a key while the canvas is shown; returns true if it was one of the view. */
export const canvasKey = (event) => view.key(event);

export const refitCanvas = () => { if (view.fitted) view.fit(); };
