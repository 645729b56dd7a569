"use strict";
// The page works without this; with it plots and the structure can be turned and zoomed, and text can be copied.
document.documentElement.classList.add("script");

/** Numbers as they were packed: differences from the first in 32 bits. */
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  return Float64Array.from(new Float32Array(bytes.buffer), (difference) => packed.from + difference);
}

/** A new element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The colour that a variable of the style has on the page as it is now, light or dark. */
const tone = (() => {
  const probe = make("span");
  probe.hidden = true;
  document.body.append(probe);
  return (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
})();

/** Drawings to be done again when the theme changes, by their element. */
const drawings = new Map();

/** Call `draw` when the element is first seen, and again when its size or the theme changes. */
function drawn(element, draw) {
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (element.clientWidth) draw();
    });
  };
  drawings.set(element, soon);
  new ResizeObserver(soon).observe(element);
  return soon;
}

/** A canvas as sharp as the screen is: its context, width and height in pixels of the page. */
function sharp(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Fingers and the mouse on an element: `moved` gets how far one went, `pinched` by how much two went apart. */
function gestures(element, { moved, pinched, pressed, released }) {
  const fingers = new Map();
  const place = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const apart = () => {
    const [a, b] = [...fingers.values()];
    return { size: Math.hypot(a.x - b.x, a.y - b.y) || 1, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button > 1) return;
    fingers.set(event.pointerId, place(event));
    element.setPointerCapture(event.pointerId);
    if (fingers.size === 1 && pressed) pressed(place(event), event);
  });
  element.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = fingers.size === 2 ? apart() : fingers.get(event.pointerId);
    fingers.set(event.pointerId, place(event));
    const after = fingers.size === 2 ? apart() : fingers.get(event.pointerId);
    if (fingers.size === 2) pinched(after.size / before.size, after, { x: after.x - before.x, y: after.y - before.y });
    else moved({ x: after.x - before.x, y: after.y - before.y }, after, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => {
      const last = fingers.delete(event.pointerId) && !fingers.size;
      if (last && released) released(place(event), event, name === "pointercancel");
    });
  }
}

/** Text onto the clipboard, also where the page is a file of an old browser. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const parts = button.dataset.copy.split(" ").map((id) => document.getElementById(id));
    const text = parts.map((part) =>
      part.tagName === "OL" ? [...part.children].map((item, i) => `[${i + 1}] ${item.textContent}`).join("\n") : part.textContent);
    await copy(text.join("\n\n"));
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

{
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => drawings.forEach((draw) => draw());
  const kept = (() => { try { return localStorage.getItem("mlmd-theme"); } catch { return null; } })();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  dark.addEventListener("change", repaint);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("mlmd-theme", root.dataset.theme); } catch { /* a page without storage forgets it */ }
    repaint();
  });
  // On paper everything is open, also in browsers whose style sheets cannot open what is closed.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
}
