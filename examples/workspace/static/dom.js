/** Elements, made and brought up to date. Text is always a text node: what somebody wrote is never read as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** An element. `key` tells it from its siblings; an attribute that is false, null or undefined is left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name === "key" ? "data-key" : name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A drawing of one path, 24 by 24, in the colour of the text around it. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of [["viewBox", "0 0 24 24"], ["aria-hidden", "true"], ["class", "icon"]]) {
    svg.setAttribute(name, value);
  }
  const drawn = document.createElementNS(SVG, "path");
  drawn.setAttribute("d", path);
  svg.append(drawn);
  return svg;
}

/** Make what is in `place` look like `children`, and leave alone what does already: focus and selection stay. */
export function render(place, ...children) {
  const wanted = document.createDocumentFragment();
  wanted.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  morphChildren(place, wanted);
}

function morphChildren(place, wanted) {
  const children = [...wanted.childNodes];
  const keys = new Set(children.map(keyOf).filter(Boolean));
  const there = new Map([...place.childNodes].map((node) => [keyOf(node), node]));
  let here = place.firstChild;
  const drop = () => {
    const next = here.nextSibling;
    here.remove();
    here = next;
  };
  for (const child of children) {
    // First away with what goes: moving what stays would take the focus out of it.
    while (here && keyOf(here) && !keys.has(keyOf(here))) drop();
    const key = keyOf(child);
    const same = key ? there.get(key) : here && !keyOf(here) ? here : null;
    if (same?.nodeName !== child.nodeName) {
      place.insertBefore(child, here);
      continue;
    }
    if (same === here) here = here.nextSibling;
    else place.insertBefore(same, here);
    morph(same, child);
  }
  while (here) drop();
}

function morph(node, wanted) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...node.attributes]) if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  if (node.nodeName !== "TEXTAREA") morphChildren(node, wanted); // what somebody is writing is his
}

function keyOf(node) {
  return node.dataset?.key;
}
