// The playground: what it offers follows from the chosen model, its task and settings.

import { ask, takeKey } from "./calls.js";
import { offerControls } from "./controls.js";
import { $ } from "./elements.js";
import { develop, stop } from "./jobs.js";
import { offerLoras, offerWords } from "./loras.js";
import { card, look, tell } from "./models.js";
import { offerSettings, takeDefaults } from "./settings.js";
import { drawSource, markAll, markNone, offerSource, paintAt, paintByKey, takeSource } from "./source.js";
import { offerTasks } from "./tasks.js";

const EVERY_MS = 5000;
let settled = null;  // the model whose defaults the settings began with

/** Offer what the chosen model can do now; begin anew with its defaults if it is another. */
function offer() {
  const known = card();
  if (!known) return;
  tell();
  offerTasks(known);
  if (settled !== known.name) takeDefaults(known);
  settled = known.name;
  offerSettings(known);
  offerLoras(known);
  offerWords(known);
  offerControls(known);
  offerSource();
}

async function lookAround() {
  try {
    await look();
    offer();
    await ask("/readyz");
    $("health").textContent = "ready";
    $("health").className = "ready";
  } catch (problem) {
    $("health").textContent = problem.detail || "the service does not answer";
    $("health").className = "";
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); develop(); });
$("door").addEventListener("submit", (event) => { event.preventDefault(); takeKey(); lookAround(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("form").requestSubmit(); }
});
$("stop").addEventListener("click", stop);
$("form").addEventListener("change", ({ target }) => {
  if (target.matches("[name]")) offer();
  if (target.matches("#model, #width, #height")) drawSource();
});
$("hires_scale").addEventListener("input", offer);
$("file").addEventListener("change", () => { if ($("file").files[0]) takeSource($("file").files[0]); });
$("mask").addEventListener("pointerdown", paintAt);
$("mask").addEventListener("pointermove", paintAt);
$("mask").addEventListener("keydown", paintByKey);
$("all").addEventListener("click", markAll);
$("none").addEventListener("click", markNone);
lookAround();
setInterval(lookAround, EVERY_MS);
