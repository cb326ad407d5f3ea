// Aspect ratios beside width and height.

import { $, element, setField } from "../base/dom.js";
import { inputImage } from "../inputs/input_image.js";
import { card } from "./models.js";
import { takes } from "./tasks.js";

const RATIOS = [[1, 1], [4, 3], [3, 2], [16, 9], [3, 4], [2, 3], [9, 16]];

export function buildAspects() {
  for (const [x, y] of RATIOS) {
    const shape = element("span", { className: "shape" });
    shape.style.aspectRatio = `${x} / ${y}`;
    shape.style[x >= y ? "width" : "height"] = "14px";
    $("aspects").append(element("button", {
      type: "button", className: "aspect", data: { ratio: x / y }, onclick: () => setSize(legalSize(x / y)),
    }, shape, `${x}:${y}`));
  }
  $("swap").addEventListener("click", () =>
    setSize({ width: Number($("height").value), height: Number($("width").value) }));
}

function setSize({ width, height }) {
  if ($("size_source").value !== "set" && inputImage()) setField($("size_source"), "set");
  setField($("width"), width);
  setField($("height"), height);
}

/** Return the size of an aspect that the model can generate, of about as many pixels as its default or `area`. */
export function legalSize(ratio, area) {
  const { default_width, default_height, size_multiple, min_side, max_side, max_pixels } = card();
  const pixels = Math.min(area ?? default_width * default_height, max_pixels);
  const legal = (side) => {
    const rounded = Math.round(side / size_multiple) * size_multiple;
    const least = Math.ceil(min_side / size_multiple) * size_multiple;
    const most = Math.floor(max_side / size_multiple) * size_multiple;
    return Math.min(Math.max(rounded, least), most);
  };
  const size = { width: legal(Math.sqrt(pixels * ratio)), height: legal(Math.sqrt(pixels / ratio)) };
  while (size.width * size.height > max_pixels) {
    const side = size.width > size.height ? "width" : "height";
    size[side] -= size_multiple;
  }
  return size;
}

/** Return true if the model generates this size without resizing; an inpainted image may have any sides. */
function fits({ width, height }) {
  const { size_multiple, min_side, max_side, max_pixels } = card();
  const sides = [width, height];
  return sides.every((side) => side >= min_side && side <= max_side && (takes("mask") || side % size_multiple === 0))
    && width * height <= max_pixels;
}

/** Take the size of the input image if the model can generate it, else the nearest of its shape. */
export function adoptImageSize() {
  const image = inputImage();
  if (!image || !card() || !takes("image")) return;
  const own = fits(image);
  $("size_source").value = own ? "image" : "set";
  if (own) return;
  const { width, height } = legalSize(image.width / image.height);
  $("width").value = width;
  $("height").value = height;
}

/** Mark the aspect of the current size. */
export function showAspect() {
  const ratio = Number($("width").value) / Number($("height").value);
  for (const button of $("aspects").children) {
    const size = card() && legalSize(Number(button.dataset.ratio));
    const pressed = Boolean(size) && Math.abs(size.width / size.height - ratio) < 0.005;
    button.setAttribute("aria-pressed", pressed);
  }
}
