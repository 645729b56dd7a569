// The structure: atoms as shaded balls that are drawn from the back to the front. Drag turns, pinch and buttons zoom.

function decode(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

/** Balls of a colour in every size that is asked for, each drawn once and then copied: scaling would take long. */
function balls(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)), drawn = [];
  const shade = (factor, white) => `rgb(${[r, g, b].map((x) => Math.round(Math.min(255, x * factor + 255 * white))).join(",")})`;
  return (size) => {
    if (drawn[size]) return drawn[size];
    const canvas = make("canvas", { width: size, height: size }), c = canvas.getContext("2d"), line = Math.max(0.6, size / 32);
    const light = c.createRadialGradient(size * 0.36, size * 0.34, size * 0.02, size / 2, size / 2, size / 2);
    light.addColorStop(0, shade(0.55, 0.45));
    light.addColorStop(0.45, shade(1, 0));
    light.addColorStop(1, shade(0.55, 0));
    c.fillStyle = light;
    c.beginPath(); c.arc(size / 2, size / 2, Math.max(0.5, size / 2 - line), 0, 7); c.fill();
    c.strokeStyle = "rgba(0,0,0,.55)"; c.lineWidth = line; c.stroke();
    drawn[size] = canvas;
    return canvas;
  };
}

function structure(figure) {
  const given = JSON.parse(figure.dataset.structure);
  const looks = given.elements.map((element) => balls(element.color));
  const frames = given.frames.map((frame) => {
    const scaled = decode(frame.positions, Uint16Array), n = scaled.length / 3, points = new Float64Array(3 * n);
    for (let i = 0; i < 3 * n; i++) points[i] = frame.low[i % 3] + scaled[i] / 65535 * frame.span;
    const lines = [];
    if (frame.cell) {
      const corner = (a, b, c) => [0, 1, 2].map((k) => a * frame.cell[0][k] + b * frame.cell[1][k] + c * frame.cell[2][k]);
      for (const [p, q] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        lines.push([corner(0, p, q), corner(1, p, q)], [corner(p, 0, q), corner(p, 1, q)], [corner(p, q, 0), corner(p, q, 1)]);
      }
    }
    return { ...frame, n, points, lines, kinds: decode(frame.kinds, Uint8Array), bonds: decode(frame.bonds, Uint16Array) };
  });
  let current = frames.length - 1, turn, fitted, scale, shift;
  const canvas = make("canvas", { tabIndex: 0 }), controls = make("div", { className: "controls" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${figure.getAttribute("aria-label")}; arrows turn, plus and minus zoom, 0 goes back`);

  const look = (azimuth, elevation) => {
    const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
    turn = [[ca, sa, 0], [-sa * se, ca * se, ce], [sa * ce, -ca * ce, se]];
    fitted = turn; scale = 1; shift = [0, 0];
    soon();
  };
  const rotate = (x, y) => {
    const [cx, sx, cy, sy] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y)];
    const about = [[cx, 0, sx], [sy * sx, cy, -sy * cx], [-cy * sx, sy, cy * cx]];
    turn = about.map((row) => [0, 1, 2].map((k) => row[0] * turn[0][k] + row[1] * turn[1][k] + row[2] * turn[2][k]));
    soon();
  };
  const zoom = (factor) => { scale = Math.min(40, Math.max(0.3, scale * factor)); soon(); };
  const soon = drawn(canvas, () => render(canvas, frames[current], { turn, fitted, scale, shift, elements: given.elements, looks }));

  const buttons = frames.map((frame, index) => {
    const button = make("button", { type: "button", textContent: frame.name });
    button.onclick = () => { current = index; press(); soon(); };
    return button;
  });
  const press = () => buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(index === current)));
  press();
  if (frames.length > 1) controls.append(...buttons);
  for (const [text, label, action] of [
    ["+", "zoom in", () => zoom(1.3)], ["−", "zoom out", () => zoom(1 / 1.3)],
    ["x", "look along x", () => look(Math.PI / 2, 0)], ["y", "look along y", () => look(0, 0)], ["z", "look along z", () => look(0, Math.PI / 2)],
    ["Reset", "as in the beginning", () => look(given.azimuth, given.elevation)],
  ]) {
    const button = make("button", { type: "button", textContent: text, title: label, onclick: action });
    button.setAttribute("aria-label", label);
    controls.append(button);
  }
  figure.append(controls, canvas);
  gestures(canvas, {
    moved: (by, point, event) => {
      if (event.shiftKey || event.buttons === 4) { shift = [shift[0] + by.x, shift[1] + by.y]; soon(); } else rotate(by.x / 140, by.y / 140);
    },
    pinched: (factor, point, by) => { shift = [shift[0] + by.x, shift[1] + by.y]; zoom(factor); },
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;  // the wheel alone scrolls the page
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const action = {
      ArrowLeft: () => rotate(-0.12, 0), ArrowRight: () => rotate(0.12, 0), ArrowUp: () => rotate(0, -0.12), ArrowDown: () => rotate(0, 0.12),
      "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(1 / 1.2), 0: () => look(given.azimuth, given.elevation),
    }[event.key];
    if (action && !event.ctrlKey && !event.metaKey) { event.preventDefault(); action(); }
  });
  look(given.azimuth, given.elevation);
}

/** Middle of the atoms, the farthest of them from it, and how far they reach sideways and upwards as seen at first. */
function extent(frame, fitted) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity], reach = [1, 1, 1];
  const each = (use) => {
    for (let i = 0; i < frame.n; i++) use([frame.points[3 * i], frame.points[3 * i + 1], frame.points[3 * i + 2]]);
    if (frame.bulk) frame.lines.flat().forEach(use);
  };
  each((point) => point.forEach((value, k) => { low[k] = Math.min(low[k], value); high[k] = Math.max(high[k], value); }));
  const middle = low.map((value, k) => (value + high[k]) / 2);
  let span = 1;
  each((point) => {
    const from = point.map((value, k) => value - middle[k]);
    span = Math.max(span, Math.hypot(...from));
    fitted.forEach((row, k) => { reach[k] = Math.max(reach[k], Math.abs(row[0] * from[0] + row[1] * from[1] + row[2] * from[2])); });
  });
  return { middle, span, reach };
}

/** Everything as seen from the front, the farthest first: atoms, bonds, and short pieces of the edges of the cell. */
function render(canvas, frame, { turn, fitted, scale, shift, elements, looks }) {
  const { context: c, width, height } = sharp(canvas);
  const { middle, span, reach } = extent(frame, fitted);
  const size = scale * 0.43 * Math.min(width / (reach[0] + 1), height / (reach[1] + 1)), far = span * 6;
  const seen = (x, y, z) => {
    const [a, b, d] = [x - middle[0], y - middle[1], z - middle[2]];
    const depth = turn[2][0] * a + turn[2][1] * b + turn[2][2] * d, near = size * far / Math.max(far - depth, 0.2 * far);
    return [width / 2 + shift[0] + near * (turn[0][0] * a + turn[0][1] * b + turn[0][2] * d), height / 2 + shift[1] - near * (turn[1][0] * a + turn[1][1] * b + turn[1][2] * d), depth, near];
  };
  const atoms = new Array(frame.n), things = [];
  for (let i = 0; i < frame.n; i++) {
    atoms[i] = seen(frame.points[3 * i], frame.points[3 * i + 1], frame.points[3 * i + 2]);
    things.push([atoms[i][2], 0, i]);
  }
  for (let b = 0; b < frame.bonds.length; b += 2) {
    const [p, q] = [atoms[frame.bonds[b]], atoms[frame.bonds[b + 1]]];
    things.push([(p[2] + q[2]) / 2 - 0.01, 1, p, q]);
  }
  for (const [from, to] of frame.lines) {
    const pieces = 14;
    for (let k = 0; k < pieces; k++) {
      const [p, q] = [k, k + 1].map((n) => seen(...from.map((value, axis) => value + (to[axis] - value) * n / pieces)));
      things.push([(p[2] + q[2]) / 2, 2, p, q]);
    }
  }
  things.sort((one, other) => one[0] - other[0]);
  const edge = tone("soft"), share = frame.bonds.length ? 0.6 : 1;
  const ratio = canvas.width / width;
  c.setTransform(1, 0, 0, 1, 0, 0);  // in the dots of the screen
  for (const [, what, p, q] of things) {
    if (what === 0) {
      const [x, y, , near] = atoms[p], kind = frame.kinds[p];
      const size = Math.min(512, Math.max(2, Math.round(2 * elements[kind].radius * share * near * ratio)));
      c.drawImage(looks[kind](size), Math.round(x * ratio - size / 2), Math.round(y * ratio - size / 2));
    } else {
      c.strokeStyle = what === 1 ? "rgb(140,140,140)" : edge;
      c.lineWidth = ratio * (what === 1 ? Math.max(1, 0.22 * p[3]) : 1.2);
      c.beginPath(); c.moveTo(p[0] * ratio, p[1] * ratio); c.lineTo(q[0] * ratio, q[1] * ratio); c.stroke();
    }
  }
}

document.querySelectorAll("figure[data-structure]").forEach(structure);
