// Charts of the pages that have any: what to draw stands in data-* attributes, or is fetched from a page that answers JSON.

const drawn = new Map();

// light-dark() is a value of CSS alone: what it comes to here is asked of an element that has it.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faint(rgb, share) {
  const [red, green, blue] = rgb.match(/[\d.]+/g) ?? [128, 128, 128];
  return `rgba(${red}, ${green}, ${blue}, ${share})`;
}

function figure(value) {
  return value === null || value === undefined ? "" : Number(value.toPrecision(4)).toString();
}

function frame() {
  const quiet = colour("--quiet");
  const line = colour("--line");
  const axis = { axisLine: { lineStyle: { color: line } }, axisLabel: { color: quiet, hideOverlap: true }, axisTick: { show: false }, splitLine: { lineStyle: { color: line } }, nameTextStyle: { color: quiet } };
  return {
    axis,
    base: {
      animation: false,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("--text") },
      color: ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"].map(colour),
      // Rich text and not HTML: nothing inline is allowed here, and what somebody wrote stays text.
      tooltip: { trigger: "axis", renderMode: "richText", confine: true, backgroundColor: colour("--raised"), borderColor: line, textStyle: { color: colour("--text"), fontSize: 12 }, valueFormatter: figure },
      legend: { type: "scroll", bottom: 0, icon: "roundRect", itemWidth: 12, itemHeight: 4, textStyle: { color: quiet }, pageTextStyle: { color: quiet } },
    },
  };
}

function linesOf(chart) {
  const { axis, base } = frame();
  const few = chart.x.length < 2;
  return {
    ...base,
    grid: { left: 8, right: 16, top: 12, bottom: 44, containLabel: true },
    xAxis: { ...axis, type: "category", data: chart.x, name: chart.xName, nameLocation: "middle", nameGap: 24, splitLine: { show: false }, boundaryGap: few },
    yAxis: { ...axis, type: "value", min: chart.min ?? null, max: chart.max ?? null, axisLabel: { ...axis.axisLabel, formatter: figure } },
    series: chart.series.map((each, i) => ({ name: each.name, type: "line", data: each.values, symbolSize: 5, showSymbol: each.values.length < 40, lineStyle: { width: 2, type: ["solid", "dashed", "dotted"][i % 3] } })),
  };
}

// A lane has the colour of its stage, a stage that was declared the one of text.
const toneOf = (place) => colour(`--${place.split(".")[0]}`);

function bandsOf(course, by, place, span) {
  return course.places.flatMap((stage, level) =>
    course.reigns
      .filter((each) => each.stage === stage)
      .map((each) => {
        const width = by === "time" ? [Date.parse(each.since), each.until ? Date.parse(each.until) : span[1]] : [place(each.number) - 0.5, place(each.number) + 0.5];
        return { each, stage, level, width };
      })
      .filter(({ width }) => Number.isFinite(width[0]) && width[1] > width[0]),
  );
}

