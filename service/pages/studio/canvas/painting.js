// Pointer, pen, keyboard and buttons of the tools that paint a mask or a class map.

import { $ } from "../base/dom.js";
import { takes } from "../form/tasks.js";
import { showStatus } from "../form/problems.js";
import { text } from "../strings.js";

const KEYS = { b: "brush", e: "eraser", i: "invert-mask", m: "show-mask" };
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let painting = false;
let tool = "brush";

/** Connect the tools with `editor()`, the one of the selected task, on the sheet of `view`. */
export function startPainting(view, editor) {
  for (const canvas of [$("mask"), $("map")]) {
    canvas.addEventListener("pointerdown", (event) => begin(event, view, editor()));
    canvas.addEventListener("pointermove", (event) => move(event, view, editor()));
    canvas.addEventListener("pointerup", () => end(editor()));
    canvas.addEventListener("pointercancel", () => end(editor()));
    canvas.addEventListener("pointerleave", () => { $("brush-cursor").hidden = true; });
    canvas.addEventListener("keydown", (event) => key(event, view, editor()));
  }
  $("viewport").addEventListener("pinch", () => { if (painting) end(editor()); });
  const onClick = (id, action) => $(id).addEventListener("click", () => action(editor()));
  onClick("undo", (each) => each.undo());
  onClick("redo", (each) => each.redo());
  onClick("mask-all", (each) => each.fill());
  onClick("clear-mask", (each) => each.clear());
  onClick("invert-mask", (each) => each.invert());
  for (const tool of ["brush", "eraser", "bucket"]) onClick(tool, () => selectTool(tool, editor()));
  $("show-mask").addEventListener("click", () => {
    const shown = $("show-mask").getAttribute("aria-pressed") !== "true";
    $("show-mask").setAttribute("aria-pressed", shown);
    $("mask").classList.toggle("invisible", !shown);
  });
  const setBrush = () => {
    Object.assign(editor(), { size: Number($("brush-size").value), hardness: Number($("brush-hardness").value) / 100 });
    showCursor(editor().cursor, editor());
    $("brush-cursor").hidden = true;
  };
  for (const id of ["brush-size", "brush-hardness"]) $(id).addEventListener("input", setBrush);
}

function selectTool(name, editor) {
  tool = name;
  editor.erasing = name === "eraser";
  for (const each of ["brush", "eraser", "bucket"]) $(each).setAttribute("aria-pressed", each === name);
}

/** A pen paints as wide as it is pressed; a mouse has no pressure. */
const pressureOf = ({ pointerType, pressure }) => (pointerType === "pen" && pressure > 0 ? pressure : 1);

function begin(event, view, editor) {
  if (event.button !== 0 && event.button !== 5) return;  // 5: the eraser end of a pen
  if (takes("mask")) editor.erasing = tool === "eraser" || event.button === 5;
  const point = view.toSheet(event);
  editor.cursor = point;
  if (takes("map") && tool === "bucket") return editor.fillAt(point);
  painting = true;
  event.target.setPointerCapture(event.pointerId);
  editor.beginStroke(point, pressureOf(event));
}

function move(event, view, editor) {
  showCursor(view.toSheet(event), editor);
  if (!painting) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) editor.strokeTo(view.toSheet(each), pressureOf(each));
  editor.cursor = view.toSheet(event);
}

function end(editor) {
  if (painting) editor.endStroke();
  painting = false;
}

function showCursor({ x, y }, { size }) {
  $("brush-cursor").hidden = false;
  Object.assign($("brush-cursor").style, { left: `${x}px`, top: `${y}px`, width: `${size}px`, height: `${size}px` });
}

function key(event, view, editor) {
  const lower = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (lower === "z") event.shiftKey ? editor.redo() : editor.undo();
    else if (lower === "y") editor.redo();
    else return;
  } else if (MOVES[event.key]) moveCursor(MOVES[event.key], event.shiftKey, editor);
  else if (event.key === " ") editor.dab();
  else if (event.key === "[" || event.key === "]") resizeBrush(event.key === "]" ? 1 : -1);
  else if (KEYS[lower] && !$(KEYS[lower]).closest("[hidden]")) $(KEYS[lower]).click();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Move the cursor by a part of the brush, with shift by a pixel. */
function moveCursor([dx, dy], fine, editor) {
  const by = fine ? 1 : Math.max(1, editor.size / 2), { cursor, canvas } = editor;
  cursor.x = Math.min(Math.max(cursor.x + dx * by, 0), canvas.width);
  cursor.y = Math.min(Math.max(cursor.y + dy * by, 0), canvas.height);
  showCursor(cursor, editor);
  showStatus(text.brush_at(Math.round(cursor.x), Math.round(cursor.y)));
}

function resizeBrush(by) {
  const slider = $("brush-size");
  slider.value = Number(slider.value) + by * Math.max(1, Math.round(slider.value / 10));
  slider.dispatchEvent(new Event("input"));
}
