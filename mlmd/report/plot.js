// Plots that zoom: drag over a range, pinch, or use the keys and buttons; panels of one figure move together.

/** Round numbers between two ends, about as many as wanted. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) found.push([n * step, told(n * step, digits)]);
  return found;
}

/** Decades, or round numbers where there are few; ends are logarithms. */
function decades(low, high, wanted) {
  const every = Math.max(1, Math.ceil((high - low) / wanted));
  const factors = high - low > 2.5 ? [1] : high - low > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    if (power % every) continue;
    for (const factor of factors) {
      const at = power + Math.log10(factor);
      if (at >= low - 1e-9 && at <= high + 1e-9) found.push([at, short(factor * 10 ** power)]);
    }
  }
  return found;
}

function told(value, digits) {
  if (value && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return short(value);
  return value.toFixed(Math.min(digits, 12)).replace(/^-(0\.?0*)$/, "$1");
}

function short(value) {
  if (value && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(6)));
}

/** Index of the last number that is not above a value, in rising numbers. */
function at(numbers, value) {
  let low = 0, high = numbers.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (numbers[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}

function plot(figure) {
  const given = JSON.parse(figure.dataset.plot);
  const axes = given.axes.map(unpack);
  const panels = given.panels.map((panel) => ({
    ...panel,
    curves: panel.curves.map((curve) => ({
      ...curve, x: axes[curve.x], y: unpack(curve.y), error: curve.error ? unpack(curve.error) : null,
    })),
  }));
  const logs = { x: false, y: false };
  const forward = (axis, value) => (logs[axis] ? (value > 0 ? Math.log10(value) : NaN) : value);
  const backward = (axis, value) => (logs[axis] ? 10 ** value : value);
  const all = () => {
    let low = Infinity, high = -Infinity;
    for (const { x } of panels.flatMap((panel) => panel.curves)) {
      for (const value of logs.x ? [x.find((one) => one > 0), x[x.length - 1]] : [x[0], x[x.length - 1]]) {
        const there = forward("x", value);
        if (Number.isFinite(there)) { low = Math.min(low, there); high = Math.max(high, there); }
      }
    }
    if (!Number.isFinite(low)) { return [0, 1]; }
    return low < high ? [low, high] : [low - 0.5, low + 0.5];
  };
  let range = all(), repaints = [];
  const repaint = () => repaints.forEach((draw) => draw());
  const look = (low, high) => {
    const [first, last] = all(), least = (last - first) * 1e-5;
    const size = Math.min(Math.max(high - low, least), last - first);
    const start = Math.min(Math.max(low, first), last - size);
    range = [start, start + size];
    repaint();
  };
  const zoom = (factor, share = 0.5) => {
    const middle = range[0] + share * (range[1] - range[0]);
    look(middle - (middle - range[0]) / factor, middle + (range[1] - middle) / factor);
  };
  const move = (share) => look(range[0] + share * (range[1] - range[0]), range[1] + share * (range[1] - range[0]));
  const reset = () => look(...all());

  const controls = make("div", { className: "controls" });
  for (const [text, label, action] of [["+", "zoom in", () => zoom(2)], ["−", "zoom out", () => zoom(0.5)], ["All", "show all", reset]]) {
    const button = make("button", { type: "button", textContent: text, title: label, onclick: action });
    button.setAttribute("aria-label", label);
    controls.append(button);
  }
  for (const axis of given.logs ? ["x", "y"] : []) {
    const button = make("button", { type: "button", textContent: `log ${axis}` });
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      logs[axis] = !logs[axis];
      button.setAttribute("aria-pressed", String(logs[axis]));
      reset();
    };
    controls.append(button);
  }
  controls.append(make("span", { className: "soft", textContent: "Drag over a range or pinch to zoom in." }));
  const grid = make("div", { className: "panels" });
  figure.append(controls, grid);

  for (const panel of panels) {
    const read = make("span", { className: "read" }), canvas = make("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${panel.label} against ${given.x}; plus and minus zoom, arrows move, 0 shows all`);
    const box = make("div", { className: "panel" }, make("div", { className: "name" }, make("b", { textContent: panel.label }), read), canvas);
    grid.append(box);
    const colour = (curve, index) => (curve.style === "target" ? tone("ink") : tone(`curve${panel.curves.some((one) => one.style !== "line") ? 0 : index % 8}`));
    let hover = null, chosen = null, frame = null;
    const soon = drawn(canvas, () => { frame = paint(canvas, panel, { given, range, logs, forward, backward, hover, chosen, colour, read }); });
    repaints.push(soon);
    if (panel.curves.length > 1) box.append(keys(panel, colour, soon));
    const share = (x) => (frame ? Math.min(1, Math.max(0, (x - frame.left) / frame.width)) : 0.5);
    let start = null;
    gestures(canvas, {
      pressed: (point) => { start = point.x; },
      moved: (by, point, event) => {
        if (event.pointerType === "mouse" && !event.shiftKey && event.buttons === 1) chosen = [start, point.x];
        else if (frame) move(-by.x / frame.width);
        hover = event.pointerType === "mouse" ? point.x : null;
        soon();
      },
      pinched: (factor, point, by) => { zoom(factor, share(point.x)); if (frame) move(-by.x / frame.width); },
      released: (point, event, cancelled) => {
        if (chosen && !cancelled && Math.abs(chosen[1] - chosen[0]) > 5) {
          const ends = chosen.map((x) => range[0] + share(x) * (range[1] - range[0])).sort((a, b) => a - b);
          look(...ends);
        }
        if (event.pointerType !== "mouse" && !cancelled && Math.abs(point.x - start) < 5) hover = point.x;
        chosen = null;
        soon();
      },
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") { hover = event.clientX - canvas.getBoundingClientRect().left; soon(); }
    });
    canvas.addEventListener("pointerleave", () => { hover = null; soon(); });
    canvas.addEventListener("dblclick", reset);
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;  // the wheel alone scrolls the page
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), share(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const action = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), 0: reset }[event.key];
      if (action && !event.ctrlKey && !event.metaKey) { event.preventDefault(); action(); }
    });
  }
}

