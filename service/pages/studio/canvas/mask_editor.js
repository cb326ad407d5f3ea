// A mask painted over an image in the image's own resolution: brush, eraser, undo, invert, fill.

import { newCanvas } from "./pan_zoom.js";
import { UndoStack } from "./undo.js";

const SPACING = 0.15;  // of the diameter, between the dabs of a soft brush

export class MaskEditor {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.undoStack = new UndoStack();
    Object.assign(this, { size: 16, hardness: 1, erasing: false, last: null, dirty: null });
    this.before = newCanvas(1, 1);  // the mask as it was before the stroke
    this.cursor = { x: 0, y: 0 };
  }

  /** Begin an empty mask of this size. */
  reset(width, height) {
    Object.assign(this.canvas, { width, height });
    Object.assign(this.before, { width, height });
    this.undoStack.clear();
    this.cursor = { x: width / 2, y: height / 2 };
  }

  get colour() {
    return getComputedStyle(this.canvas).getPropertyValue("--mask");
  }

  beginStroke(point, pressure = 1) {
    this.context.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    this.last = null;
    this.dirty = null;
    this.strokeTo(point, pressure);
  }

  /** Paint from the last point of the stroke to this one. */
  strokeTo(point, pressure = 1) {
    const radius = Math.max(0.5, this.size / 2 * pressure);
    const from = this.last ?? point;
    if (this.hardness >= 1) this.paintHard(from, point, radius);
    else this.paintSoft(from, point, radius);
    for (const { x, y } of [from, point]) this.extend(x - radius, y - radius, x + radius, y + radius);
    this.last = point;
  }

  paintHard(from, to, radius) {
    Object.assign(this.context, { lineWidth: 2 * radius, lineCap: "round", strokeStyle: this.colour });
    this.context.beginPath();
    this.context.moveTo(from.x, from.y);
    this.context.lineTo(to.x, to.y + 0.001);  // a line of no length has no caps
    this.context.stroke();
  }

  paintSoft(from, to, radius) {
    const distance = Math.hypot(to.x - from.x, to.y - from.y);
    const dabs = Math.max(1, Math.ceil(distance / Math.max(1, 2 * radius * SPACING)));
    for (let dab = 1; dab <= dabs; dab += 1) {
      const x = from.x + (to.x - from.x) * dab / dabs, y = from.y + (to.y - from.y) * dab / dabs;
      const gradient = this.context.createRadialGradient(x, y, radius * this.hardness, x, y, radius);
      gradient.addColorStop(0, this.colour);
      gradient.addColorStop(1, "transparent");
      this.context.fillStyle = gradient;
      this.context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
    }
  }

  extend(left, top, right, bottom) {
    const old = this.dirty ?? { left, top, right, bottom };
    this.dirty = {
      left: Math.min(old.left, left), top: Math.min(old.top, top),
      right: Math.max(old.right, right), bottom: Math.max(old.bottom, bottom),
    };
  }

  /** End the stroke; it can be undone as a whole. */
  endStroke() {
    if (!this.dirty) return;
    const { width, height } = this.canvas;
    const x = Math.max(0, Math.floor(this.dirty.left) - 1), y = Math.max(0, Math.floor(this.dirty.top) - 1);
    const right = Math.min(width, Math.ceil(this.dirty.right) + 1), bottom = Math.min(height, Math.ceil(this.dirty.bottom) + 1);
    this.dirty = this.last = null;
    this.context.globalCompositeOperation = "source-over";
    if (right > x && bottom > y) this.record(x, y, right - x, bottom - y);
  }

  record(x, y, width, height) {
    const old = this.before.getContext("2d", { willReadFrequently: true });
    const now = this.context.getImageData(x, y, width, height);
    const was = old.getImageData(x, y, width, height);
    old.putImageData(now, x, y);
    this.undoStack.push({ bytes: 2 * now.data.length, undo: () => this.put(was, x, y), redo: () => this.put(now, x, y) });
  }

  put(pixels, x, y) {
    this.context.putImageData(pixels, x, y);
    this.before.getContext("2d").putImageData(pixels, x, y);
  }

  /** Apply a change of the whole mask; it can be undone. */
  change(operation) {
    const { width, height } = this.canvas;
    this.context.globalCompositeOperation = operation;
    this.context.fillStyle = this.colour;
    this.context.fillRect(0, 0, width, height);
    this.context.globalCompositeOperation = "source-over";
    this.record(0, 0, width, height);
  }

  fill() { this.change("source-over"); }
  clear() { this.change("destination-out"); }
  invert() { this.change("source-out"); }
  undo() { this.undoStack.undo(); }
  redo() { this.undoStack.redo(); }

  /** Paint one dab at the cursor of the keyboard. */
  dab() {
    this.beginStroke(this.cursor);
    this.endStroke();
  }

  /** Return the mask as white on black, the format of the API. */
  export() {
    const { width, height } = this.canvas;
    const canvas = newCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  /** Take a mask that is white on black, such as one of an earlier request. */
  import(bitmap) {
    const { width, height } = this.canvas;
    const canvas = newCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i];
    context.putImageData(pixels, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = this.colour;
    context.fillRect(0, 0, width, height);
    this.context.clearRect(0, 0, width, height);
    this.context.drawImage(canvas, 0, 0);
    this.record(0, 0, width, height);
  }
}
