// Turns <div data-chart='{…}'> into a chart in the page's own colours.
//
// The JSON is one of
//   {"kind": "lines", "x": "time" | "value" | "category", "x_name": "…", "y_name": "…", "format": "percent" | "ms" | null,
//    "series": [{"name": "…", "points": [[x, y], …], "area": bool, "dashed": bool, "stairs": bool, "band": [[x, low, high], …]}],
//    "limits": [{"name": "…", "y": 0.2}], "marks": [{"name": "…", "x": …, "tone": "bad"}], "y_min": 0, "y_max": 1, "y_log": bool,
//    "connect": bool (draw on over missing values)}
//   {"kind": "bars", "categories": ["…"], "horizontal": bool, "x_name": "…", "y_name": "…", "format": …,
//    "series": [{"name": "…", "values": […]}], "colours": ["--chart-6"], "limits": [{"name": "…", "y": 0.2}]}
// A chart with data-live="URL" asks that address for fresh JSON of the same shape every data-every seconds.
// Below each chart stands the same data as a table, for readers who do not see the picture.

import { isDark } from "./console.js";

export const echarts = globalThis.echarts;
const PALETTE = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6"];

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

export function colour(token) {
  probe.style.color = `var(${token})`;
  return getComputedStyle(probe).color;
}

const clip = (number) =>
  Math.abs(number) >= 1000 ? Math.round(number).toLocaleString("en-GB").replaceAll(",", "\u202f") : Number(number.toPrecision(4));

export function format(kind, value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (kind === "percent") return `${Number((value * 100).toPrecision(3))} %`;
  if (kind === "ms") return `${clip(value)} ms`;
  return String(clip(value));
}

export function when(value) {
  const text = new Date(value).toISOString();
  return text.endsWith("T00:00:00.000Z") ? text.slice(0, 10) : `${text.slice(0, 10)} ${text.slice(11, 19)}`;
}

export const timeLabels = { year: "{yyyy}", month: "{d} {MMM}", day: "{d} {MMM}", hour: "{HH}:{mm}", minute: "{HH}:{mm}" };

const place = (spec, x) => (spec.x === "time" ? when(x) : format(null, x));

export function tip(spec, rows, title) {
  const box = document.createElement("div");
  box.className = "chart-tip";
  const head = document.createElement("b");
  head.textContent = title;
  box.append(head);
  for (const [name, text] of rows) {
    const line = document.createElement("span");
    line.textContent = `${name}: ${text}`;
    box.append(line);
  }
  return box;
}

function frame(spec) {
  const text = colour("--muted");
  const line = colour("--line");
  const axis = {
    axisLine: { lineStyle: { color: colour("--line-strong") } },
    axisTick: { show: false },
    axisLabel: { color: text, fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: line } },
    nameTextStyle: { color: text, fontSize: 11 },
  };
  return {
    axis,
    base: {
      backgroundColor: "transparent",
      color: (spec.colours ?? []).map(colour).concat(PALETTE.map(colour)),
      animationDuration: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 250,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      aria: { enabled: true, label: { description: spec.description ?? spec.title } },
      grid: { left: 8, right: 20, top: (spec.series.length > 1 ? 36 : 18) + (spec.marks?.length ? 10 : 0), bottom: spec.x_name ? 24 : 8, containLabel: true },
      legend:
        spec.series.length > 1
          ? { type: "scroll", icon: "roundRect", top: 0, left: 0, itemWidth: 14, itemHeight: 8, textStyle: { color: text, fontSize: 12 } }
          : undefined,
      tooltip: {
        trigger: "axis",
        confine: true,
        backgroundColor: colour("--surface"),
        borderColor: colour("--line-strong"),
        textStyle: { color: colour("--text"), fontSize: 12 },
        axisPointer: { lineStyle: { color: colour("--line-strong") }, shadowStyle: { color: colour("--accent-soft"), opacity: 0.4 } },
      },
    },
  };
}

