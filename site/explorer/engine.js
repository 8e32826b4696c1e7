"use strict";
// The federation of the explorer, without a page: it runs in a worker, in Node and in the tests.
// A network of the smallest kind that is still one: a convolution of 4 kernels of 5 x 5 pixels in
// steps of 2, relu, and one dense layer with a softmax. All numbers are float64.
// tests/site/explorer_in_numpy.py has the same arithmetic in NumPy.

const Engine = (() => {
  const SIZE = 20, KERNEL = 5, STRIDE = 2, FILTERS = 4, CLASSES = 3, HOSPITALS = 5;
  const SIDE = (SIZE - KERNEL) / STRIDE + 1 | 0, PLACES = SIDE * SIDE, TAPS = KERNEL * KERNEL;
  const BATCH = 8, RATE = 0.05, NOISE = 0.2, LIE = -3, NORMAL_95 = 1.96, FEWEST = 5;
  const INIT = 1, ORDER = 2, DEAL = 3, DISTURB = 4; // what chance is asked for
  const POOLED = HOSPITALS; // the pooled training is one more place with an order of its own

  // --- chance -----------------------------------------------------------------------------

  // mulberry32 by Tommy Ettinger: 32 bits of state, numbers in [0, 1).
  function mulberry32(state) {
    return () => {
      state = state + 0x6d2b79f5 | 0;
      let t = Math.imul(state ^ state >>> 15, 1 | state);
      t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
      return ((t ^ t >>> 14) >>> 0) / 4294967296;
    };
  }

  // A generator for each purpose, so that what happens in one hospital changes no other's chance.
  function stream(...keys) {
    let state = 0x9e3779b9;
    for (const key of keys) {
      state = Math.imul(state ^ key, 0x85ebca6b);
      state ^= state >>> 13;
    }
    return mulberry32(state);
  }

  function shuffle(items, random) { // Fisher and Yates, from the end
    const order = Int32Array.from(items);
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  function normal(random) { // Box and Muller, one of the two
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return radius * Math.cos(2 * Math.PI * random());
  }

  function logGamma(shape, random) { // the logarithm of a Gamma(shape, 1), which may be very small
    if (shape < 1) return logGamma(shape + 1, random) + Math.log(1 - random()) / shape;
    const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d); // Marsaglia and Tsang 2000
    for (;;) {
      const x = normal(random), v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d - d * v + d * Math.log(v))
        return Math.log(d * v);
    }
  }

  function dirichlet(alphas, random) {
    const logs = alphas.map(alpha => logGamma(alpha, random)), most = Math.max(...logs);
    const parts = logs.map(log => Math.exp(log - most)), sum = parts.reduce((a, b) => a + b);
    return parts.map(part => part / sum);
  }

  // --- who has which patient --------------------------------------------------------------

  // As fedtutor.partition: each class in proportions from Dirichlet(alpha), no hospital empty.
  function deal(labels, alpha, seed) {
    const random = stream(seed, DEAL), owner = new Int32Array(labels.length);
    for (let label = 0; label < CLASSES; label++) {
      const ill = [...labels.keys()].filter(i => labels[i] === label);
      const order = shuffle(ill, random);
      const shares = dirichlet(new Array(HOSPITALS).fill(alpha), random);
      let sum = 0, start = 0;
      shares.forEach((share, k) => {
        sum += share;
        const end = k === HOSPITALS - 1 ? order.length : roundHalfEven(sum * order.length);
        for (; start < end; start++) owner[order[start]] = k;
      });
    }
    return fillEmpty(owner);
  }

  function roundHalfEven(x) { // as NumPy
    const below = Math.floor(x), rest = x - below;
    return below + (rest > 0.5 || rest === 0.5 && below % 2 ? 1 : 0);
  }

  function fillEmpty(owner) {
    const sizes = new Int32Array(HOSPITALS);
    owner.forEach(k => sizes[k]++);
    for (let k = 0; k < HOSPITALS; k++) {
      if (sizes[k]) continue;
      const largest = sizes.indexOf(Math.max(...sizes));
      owner[owner.indexOf(largest)] = k;
      sizes[largest]--;
      sizes[k]++;
    }
    return owner;
  }

  // Every class even but one, all of whose patients are in one hospital.
  function dealRare(labels, rare, hospital) {
    const seen = new Int32Array(CLASSES);
    return Int32Array.from(labels, label => label === rare ? hospital : seen[label]++ % HOSPITALS);
  }

  // --- the network ------------------------------------------------------------------------

  // Of a model [kernels (taps, filters), their bias, dense (places * filters, classes), its bias].
  const SHAPES = [TAPS * FILTERS, FILTERS, PLACES * FILTERS * CLASSES, CLASSES];
  const AT = Int32Array.from({ length: PLACES }, (_, p) =>
    STRIDE * (SIZE * Math.floor(p / SIDE) + p % SIDE)); // the first pixel under each place

  const copy = model => model.map(array => array.slice());

  // Kernels by Glorot and Bengio 2010, uniform, as in Keras; all else 0. The scores of the classes
  // then add up to 0 for ever, and a heat map shows what was learnt and nothing of the start.
  function initial(seed) {
    const random = stream(seed, INIT), most = Math.sqrt(6 / (TAPS + TAPS * FILTERS));
    const model = SHAPES.map(size => new Float64Array(size));
    model[0].forEach((_, j) => { model[0][j] = (2 * random() - 1) * most; });
    return model;
  }

  // Each image of mean 0 and deviation 1, as fedtutor.model.standardise.
  function standardise(pixels) {
    const area = SIZE * SIZE, images = [];
    for (let start = 0; start < pixels.length; start += area) {
      const image = Float64Array.from(pixels.subarray(start, start + area));
      const mean = image.reduce((a, b) => a + b) / area;
      const deviation = Math.sqrt(image.reduce((a, b) => a + (b - mean) ** 2, 0) / area);
      images.push(image.map(x => (x - mean) / Math.max(deviation, 1)));
    }
    return images;
  }

  const maps = new Float64Array(PLACES * FILTERS), chances = new Float64Array(CLASSES);
  const gradient = SHAPES.map(size => new Float64Array(size));

  // Leaves the feature maps of one image in `maps` and its probabilities in `chances`. Most of the
  // time is spent here: two neighbours at a time, whose pixels overlap, and a kernel's row a turn.
  function forward([kernels, bias, dense, last], image) {
    for (let p = 0, m = 0; p < PLACES; p += 2, m += 2 * FILTERS) {
      let a = bias[0], b = bias[1], c = bias[2], d = bias[3], e = a, f = b, g = c, h = d;
      for (let k = 0, i = AT[p]; k < kernels.length; k += KERNEL * FILTERS, i += SIZE) {
        const x0 = image[i], x1 = image[i + 1], x2 = image[i + 2], x3 = image[i + 3];
        const x4 = image[i + 4], x5 = image[i + 5], x6 = image[i + 6];
        let k0 = kernels[k], k1 = kernels[k + 1], k2 = kernels[k + 2], k3 = kernels[k + 3];
        a += x0 * k0; b += x0 * k1; c += x0 * k2; d += x0 * k3;
        e += x2 * k0; f += x2 * k1; g += x2 * k2; h += x2 * k3;
        k0 = kernels[k + 4]; k1 = kernels[k + 5]; k2 = kernels[k + 6]; k3 = kernels[k + 7];
        a += x1 * k0; b += x1 * k1; c += x1 * k2; d += x1 * k3;
        e += x3 * k0; f += x3 * k1; g += x3 * k2; h += x3 * k3;
        k0 = kernels[k + 8]; k1 = kernels[k + 9]; k2 = kernels[k + 10]; k3 = kernels[k + 11];
        a += x2 * k0; b += x2 * k1; c += x2 * k2; d += x2 * k3;
        e += x4 * k0; f += x4 * k1; g += x4 * k2; h += x4 * k3;
        k0 = kernels[k + 12]; k1 = kernels[k + 13]; k2 = kernels[k + 14]; k3 = kernels[k + 15];
        a += x3 * k0; b += x3 * k1; c += x3 * k2; d += x3 * k3;
        e += x5 * k0; f += x5 * k1; g += x5 * k2; h += x5 * k3;
        k0 = kernels[k + 16]; k1 = kernels[k + 17]; k2 = kernels[k + 18]; k3 = kernels[k + 19];
        a += x4 * k0; b += x4 * k1; c += x4 * k2; d += x4 * k3;
        e += x6 * k0; f += x6 * k1; g += x6 * k2; h += x6 * k3;
      }
      maps[m] = a > 0 ? a : 0; maps[m + 1] = b > 0 ? b : 0;
      maps[m + 2] = c > 0 ? c : 0; maps[m + 3] = d > 0 ? d : 0;
      maps[m + 4] = e > 0 ? e : 0; maps[m + 5] = f > 0 ? f : 0;
      maps[m + 6] = g > 0 ? g : 0; maps[m + 7] = h > 0 ? h : 0;
    }
    let u = last[0], v = last[1], w = last[2];
    for (let m = 0, k = 0; m < maps.length; m++, k += CLASSES) {
      const x = maps[m];
      u += x * dense[k]; v += x * dense[k + 1]; w += x * dense[k + 2];
    }
    const most = Math.max(u, v, w);
    const eu = Math.exp(u - most), ev = Math.exp(v - most), ew = Math.exp(w - most);
    const sum = eu + ev + ew;
    chances[0] = eu / sum; chances[1] = ev / sum; chances[2] = ew / sum;
  }

  // Adds to `gradient` that of the cross-entropy of the image just passed forward. That of the kernels
  // is kept filter by filter, so that its rows lie beside each other as the image's pixels do.
  function backward([, , weights], image, label) {
    const [kernels, bias, dense, last] = gradient;
    const u = chances[0] - (label === 0), v = chances[1] - (label === 1);
    const w = chances[2] - (label === 2);
    last[0] += u; last[1] += v; last[2] += w;
    for (let m = 0, k = 0; m < maps.length; m++, k += CLASSES) {
      const x = maps[m];
      if (x === 0) continue; // under relu nothing passes
      dense[k] += x * u; dense[k + 1] += x * v; dense[k + 2] += x * w;
      const back = weights[k] * u + weights[k + 1] * v + weights[k + 2] * w;
      const f = m % FILTERS, end = TAPS * (f + 1);
      bias[f] += back;
      for (let j = TAPS * f, i = AT[(m - f) / FILTERS]; j < end; j += KERNEL, i += SIZE) {
        kernels[j] += back * image[i]; kernels[j + 1] += back * image[i + 1];
        kernels[j + 2] += back * image[i + 2]; kernels[j + 3] += back * image[i + 3];
        kernels[j + 4] += back * image[i + 4];
      }
    }
  }

  // One epoch of stochastic gradient descent over these patients; changes the model.
  function train(model, images, labels, order) {
    for (let start = 0; start < order.length; start += BATCH) {
      const end = Math.min(start + BATCH, order.length), step = RATE / (end - start);
      for (let n = start; n < end; n++) {
        const i = order[n];
        forward(model, images[i]);
        backward(model, images[i], labels[i]);
      }
      for (let j = 0; j < gradient[0].length; j++)
        model[0][j] -= step * gradient[0][TAPS * (j % FILTERS) + (j / FILTERS | 0)];
      for (let part = 1; part < model.length; part++) descend(model[part], gradient[part], step);
      for (const array of gradient) array.fill(0);
    }
    return model;
  }

  function descend(array, gradient, step) {
    for (let j = 0; j < array.length; j++) array[j] -= step * gradient[j];
  }

  function predict(model, images) { // class by class: (classes, images)
    const all = Array.from({ length: CLASSES }, () => new Float64Array(images.length));
    images.forEach((image, i) => {
      forward(model, image);
      for (let c = 0; c < CLASSES; c++) all[c][i] = chances[c];
    });
    return all;
  }

  // What speaks for a class, place by place: HiResCAM (Draelos and Carin 2020), exact for such a
  // network; then laid over the image by bilinear interpolation, at most 1, and never negative.
  function heat(model, image, label) {
    forward(model, image);
    const small = new Float64Array(PLACES);
    for (let m = 0; m < maps.length; m++)
      small[Math.floor(m / FILTERS)] += maps[m] * model[2][m * CLASSES + label];
    small.forEach((x, p) => { small[p] = Math.max(x, 0); });
    const most = Math.max(...small), large = new Float64Array(SIZE * SIZE);
    if (most === 0) return large;
    const between = i => { // pixel i lies between these places, so far from the first
      const at = Math.min(Math.max((i - (KERNEL - 1) / 2) / STRIDE, 0), SIDE - 1);
      const first = Math.min(Math.floor(at), SIDE - 2);
      return [first, at - first];
    };
    for (let y = 0; y < SIZE; y++) for (let x = 0; x < SIZE; x++) {
      const [r, down] = between(y), [c, across] = between(x), p = r * SIDE + c;
      const upper = small[p] * (1 - across) + small[p + 1] * across;
      const lower = small[p + SIDE] * (1 - across) + small[p + SIDE + 1] * across;
      large[y * SIZE + x] = (upper * (1 - down) + lower * down) / most;
    }
    return large;
  }

  // --- scores, as fedtutor.evaluation -----------------------------------------------------

  function shareBelow(score, sorted) { // a tie is one half
    let low = 0, high = sorted.length;
    while (low < high) { const m = low + high >> 1; if (sorted[m] < score) low = m + 1; else high = m; }
    let end = low;
    while (end < sorted.length && sorted[end] === score) end++;
    return (low + end) / (2 * sorted.length);
  }

  // One class against the rest: its AUC and how far each patient moves it (DeLong et al. 1988).
  function estimateClass(scores, labels, label) {
    const ill = scores.filter((_, i) => labels[i] === label).sort();
    const well = scores.filter((_, i) => labels[i] !== label).sort();
    let auc = 0;
    const shifts = scores.map((score, i) => {
      if (labels[i] !== label) return 1 - shareBelow(score, ill);
      const right = shareBelow(score, well);
      auc += right / ill.length;
      return right;
    });
    const weight = n => Math.sqrt(n / Math.max(n - 1, 1)) / n;
    const [ofIll, ofWell] = [weight(ill.length), weight(well.length)];
    shifts.forEach((right, i) => {
      shifts[i] = (right - auc) * (labels[i] === label ? ofIll : ofWell);
    });
    const size = 1 / (1 / ill.length + 1 / well.length);
    return { auc, shifts, size, fewest: Math.min(ill.length, well.length) };
  }

  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const mean = values => values.reduce((a, b) => a + b) / values.length;

  function meanEstimate(each) {
    const shifts = each[0].shifts.map((_, i) => mean(each.map(one => one.shifts[i])));
    const alone = mean(each.map(one => dot(one.shifts, one.shifts)));
    const together = alone ? dot(shifts, shifts) / alone : 1;
    const size = 1 / mean(each.map(one => 1 / one.size)) / Math.max(together, 1 / each.length);
    const fewest = Math.min(...each.map(one => one.fewest));
    return { auc: mean(each.map(one => one.auc)), shifts, size, fewest };
  }

  const estimate = (all, labels) =>
    meanEstimate(all.map((scores, label) => estimateClass(scores, labels, label)));

  // The macro AUC alone, for each round.
  function auc(all, labels) {
    const ill = new Float64Array(labels.length), well = new Float64Array(labels.length);
    return mean(all.map((scores, label) => {
      let n = 0, m = 0, right = 0;
      for (let i = 0; i < labels.length; i++)
        if (labels[i] === label) ill[n++] = scores[i]; else well[m++] = scores[i];
      const sorted = well.subarray(0, m).sort();
      for (let i = 0; i < n; i++) right += shareBelow(ill[i], sorted);
      return right / n;
    }));
  }

  function answers({ auc, shifts, size }) {
    const ofOne = auc * (1 - auc), seen = ofOne ? dot(shifts, shifts) / ofOne : 0;
    return (size + 4) / (size * seen + 4 / 3 / size);
  }

  function interval(one) {
    if (one.fewest < FEWEST) return [NaN, NaN];
    const z = NORMAL_95 ** 2 / answers(one), middle = (one.auc + z / 2) / (1 + z);
    const half = Math.sqrt(one.auc * (1 - one.auc) * z + z * z / 4) / (1 + z);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  function standardError(one) {
    const [low, high] = interval(one), middle = (low + high) / 2;
    return Math.sqrt(middle * (1 - middle) / answers(one));
  }

  function gainInterval(one, other) {
    if (Math.min(one.fewest, other.fewest) < FEWEST) return [NaN, NaN];
    const lengths = Math.sqrt(dot(one.shifts, one.shifts) * dot(other.shifts, other.shifts));
    const alike = lengths ? dot(one.shifts, other.shifts) / lengths : 0;
    const a = standardError(one), b = standardError(other);
    const half = NORMAL_95 * Math.sqrt(Math.max(0, a * a + b * b - 2 * alike * a * b));
    return [one.auc - other.auc - half, one.auc - other.auc + half];
  }

  // --- the federation ---------------------------------------------------------------------

  const patientsOf = (owner, k) => [...owner.keys()].filter(i => owner[i] === k);

  // The average of FedAvg, sum n_k w_k / sum n_k (McMahan et al. 2017).
  function average(models, counts) {
    const total = counts.reduce((a, b) => a + b);
    const sum = SHAPES.map(size => new Float64Array(size));
    models.forEach((model, k) => model.forEach((array, part) =>
      descend(sum[part], array, -counts[k] / total)));
    return sum;
  }

  // The median of each weight by itself, each hospital counted once (Yin et al. 2018).
  function median(models) {
    const n = models.length, half = n >> 1;
    return models[0].map((array, part) => array.map((_, j) => {
      const sorted = Float64Array.from(models, model => model[part][j]).sort();
      return n % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }));
  }

  // What a hospital sends instead of its model.
  function disturb(model, start, behaviour, random) {
    if (behaviour === "lies") // the opposite of what it has learnt, and more of it
      return model.map((array, part) => array.map((w, j) =>
        start[part][j] + LIE * (w - start[part][j])));
    if (behaviour === "noise") return model.map(array => array.map(w => w + NOISE * normal(random)));
    return model;
  }

  // One round: who is there trains, sends, and the server takes the average or the median.
  function federatedRound(global, data, setup, round) {
    const models = [], counts = [];
    for (let k = 0; k < HOSPITALS; k++) {
      const own = patientsOf(setup.owner, k), behaviour = setup.behaviours[k];
      if (!own.length || behaviour === "out") continue;
      if (behaviour === "leaves" && round > setup.leavesAfter) continue;
      const order = shuffle(own, stream(setup.seed, ORDER, round, k));
      const model = train(copy(global), data.images, data.labels, order);
      models.push(disturb(model, global, behaviour, stream(setup.seed, DISTURB, round, k)));
      counts.push(own.length);
    }
    if (!models.length) return global;
    return setup.rule === "median" ? median(models) : average(models, counts);
  }

  function aloneRound(model, data, patients, seed, round, place) {
    const order = shuffle(patients, stream(seed, ORDER, round, place));
    return train(model, data.images, data.labels, order);
  }

  // setup: {owner, behaviours, rule, leavesAfter, seed}. Yields after each round, 0 before any, the
  // AUC of each model on the test patients and the models; those without patients have NaN.
  function* run(data, setup, rounds) {
    let global = initial(setup.seed);
    const pooled = initial(setup.seed), everybody = [...setup.owner.keys()];
    const own = Array.from({ length: HOSPITALS }, (_, k) => patientsOf(setup.owner, k));
    const alone = own.map(() => initial(setup.seed));
    const score = model => auc(predict(model, data.testImages), data.testLabels);
    for (let round = 0; round <= rounds; round++) {
      if (round) {
        global = federatedRound(global, data, setup, round);
        alone.forEach((model, k) => aloneRound(model, data, own[k], setup.seed, round, k));
        aloneRound(pooled, data, everybody, setup.seed, round, POOLED);
      }
      yield {
        round,
        auc: {
          global: score(global),
          pooled: score(pooled),
          alone: alone.map((model, k) => own[k].length ? score(model) : NaN),
        },
        global, pooled: copy(pooled), alone: alone.map(copy),
      };
    }
  }

  // What asks whether hospital k should join, with one training seed: the scores of the model of
  // all together, of its own alone, and of the others' without it.
  function joinOnce(data, setup, k, rounds) {
    const estimated = model => estimate(predict(model, data.testImages), data.testLabels);
    const behaviours = setup.behaviours.map((behaviour, j) => j === k ? "out" : behaviour);
    const own = patientsOf(setup.owner, k), alone = initial(setup.seed);
    let together = initial(setup.seed), without = together;
    for (let round = 1; round <= rounds; round++) {
      together = federatedRound(together, data, setup, round);
      without = federatedRound(without, data, { ...setup, behaviours }, round);
      aloneRound(alone, data, own, setup.seed, round, k);
    }
    return [together, alone, without].map(estimated);
  }

  // From joinOnce with each seed: what the hospital gains, and what the others do.
  function joinAnswer(found) {
    const [together, alone, without] = [0, 1, 2].map(way => found.map(one => one[way]));
    return { itself: gain(together, alone), others: gain(together, without) };
  }

  // The gain of one way to train over another: neither other patients nor another seed may turn it.
  function gain(one, other) {
    const [a, b] = [meanEstimate(one), meanEstimate(other)], [low, high] = gainInterval(a, b);
    const seeds = one.map((estimate, s) => estimate.auc - other[s].auc);
    let verdict = "unsure";
    if (low > 0 && Math.min(...seeds) > 0) verdict = "gains";
    if (high < 0 && Math.max(...seeds) < 0) verdict = "loses";
    return { value: a.auc - b.auc, low, high, seeds, verdict, before: b.auc, after: a.auc };
  }

  // The mean share of the heat that lies in the lesions, over the patients who have one.
  function heatInLesions(model, data) {
    const shares = [];
    data.testImages.forEach((image, i) => {
      if (!data.testLabels[i]) return;
      const map = heat(model, image, data.testLabels[i]), sum = map.reduce((a, b) => a + b);
      const inside = map.reduce((a, x, j) => a + x * data.lesions[i * map.length + j], 0);
      shares.push(sum ? inside / sum : 0);
    });
    return mean(shares);
  }

  // What a map that knows nothing has inside: the lesions' mean share of the pixels.
  function lesionShare(data) {
    const ill = data.testLabels.reduce((sum, label) => sum + (label > 0), 0);
    return data.lesions.reduce((a, b) => a + b) / (ill * SIZE * SIZE);
  }

  // --- the sprite -------------------------------------------------------------------------

  // Pixels of a PNG of 8 bits or 1 bit of grey. The browser's own decoder would do, but some
  // browsers change what a page reads from a canvas, to hide who is reading.
  async function readPng(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset), parts = [];
    for (let at = 8; at < bytes.length;) {
      const length = view.getUint32(at), name = view.getUint32(at + 4);
      if (name === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + length)); // IDAT
      at += length + 12;
    }
    const [width, height, depth] = [view.getUint32(16), view.getUint32(20), view.getUint8(24)];
    const packed = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const raw = new Uint8Array(await new Response(packed).arrayBuffer());
    const row = Math.ceil(width * depth / 8), pixels = new Uint8Array(width * height);
    let above = new Uint8Array(row);
    for (let y = 0; y < height; y++) {
      const filter = raw[y * (row + 1)], line = raw.subarray(y * (row + 1) + 1, (y + 1) * (row + 1));
      unfilter(filter, line, above);
      for (let x = 0; x < width; x++)
        pixels[y * width + x] = depth === 8 ? line[x] : line[x >> 3] >> 7 - (x & 7) & 1;
      above = line;
    }
    return { pixels, width };
  }

  function unfilter(filter, line, above) { // one byte a pixel, or less
    for (let x = 0; x < line.length; x++) {
      const left = x ? line[x - 1] : 0, up = above[x], corner = x ? above[x - 1] : 0;
      const guess = [0, left, up, left + up >> 1, paeth(left, up, corner)][filter];
      line[x] += guess;
    }
  }

  function paeth(left, up, corner) {
    const guess = left + up - corner;
    const [a, b, c] = [left, up, corner].map(value => Math.abs(guess - value));
    return a <= b && a <= c ? left : b <= c ? up : corner;
  }

  // The images of a sprite one after the other: (count, SIZE, SIZE).
  function cut({ pixels, width }, count) {
    const across = width / SIZE, images = new Uint8Array(count * SIZE * SIZE);
    for (let i = 0; i < count; i++) for (let y = 0; y < SIZE; y++) {
      const from = ((Math.floor(i / across) * SIZE + y) * width) + i % across * SIZE;
      images.set(pixels.subarray(from, from + SIZE), (i * SIZE + y) * SIZE);
    }
    return images;
  }

  const decode64 = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

  // patients: {train, labels (a digit each), ...}; sprite and lesions: PNGs in base64.
  async function load({ patients, sprite, lesions }) {
    const labels = Int32Array.from(patients.labels), { train } = patients;
    const pixels = cut(await readPng(decode64(sprite)), labels.length);
    const images = standardise(pixels);
    return {
      pixels,
      images: images.slice(0, train), labels: labels.slice(0, train),
      testImages: images.slice(train), testLabels: labels.slice(train),
      lesions: cut(await readPng(decode64(lesions)), labels.length - train),
    };
  }

  return {
    SIZE, CLASSES, HOSPITALS, BATCH, RATE, NOISE, LIE,
    stream, deal, dealRare, initial, predict, heat, heatInLesions, lesionShare, auc, estimate, interval,
    average, median, run, joinOnce, joinAnswer, load,
  };
})();

if (typeof module !== "undefined") module.exports = Engine;
