// A class map: a class for each pixel, painted with a brush of the selected class.

import { classColour } from "./colours.js";
import { greyPng } from "./png.js";
import { UndoStack } from "./undo.js";

export class ClassMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.undoStack = new UndoStack();
    Object.assign(this, { size: 8, value: 0, labels: new Uint8Array(1), last: null, before: null });
    this.cursor = { x: 0, y: 0 };
  }

  /** Begin a map of class 0 in this size, unless it already has it. */
  resize(width, height) {
    if (this.canvas.width === width && this.canvas.height === height && this.labels.length === width * height) return;
    Object.assign(this.canvas, { width, height });
    this.labels = new Uint8Array(width * height);
    this.undoStack.clear();
    this.cursor = { x: width / 2, y: height / 2 };
    this.show();
  }

  /** Show the labels in the colours of their classes. */
  show() {
    const { width, height } = this.canvas;
    const pixels = new ImageData(width, height), words = new Uint32Array(pixels.data.buffer);
    const colours = Uint32Array.from({ length: 256 }, (_, index) => {
      const [red, green, blue] = classColour(index);
      return (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
    });
    for (let i = 0; i < words.length; i += 1) words[i] = colours[this.labels[i]];
    this.context.putImageData(pixels, 0, 0);
  }

  beginStroke(point) {
    this.before = this.labels.slice();
    this.last = null;
    this.strokeTo(point);
  }

  strokeTo(point) {
    const from = this.last ?? point;
    const steps = Math.max(1, Math.ceil(Math.hypot(point.x - from.x, point.y - from.y)));
    for (let step = 0; step <= steps; step += 1) {
      this.disc(from.x + (point.x - from.x) * step / steps, from.y + (point.y - from.y) * step / steps);
    }
    this.last = point;
    this.show();
  }

  /** Set all pixels whose centre is within the brush; at least the one at its centre. */
  disc(centreX, centreY) {
    const { width, height } = this.canvas, radius = this.size / 2;
    const within = (x, y) => x >= 0 && y >= 0 && x < width && y < height;
    const x0 = Math.floor(centreX), y0 = Math.floor(centreY);
    if (within(x0, y0)) this.labels[y0 * width + x0] = this.value;
    for (let y = Math.floor(centreY - radius); y <= centreY + radius; y += 1) {
      for (let x = Math.floor(centreX - radius); x <= centreX + radius; x += 1) {
        const inside = Math.hypot(x + 0.5 - centreX, y + 0.5 - centreY) <= radius;
        if (inside && within(x, y)) this.labels[y * width + x] = this.value;
      }
    }
  }

  endStroke() {
    if (!this.before) return;
    this.record(this.before);
    this.before = this.last = null;
  }

  record(was) {
    const now = this.labels.slice();
    const put = (labels) => { this.labels = labels.slice(); this.show(); };
    this.undoStack.push({ bytes: 2 * now.length, undo: () => put(was), redo: () => put(now) });
  }

  dab() {
    this.beginStroke(this.cursor);
    this.endStroke();
  }

  /** Fill the area of one class at a point with the selected class. */
  fillAt({ x, y }) {
    const { width, height } = this.canvas;
    const start = Math.floor(y) * width + Math.floor(x), from = this.labels[start];
    if (from === this.value || from === undefined) return;
    const was = this.labels.slice(), open = [start];
    while (open.length) {
      const at = open.pop();
      if (this.labels[at] !== from) continue;
      this.labels[at] = this.value;
      const column = at % width;
      if (column > 0) open.push(at - 1);
      if (column < width - 1) open.push(at + 1);
      if (at >= width) open.push(at - width);
      if (at < width * (height - 1)) open.push(at + width);
    }
    this.record(was);
    this.show();
  }

  /** Set every pixel to the selected class. */
  fill() {
    const was = this.labels.slice();
    this.labels.fill(this.value);
    this.record(was);
    this.show();
  }

  /** Take the levels of a grey image as classes, in the size of the map. */
  import(bitmap) {
    const { width, height } = this.canvas, was = this.labels.slice();
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(bitmap, 0, 0, width, height);
    const { data } = this.context.getImageData(0, 0, width, height);
    for (let i = 0; i < this.labels.length; i += 1) this.labels[i] = data[4 * i];
    this.record(was);
    this.show();
  }

  undo() { this.undoStack.undo(); }
  redo() { this.undoStack.redo(); }

  /** Return the map as the API takes it: a PNG whose levels are the numbers of classes. */
  export() {
    return greyPng(this.labels, this.canvas.width, this.canvas.height);
  }
}
