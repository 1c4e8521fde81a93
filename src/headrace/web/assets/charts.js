// Charts as SVG, and numbers as people read them. Text reaches the page through textContent alone.

const SVG = "http://www.w3.org/2000/svg";
const height = 120, left = 46, bottom = 18, top = 8;

export function svg(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(1) + " G";
  if (size >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
  return size >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1e-3) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return (seconds * 1e3).toFixed(0) + " ms";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 120) return seconds.toFixed(0) + " s";
  if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

// points: [moment, value or null] in order; a null is a gap. The label says what a picture cannot to those who do not see it.
export function curve(place, points, label) {
  const width = place.clientWidth || 560;
  const known = points.filter((point) => point[1] !== null);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const from = points.length ? points[0][0] : 0, to = points.length ? points[points.length - 1][0] : 1;
  const high = Math.max(1, ...known.map((point) => point[1]));
  const x = (at) => left + ((at - from) / Math.max(1, to - from)) * (width - left - 6);
  const y = (value) => top + (1 - value / high) * (height - top - bottom);
  for (const share of [0, 0.5, 1]) {
    picture.append(svg("line", { class: "grid", x1: left, x2: width - 6, y1: y(high * share), y2: y(high * share) }));
    picture.append(svg("text", { class: "axis", x: left - 6, y: y(high * share) + 4, "text-anchor": "end" }, number(high * share)));
  }
  for (const part of unbroken(points)) {
    const line = part.map((point) => `${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`);
    const ends = [`${x(part[part.length - 1][0]).toFixed(1)},${y(0)}`, `${x(part[0][0]).toFixed(1)},${y(0)}`];
    picture.append(svg("polygon", { class: "area", points: line.concat(ends).join(" ") }));
    picture.append(svg("polyline", { class: "curve", points: line.join(" ") }));
  }
  picture.append(svg("text", { class: "axis", x: left, y: height - 3 }, points.length ? clock(from) : ""));
  picture.append(svg("text", { class: "axis", x: width - 6, y: height - 3, "text-anchor": "end" }, points.length ? clock(to) : ""));
  const last = known.length ? known[known.length - 1][1] : null;
  picture.setAttribute("aria-label", `${label}: now ${number(last)}, highest ${known.length ? number(high) : "unknown"}`);
  place.replaceChildren(picture);
}

function unbroken(points) {
  const parts = [];
  let part = [];
  for (const point of points) {
    if (point[1] === null) {
      if (part.length) parts.push(part);
      part = [];
    } else part.push(point);
  }
  if (part.length) parts.push(part);
  return parts;
}

// marks: [moment, class] over the last minutes.
export function marks(place, from, to, found, label) {
  const high = 46, width = place.clientWidth || 1120;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${high}`, role: "img", "aria-label": label });
  const x = (at) => 6 + ((at - from) / Math.max(1, to - from)) * (width - 12);
  picture.append(svg("line", { class: "grid", x1: 6, x2: width - 6, y1: high - 18, y2: high - 18 }));
  for (const [at, kind] of found) {
    if (at >= from) picture.append(svg("line", { class: `mark ${kind}`, x1: x(at), x2: x(at), y1: 6, y2: high - 18 }));
  }
  picture.append(svg("text", { class: "axis", x: 6, y: high - 4 }, clock(from)));
  picture.append(svg("text", { class: "axis", x: width - 6, y: high - 4, "text-anchor": "end" }, clock(to)));
  place.replaceChildren(picture);
}
