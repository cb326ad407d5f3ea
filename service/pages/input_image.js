// The picture to begin with, as it will be sent, and the mask that is painted over it.

import { $ } from "./elements.js";
import { complain } from "./problems.js";
import { takes, task } from "./tasks.js";

const HINTS = {
  inpaint: "Paint over what shall become new.",
  upscale: "It is drawn larger as a whole.",
  semantic: "A PNG whose pixel values are the numbers of classes.",
};

let bitmap = null;    // of the file chosen
let original = null;  // the file itself
let cursor = { x: 0, y: 0 };

const file = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

/** Put picture and mask into a form, where the task takes them. */
export async function appendSource(form) {
  if ((takes("image") && !bitmap) || (takes("file") && !original)) {
    throw { detail: "Choose an image first.", field: "image" };
  }
  if (takes("image")) form.append("image", await file($("image")), "image.png");
  if (takes("file")) form.append("image", original, "image");
  if (takes("mask")) form.append("mask", await file(maskCanvas()), "mask.png");
}

export async function takeSource(blob) {
  original = blob;
  try {
    bitmap = await createImageBitmap(blob);
    drawSource();
  } catch {
    complain({ detail: "This file is not an image the browser can read.", field: "image" });
  }
}

/** Show the middle of the picture, in the size that will be drawn. */
export function drawSource() {
  if (!bitmap) return;
  const width = Number($("width").value) || 64, height = Number($("height").value) || 64;
  for (const canvas of [$("image"), $("mask")]) Object.assign(canvas, { width, height });
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const w = bitmap.width * scale, h = bitmap.height * scale;
  $("image").getContext("2d").drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  cursor = { x: width / 2, y: height / 2 };
  $("stage").hidden = takes("file");
}

export function offerSource() {
  $("stage").hidden = !bitmap || takes("file");
  $("brush").hidden = $("mask").hidden = !takes("mask");
  $("hint").textContent = HINTS[task()] || "The middle of it is used, in the size set below.";
}

function brush() {
  const context = $("mask").getContext("2d");
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("--light");
  return context;
}

function paint(x, y) {
  const context = brush();
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

export const markAll = () => brush().fillRect(0, 0, $("mask").width, $("mask").height);

export const markNone = () => brush().clearRect(0, 0, $("mask").width, $("mask").height);

/** The painted strokes as white on black, as the API wants a mask. */
function maskCanvas() {
  const { width, height } = $("mask");
  const white = Object.assign(document.createElement("canvas"), { width, height });
  const pen = white.getContext("2d");
  pen.drawImage($("mask"), 0, 0);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.globalCompositeOperation = "destination-over";
  pen.fillStyle = "black";
  pen.fillRect(0, 0, width, height);
  return white;
}