/** One button for each curve, which hides and shows it. */
function keys(panel, colour, soon) {
  const list = make("div", { className: "keys" });
  panel.curves.forEach((curve, index) => {
    const line = make("i"), button = make("button", { type: "button" }, line, curve.name);
    const show = () => { button.setAttribute("aria-pressed", String(curve.shown)); };
    drawings.set(button, () => { line.style.background = colour(curve, index); line.style.opacity = curve.style === "line" && panel.curves.some((one) => one.style === "mean") ? 0.45 : 1; });
    drawings.get(button)();
    button.onclick = () => { curve.shown = !curve.shown; show(); soon(); };
    show();
    list.append(button);
  });
  return list;
}

/** Draw a panel; gives where its axes are. */
function paint(canvas, panel, { given, range, logs, forward, backward, hover, chosen, colour, read }) {
  const { context: c, width, height } = sharp(canvas);
  c.font = "12px system-ui, sans-serif";
  const shown = panel.curves.map((curve, index) => ({ ...curve, colour: colour(curve, index) })).filter((curve) => curve.shown);
  let low = Infinity, high = -Infinity;
  for (const { x, y, error } of shown) {
    const first = at(x, backward("x", range[0])), last = Math.min(x.length - 1, at(x, backward("x", range[1])) + 1);
    for (let i = first; i <= last; i++) {
      for (const value of error && !logs.y ? [y[i] - (error[i] || 0), y[i] + (error[i] || 0)] : [y[i]]) {
        const there = forward("y", value);
        if (Number.isFinite(there)) { low = Math.min(low, there); high = Math.max(high, there); }
      }
    }
  }
  if (!(low <= high)) { low = 0; high = 1; }
  if (high - low <= 1e-12 * Math.max(1, Math.abs(high))) { low -= 0.5 * (Math.abs(low) || 1) * 1e-3 + 1e-12; high += 0.5 * (Math.abs(high) || 1) * 1e-3 + 1e-12; }
  const room = 0.05 * (high - low);
  low -= room; high += room;
  const marksY = (logs.y ? decades : ticks)(low, high, height / 45);
  const left = Math.ceil(Math.max(...marksY.map(([, text]) => c.measureText(text).width), 10)) + 8;
  const frame = { left, top: 6, width: width - left - 8, height: height - 6 - 36 };
  const px = (value) => frame.left + (value - range[0]) / (range[1] - range[0]) * frame.width;
  const py = (value) => frame.top + (high - value) / (high - low) * frame.height;
  const marksX = (logs.x ? decades : ticks)(range[0], range[1], frame.width / 75);
  c.lineWidth = 1;
  c.strokeStyle = tone("line");
  c.beginPath();
  for (const [value] of marksX) { c.moveTo(Math.round(px(value)) + 0.5, frame.top); c.lineTo(Math.round(px(value)) + 0.5, frame.top + frame.height); }
  for (const [value] of marksY) { c.moveTo(frame.left, Math.round(py(value)) + 0.5); c.lineTo(frame.left + frame.width, Math.round(py(value)) + 0.5); }
  c.stroke();
  c.fillStyle = tone("soft");
  c.textAlign = "center"; c.textBaseline = "top";
  let free = -Infinity;
  for (const [value, text] of marksX) {
    const half = c.measureText(text).width / 2, x = Math.min(Math.max(px(value), half), width - half);
    if (x - half < free + 6) continue;
    c.fillText(text, x, frame.top + frame.height + 4);
    free = x + half;
  }
  c.fillText(given.x, frame.left + frame.width / 2, height - 14);
  c.textAlign = "right"; c.textBaseline = "middle";
  for (const [value, text] of marksY) c.fillText(text, frame.left - 5, py(value));
  c.save();
  c.beginPath();
  c.rect(frame.left, frame.top, frame.width, frame.height);
  c.clip();
  c.setLineDash([2, 3]);
  c.strokeStyle = tone("soft");
  c.beginPath();
  for (const mark of given.marks) { const x = px(forward("x", mark)); c.moveTo(x, frame.top); c.lineTo(x, frame.top + frame.height); }
  c.stroke();
  const thick = shown.some((curve) => curve.style === "mean");
  for (const curve of shown) trace(c, curve, { px, py, forward, backward, range, logs, faint: thick && curve.style === "line" });
  if (chosen) {
    c.fillStyle = tone("accent"); c.globalAlpha = 0.15;
    c.fillRect(Math.min(...chosen), frame.top, Math.abs(chosen[1] - chosen[0]), frame.height);
    c.globalAlpha = 1;
  }
  read.textContent = "";
  if (hover !== null && hover >= frame.left && hover <= frame.left + frame.width) {
    const value = backward("x", range[0] + (hover - frame.left) / frame.width * (range[1] - range[0]));
    const parts = [];
    for (const curve of shown.slice(0, 4)) {
      const below = at(curve.x, value), above = Math.min(below + 1, curve.x.length - 1);
      const i = Math.abs(curve.x[above] - value) < Math.abs(curve.x[below] - value) ? above : below;
      if (!Number.isFinite(curve.y[i])) continue;
      if (!parts.length) parts.push(short(curve.x[i]));
      parts.push(Number(curve.y[i].toPrecision(6)) + (curve.error && Number.isFinite(curve.error[i]) ? ` ± ${curve.error[i].toPrecision(2)}` : ""));
      c.fillStyle = curve.colour;
      c.beginPath(); c.arc(px(forward("x", curve.x[i])), py(forward("y", curve.y[i])), 3, 0, 7); c.fill();
    }
    c.setLineDash([]); c.strokeStyle = tone("soft");
    c.beginPath(); c.moveTo(hover, frame.top); c.lineTo(hover, frame.top + frame.height); c.stroke();
    read.textContent = parts.length ? `${parts[0]}: ${parts.slice(1).join(", ")}` : "";
  }
  c.restore();
  return frame;
}

