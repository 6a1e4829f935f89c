// Keeps the parts of a page fresh while its run is at work: every element with data-refresh and an id is replaced by
// the one of the same id on a new copy of the page. Once the new copy has no such part, the work is done. The shortest
// data-every of them, in milliseconds, says how often. What somebody is filling in stays until it is sent or emptied.

const EVERY_MS = 5000;
const parts = () => [...document.querySelectorAll("[data-refresh]")];
const sent = new Map(parts().map((part) => [part.id, part.outerHTML])); // as the server wrote it: scripts add attributes

const isFilledIn = (part) =>
  [...part.querySelectorAll("textarea, input:not([type=hidden])")].some(
    (field) => field === document.activeElement || field.value !== field.defaultValue,
  );

function replace(old, made) {
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const scrolled = [...old.querySelectorAll(".graph, .table-wrap")].map((box) => box.scrollLeft);
  old.replaceWith(document.adoptNode(made));
  [...made.querySelectorAll(".graph, .table-wrap")].forEach((box, at) => {
    box.scrollLeft = scrolled[at] ?? 0;
  });
  if (focused) [...made.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

async function refresh() {
  if (!document.hidden) {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer?.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of parts()) {
        const made = fresh.getElementById(old.id);
        const text = made?.outerHTML;
        if (!made || text === sent.get(old.id) || isFilledIn(old)) continue;
        sent.set(old.id, text);
        replace(old, made);
      }
      dispatchEvent(new Event("resize")); // what is as wide as before stays; new tables may be wider than the window
      if (!parts().length) return;
    }
  }
  plan();
}

const plan = () => setTimeout(refresh, Math.min(...parts().map((part) => Number(part.dataset.every ?? EVERY_MS))));
if (parts().length) plan();
