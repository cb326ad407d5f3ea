// The settings of the form, kept in the browser from one visit to the next.

import * as database from "../base/database.js";
import { selectedLoras } from "./loras.js";
import { restoreRecipe } from "./restore.js";
import { settingValues } from "./settings.js";
import { task } from "./tasks.js";

const KEY = "form";
const DELAY_MS = 400;
let timer = null;

/** Keep the settings some time after their last change. */
export function rememberSettings() {
  clearTimeout(timer);
  timer = setTimeout(keepSettings, DELAY_MS);
}

/** Keep the settings now, as when they are submitted: a reload may follow at once. */
export function keepSettings() {
  clearTimeout(timer);
  const loras = selectedLoras();
  database.put("settings", { task: task(), fields: { ...settingValues(), ...(loras.length && { loras }) } }, KEY);
}

/** Bring back the settings of the last visit, if there are any. */
export async function recallSettings() {
  const kept = await database.get("settings", KEY);
  if (kept) restoreRecipe(kept.task, kept.fields);
}
