"use strict";
// What 30 rounds of seven models cost in the explorer, by its own engine:
//     node benchmarks/explorer.js [repeats]
// Seconds of processor time and of the clock, and the AUC reached, which no speed-up may change.

const { readFileSync } = require("fs"), path = require("path");
const SOURCES = path.join(__dirname, "..", "site", "explorer"), ROUNDS = 30;
const Engine = require(path.join(SOURCES, "engine.js"));
const read = (name, encoding) => readFileSync(path.join(SOURCES, name), encoding);

function once(data, setup) {
  const begin = process.cpuUsage(), start = performance.now();
  const [last] = [...Engine.run(data, setup, ROUNDS)].slice(-1);
  const { user, system } = process.cpuUsage(begin);
  return { cpu: (user + system) / 1e6, clock: (performance.now() - start) / 1000, auc: last.auc };
}

async function main(repeats) {
  const data = await Engine.load({
    patients: JSON.parse(read("patients.json", "utf8")),
    sprite: read("patients.png", "base64"), lesions: read("lesions.png", "base64"),
  });
  const setup = {
    owner: data.labels.map((_, i) => i % Engine.HOSPITALS), rule: "average", leavesAfter: ROUNDS,
    behaviours: new Array(Engine.HOSPITALS).fill("honest"), seed: 0,
  };
  const runs = Array.from({ length: repeats }, () => once(data, setup));
  for (const which of ["cpu", "clock"]) { // the first run has the compiling in it
    const [first, ...rest] = runs.map(run => run[which]), sorted = [...rest].sort((a, b) => a - b);
    const said = [first, sorted[0], sorted[sorted.length >> 1]].map(seconds => seconds.toFixed(2));
    console.log(`${which}: first ${said[0]} s, then from ${said[1]} s, median ${said[2]} s`);
  }
  const { global, pooled, alone } = runs[0].auc;
  console.log(`AUC: ${[global, pooled, ...alone].map(auc => auc.toFixed(6)).join(" ")}`);
}

main(Math.max(2, Number(process.argv[2]) || 9));
