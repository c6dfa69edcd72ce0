// Draws the table of delays as a chart on a log scale, and each mail in flight as an open bar that grows.
"use strict";
(() => {
  const figure = document.getElementById("figure");
  const box = document.getElementById("chart");
  const table = document.getElementById("points");
  // Since when how many seconds east of UTC, as in the page's texts.
  const offsets = document.body.dataset.offsets.split(" ").map((pair) => pair.split(":").map(Number));
  const offset = (at) => (offsets.findLast(([since]) => since <= at) ?? offsets[0])[1];
  let ahead = 0; // seconds by which the page's clock is before this browser's
  const span = Number(box.dataset.span);
  const now = () => Date.now() / 1000 + ahead;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  let chart;

  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [0.001, "ms"]];
  const decimal = document.documentElement.lang === "de" ? "," : ".";
  function duration(seconds) {
    const [size, unit] = UNITS.find(([size]) => seconds >= size * 0.999) ?? UNITS[4];
    return `${Number((seconds / size).toPrecision(3))}`.replace(".", decimal) + ` ${unit}`;
  }

  function setClock() {
    ahead = Number(document.getElementById("now").dataset.wall) - Date.now() / 1000;
  }

  function points() {
    const rows = [...document.querySelectorAll("#points tr[data-point]")].map((row) => row.dataset.point.split(" ").map(Number));
    const columns = [0, 1, 2, 3].map((i) => rows.map((row) => Math.max(row[i], i ? 0.001 : -Infinity)));
    return columns[0].length ? columns : [[now() - span, now()], [null, null], [null, null], [null, null]];
  }

  function flying() {
    return document.getElementById("flying").dataset.accepted.split(" ").filter(Boolean).map(Number);
  }

  function openBars(u) {
    const { ctx } = u;
    const places = flying().map((at) => u.valToPos(at, "x", true));
    const apart = Math.min(...places.slice(1).map((x, i) => x - places[i]), Infinity);
    const width = Math.max(0, Math.min(5 * devicePixelRatio, apart - 4 * devicePixelRatio)); // bars that are too close are lines
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.strokeStyle = colour("--stuck");
    ctx.lineWidth = 1.25 * devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 2 * devicePixelRatio]);
    ctx.globalAlpha = Math.max(0.3, Math.min(1, 50 / places.length)); // of hundreds the shape is seen, and the grid behind
    const bottom = u.bbox.top + u.bbox.height;
    for (const at of flying()) {
      const x = u.valToPos(at, "x", true);
      const y = u.valToPos(Math.max(now() - at, u.scales.y.min), "y", true);
      ctx.beginPath(); // open at its top: it is not known yet where it ends
      ctx.moveTo(x - width / 2, y);
      ctx.lineTo(x - width / 2, bottom);
      if (width) {
        ctx.moveTo(x + width / 2, y);
        ctx.lineTo(x + width / 2, bottom);
      }
      ctx.stroke();
    }
    ctx.restore();
  }

  function range(u) {
    const data = [...u.data[1], ...u.data[3]].filter((value) => value > 0);
    const open = flying().map((at) => now() - at);
    const low = Math.min(...data, 1), high = Math.max(...data, ...open, 1);
    return [10 ** Math.floor(Math.log10(low)), high * 1.5];
  }

  // Only what a clock would say: 1, 10 s; 1, 10 min; 1, 6 h; days.
  const MARKS = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 432000];

  function draw() {
    chart?.destroy();
    const ink = colour("--quiet"), line = colour("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const narrow = box.clientWidth < 500;
    const series = (options) => ({ points: { show: false }, ...options });
    chart = new uPlot({
      width: box.clientWidth, height: box.clientHeight,
      tzDate: (at) => new Date((at + offset(at) + new Date(at * 1000).getTimezoneOffset() * 60) * 1000),
      cursor: { drag: { x: false, y: false } },
      legend: { show: false },
      scales: { x: { range: () => [now() - span, now() + span / 100] }, y: { distr: 3, range } },
      axes: [
        { ...axis, space: narrow || span > 86400 ? 100 : 80, values: [[86400, "{MM}-{DD}"], [3600, "{HH}:{mm}"], [60, "{HH}:{mm}"]].map(
          ([size, format]) => [size, format, null, null, size < 86400 ? "\n{MM}-{DD}" : null, null, null, null, 1]) },
        { ...axis, size: 64, values: (_, marks) => marks.map((mark) => (mark === null ? null : duration(mark))),
          splits: (u) => MARKS.filter((mark) => mark >= u.scales.y.min && mark <= u.scales.y.max), filter: (_, marks) => marks },
      ],
      series: [
        {},
        series({ stroke: "transparent" }),
        series({ stroke: colour("--link"), width: 2, points: { show: (u) => u.bbox.width / devicePixelRatio > 7 * u.data[0].length, size: 4, fill: colour("--link") } }),
        series({ stroke: colour("--link"), width: 0.75, dash: [2, 2] }),
      ],
      bands: [{ series: [3, 1], fill: colour("--link") + "22" }],
      hooks: { draw: [openBars] },
    }, points(), box);
  }

  figure.hidden = false;
  table.open = false;
  setClock();
  draw();
  let width = box.clientWidth;
  new ResizeObserver(() => box.clientWidth !== width && ((width = box.clientWidth), draw())).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("news", () => {
    setClock();
    if (!document.hidden) chart.setData(points());
  });
})();
