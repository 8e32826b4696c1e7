// The worker's side: what the page asks for, one answer at a time. A new run ends the one before.

let data, models = [], current = 0;

// Lets messages in that have come meanwhile; setTimeout would wait for 4 ms each time.
const pause = () => new Promise(resolve => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); resolve(); };
  port2.postMessage(0);
});

const asks = {
  async load({ material }) {
    data = await Engine.load(material);
    postMessage({ type: "loaded" });
  },

  async run({ id, setup, rounds }) {
    current = id;
    models = [];
    let spent = 0, start = performance.now();
    for (const { round, auc, ...trained } of Engine.run(data, setup, rounds)) {
      models.push(trained);
      spent += performance.now() - start;
      postMessage({ type: "round", id, round, auc, milliseconds: spent });
      await pause();
      if (id !== current) return;
      start = performance.now();
    }
  },

  heat({ id, round, hospital, patient }) {
    if (id !== current || !models[round]) return;
    const { global, alone } = models[round], area = Engine.SIZE ** 2;
    const label = data.testLabels[patient], image = data.testImages[patient];
    const first = (data.labels.length + patient) * area;
    postMessage({
      type: "heat", id, round, hospital, patient, label,
      pixels: data.pixels.slice(first, first + area),
      lesion: data.lesions.slice(patient * area, (patient + 1) * area),
      maps: [global, alone[hospital]].map(model => Engine.heat(model, image, label)),
      inside: [global, alone[hospital]].map(model => Engine.heatInLesions(model, data)),
      chance: Engine.lesionShare(data),
    });
  },

  async join({ id, setup, hospital, rounds, seeds }) {
    const found = [];
    for (let s = 0; s < seeds; s++) {
      found.push(Engine.joinOnce(data, { ...setup, seed: setup.seed + s }, hospital, rounds));
      await pause();
      if (id !== current) return;
    }
    postMessage({ type: "join", id, hospital, ...Engine.joinAnswer(found) });
  },
};

onmessage = ({ data: message }) => asks[message.type](message);
