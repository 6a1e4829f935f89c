// Keeps the parts of a page fresh while its run is at work: every element with data-refresh and an id is replaced by
// the one of the same id on a new copy of the page. Once the new copy has no such part, the work is done.

const EVERY_MS = 5000;

async function refresh() {
  if (!document.hidden) {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
    if (answer?.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-refresh]")) {
        const made = fresh.getElementById(old.id);
        if (made && made.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(made));
      }
      if (!document.querySelector("[data-refresh]")) return;
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
