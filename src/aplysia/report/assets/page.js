"use strict";
(() => {
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const all = (query, within = document) => [...within.querySelectorAll(query)];

  // Theme: as the system says, until the reader chooses.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const keep = (value) => { try { localStorage.setItem("aplysia-theme", value); } catch { /* a file without storage */ } };
  const kept = () => { try { return localStorage.getItem("aplysia-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `theme: ${theme}`;
    button.dataset.now = theme;
  };
  show(themes.includes(kept()) ? kept() : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.now) + 1) % themes.length];
    show(next);
    keep(next);
  });

  // Sorting: numbers from largest first, words from A; what is not known stays last. A third click brings back the order it had.
  const table = document.getElementById("comparison");
  const body = table.tBodies[0];
  const first = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (row, at, number) => {
    const cell = row.cells[at];
    if (!number) return cell.textContent;
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };
  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
    const number = head.classList.contains("number");
    const order = number ? ["descending", "ascending"] : ["ascending", "descending"];
    const next = order[order.indexOf(head.getAttribute("aria-sort")) + 1];
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    if (next === undefined) { body.append(...first); return; }
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    body.append(...[...first].sort((a, b) => {
      const [x, y] = [valueOf(a, at, number), valueOf(b, at, number)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
    }));
  }));

  // What a mark says, by pointer or focus.
  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8));
    const top = y - box.height - 12 < 8 ? y + 18 : y - box.height - 12;
    tip.style.transform = `translate(${left}px, ${top}px)`;
  };
  const points = (mark) => mark.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number));
  const said = (mark, at) => {
    const numbers = mark.dataset.says.split("|")[at].split(":");
    return mark.dataset.form.replace(/\{(\d)\}/g, (_, i) => numbers[i]);
  };
  const read = (mark, at) => {
    const [x, y] = points(mark)[at];
    mark.dataset.now = at;
    let ring = mark.parentNode.querySelector(".at");
    if (!ring) {
      ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      ring.setAttribute("class", "at");
      ring.setAttribute("r", "3.5");
      mark.parentNode.append(ring);
    }
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    tip.textContent = `${mark.dataset.tip.split("\n")[0]}\n${said(mark, at)}`;
    const to = new DOMPoint(x, y).matrixTransform(mark.getScreenCTM());
    place(to.x, to.y);
  };
  const light = (mark) => {
    const row = mark.dataset.row;
    mark.ownerSVGElement.classList.add("dim");
    all(`[data-row="${row}"]`, mark.ownerSVGElement).forEach((one) => one.classList.add("lit"));
    body.querySelector(`tr[data-row="${row}"]`)?.classList.add("lit");
  };
  const dark = () => {
    tip.hidden = true;
    all(".at").forEach((ring) => ring.remove());
    all(".lit").forEach((one) => one.classList.remove("lit"));
    all("svg.dim").forEach((one) => one.classList.remove("dim"));
  };
  const tell = (mark, event) => {
    dark();
    light(mark);
    if (mark.dataset.says) {
      const list = points(mark);
      let at = mark.dataset.now === undefined ? list.length - 1 : Number(mark.dataset.now);
      if (event) {
        const here = new DOMPoint(event.clientX, event.clientY).matrixTransform(mark.getScreenCTM().inverse());
        at = list.reduce((best, p, i) => Math.abs(p[0] - here.x) < Math.abs(list[best][0] - here.x) ? i : best, 0);
      }
      read(mark, at);
      return;
    }
    tip.textContent = mark.dataset.tip;
    const box = (mark.querySelector(".mark, .bar") || mark).getBoundingClientRect();
    place(box.left + box.width / 2, box.top);
  };
  all("svg.drawing").forEach((drawing) => {
    const marks = all(".hot", drawing);
    if (marks.length) marks[0].setAttribute("tabindex", "0");
    const hot = (event) => event.target.closest?.(".hot");
    drawing.addEventListener("pointermove", (event) => { const mark = hot(event); if (mark) tell(mark, event); else dark(); });
    drawing.addEventListener("pointerdown", (event) => { const mark = hot(event); if (mark) tell(mark, event); });
    drawing.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") dark(); });
    // One stop of the tabulator a figure; arrows go from mark to mark, and along a curve.
    drawing.addEventListener("keydown", (event) => {
      const mark = hot(event);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") dark();
      if (!mark || !step) return;
      event.preventDefault();
      if (mark.dataset.says && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
        const last = points(mark).length - 1;
        read(mark, Math.max(0, Math.min(last, Number(mark.dataset.now ?? last) + step)));
        return;
      }
      const next = marks[(marks.indexOf(mark) + step + marks.length) % marks.length];
      marks.forEach((one) => one.setAttribute("tabindex", one === next ? "0" : "-1"));
      next.focus();
    });
  });
  // On the document: an SVG element that listens for focus becomes a stop of the tabulator itself.
  document.addEventListener("focusin", (event) => {
    const mark = event.target.closest?.(".hot");
    if (mark?.matches(":focus-visible")) tell(mark);
  });
  document.addEventListener("focusout", dark);
  // Coming to a mark by key may scroll the page: what it says goes with it. By pointer, the mark has moved away.
  addEventListener("scroll", () => {
    if (tip.hidden) return;
    const mark = document.activeElement?.closest?.(".hot");
    if (mark?.matches(":focus-visible")) tell(mark); else dark();
  }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") dark(); });

  // Saving: the drawing as it is seen, with every colour written into it.
  const looks = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "paint-order", "opacity", "font-size",
    "font-family", "font-weight"];
  const standing = (drawing) => {
    const copy = drawing.cloneNode(true);
    const copies = all("*", copy);
    const pairs = [[drawing, copy], ...all("*", drawing).map((one, i) => [one, copies[i]])];
    for (const [from, to] of pairs) {
      const style = getComputedStyle(from);
      for (const look of looks) to.setAttribute(look, style.getPropertyValue(look));
      for (const name of ["class", "tabindex", "data-tip", "data-says", "data-form", "data-row", "data-now"]) to.removeAttribute(name);
    }
    all("path, circle", copy).filter((one) => one.getAttribute("stroke") === "rgba(0, 0, 0, 0)"
      || one.getAttribute("fill") === "rgba(0, 0, 0, 0)").forEach((one) => one.remove());
    const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of [["width", width], ["height", height], ["fill", getComputedStyle(document.body).backgroundColor]]) {
      paper.setAttribute(key, value);
    }
    copy.prepend(paper);
    return { text: new XMLSerializer().serializeToString(copy), width, height };
  };
  const give = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  document.addEventListener("click", (event) => {
    const save = event.target.closest?.("[data-save]");
    if (!save) return;
    dark();
    const figure = save.closest("figure");
    const drawing = all("svg.drawing", figure).find((one) => one.getClientRects().length);
    const name = figure.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "figure";
    const { text, width, height } = standing(drawing);
    if (save.dataset.save === "svg") { give(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`); return; }
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      const scale = Math.max(2, 1600 / width);
      [canvas.width, canvas.height] = [width * scale, height * scale];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => give(blob, `${name}.png`), "image/png");
    });
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  });
})();
