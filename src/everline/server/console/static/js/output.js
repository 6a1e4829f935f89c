// What a step prints, while it runs: asks for the pieces after the last one and adds them as plain text. The last line
// may go on or be drawn again, so it is kept as it came. `view/terminal.py` does the same for what is there already.

const EVERY_MS = 1000;
const ESCAPES = /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b\[[0-?]*[ -/]*(?:[@-~]|$)|\x1b[PX^_][^]*?(?:\x1b\\|$)|\x1b[ -/]*[0-~]?/g;
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

const plain = (text) =>
  text
    .replace(ESCAPES, "")
    .replace(CONTROLS, "")
    .replaceAll("\r\n", "\n")
    .split("\n")
    .map((line) => line.replace(/\r+$/, "").split("\r").pop())
    .join("\n");

function follow(box) {
  const [done, unfinished] = box.querySelectorAll("code");
  const empty = document.querySelector("[data-empty]");
  let after = box.dataset.after;
  let rest = JSON.parse(box.dataset.rest);

  function add(text) {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    rest += text;
    const cut = rest.lastIndexOf("\n") + 1;
    done.append(plain(rest.slice(0, cut)));
    rest = rest.slice(cut);
    unfinished.textContent = plain(rest);
    empty.hidden = true;
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  async function look() {
    if (!document.hidden) {
      const address = new URL(box.dataset.output, location.href);
      address.searchParams.set("after", after);
      const answer = await fetch(address).catch(() => null);
      if (answer?.ok) {
        const more = await answer.json();
        if (more.text) add(more.text);
        if (more.last) after = more.last;
        if (more.ended) return;
      }
    }
    setTimeout(look, EVERY_MS);
  }

  box.scrollTop = box.scrollHeight;
  setTimeout(look, EVERY_MS);
}

for (const box of document.querySelectorAll("[data-output]")) follow(box);
