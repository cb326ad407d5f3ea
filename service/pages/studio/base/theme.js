// Light or dark colours: those of the system unless the user has chosen.

import { $ } from "./dom.js";
import { text } from "../strings.js";

const ORDER = ["auto", "light", "dark"];

function show(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").title = $("theme").ariaLabel = `${text.theme}: ${text.themes[theme]}`;
}

export function startTheme() {
  let theme = localStorage.getItem("theme") ?? "auto";
  show(theme);
  $("theme").addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    localStorage.setItem("theme", theme);
    show(theme);
  });
}
