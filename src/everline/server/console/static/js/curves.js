// Curves of metrics: fetched when they come into view, smoothed and on the axes that the reader chose, refreshed while
// one of their runs is at work. Used by the page of a run and by the comparison of runs. A page has
//
//   {{ parts.curve_controls() }}     once: the form with smoothing, x axis and log scale; its state lives in the address
//   {{ parts.curves(spec) }}         per chart, where spec is
//     {"title": "loss", "project": "default", "lines": [{"run": "UID", "key": "val_loss", "name": "what the legend says"}]}
//   {{ parts.curve_scripts() }}      in its head
//
// Points come from GET /api/v1/runs/curves (docs/runs.md): a long history arrives as buckets with mean, least and
// greatest value. The mean is the line; the extremes, or the unsmoothed values, stand faint behind it.

import { attachTable, colour, echarts, format, tip, timeLabels, when } from "./charts.js";

const ADDRESS = "/api/v1/runs/curves";
const KEYS_PER_REQUEST = 24;
const CURVES_PER_REQUEST = 200;
const POINTS = 500;
const GATHER_MS = 30;
const REFRESH_MS = 5000;
const MEMORY = "everline-curves";
const PALETTE = [1, 2, 3, 4, 5, 6].map((n) => `--chart-${n}`);
const DASHES = ["solid", "dashed", "dotted"];

const known = new Map(); // "project run key" -> curve, or null where there are no points
const active = new Set(); // "project run" of runs that are still at work
const charts = new Map(); // element -> its chart

const name = (spec, line) => `${spec.project} ${line.run} ${line.key}`;

// ------------------------------------------------------------------ what the reader chose

const form = document.querySelector("[data-curve-controls]");
const choice = { smooth: 0, x: "step", log: false };

// The address wins, so that a link shows the same to everybody; without a word in it, what was chosen last.
function read() {
  let given = new URLSearchParams(location.search);
  if (!["smooth", "x", "log"].some((key) => given.has(key))) given = new URLSearchParams(remembered());
  const smooth = Number(given.get("smooth"));
  choice.smooth = smooth >= 0 && smooth < 1 ? smooth : 0;
  choice.x = ["step", "time", "relative"].includes(given.get("x")) ? given.get("x") : "step";
  choice.log = given.get("log") === "1";
}

function write() {
  const address = new URL(location.href);
  const put = (key, value, usual) => (value === usual ? address.searchParams.delete(key) : address.searchParams.set(key, value));
  put("smooth", String(choice.smooth), "0");
  put("x", choice.x, "step");
  put("log", choice.log ? "1" : "0", "0");
  history.replaceState(null, "", address);
  try {
    localStorage.setItem(MEMORY, new URLSearchParams({ smooth: choice.smooth, x: choice.x, log: choice.log ? "1" : "0" }));
  } catch {
    // The choice then lasts for this page only.
  }
}

function remembered() {
  try {
    return localStorage.getItem(MEMORY) ?? "";
  } catch {
    return "";
  }
}

