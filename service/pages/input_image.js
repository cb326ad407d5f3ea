// The input image, shown as it will be used, and the mask that is painted over it.

import { $ } from "./elements.js";
import { showProblem } from "./problems.js";
import { isTiled, takes, task } from "./tasks.js";

const HINTS = {
  inpaint: "Paint over the part to be generated again.",
  outpaint: "The image keeps its size and is continued over its edges.",
  upscale: "The whole image is upscaled.",
  semantic: "A PNG whose pixel values are the numbers of classes.",
};

let bitmap = null;    // of the selected file
let original = null;  // the file itself
let cursor = { x: 0, y: 0 };

const toFile = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

/** Append image and mask to a form, if the task takes them. */
export async function appendInputImage(form) {
  if ((takes("image") && !bitmap) || (takes("file") && !original)) {
    throw { detail: "Choose an image first.", field: "image" };
  }
  if (takes("mask")) form.append("image", await toFile($("image")), "image.png");
  else if (takes("image") || takes("file")) form.append("image", original, "image");
  const [depth] = $("depth_map").files;
  if (depth && !$("depth_map").closest("[hidden]")) form.append("depth_map", depth, "depth");
  if (takes("mask") && $("mask_source").value !== "alpha") form.append("mask", await toFile(maskCanvas()), "mask.png");
}

export async function setInputImage(blob) {
  original = blob;
  try {
    bitmap = await createImageBitmap(blob);
    renderInputImage();
  } catch {
    showProblem({ detail: "This file is not an image the browser can read.", field: "image" });
  }
}

/** Return how the image gets the size of the result; a mask is painted over its centre. */
const resizeMode = () => (takes("mask") ? "crop" : $("resize_mode").value);

/** Show the image in the size of the result. Painted strokes are lost. */
export function renderInputImage() {
  if (!bitmap) return;
  const width = Number($("width").value) || 64, height = Number($("height").value) || 64;
  for (const canvas of [$("image"), $("mask")]) Object.assign(canvas, { width, height });
  const scales = [width / bitmap.width, height / bitmap.height];
  const mode = resizeMode(), scale = mode === "fill" ? Math.min(...scales) : Math.max(...scales);
  const [w, h] = mode === "stretch" ? [width, height] : [bitmap.width * scale, bitmap.height * scale];
  const context = $("image").getContext("2d");
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  if (mode === "fill") continueEdges(context, Math.ceil((width - w) / 2), Math.ceil((height - h) / 2));
  cursor = { x: width / 2, y: height / 2 };
  $("stage").hidden = takes("file");
}

/** Repeat the pixels at the edges of the image, which begins at x and y, to those of the canvas. */
function continueEdges(context, x, y) {
  const { canvas } = context, { width, height } = canvas;
  for (const [from, to] of [[x, 0], [width - x - 1, width - x]]) {
    if (x > 0) context.drawImage(canvas, from, 0, 1, height, to, 0, x, height);
  }
  for (const [from, to] of [[y, 0], [height - y - 1, height - y]]) {
    if (y > 0) context.drawImage(canvas, 0, from, width, 1, 0, to, width, y);
  }
}

/** Show the parts that the selected task needs. */
export function showInputImage() {
  $("stage").hidden = !bitmap || takes("file");
  $("brush").hidden = $("mask").hidden = !takes("mask");
  const hint = isTiled() ? "The whole image is scaled up and generated in tiles." : HINTS[task()];
  const used = resizeMode() === "crop" ? "The centre of the image" : "The whole image";
  $("hint").textContent = hint || `${used} is used, in the size set below.`;
}

function maskContext() {
  const context = $("mask").getContext("2d");
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--accent");
  return context;
}

function paint(x, y) {
  const context = maskContext();
  context.beginPath();
  context.arc(x, y, (Number($("brush-size").value) / 100) * $("mask").width, 0, 2 * Math.PI);
  context.fill();
  cursor = { x, y };
}

export function paintAt(event) {
  if (event.buttons !== 1) return;
  const box = $("mask").getBoundingClientRect();
  paint((event.clientX - box.left) * $("mask").width / box.width,
        (event.clientY - box.top) * $("mask").height / box.height);
}

export function paintByKey(event) {
  const by = Math.max(1, $("mask").width / 16);
  const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
  const [dx, dy] = moves[event.key] || [0, 0];
  if (!moves[event.key] && event.key !== " ") return;
  event.preventDefault();
  cursor.x = Math.min(Math.max(cursor.x + dx, 0), $("mask").width);
  cursor.y = Math.min(Math.max(cursor.y + dy, 0), $("mask").height);
  if (event.key === " ") paint(cursor.x, cursor.y);
  $("hint").textContent = `Brush at ${Math.round(cursor.x)}, ${Math.round(cursor.y)}; space paints.`;
}

export const maskAll = () => maskContext().fillRect(0, 0, $("mask").width, $("mask").height);

export const clearMask = () => maskContext().clearRect(0, 0, $("mask").width, $("mask").height);

/** Return the painted strokes as white on black, the mask format of the API. */
function maskCanvas() {
  const { width, height } = $("mask");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage($("mask"), 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "black";
  context.fillRect(0, 0, width, height);
  return canvas;
}