// Bands of stages lie in a strip of their own below the values: one row each, so that they hide nothing and each other never.
function courseOf(course, by) {
  const { axis, base } = frame();
  const points = course.points;
  const place = (number) => number;
  const xOf = (each) => (by === "time" ? Date.parse(each.pushed_at) : each.number);
  const now = Date.now();
  const xs = points.map(xOf);
  const span = by === "time" ? [Math.min(...xs), Math.max(now, ...xs)] : [Math.min(...xs) - 0.5, Math.max(...xs) + 0.5];
  const lows = points.flatMap((each) => [each.low ?? each.value, each.high ?? each.value]).concat(course.thresholds.map((each) => each.value));
  const [low, high] = [Math.min(...lows), Math.max(...lows)];
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  const accent = colour("--accent");
  const lines = [...new Set(points.map((each) => each.line))];
  const rows = 20 * course.places.length;
  const strip = bandsOf(course, by, place, span);
  const series = lines.map((line) => ({
    name: course.metric,
    type: "line",
    color: accent,
    symbol: "circle",
    symbolSize: 8,
    lineStyle: { width: 2 },
    data: points.filter((each) => each.line === line).map((each) => ({ value: [xOf(each), each.value], each, itemStyle: each.verified ? {} : { color: colour("--ground"), borderColor: accent, borderWidth: 2 } })),
    markLine: {
      silent: true,
      symbol: ["rect", "rect"],
      symbolSize: [9, 1.5],
      symbolRotate: 0,
      lineStyle: { color: accent, width: 1.5, type: "solid", opacity: 0.7 },
      label: { show: false },
      data: points.filter((each) => each.line === line && each.low !== null).map((each) => [{ coord: [xOf(each), each.low] }, { coord: [xOf(each), each.high] }]),
    },
  }));
  series.push({
    name: "policy",
    type: "line",
    data: [],
    markLine: {
      silent: true,
      symbol: "none",
      label: { show: false },
      data: course.thresholds.map((each) => ({ yAxis: each.value, lineStyle: { color: toneOf(each.stage), width: 1.5, type: each.shadow ? "dotted" : "dashed" } })),
    },
  });
  series.push({
    name: "stages",
    type: "line",
    xAxisIndex: 1,
    yAxisIndex: 1,
    data: [],
    markArea: {
      silent: true,
      label: { show: true, position: "insideLeft", color: colour("--text"), fontSize: 11, overflow: "truncate" },
      data: strip.map(({ each, stage, level, width }) => [
        { coord: [Math.max(width[0], span[0]), level + 0.12], name: by === "time" && width[1] - width[0] > (span[1] - span[0]) / 24 ? `v${each.number}` : "", itemStyle: { color: faint(toneOf(stage), 0.35), borderColor: colour("--ground"), borderWidth: 1 } },
        { coord: [Math.min(width[1], span[1]), level + 0.88] },
      ]),
    },
  });
  const x = { ...axis, type: by === "time" ? "time" : "value", min: span[0], max: span[1], splitLine: { show: false } };
  const label = by === "time" ? {} : { formatter: (value) => (Number.isInteger(value) ? `v${value}` : "") };
  return {
    ...base,
    legend: { show: false },
    tooltip: { ...base.tooltip, trigger: "item", formatter: ({ data }) => toldOf(data?.each) },
    grid: [
      { left: 64, right: 16, top: 12, bottom: 48 + rows },
      { left: 64, right: 16, height: rows, bottom: 32 },
    ],
    xAxis: [
      { ...x, gridIndex: 0, axisLabel: { show: false }, ...(by === "time" ? {} : { minInterval: 1 }) },
      { ...x, gridIndex: 1, axisLabel: { ...axis.axisLabel, ...label }, ...(by === "time" ? {} : { minInterval: 1 }) },
    ],
    yAxis: [
      { ...axis, type: "value", gridIndex: 0, min: low - pad, max: high + pad, axisLabel: { ...axis.axisLabel, formatter: figure, showMinLabel: false, showMaxLabel: false } },
      { ...axis, type: "value", gridIndex: 1, min: 0, max: course.places.length, interval: 1, splitLine: { show: false }, axisLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: (value) => course.places[value] ?? "", verticalAlign: "bottom", padding: [0, 0, 5, 0], margin: 8 } },
    ],
    series,
  };
}

function toldOf(each) {
  if (!each) return "";
  const within = each.low === null ? "" : `\n${figure(each.low)} to ${figure(each.high)}`;
  const how = Object.entries(each.setting).slice(0, 6).map(([key, value]) => `\n${key}=${value}`).join("");
  return `v${each.number}: ${figure(each.value)}${within}${each.n === null ? "" : `\n${each.n} samples`}\n${each.verified ? "verified" : "claimed"}${how}`;
}

function draw(box, option) {
  drawn.get(box)?.chart.dispose();
  const chart = echarts.init(box, null, { renderer: "canvas" });
  chart.setOption(option());
  drawn.set(box, { chart, option });
  box.dataset.drawn = "true";
  return chart;
}

async function drawAll() {
  for (const [box, { chart }] of drawn) {
    if (!box.isConnected) {
      chart.dispose();
      drawn.delete(box);
    }
  }
  for (const box of document.querySelectorAll("[data-chart]:not([data-drawn])")) {
    const chart = JSON.parse(box.dataset.chart);
    draw(box, () => linesOf(chart));
  }
  for (const box of document.querySelectorAll("[data-course]:not([data-drawn])")) {
    box.dataset.drawn = "under way";
    const answer = await fetch(box.dataset.course);
    if (!answer.ok) {
      box.textContent = `The values could not be fetched (${answer.status}). Reload the page; the table below has them.`;
      continue;
    }
    const course = await answer.json();
    if (!course.points.length) {
      box.textContent = "No version has a value of this metric that is a number.";
      continue;
    }
    const chart = draw(box, () => courseOf(course, box.dataset.by));
    chart.on("click", ({ data }) => {
      if (data?.each) location.assign(`${box.dataset.root}/v${data.each.number}/scores`);
    });
  }
}

new ResizeObserver(() => drawn.forEach(({ chart }) => chart.resize())).observe(document.querySelector("main"));
document.addEventListener("theme", () => drawn.forEach(({ chart, option }) => chart.setOption(option(), true)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("theme")));
document.addEventListener("htmx:after:swap", drawAll);
drawAll();
