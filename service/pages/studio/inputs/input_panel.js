// The panel of the input image: file, thumbnail, and a sentence on how the image will be used.

import { $, element } from "../base/dom.js";
import { size } from "../base/format.js";
import { usesOwnSize } from "../form/settings.js";
import { isTiled, takes, task } from "../form/tasks.js";
import { text } from "../strings.js";
import { borders } from "../canvas/borders.js";
import { clearInputImage, inputImage, onInputImage } from "./input_image.js";

const SIDE = 128;  // of the thumbnail

export function buildInputPanel() {
  $("remove-image").addEventListener("click", () => { $("file").value = ""; clearInputImage(); });
  onInputImage((image) => {
    $("input-thumbnail").replaceChildren(...(image ? [thumbnail(image)] : []));
    $("remove-image").hidden = !image;
    $("input-panel").classList.toggle("filled", Boolean(image));
  });
}

function thumbnail({ bitmap, width, height }) {
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = element("canvas", { width: Math.max(1, width * scale), height: Math.max(1, height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Say how the image will be used. */
export function showInputHint() {
  const image = inputImage();
  $("hint").textContent = image ? hint(image) : text.input_hint;
}

function hint({ width, height }) {
  const from = size(width, height);
  const to = size($("width").value, $("height").value);
  if (isTiled()) return text.hints.tiles;
  if (task() === "upscale") return text.hints.upscale(from);
  if (takes("border")) {
    const { right, bottom } = borders(width, height);
    return text.hints.outpaint(from, size(right, bottom));
  }
  if (usesOwnSize()) return text.hints.own_size(width, height);
  if (takes("mask") && $("inpaint_area").value) return text.hints.own_size(width, height);
  const sameShape = Math.abs(width / height - $("width").value / $("height").value) < 0.001;
  return sameShape ? text.hints.resize(from, to) : text.hints[$("resize_mode").value](from, to);
}