/** One curve with its band of one standard error. */
function trace(c, { x, y, error, style, colour }, { px, py, forward, backward, range, logs, faint }) {
  const first = at(x, backward("x", range[0])), last = Math.min(x.length - 1, at(x, backward("x", range[1])) + 1);
  if (error && !logs.y) {
    c.fillStyle = colour; c.globalAlpha = 0.2;
    c.beginPath();
    for (let i = first; i <= last; i++) if (Number.isFinite(y[i] + error[i])) c.lineTo(px(forward("x", x[i])), py(y[i] + error[i]));
    for (let i = last; i >= first; i--) if (Number.isFinite(y[i] - error[i])) c.lineTo(px(forward("x", x[i])), py(y[i] - error[i]));
    c.fill();
  }
  c.globalAlpha = faint ? 0.45 : 1;
  c.strokeStyle = colour;
  c.lineWidth = style === "mean" ? 2.2 : faint ? 1 : 1.4;
  c.setLineDash(style === "target" ? [6, 4] : []);
  c.lineJoin = "round";
  c.beginPath();
  let down = false;
  for (let i = first; i <= last; i++) {
    const a = px(forward("x", x[i])), b = py(forward("y", y[i]));
    if (!Number.isFinite(a + b)) { down = false; continue; }
    if (down) c.lineTo(a, b); else c.moveTo(a, b);
    down = true;
  }
  c.stroke();
  c.setLineDash([]);
  c.globalAlpha = 1;
}

document.querySelectorAll("figure[data-plot]").forEach(plot);
