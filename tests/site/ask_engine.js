// Everything that test_explorer.py compares, from the page's own engine: in Node or in a browser.
// request: {material, deals: [[alpha, seed]], setups: [[setup, rounds]], join: [setup, k, rounds, seeds]}

async function askEngine(Engine, { material, deals, rare, setups, join, heat }) {
  const data = await Engine.load(material), arrays = model => model.map(array => [...array]);
  const asArrays = setup => ({ ...setup, owner: Int32Array.from(setup.owner) });
  const runs = setups.map(([setup, rounds]) => {
    const steps = [...Engine.run(data, asArrays(setup), rounds)], last = steps[steps.length - 1];
    return {
      auc: steps.map(one => one.auc), global: arrays(last.global), pooled: arrays(last.pooled),
      alone: last.alone.map(arrays),
    };
  });
  const model = runs[heat.run].global.map(array => Float64Array.from(array));
  const [setup, k, rounds, seeds] = join, found = [];
  for (let seed = 0; seed < seeds; seed++)
    found.push(Engine.joinOnce(data, { ...asArrays(setup), seed }, k, rounds));
  return {
    pixels: [...data.pixels], lesions: [...data.lesions], first: [...data.images[0]],
    deals: deals.map(([alpha, seed]) => [...Engine.deal(data.labels, alpha, seed)]),
    rare: [...Engine.dealRare(data.labels, ...rare)],
    runs,
    join: Engine.joinAnswer(found),
    heat: heat.patients.map(i => [...Engine.heat(model, data.testImages[i], data.testLabels[i])]),
    inside: Engine.heatInLesions(model, data), chance: Engine.lesionShare(data),
    intervals: found[0].map(Engine.interval),
  };
}