function startControls() {
  read();
  if (!form) return;
  const shown = form.querySelector("output");
  form.elements.smooth.value = String(choice.smooth);
  form.elements.x.value = choice.x;
  form.elements.log.checked = choice.log;
  shown.textContent = choice.smooth.toFixed(2);
  form.hidden = false;
  write();
  form.addEventListener("input", () => {
    choice.smooth = Number(form.elements.smooth.value);
    choice.x = form.elements.x.value;
    choice.log = form.elements.log.checked;
    shown.textContent = choice.smooth.toFixed(2);
    write();
    for (const drawn of charts.values()) drawn.draw();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

// ------------------------------------------------------------------ fetching

const waiting = new Set();
let timer = 0;

function want(element) {
  waiting.add(element);
  if (!timer) timer = setTimeout(gather, GATHER_MS);
}

// Charts that come into view together share requests: runs times keys, within the server's limits.
async function gather() {
  timer = 0;
  const elements = [...waiting];
  waiting.clear();
  const groups = new Map();
  for (const element of elements) {
    const { spec } = charts.get(element);
    const runs = [...new Set(spec.lines.map((line) => line.run))];
    const group = `${spec.project} ${runs.join(",")}`;
    if (!groups.has(group)) groups.set(group, { project: spec.project, runs, keys: new Set() });
    for (const line of spec.lines) groups.get(group).keys.add(line.key);
  }
  const asked = [];
  for (const { project, runs, keys } of groups.values()) {
    const size = Math.max(1, Math.min(KEYS_PER_REQUEST, Math.floor(CURVES_PER_REQUEST / runs.length)));
    const all = [...keys];
    for (let at = 0; at < all.length; at += size) asked.push(ask(project, runs, all.slice(at, at + size)));
  }
  await Promise.all(asked);
  for (const element of elements) charts.get(element).draw();
}

async function ask(project, runs, keys) {
  const query = new URLSearchParams({ project, runs: runs.join(","), points: String(POINTS) });
  for (const key of keys) query.append("key", key);
  const answer = await fetch(`${ADDRESS}?${query}`, { headers: { accept: "application/json" } }).catch(() => null);
  if (!answer?.ok) {
    for (const run of runs) active.delete(`${project} ${run}`);
    return;
  }
  const found = await answer.json();
  for (const run of runs) for (const key of keys) known.set(`${project} ${run} ${key}`, null);
  for (const curve of found.curves) known.set(`${project} ${curve.run} ${curve.key}`, curve);
  for (const [run, status] of Object.entries(found.status)) {
    if (status === "running") active.add(`${project} ${run}`);
    else active.delete(`${project} ${run}`);
  }
}

function refresh() {
  if (!document.hidden) {
    for (const [element, { spec, seen }] of charts) {
      if (seen && spec.lines.some((line) => active.has(`${spec.project} ${line.run}`))) want(element);
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

// ------------------------------------------------------------------ from points to lines

// Exponential moving average, corrected for its start at zero (as Adam does): the first value is the first point.
function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
}

// Rows [x, smoothed, value, low, high] in order of x.
function rowsOf(curve, axis) {
  const start = Math.min(...curve.at_ms);
  const place = {
    step: (at) => curve.steps[at],
    time: (at) => curve.at_ms[at],
    relative: (at) => (curve.at_ms[at] - start) / 1000,
  }[axis];
  const order = curve.steps.map((_, at) => at).sort((one, other) => place(one) - place(other));
  const lines = smoothed(order.map((at) => curve.values[at]), choice.smooth);
  return order.map((at, index) => [place(at), lines[index], curve.values[at], curve.low?.[at] ?? null, curve.high?.[at] ?? null]);
}

function axisOf(curves) {
  // Metrics without steps all stand at step 0: only time tells their points apart.
  const steps = curves.some((curve) => curve.steps[0] !== curve.steps.at(-1));
  return choice.x === "step" && !steps ? "time" : choice.x;
}

const seconds = (value) => {
  if (value < 120) return `${Number(value.toPrecision(3))} s`;
  return value < 7200 ? `${Number((value / 60).toPrecision(3))} min` : `${Number((value / 3600).toPrecision(3))} h`;
};
const labelled = { step: (x) => format(null, x), time: when, relative: seconds };

function pictured(spec) {
  const lines = spec.lines.map((line, at) => ({ ...line, at, curve: known.get(name(spec, line)) })).filter((line) => line.curve);
  const axis = axisOf(lines.map((line) => line.curve));
  for (const line of lines) line.rows = rowsOf(line.curve, axis);
  const positive = lines.some((line) => line.rows.some((row) => row[1] > 0));
  return { lines, axis, log: choice.log && positive };
}

function option(spec) {
  const { lines, axis, log } = pictured(spec);
  const text = colour("--muted");
  const label = { color: text, fontSize: 11, hideOverlap: true };
  const rule = { axisLine: { lineStyle: { color: colour("--line-strong") } }, axisTick: { show: false }, splitLine: { lineStyle: { color: colour("--line") } } };
  const visible = (value) => (value === null || (log && value <= 0) ? null : value);
  const series = [];
  for (const line of lines) {
    const tone = colour(PALETTE[line.at % PALETTE.length]);
    const shared = { type: "line", symbolSize: 6, z: 3, itemStyle: { color: tone } };
    const few = line.rows.length < 25;
    if (line.curve.thinned) {
      // Up and down between the extremes of each bucket: a band that also stands on a logarithmic axis.
      const data = line.rows.flatMap((row) => [[row[0], visible(row[3])], [row[0], visible(row[4])]]);
      series.push({ ...shared, name: `\u200b${line.name}`, data, silent: true, symbol: "none", z: 2, lineStyle: { width: 1, color: tone, opacity: 0.28 } });
    } else if (choice.smooth) {
      const data = line.rows.map((row) => [row[0], visible(row[2])]);
      series.push({ ...shared, name: `\u200b${line.name}`, data, silent: true, symbol: "none", z: 2, lineStyle: { width: 1.2, color: tone, opacity: 0.3 } });
    }
    series.push({
      ...shared,
      name: line.name,
      data: line.rows.map((row) => [row[0], visible(row[1]), ...row.slice(2)]),
      showSymbol: few,
      lineStyle: { width: 2, color: tone, type: DASHES[Math.floor(line.at / PALETTE.length) % DASHES.length] },
    });
  }
  const many = spec.lines.length > 1;
  return {
    backgroundColor: "transparent",
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    aria: { enabled: true, label: { description: spec.title } },
    grid: { left: 8, right: 20, top: many ? 34 : 14, bottom: 24, containLabel: true },
    legend: many
      ? { type: "scroll", icon: "roundRect", top: 0, left: 0, itemWidth: 14, itemHeight: 8, textStyle: { color: text, fontSize: 12 }, pageTextStyle: { color: text }, data: lines.map((line) => line.name) }
      : undefined,
    tooltip: {
      trigger: "axis",
      confine: true,
      backgroundColor: colour("--surface"),
      borderColor: colour("--line-strong"),
      textStyle: { color: colour("--text"), fontSize: 12 },
      axisPointer: { lineStyle: { color: colour("--line-strong") } },
      formatter: (items) => {
        const shown = items.filter((item) => !item.seriesName.startsWith("\u200b"));
        return shown.length ? tip(spec, shown.map((item) => [item.seriesName, said(item.value)]), `${axis === "step" ? "step " : ""}${labelled[axis](shown[0].value[0])}`) : "";
      },
    },
    dataZoom: [{ type: "inside", xAxisIndex: 0, zoomOnMouseWheel: "ctrl", moveOnMouseMove: "shift", moveOnMouseWheel: false, filterMode: "none" }],
    xAxis: {
      ...rule,
      splitLine: { show: false },
      type: axis === "time" ? "time" : "value",
      scale: true,
      name: { step: "step", time: "time (UTC)", relative: "since the first point" }[axis],
      nameLocation: "middle",
      nameGap: 26,
      nameTextStyle: { color: text, fontSize: 11 },
      minInterval: axis === "step" ? 1 : undefined,
      axisLabel: { ...label, formatter: { step: (x) => format(null, x), time: timeLabels, relative: seconds }[axis] },
    },
    yAxis: { ...rule, type: log ? "log" : "value", scale: true, axisLabel: { ...label, formatter: (value) => format(null, value) } },
    series,
  };
}

function said([, shown, value, low, high]) {
  const extra = [];
  if (choice.smooth && value !== null) extra.push(`measured ${format(null, value)}`);
  if (low !== null && low !== undefined && low !== high) extra.push(`${format(null, low)} to ${format(null, high)}`);
  return format(null, shown) + (extra.length ? ` (${extra.join(", ")})` : "");
}

// The same points for the table below the chart.
function tabled(spec) {
  const { lines, axis } = pictured(spec);
  const series = lines.map((line) => ({ name: line.name, points: line.rows.map((row) => [row[0], row[1]]) }));
  return { kind: "lines", x: axis === "time" ? "time" : "value", x_name: axis === "relative" ? "seconds" : axis, series };
}

// ------------------------------------------------------------------ on the page

function mount(element) {
  const spec = JSON.parse(element.dataset.curves);
  const facts = element.closest(".card")?.querySelector("[data-curve-facts]");
  let chart = null;
  let table = null;
  const draw = () => {
    const found = spec.lines.map((line) => known.get(name(spec, line)));
    if (found.includes(undefined)) {
      element.textContent = found.every((one) => one === undefined) && element.dataset.asked ? "Not fetched: the server does not answer." : element.textContent;
      return;
    }
    if (found.every((one) => one === null)) {
      element.textContent = "No points.";
      element.dataset.drawn = "yes";
      return;
    }
    if (!chart && echarts) {
      element.textContent = "";
      chart = echarts.init(element, null, { renderer: "canvas" });
      chart.group = "curves";
      new ResizeObserver(() => chart.resize()).observe(element);
    }
    table ??= attachTable(element, () => tabled(spec));
    chart?.setOption(option(spec), { notMerge: true });
    table.update();
    element.dataset.drawn = "yes";
    if (facts && found.length === 1) facts.textContent = told(found[0]);
  };
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", spec.title);
  charts.set(element, { spec, draw, seen: false });
}

function told(curve) {
  const low = Math.min(...(curve.low ?? curve.values).filter((value) => value !== null));
  const high = Math.max(...(curve.high ?? curve.values).filter((value) => value !== null));
  const points = `${format(null, curve.total)} ${curve.total === 1 ? "point" : "points"}`;
  return Number.isFinite(low) ? `${points}, ${format(null, low)} to ${format(null, high)}` : points;
}

const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const drawn = charts.get(target);
      const first = isIntersecting && !target.dataset.asked;
      drawn.seen = isIntersecting;
      if (!first) continue;
      target.dataset.asked = "yes";
      want(target);
    }
  },
  { rootMargin: "300px" },
);

startControls();
for (const element of document.querySelectorAll("[data-curves]")) {
  mount(element);
  sight.observe(element);
}
echarts?.connect("curves");
document.addEventListener("everline:theme", () => {
  for (const drawn of charts.values()) drawn.draw();
});
setTimeout(refresh, REFRESH_MS);
