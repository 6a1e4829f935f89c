// What every page has: the theme switch, copy buttons, "sure?" on forms that cannot be undone.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

export const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

const announce = () => document.dispatchEvent(new CustomEvent("everline:theme"));
systemDark.addEventListener("change", announce);

for (const button of document.querySelectorAll("[data-theme-switch]")) {
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
  };
  show();
  systemDark.addEventListener("change", show);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("everline-theme", root.dataset.theme);
    } catch {
      // The choice then lasts for this page only.
    }
    show();
    announce();
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("done");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => button.classList.remove("done"), 1500);
  } catch {
    button.setAttribute("aria-label", "Copying is not allowed here");
  }
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// MLflow's client prints addresses of MLflow's own interface, such as /#/experiments/2/runs/UID: they lead to our pages.
function ours(hash) {
  const [, run] = hash.match(/^#\/experiments\/\d+\/runs\/(\w+)/) ?? [];
  const [, logged] = hash.match(/^#\/experiments\/\d+\/models\/(m-\w+)/) ?? [];
  const [, model, version] = hash.match(/^#\/models\/([^/?]+)(?:\/versions\/(\d+))?/) ?? [];
  if (run) return `/runs/${run}`;
  if (logged) return `/logged-models/${logged}`;
  if (model) return `/models/${model}${version ? `/${version}` : ""}`;
  return hash.startsWith("#/experiments") ? "/runs" : null;
}
if (location.pathname === "/" && ours(location.hash)) location.replace(ours(location.hash));

// On a narrow screen sections and tabs scroll sideways: show the one we are in.
for (const bar of document.querySelectorAll(".nav, .tabs")) {
  const here = bar.querySelector("[aria-current]");
  if (here) bar.scrollLeft = here.offsetLeft - bar.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2;
}

// A table that can scroll sideways must be reachable by keyboard; one that cannot must not be a stop.
const scrollable = () => {
  for (const box of document.querySelectorAll(".table-wrap, .graph")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("resize", scrollable);
scrollable();

// A slider says its value beside itself.
for (const slider of document.querySelectorAll("[data-shows]")) {
  const shown = document.getElementById(slider.dataset.shows);
  slider.addEventListener("input", () => {
    shown.textContent = `${slider.value} %`;
  });
}
