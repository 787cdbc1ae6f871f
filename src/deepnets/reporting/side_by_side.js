// Draws the two rows that are picked beside each other. All it needs is in the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("compare-data").textContent);
  const sprite = document.getElementById("compare-digits");
  const cells = new Map(data.pictures.map((index, place) => [index, place]));
  const labels = [...data.labels].map(Number);
  const names = Object.keys(data.rows);

  // The first is blue and a whole line, the second vermilion and a broken one.
  const SIDES = [
    { colour: "#0072b2", dash: "" },
    { colour: "#d55e00", dash: "6 3" },
  ];
  const CURVES = {
    accuracy: "Training accuracy",
    val_accuracy: "Validation accuracy",
    loss: "Training loss",
    val_loss: "Validation loss",
  };
  // Digits that are drawn in one list.
  const SHOWN = 21;
  const NOT_HERE = "compared by curves alone: the page has the predictions of three others";

  const at = (id) => document.getElementById(`compare-${id}`);
  const range = (count) => [...Array(count).keys()];
  const mean = (numbers) => numbers.reduce((sum, of) => sum + of, 0) / numbers.length;
  const count = (number) => number.toLocaleString("en");

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // What a training predicts for each test image: the counterpart of _encode in side_by_side.py.
  function decode(text) {
    const [, everywhere, rest] = text.match(/^(?:=(\d))?(.*)$/);
    const predicted = everywhere ? labels.map(() => Number(everywhere)) : [...labels];
    let place = 0;
    for (const part of rest.match(/[a-z]+|\d/g) || []) {
      if (/\d/.test(part)) predicted[place++] = Number(part);
      else place += [...part].reduceRight((sum, of) => 26 * sum + of.charCodeAt(0) - 97, 0);
    }
    return predicted;
  }

  // The row and the seeds that are picked on one side, and what these predict.
  function pick(side) {
    const name = at(`row-${side}`).value;
    const seed = at(`seed-${side}`).value;
    const seeds = data.rows[name].filter((of) => seed === "all" || String(of.seed) === seed);
    const tested = seeds.filter((of) => of.predicted !== null);
    const predicted = tested.map((of) => decode(of.predicted));
    const right = labels.map((label, index) => {
      const votes = predicted.filter((of) => of[index] === label).length;
      return 2 * votes > predicted.length;
    });
    return { ...SIDES[side], side, name, seeds, tested, predicted, right };
  }

  const listed = (seeds) =>
    `seed${seeds.length > 1 ? "s" : ""} ${seeds.map((of) => of.seed).join(", ")}`;

  // --- in words

  // What there is to say of each seed, said once for all that it is true of.
  function grouped(seeds, said) {
    const groups = new Map();
    for (const one of seeds) {
      const text = said(one);
      if (text) groups.set(text, [...(groups.get(text) || []), one]);
    }
    return [...groups].map(([text, those]) => `${listed(those)} ${text}`);
  }

  function describe(of) {
    const parts = [];
    if (of.tested.length) {
      const each = of.predicted.map((one) => mean(one.map((guess, i) => +(guess === labels[i]))));
      const all = each.length > 1 ? ` (${each.map((one) => one.toFixed(4)).join(", ")})` : "";
      parts.push(`test accuracy ${mean(each).toFixed(4)}${all}, ${listed(of.tested)}`);
    }
    parts.push(
      ...grouped(of.seeds, (one) => one.predicted === null && (one.lacks || NOT_HERE)),
      ...grouped(of.seeds, (one) => one.outcome !== "completed" && one.outcome),
    );
    return element("p", {}, element("strong", {}, of.name), `: ${parts.join("; ")}.`);
  }

  function summarize(pair) {
    const said = pair.map(describe);
    if (pair.every((of) => of.tested.length)) {
      const [a, b] = pair.map((of) => of.right);
      const both = (x, y) => count(labels.filter((_, i) => a[i] === x && b[i] === y).length);
      said.push(
        element(
          "p",
          {},
          `Of ${count(labels.length)} test digits both get ${both(true, true)} right, only the ` +
            `first ${both(true, false)}, only the second ${both(false, true)}, ` +
            `neither ${both(false, false)}.`,
        ),
      );
    }
    at("summary").replaceChildren(...said);
  }

  // --- curves

  const ACCURACIES = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999];
  const STEPS = [1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2];

  // Equal steps for equal ratios: of the error for an accuracy, of itself for a loss. As in the
  // other figures of the report.
  function scale(key, values) {
    const accuracy = key.endsWith("accuracy");
    const forward = accuracy
      ? (value) => -Math.log10(1 - Math.min(value, 0.9999))
      : (value) => Math.log10(Math.max(value, 1e-6));
    const decades = range(12).map((power) => 10 ** (power - 6));
    let ticks = accuracy ? ACCURACIES : decades.flatMap((of) => [1, 2, 5].map((step) => step * of));
    const [low, high] = [Math.min(...values), Math.max(...values)].map(forward);
    const within = () => {
      const below = ticks.filter((of) => forward(of) <= low + 1e-9);
      const above = ticks.filter((of) => forward(of) >= high - 1e-9);
      const bottom = below.length ? below[below.length - 1] : ticks[0];
      const top = above.find((of) => of > bottom) ?? ticks[ticks.length - 1];
      return ticks.filter((of) => of >= bottom && of <= top);
    };
    if (accuracy && within().length < 4) {
      const fine = range(4).flatMap((decade) => STEPS.map((step) => 1 - step / 10 ** decade));
      ticks = [...new Set([...fine, 0.9999].map((of) => Number(of.toFixed(6))))];
    }
    return { forward, ticks: within() };
  }

  function meanCurve(curves) {
    const length = Math.max(...curves.map((of) => of.length));
    return range(length).map((epoch) => {
      const known = curves.map((of) => of[epoch]).filter((of) => of != null);
      return known.length ? mean(known) : null;
    });
  }

  function panel(key, title, pair) {
    const curves = pair.map((of) => of.seeds.map((one) => one.curves[key]).filter((one) => one.length));
    const values = curves.flat(2).filter((of) => of !== null);
    const told = pair.map((of, side) => {
      const last = curves[side].map((one) => one[one.length - 1]).filter((one) => one !== null);
      return `${of.name} ends at ${last.length ? mean(last).toPrecision(4) : "no epoch"}`;
    });
    const [width, height, left, top, right, bottom] = [400, 230, 46, 22, 392, 200];
    const drawn = svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${title} by epoch: ${told.join(", ")}`,
    });
    const write = (text, x, y, anchor, more = {}) =>
      drawn.append(svg("text", { x, y, "text-anchor": anchor, "font-size": 11, ...more }, text));
    write(title, left, 13, "start", { "font-weight": "bold" });
    if (!values.length) {
      write("no epoch", (left + right) / 2, height / 2, "middle");
      return drawn;
    }
    const epochs = Math.max(...curves.flat().map((of) => of.length));
    const { forward, ticks } = scale(key, values);
    const [low, high] = [forward(ticks[0]), forward(ticks[ticks.length - 1])];
    const x = (epoch) => left + ((right - left) * (epoch - 1 + 0.02 * epochs)) / (epochs - 1 + 0.04 * epochs);
    const y = (value) => {
      const place = (forward(value) - low) / (high - low || 1);
      return bottom - (bottom - top) * Math.min(Math.max(place, 0), 1);
    };
    for (const tick of ticks) {
      drawn.append(svg("path", { d: `M${left} ${y(tick)}H${right}`, stroke: "#ddd" }));
      write(String(Number(tick.toPrecision(6))), left - 5, y(tick) + 4, "end");
    }
    const step = [1, 2, 5, 10, 20, 50, 100].find((of) => epochs / of <= 8) || epochs;
    for (const epoch of range(epochs).map((of) => of + 1)) {
      if (epoch % step === 0 || epochs < 3) write(epoch, x(epoch), bottom + 14, "middle");
    }
    write("epoch", right, height - 2, "end");
    drawn.append(svg("path", { d: `M${left} ${top}V${bottom}H${right}`, stroke: "#888", fill: "none" }));
    const line = (of, side, look) => {
      const points = of.map((value, i) => (value === null ? null : [x(i + 1), y(value)]));
      const known = points.filter((point) => point);
      if (known.length === 1) {
        drawn.append(svg("circle", { cx: known[0][0], cy: known[0][1], r: 3, fill: SIDES[side].colour }));
        return;
      }
      const d = known.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
      drawn.append(
        svg("path", {
          d, fill: "none", stroke: SIDES[side].colour, "stroke-dasharray": SIDES[side].dash, ...look,
        }),
      );
    };
    curves.forEach((of, side) => {
      if (of.length > 1) of.forEach((one) => line(one, side, { "stroke-width": 1, opacity: 0.4 }));
      if (of.length) line(meanCurve(of), side, { "stroke-width": 2.2 });
    });
    return drawn;
  }

  function drawCurves(pair) {
    const several = pair.some((of) => of.seeds.length > 1);
    const key = pair.map((of) =>
      element(
        "span",
        {},
        svg(
          "svg",
          { viewBox: "0 0 36 10", "aria-hidden": "true" },
          svg("path", {
            d: "M0 5H36", stroke: of.colour, "stroke-width": 2.5, "stroke-dasharray": of.dash,
          }),
        ),
        ` ${of.name}, ${listed(of.seeds)}`,
      ),
    );
    at("key").replaceChildren(...key, several ? "Thin: a seed; thick: their mean." : "");
    at("curves").replaceChildren(
      ...Object.entries(CURVES).map(([name, title]) => panel(name, title, pair)),
    );
  }

  // --- confusion

  // How often a digit (first index) is taken for another (second), a mean over the seeds.
  function confusion(of) {
    const matrix = range(10).map(() => Array(10).fill(0));
    for (const predicted of of.predicted) {
      predicted.forEach((guess, i) => {
        if (guess !== labels[i]) matrix[labels[i]][guess] += 1 / of.predicted.length;
      });
    }
    return matrix;
  }

  const short = (number) => {
    const digits = Math.abs(number) < 99.95 ? 1 : 0;
    return number.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
  };

  function drawMatrix(name, matrix, highest, colour, sign) {
    const [cell, left, top] = [27, 34, 34];
    const drawn = svg("svg", { viewBox: "0 0 306 306", "aria-hidden": "true" });
    const write = (text, x, y, more = {}) =>
      drawn.append(svg("text", { x, y, "text-anchor": "middle", "font-size": 10, ...more }, text));
    write("predicted", left + 5 * cell, 11);
    write("true", 9, top + 5 * cell, { transform: `rotate(-90 9 ${top + 5 * cell})` });
    for (const digit of range(10)) {
      write(digit, left + (digit + 0.5) * cell, top - 6, { "font-weight": "bold" });
      write(digit, left - 9, top + (digit + 0.5) * cell + 4, { "font-weight": "bold" });
    }
    const pairs = [];
    matrix.forEach((row, truth) =>
      row.forEach((value, guess) => {
        const shade = highest ? Math.log1p(Math.abs(value)) / Math.log1p(highest) : 0;
        const [x, y] = [left + guess * cell, top + truth * cell];
        drawn.append(
          svg("rect", {
            x, y, width: cell, height: cell, stroke: "#ddd",
            fill: truth === guess ? "#eee" : colour(value), "fill-opacity": truth === guess ? 1 : shade,
          }),
        );
        if (Math.abs(value) < 0.05) return;
        pairs.push([value, truth, guess]);
        // Of the two colours only the blue is too dark for black.
        const dark = shade > 0.85 && colour(value) === SIDES[0].colour;
        const text = `${sign && value > 0 ? "+" : ""}${short(value).replace(",", "")}`;
        write(text, x + cell / 2, y + cell / 2 + 3, {
          "font-size": text.length > 4 ? 8 : 9, fill: dark ? "#fff" : "#000",
        });
      }),
    );
    pairs.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
    const most = pairs
      .slice(0, 3)
      .map(([value, truth, guess]) => `${truth}→${guess} (${sign && value > 0 ? "+" : ""}${short(value)})`);
    const total = matrix.flat().reduce((sum, of) => sum + of, 0);
    const said = sign
      ? `${sign && total > 0 ? "+" : ""}${short(total)} in all`
      : `${short(total)} of ${count(labels.length)} are wrong`;
    return element(
      "figure",
      {},
      element(
        "figcaption",
        {},
        element("strong", {}, name),
        `: ${said}${most.length ? `, above all ${most.join(", ")}` : ""}.`,
      ),
      drawn,
    );
  }

  function drawConfusion(pair) {
    const known = pair.filter((of) => of.tested.length);
    const matrices = known.map(confusion);
    const highest = Math.max(0, ...matrices.flat(2));
    const figures = known.map((of, i) => drawMatrix(of.name, matrices[i], highest, () => of.colour));
    if (known.length === 2) {
      const difference = matrices[0].map((row, i) => row.map((value, j) => value - matrices[1][i][j]));
      const most = Math.max(...difference.flat().map(Math.abs));
      const colour = (value) => SIDES[value > 0 ? 0 : 1].colour;
      figures.push(drawMatrix("The first less the second", difference, most, colour, true));
    }
    at("confusion").replaceChildren(...(figures.length ? figures : ["Neither was tested."]));
  }

  // --- digits

  function tile(index, other) {
    const seen = other.predicted.map((of) => of[index]).join(" ");
    const place = cells.get(index);
    const item = element("li");
    if (place !== undefined) {
      const picture = element("canvas", {
        width: data.side,
        height: data.side,
        role: "img",
        "aria-label": `picture of test image ${index}`,
      });
      const [x, y] = [place % data.columns, Math.floor(place / data.columns)];
      const [size, pen] = [data.side, picture.getContext("2d")];
      pen.drawImage(sprite, x * size, y * size, size, size, 0, 0, size, size);
      item.append(picture);
    }
    item.append(`${labels[index]} → ${seen}`, element("br"), element("small", {}, `image ${index}`));
    return item;
  }

  function drawOnly(pair) {
    if (!pair.every((of) => of.tested.length)) {
      at("only").replaceChildren("It takes two that were tested on the same images.");
      return;
    }
    const lists = pair.map((of) => {
      const other = pair[1 - of.side];
      const all = range(labels.length).filter((index) => of.right[index] && !other.right[index]);
      const rank = (index) => cells.get(index) ?? data.pictures.length + index;
      all.sort((a, b) => rank(a) - rank(b));
      const more = all.length - SHOWN;
      return element(
        "div",
        {},
        element("p", {}, "Only ", element("strong", {}, of.name), ` is right: ${count(all.length)}.`),
        element("ul", { class: "digits" }, ...all.slice(0, SHOWN).map((index) => tile(index, other))),
        more > 0 ? element("p", {}, `And ${count(more)} more.`) : "",
      );
    });
    at("only").replaceChildren(...lists);
  }

  // --- what is picked

  function offerSeeds(side) {
    const seeds = data.rows[at(`row-${side}`).value];
    const options = seeds.map((of) => new Option(of.seed, of.seed));
    if (seeds.length > 1) options.unshift(new Option(`all ${seeds.length}`, "all"));
    at(`seed-${side}`).replaceChildren(...options);
  }

  function draw() {
    const pair = [pick(0), pick(1)];
    summarize(pair);
    drawCurves(pair);
    drawConfusion(pair);
    drawOnly(pair);
  }

  // The rows that were tested make the better start.
  const first = [...names].sort(
    (a, b) => data.rows[b].some((of) => of.predicted !== null) - data.rows[a].some((of) => of.predicted !== null),
  );
  for (const side of [0, 1]) {
    at(`row-${side}`).replaceChildren(...names.map((name) => new Option(name, name)));
    at(`row-${side}`).value = first[side];
    offerSeeds(side);
    at(`row-${side}`).addEventListener("change", () => {
      offerSeeds(side);
      draw();
    });
    at(`seed-${side}`).addEventListener("change", draw);
  }
  at("without").hidden = true;
  at("shown").hidden = false;
  // The digits are copied out of the sprite, which takes a moment to be read.
  if (sprite) sprite.decode().then(draw, draw);
  else draw();
})();