function limitLines(spec, onX) {
  const dashed = { type: "dashed", width: 1.5 };
  const limits = (spec.limits ?? []).map((limit) => ({
    [onX ? "xAxis" : "yAxis"]: limit.y,
    name: limit.name,
    lineStyle: { ...dashed, color: colour("--warn") },
    label: { formatter: limit.name, color: colour("--warn"), position: onX ? "start" : "insideEndTop", fontSize: 11 },
  }));
  const marks = (spec.marks ?? []).map((mark) => ({
    xAxis: mark.x,
    name: mark.name,
    lineStyle: { ...dashed, color: colour(`--${mark.tone ?? "bad"}`) },
    label: { formatter: mark.name, color: colour(`--${mark.tone ?? "bad"}`), position: "end", align: "left", fontSize: 11 },
  }));
  const data = [...limits, ...marks];
  return data.length ? { symbol: "none", silent: true, data } : undefined;
}

function lines(spec) {
  const { axis, base } = frame(spec);
  const type = spec.x ?? "value";
  const every = spec.series.every((series) => series.points.length <= 60);
  base.tooltip.formatter = (items) =>
    tip(
      spec,
      items.filter((item) => !item.seriesName.startsWith("\u200b")).map((item) => [item.seriesName, format(spec.format, item.value[1])]),
      place(spec, items[0].value[0]),
    );
  const series = spec.series.map((one, index) => ({
    name: one.name,
    type: "line",
    data: one.points,
    showSymbol: every && one.points.length < 25 && !one.stairs,
    symbolSize: 6,
    connectNulls: Boolean(spec.connect),
    step: one.stairs ? "end" : undefined,
    lineStyle: { width: 2, type: one.dashed ? "dashed" : "solid" },
    areaStyle: one.area ? { opacity: 0.12 } : undefined,
    markLine: index === 0 ? limitLines(spec, false) : undefined,
  }));
  spec.series.forEach((one, index) => {
    if (!one.band) return;
    const shared = { type: "line", stack: `band${index}`, symbol: "none", lineStyle: { opacity: 0 }, silent: true };
    series.push({ ...shared, name: `\u200b${index}low`, data: one.band.map(([x, low]) => [x, low]) });
    series.push({
      ...shared,
      name: `\u200b${index}high`,
      data: one.band.map(([x, low, high]) => [x, high - low]),
      areaStyle: { opacity: 0.14, color: base.color[index] },
    });
  });
  if (base.legend) base.legend.data = spec.series.map((one) => one.name);
  return {
    ...base,
    xAxis: {
      ...axis,
      type,
      name: spec.x_name,
      nameLocation: "middle",
      nameGap: 26,
      scale: true,
      splitLine: { show: false },
      minInterval: spec.x_whole ? 1 : undefined,
      axisLabel: { ...axis.axisLabel, ...(type === "time" ? { formatter: timeLabels } : {}) },
    },
    yAxis: {
      ...axis,
      type: spec.y_log ? "log" : "value",
      name: spec.y_name,
      scale: spec.y_min === undefined || spec.y_min === null,
      min: spec.y_min ?? undefined,
      max: spec.y_max ?? undefined,
      axisLabel: { ...axis.axisLabel, formatter: (value) => format(spec.format, value) },
    },
    series,
  };
}

function bars(spec) {
  const { axis, base } = frame(spec);
  const category = {
    ...axis,
    type: "category",
    data: spec.categories,
    inverse: Boolean(spec.horizontal),
    name: spec.horizontal ? undefined : spec.x_name,
    nameLocation: "middle",
    nameGap: 26,
    axisLabel: { ...axis.axisLabel, width: spec.horizontal ? 110 : undefined, overflow: "truncate" },
    splitLine: { show: false },
  };
  const value = {
    ...axis,
    type: "value",
    min: spec.y_min ?? undefined,
    name: spec.horizontal ? spec.x_name : spec.y_name,
    nameLocation: spec.horizontal ? "middle" : "end",
    nameGap: spec.horizontal ? 26 : 12,
    axisLabel: { ...axis.axisLabel, formatter: (number) => format(spec.format, number) },
  };
  base.tooltip.axisPointer.type = "shadow";
  base.tooltip.formatter = (items) =>
    tip(spec, items.map((item) => [item.seriesName, format(spec.format, item.value)]), items[0].axisValueLabel ?? items[0].name);
  if (spec.horizontal && spec.limits?.length) base.grid.top += 14;
  return {
    ...base,
    xAxis: spec.horizontal ? value : category,
    yAxis: spec.horizontal ? category : value,
    series: spec.series.map((one, index) => ({
      name: one.name,
      type: "bar",
      data: one.values,
      barMaxWidth: 18,
      barGap: "10%",
      itemStyle: { borderRadius: spec.horizontal ? [0, 3, 3, 0] : [3, 3, 0, 0] },
      markLine: index === 0 ? limitLines(spec, spec.horizontal) : undefined,
    })),
  };
}

