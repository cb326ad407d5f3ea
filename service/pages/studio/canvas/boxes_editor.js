// Boxes of layout to image: dragged open on the canvas with the pointer, or typed in a list.

import { $, element, iconButton } from "../base/dom.js";
import { ClassPicker, className } from "../form/classes.js";
import { card } from "../form/models.js";
import { text } from "../strings.js";
import { cssColour } from "./colours.js";

const SIDES = ["x", "y", "width", "height"];
const LEAST = 0.02;  // share of a side, of a box that a click has not made by accident
const boxes = [];    // {class, x, y, width, height, element, picker}, in shares of the image's sides
let view = null;     // the PanZoom of the canvas

const round = (value) => Math.round(1000 * value) / 1000;
const clamp = (value, most = 1) => Math.min(Math.max(value, 0), most);

/** Return the boxes as the API takes them. */
export const boxValues = () => boxes.map(({ class: index, x, y, width, height }) =>
  ({ class: index, x: round(x), y: round(y), width: round(width), height: round(height) }));

/** Replace the boxes by those of a request. */
export function setBoxes(values) {
  boxes.length = 0;
  for (const value of values) add({ ...value, class: numberOf(value.class) });
  show();
}

const numberOf = (wanted) => (typeof wanted === "number" ? wanted : Math.max(0, card().class_names.indexOf(wanted)));

export function buildBoxes(panZoom) {
  view = panZoom;
  $("add-box").addEventListener("click", () => {
    add({ class: boxes.at(-1)?.class ?? 0, x: 0.25, y: 0.25, width: 0.5, height: 0.5 });
    show();
    $("box-list").lastElementChild?.querySelector("input").focus();
  });
  const sheet = $("box-sheet");
  let dragged = null;  // {box, mode, from, start}
  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const from = shares(event);
    const target = boxes.find((box) => box.element.contains(event.target));
    if (!target && boxes.length >= card().max_boxes) return;
    const box = target ?? add({ class: boxes.at(-1)?.class ?? 0, ...from, width: 0, height: 0 });
    const mode = !target ? "new" : event.target.matches(".handle") ? "resize" : "move";
    dragged = { box, mode, from, start: { ...box } };
    sheet.setPointerCapture(event.pointerId);
    show();
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    move(dragged, shares(event));
    place(dragged.box);
  });
  const end = () => {
    if (dragged && (dragged.box.width < LEAST || dragged.box.height < LEAST)) remove(dragged.box);
    dragged = null;
    show();
  };
  sheet.addEventListener("pointerup", end);
  sheet.addEventListener("pointercancel", end);
}

function shares(event) {
  const { x, y } = view.toSheet(event);
  return { x: clamp(x / view.width), y: clamp(y / view.height) };
}

function move({ box, mode, from, start }, to) {
  if (mode === "move") {
    box.x = clamp(start.x + to.x - from.x, 1 - box.width);
    box.y = clamp(start.y + to.y - from.y, 1 - box.height);
    return;
  }
  const origin = mode === "resize" ? start : from;
  Object.assign(box, {
    x: Math.min(origin.x, to.x), y: Math.min(origin.y, to.y),
    width: Math.abs(to.x - origin.x), height: Math.abs(to.y - origin.y),
  });
}

function add(values) {
  const box = { ...values, element: element("div", { className: "box" },
    element("span", { className: "name" }), element("span", { className: "handle" })) };
  boxes.push(box);
  return box;
}

function remove(box) {
  boxes.splice(boxes.indexOf(box), 1);
  show();
}

/** Show all boxes on the canvas and in the list. */
function show() {
  $("box-sheet").replaceChildren(...boxes.map((box) => box.element));
  boxes.forEach(place);
  $("box-list").replaceChildren(...boxes.map(row));
  $("add-box").disabled = boxes.length >= (card()?.max_boxes ?? 0);
  $("add-box").hidden = false;
}

function place(box) {
  const { style } = box.element;
  Object.assign(style, { left: `${100 * box.x}%`, top: `${100 * box.y}%`, width: `${100 * box.width}%`, height: `${100 * box.height}%` });
  style.setProperty("--box", cssColour(box.class));
  box.element.firstChild.textContent = className(card(), box.class);
}

function row(box, index) {
  const input = element("input", { type: "text", ariaLabel: `${text.box(index + 1)}: ${text.fields.class_id}`,
    placeholder: text.pick_class });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = cssColour(box.class);
  const entry = element("div", { className: "box-row" }, swatch,
    element("div", { className: "picker" }, input),
    iconButton("close", text.remove_name(text.box(index + 1)), () => remove(box)),
    element("div", { className: "sides" }, ...SIDES.map((side) => number(box, side, index))));
  const picker = new ClassPicker(input, card, (chosen) => {
    box.class = chosen;
    swatch.style.background = cssColour(chosen);
    place(box);
  });
  picker.value = box.class;
  picker.choose(box.class);
  return entry;
}

function number(box, side, index) {
  return element("input", {
    type: "number", min: 0, max: 1, step: 0.01, value: round(box[side]),
    ariaLabel: `${text.box(index + 1)}: ${text.box_sides[side]}`, title: text.box_sides[side],
    onchange: ({ target }) => { box[side] = clamp(Number(target.value)); place(box); },
  });
}
