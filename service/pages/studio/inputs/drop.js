// Images that are dropped on the page or pasted: as input image, or to restore the recipe in them.

import { darkroom } from "../api.js";
import { $ } from "../base/dom.js";
import { restoreRecipe } from "../form/restore.js";
import { selectTask, takesInputImage, tasksOf } from "../form/tasks.js";
import { card } from "../form/models.js";
import { showProblem, showStatus } from "../form/problems.js";
import { text } from "../strings.js";
import { setInputImage } from "./input_image.js";

const isImage = ({ type, kind }) => type.startsWith("image/") || (kind === "file" && type === "");
let depth = 0;  // of elements that the dragged file has entered

export function startDropping() {
  addEventListener("dragenter", (event) => {
    if (![...event.dataTransfer.items].some(isImage)) return;
    depth += 1;
    $("drop").hidden = false;
  });
  addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) end(); });
  addEventListener("dragover", (event) => { if (!$("drop").hidden) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if ($("drop").hidden) return;
    event.preventDefault();
    const asRecipe = event.target.closest("#drop-recipe");
    end();
    const [file] = event.dataTransfer.files;
    if (file) (asRecipe ? readFrom(file) : useAsInput(file)).catch(showProblem);
  });
  addEventListener("paste", (event) => {
    const [file] = [...event.clipboardData.files].filter(isImage);
    if (!file) return;
    event.preventDefault();
    useAsInput(file).catch(showProblem);
  });
  $("recipe-file").addEventListener("change", () => {
    const [file] = $("recipe-file").files;
    if (file) readFrom(file).catch(showProblem);
    $("recipe-file").value = "";
  });
  $("read-recipe").addEventListener("click", () => $("recipe-file").click());
}

function end() {
  depth = 0;
  $("drop").hidden = true;
}

/** Use a file as input image; a task that takes none gives way to image to image, or another that does. */
export async function useAsInput(file, task) {
  const tasks = tasksOf(card());
  const wanted = task ?? (takesInputImage() ? null : ["img2img", "inpaint", "upscale"].find((each) => tasks.includes(each)));
  if (wanted) selectTask(wanted);
  await setInputImage(file);
}

/** Restore the recipe in an image file, if it has one. */
async function readFrom(file) {
  const { source, task, request, needs } = await darkroom.readRecipe(file);
  if (!source) return showStatus(text.recipe_missing, true);
  if (!request) return showStatus(text.recipe_foreign(text.sources[source]), true);
  restoreRecipe(task, request);
  const missing = needs.length ? ` ${text.recipe_needs(needs.join(", "))}` : "";
  showStatus(text.recipe_restored(text.sources[source]) + missing);
}
