// Completes names in a search box: <input data-suggest='["metrics.auc", …]'>. A combobox as the ARIA practices
// describe it: arrows choose, Enter or Tab takes, Escape closes. The word at the caret is what is completed.

const SHOWN_MAX = 8;
const COMPARISONS = [">", ">=", "<", "<=", "=", "!=", "LIKE", "ILIKE"];

function mount(input) {
  const names = JSON.parse(input.dataset.suggest);
  const list = document.createElement("ul");
  list.className = "suggestions";
  list.id = "suggestions";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Completions");
  list.hidden = true;
  input.after(list);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": list.id, "aria-expanded": "false" })) {
    input.setAttribute(name, value);
  }
  let current = -1;

  // The word before the caret, unless the caret stands inside of a quoted text.
  const word = () => {
    const before = input.value.slice(0, input.selectionStart);
    if ((before.match(/'/g)?.length ?? 0) % 2) return null;
    const found = /[\w.`"/-]*$/.exec(before)[0];
    return { text: found, start: before.length - found.length, before: before.slice(0, before.length - found.length) };
  };

  const offers = ({ text, before }) => {
    const written = before.trimEnd();
    const afterName = names.some((name) => written.endsWith(name)) && before !== written;
    if (afterName) return COMPARISONS.filter((one) => one.startsWith(text.toUpperCase()) && !text);
    if (!text || /[=<>]$/.test(written)) return [];
    const wanted = text.toLowerCase();
    const starts = names.filter((name) => name.toLowerCase().startsWith(wanted));
    const parts = names.filter((name) => !starts.includes(name) && name.toLowerCase().includes(wanted));
    return [...starts, ...parts].filter((name) => name !== text);
  };

  const close = () => {
    list.hidden = true;
    current = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };

  const mark = (at) => {
    current = at;
    [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", list.children[at].id);
  };

  const take = (text) => {
    const at = word();
    if (!at) return;
    const rest = input.value.slice(input.selectionStart);
    const head = `${at.before}${text} `;
    input.value = head + rest.trimStart();
    input.setSelectionRange(head.length, head.length);
    close();
    show();
  };

  const show = () => {
    const at = word();
    const found = at ? offers(at).slice(0, SHOWN_MAX) : [];
    if (!found.length) return close();
    list.replaceChildren(
      ...found.map((text, index) => {
        const item = document.createElement("li");
        item.id = `suggestion-${index}`;
        item.setAttribute("role", "option");
        item.textContent = text;
        // Before the box loses the caret.
        item.addEventListener("pointerdown", (event) => {
          event.preventDefault();
          take(text);
        });
        return item;
      }),
    );
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(-1);
  };

  input.addEventListener("input", show);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    const count = list.children.length;
    if (event.key === "ArrowDown" && !open) show();
    else if (event.key === "ArrowDown" && open) mark((current + 1) % count);
    else if (event.key === "ArrowUp" && open) mark((current - 1 + count) % count);
    else if (event.key === "Escape" && open) close();
    else if ((event.key === "Enter" || event.key === "Tab") && open && current >= 0) take(list.children[current].textContent);
    else return;
    event.preventDefault();
  });
}

for (const input of document.querySelectorAll("[data-suggest]")) mount(input);
