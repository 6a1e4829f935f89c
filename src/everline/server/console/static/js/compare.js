// The comparison of runs: brushes on the parallel coordinates, and the scatter. Everything else the server drew.

import { attachTable, colour, echarts, format, tip } from "./charts.js";

for (const element of document.querySelectorAll(".unscripted")) element.hidden = true;
for (const element of document.querySelectorAll(".scripted")) element.hidden = false;
for (const element of document.querySelectorAll("[data-send]")) element.addEventListener("change", () => element.form.requestSubmit());
document.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.("details.menu[open]");
  if (event.key !== "Escape" || !menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// ---------------------------------------------------------------- brushes

const SVG = "http://www.w3.org/2000/svg";
const CLICK = 4;

function brushes(picture) {
  const lines = [...picture.querySelectorAll("[data-heights]")].map((element) => ({ element, heights: JSON.parse(element.dataset.heights) }));
  const kept = new Map();
  const show = () => {
    for (const { element, heights } of lines) {
      const passes = [...kept].every(([axis, [top, bottom]]) => heights[axis] >= top && heights[axis] <= bottom);
      element.classList.toggle("dim", !passes);
    }
  };
  const height = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    return point.y;
  };
  for (const group of picture.querySelectorAll(".axis")) {
    const axis = Number(group.dataset.axis);
    const area = group.querySelector(".brush-area");
    const box = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ class: "brush", x: -9, width: 18, height: 0 })) box.setAttribute(name, value);
    group.insertBefore(box, area);
    let start = null;
    const set = (range) => {
      if (range) kept.set(axis, range);
      else kept.delete(axis);
      box.setAttribute("y", range ? range[0] : 0);
      box.setAttribute("height", range ? range[1] - range[0] : 0);
      show();
    };
    area.addEventListener("pointerdown", (event) => {
      start = height(event);
      area.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    area.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const now = height(event);
      if (Math.abs(now - start) >= CLICK) set([Math.min(start, now), Math.max(start, now)]);
    });
    area.addEventListener("pointerup", (event) => {
      if (start !== null && Math.abs(height(event) - start) < CLICK) set(null);
      start = null;
    });
  }
}

// ---------------------------------------------------------------- scatter

const TONES = 6;
const LABELLED_MAX = 8;

function scatter(element) {
  const given = JSON.parse(element.dataset.scatter);
  const form = document.querySelector("[data-scatter-axes]");
  const axes = { x: given.x, y: given.y };
  const value = (point, column) => point.values[column] ?? null;
  const table = attachTable(element, () => ({
    kind: "bars",
    x_name: "run",
    categories: given.points.map((point) => point.name),
    series: [axes.x, axes.y].map((column) => ({ name: column, values: given.points.map((point) => value(point, column)) })),
  }));
  element.setAttribute("role", "img");
  const chart = echarts?.init(element, null, { renderer: "canvas" });
  const draw = () => {
    element.setAttribute("aria-label", `${axes.y} over ${axes.x}`);
    table.update();
    if (!chart) return;
    const text = colour("--muted");
    const axis = (column) => ({
      type: "value",
      scale: true,
      boundaryGap: ["8%", "8%"],
      name: column,
      nameLocation: "middle",
      nameTextStyle: { color: text, fontSize: 12 },
      axisLine: { lineStyle: { color: colour("--line-strong") } },
      axisTick: { show: false },
      axisLabel: { color: text, fontSize: 11, hideOverlap: true, formatter: (number) => format(null, number) },
      splitLine: { lineStyle: { color: colour("--line") } },
    });
    const points = given.points
      .map((point, at) => ({ name: point.name, value: [value(point, axes.x), value(point, axes.y)], itemStyle: { color: colour(`--chart-${(at % TONES) + 1}`) } }))
      .filter((point) => !point.value.includes(null));
    chart.setOption(
      {
        backgroundColor: "transparent",
        animation: false,
        textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
        aria: { enabled: true, label: { description: `${axes.y} over ${axes.x}` } },
        grid: { left: 34, right: 40, top: 20, bottom: 30, containLabel: true },
        tooltip: {
          trigger: "item",
          confine: true,
          backgroundColor: colour("--surface"),
          borderColor: colour("--line-strong"),
          textStyle: { color: colour("--text"), fontSize: 12 },
          formatter: (item) => tip(given, [[axes.x, format(null, item.value[0])], [axes.y, format(null, item.value[1])]], item.name),
        },
        xAxis: { ...axis(axes.x), nameGap: 28 },
        yAxis: { ...axis(axes.y), nameGap: 46 },
        series: [
          {
            type: "scatter",
            symbolSize: 12,
            data: points,
            label: { show: points.length <= LABELLED_MAX, formatter: (item) => item.name, position: "top", color: text, fontSize: 11 },
          },
        ],
      },
      { notMerge: true },
    );
    element.dataset.drawn = "yes";
  };
  form?.addEventListener("change", () => {
    axes.x = form.elements.sx.value;
    axes.y = form.elements.sy.value;
    const address = new URL(location.href);
    address.searchParams.set("sx", axes.x);
    address.searchParams.set("sy", axes.y);
    history.replaceState(null, "", address);
    draw();
  });
  if (chart) new ResizeObserver(() => chart.resize()).observe(element);
  document.addEventListener("everline:theme", draw);
  draw();
}

for (const picture of document.querySelectorAll("svg.parallel")) brushes(picture);
for (const element of document.querySelectorAll("[data-scatter]")) scatter(element);
