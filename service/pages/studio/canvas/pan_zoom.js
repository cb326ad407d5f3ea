// Zoom and pan of a sheet in its viewport: wheel, pinch, middle button, space and drag, keys.

import { element } from "../base/dom.js";

const STEP = 1.25;
const MOST = 64;
const MARGIN = 24;         // between sheet and viewport
const MOST_FITTED = 8;     // whole multiple at which small images are shown
const PAN_BY = 60;         // pixels, by an arrow key

/** Return the scale at which an image fits: a whole multiple if it is small, a share if it is large. */
export function fittingScale(width, height, room, most = MOST_FITTED) {
  const scale = Math.min(room.width / width, room.height / height);
  return scale >= 1 ? Math.min(Math.floor(scale), most) : Math.max(scale, 0.01);
}

export class PanZoom {
  /** `onchange` is called after each change of the view. */
  constructor(viewport, sheet, { onchange = () => {}, pans = () => false, most = MOST_FITTED } = {}) {
    Object.assign(this, { viewport, sheet, onchange, pans, most, width: 1, height: 1, scale: 1, x: 0, y: 0 });
    this.fitted = true;  // until the user zooms or pans
    this.pointers = new Map();
    this.spaceHeld = false;
    viewport.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      viewport.addEventListener(type, (event) => this[type](event), true);
    }
    addEventListener("keyup", ({ key }) => { if (key === " ") this.spaceHeld = false; });
    new ResizeObserver(() => { if (this.fitted) this.fit(); }).observe(viewport);
  }

  /** Set the size of the sheet in its own pixels, and fit it if that has changed. */
  resize(width, height) {
    const same = width === this.width && height === this.height;
    Object.assign(this, { width, height });
    Object.assign(this.sheet.style, { width: `${width}px`, height: `${height}px` });
    if (!same) this.fit();
  }

  room() {
    const { clientWidth, clientHeight } = this.viewport;
    return { width: Math.max(clientWidth - 2 * MARGIN, 16), height: Math.max(clientHeight - 2 * MARGIN, 16) };
  }

  fit() {
    this.scale = fittingScale(this.width, this.height, this.room(), this.most);
    this.x = (this.viewport.clientWidth - this.width * this.scale) / 2;
    this.y = (this.viewport.clientHeight - this.height * this.scale) / 2;
    this.show(true);
  }

  show(fitted) {
    this.fitted = fitted;
    const { x, y, scale } = this;
    this.sheet.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px) scale(${scale})`;
    this.sheet.style.setProperty("--scale", scale);
    this.onchange(this);
  }

  /** Zoom around a point of the viewport, by default its centre. */
  zoom(factor, at = { x: this.viewport.clientWidth / 2, y: this.viewport.clientHeight / 2 }) {
    const scale = Math.min(Math.max(this.scale * factor, 0.02), MOST);
    const by = scale / this.scale;
    this.x = at.x - (at.x - this.x) * by;
    this.y = at.y - (at.y - this.y) * by;
    this.scale = scale;
    this.show(false);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.show(false);
  }

  /** Return the pixel of the sheet under a pointer. */
  toSheet({ clientX, clientY }) {
    const box = this.viewport.getBoundingClientRect();
    return { x: (clientX - box.left - this.x) / this.scale, y: (clientY - box.top - this.y) / this.scale };
  }

  place({ clientX, clientY }) {
    const box = this.viewport.getBoundingClientRect();
    return { x: clientX - box.left, y: clientY - box.top };
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? STEP : 1 / STEP, this.place(event));
  }

  pointerdown(event) {
    this.pointers.set(event.pointerId, this.place(event));
    this.panning = event.button === 1 || this.spaceHeld || (event.button === 0 && this.pans());
    if (this.pointers.size === 2) {
      this.viewport.dispatchEvent(new CustomEvent("pinch"));  // ends a stroke that one finger began
      this.panning = true;
    }
    if (!this.panning) return;
    event.preventDefault();
    event.stopPropagation();
    this.viewport.setPointerCapture(event.pointerId);
  }

  pointermove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.panning) return;
    event.stopPropagation();
    const now = this.place(event);
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const distance = (place) => Math.hypot(place.x - other.x, place.y - other.y) || 1;
      this.zoom(distance(now) / distance(before), other);
    } else {
      this.pan(now.x - before.x, now.y - before.y);
    }
    this.pointers.set(event.pointerId, now);
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
    if (this.panning) event.stopPropagation();
    if (this.pointers.size === 0) this.panning = false;
  }

  pointercancel(event) {
    this.pointerup(event);
  }

  /** Handle a key of the view; returns true if it was one. `arrows`: whether arrow keys pan. */
  key({ key, ctrlKey, metaKey }, arrows = false) {
    if (ctrlKey || metaKey) return false;
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (key === "+" || key === "=") this.zoom(STEP);
    else if (key === "-") this.zoom(1 / STEP);
    else if (key === "0") this.fit();
    else if (arrows && moves[key]) this.pan(...moves[key].map((by) => by * PAN_BY));
    else return false;
    return true;
  }
}

/** Return a canvas of this size. */
export const newCanvas = (width, height) => element("canvas", { width, height });
