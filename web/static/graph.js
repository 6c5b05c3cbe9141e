// The graph of a version's kin. Choosing a version shows its recipe beside it; the tables below need no script.

const box = document.querySelector("#graph");
const side = document.querySelector("#graph-side");

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function short(name) {
  return name.length > 28 ? `${name.slice(0, 13)}…${name.slice(-13)}` : name;
}

function elementsOf(graph) {
  const nodes = graph.nodes.map((node) => {
    const made = node.kind === "version" && node.made;
    const lines = [short(node.name)];
    if (made) lines.push(node.method);
    if (node.kind === "gone") lines.push("removed");
    if (node.kind === "hidden") lines.push("not yours to see");
    if (node.more) lines.push("…");
    const classes = [node.kind, made ? "made" : "", node.revoked !== null ? "revoked" : "", node.tainted.length ? "tainted" : "", node.id === graph.middle ? "middle" : "", node.kind === "stage" ? `stage-${node.name.split(".")[0]}` : ""];
    return { data: { ...node, label: lines.join("\n") }, classes: classes.filter(Boolean).join(" ") };
  });
  const edges = graph.edges.map((edge) => ({ data: { source: edge.source, target: edge.target, label: edge.weight === null ? edge.method : `× ${String(Number(edge.weight.toPrecision(3))).replace("-", "−")}` } }));
  return [...nodes, ...edges];
}

function styleOf() {
  const text = colour("--text");
  const quiet = colour("--quiet");
  const boxed = { label: "data(label)", "text-wrap": "wrap", "text-valign": "center", "text-halign": "center", "font-size": 12, "line-height": 1.35, "font-family": getComputedStyle(document.body).fontFamily, color: text, width: "label", height: "label", padding: "8px", shape: "round-rectangle", "background-color": colour("--raised"), "border-width": 1.5, "border-color": colour("--line-strong") };
  return [
    { selector: "node", style: boxed },
    { selector: ".base", style: { shape: "rectangle", "background-color": colour("--sunken"), "border-style": "solid", "border-color": quiet, color: quiet } },
    { selector: ".made", style: { "background-color": colour("--accent-soft"), "border-color": colour("--accent") } },
    { selector: ".gone, .hidden", style: { "border-style": "dashed", color: quiet } },
    { selector: ".stage", style: { shape: "round-tag", padding: "12px", "border-color": quiet, "font-weight": 600 } },
    ...["dev", "staging", "prod"].map((stage) => ({ selector: `.stage-${stage}`, style: { "border-color": colour(`--${stage}`), color: colour(`--${stage}`) } })),
    { selector: ".tainted", style: { "border-color": colour("--bad"), "border-width": 2, "border-style": "dashed" } },
    { selector: ".revoked", style: { "background-color": colour("--bad-soft"), "border-color": colour("--bad"), "border-width": 2.5, color: colour("--bad") } },
    { selector: ".middle", style: { "border-width": 3, "font-weight": 700 } },
    { selector: ":selected", style: { "outline-width": 2, "outline-color": colour("--accent"), "outline-offset": 2 } },
    { selector: "edge", style: { width: 1.5, "line-color": colour("--line-strong"), "target-arrow-color": colour("--line-strong"), "target-arrow-shape": "triangle", "arrow-scale": 0.9, "curve-style": "bezier", label: "data(label)", "font-size": 11, "font-family": boxed["font-family"], color: quiet, "text-background-color": colour("--ground"), "text-background-opacity": 1, "text-background-padding": "2px" } },
  ];
}

async function choose(node) {
  const data = node.data();
  if (data.kind !== "version") {
    const words = { base: "A base: what adapters are trained on.", stage: `A stage of ${data.adapter}.`, gone: "It was removed; only lineages still name it.", hidden: "It is in a place that is not yours to see." };
    tell(data.name, words[data.kind]);
    return;
  }
  const asked = `${box.dataset.root}/ui/adapters/${data.adapter.split("/").map(encodeURIComponent).join("/")}/versions/v${data.number}/made`;
  const answer = await fetch(asked, { headers: { "HX-Request": "true" } });
  if (!answer.ok) {
    tell(data.name, `Its recipe could not be fetched (${answer.status}).`);
    return;
  }
  // The page is ours, and everything in it is escaped.
  side.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
}

function tell(title, text) {
  const head = document.createElement("h2");
  head.textContent = title;
  const said = document.createElement("p");
  said.textContent = text;
  side.replaceChildren(head, said);
}

async function start() {
  const answer = await fetch(box.dataset.graph);
  if (!answer.ok) {
    box.textContent = `The graph could not be fetched (${answer.status}). Reload the page; the tables below have its nearest part.`;
    return;
  }
  const graph = await answer.json();
  const wide = box.clientWidth > 600;
  const made = cytoscape({
    container: box,
    elements: elementsOf(graph),
    style: styleOf(),
    layout: { name: "dagre", rankDir: wide ? "LR" : "TB", nodeSep: 22, rankSep: wide ? 70 : 46, fit: true, padding: 20, animate: false },
    minZoom: 0.2,
    maxZoom: 1.6,
    boxSelectionEnabled: false,
    autoungrabify: true,
  });
  if (made.zoom() > 1.1) {
    made.zoom(1.1);
    made.center();
  }
  made.on("tap", "node", (event) => choose(event.target));
  document.addEventListener("theme", () => made.style(styleOf()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => made.style(styleOf()));
  box.dataset.drawn = "true";
}

start();