function table(spec) {
  const rows = new Map();
  if (spec.kind === "bars") {
    spec.categories.forEach((name, at) => rows.set(name, spec.series.map((one) => one.values[at])));
  } else {
    spec.series.forEach((one, index) => {
      for (const [x, y] of one.points) {
        if (!rows.has(x)) rows.set(x, spec.series.map(() => null));
        rows.get(x)[index] = y;
      }
    });
  }
  const element = document.createElement("table");
  const head = element.createTHead().insertRow();
  for (const name of [spec.x_name ?? (spec.x === "time" ? "time (UTC)" : ""), ...spec.series.map((one) => one.name)]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name;
    head.append(cell);
  }
  const body = element.createTBody();
  for (const [x, values] of [...rows].slice(0, 500)) {
    const row = body.insertRow();
    const first = document.createElement("th");
    first.scope = "row";
    first.textContent = spec.kind === "bars" ? x : place(spec, x);
    row.append(first);
    for (const value of values) {
      const cell = row.insertCell();
      cell.className = "num";
      cell.textContent = format(spec.format, value);
    }
  }
  return element;
}

// Puts "Data as a table" below a chart; `specOf` says what to show when it is opened, `update` shows it anew.
export function attachTable(element, specOf) {
  const details = document.createElement("details");
  details.className = "chart-data";
  const summary = document.createElement("summary");
  summary.textContent = "Data as a table";
  const wrap = document.createElement("div");
  wrap.className = "table-wrap";
  wrap.tabIndex = 0;
  details.append(summary, wrap);
  element.after(details);
  const update = () => {
    if (details.open) wrap.replaceChildren(table(specOf()));
  };
  details.addEventListener("toggle", update);
  if (!echarts) {
    // The build left the library out: the table is then the chart.
    element.hidden = true;
    details.open = true;
  }
  return { update };
}

function mount(element) {
  let spec = JSON.parse(element.dataset.chart);
  const data = attachTable(element, () => spec);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", spec.description ?? spec.title ?? "Chart");
  if (!echarts) return;
  const chart = echarts.init(element, null, { renderer: "canvas" });
  const draw = () => chart.setOption(spec.kind === "bars" ? bars(spec) : lines(spec), { notMerge: true });
  draw();
  element.setAttribute("aria-label", spec.description ?? spec.title ?? "Chart");
  element.dataset.drawn = "yes";
  new ResizeObserver(() => chart.resize()).observe(element);
  document.addEventListener("everline:theme", draw);
  if (element.dataset.live) {
    follow(element, (fresh) => {
      spec = fresh;
      draw();
      data.update();
    });
  }
}

function follow(element, show) {
  const every = Number(element.dataset.every ?? 5) * 1000;
  const status = document.getElementById(element.dataset.status ?? "");
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(element.dataset.live, { headers: { accept: "application/json" } });
        if (!answer.ok) throw new Error(String(answer.status));
        const fresh = await answer.json();
        show(fresh.chart);
        for (const [name, text] of Object.entries(fresh.facts ?? {})) {
          for (const place of document.querySelectorAll(`[data-fact="${CSS.escape(name)}"]`)) place.textContent = text;
        }
        if (status) status.textContent = `updated ${new Date().toISOString().slice(11, 19)} UTC`;
      } catch {
        if (status) status.textContent = "not updated: the server does not answer";
      }
    }
    setTimeout(ask, every);
  };
  setTimeout(ask, every);
}

for (const element of document.querySelectorAll("[data-chart]")) mount(element);
