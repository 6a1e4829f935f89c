// Loaded before the first paint, so that a reader's own choice of theme does not flash.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("everline-theme");
  } catch {
    // Storage may be refused; the system's preference then holds.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
}
