// Panels: a control moves, and the sentence, the picture and its alt text of that setting are shown.
for (const form of document.querySelectorAll("form.panel")) {
  const rows = [...form.querySelectorAll(".panel-controls > *")];
  const [says, shows] = [form.querySelector(".panel-says"), form.querySelector(".panel-shows")];
  const {states, from} = form.dataset;
  form.querySelector(".panel-controls").hidden = false;
  const show = () => {
    const {n, at, s} = window.panelStates[states];
    const moved = n.flatMap((size, k) => (size > 1 ? [k] : []));
    rows.forEach((row, k) => (at[moved[k]] = +row.querySelector("[type=range], :checked").value));
    const [say, picture, more] = s[n.reduce((all, size, k) => all * size + at[k], 0)];
    says.textContent = say;
    if (picture) Object.assign(shows.firstChild, {src: `${from}${picture}.webp`, alt: more ?? say});
    else shows.innerHTML = more;
  };
  const load = () => {
    if (window.panelStates?.[states]) return show();
    document.head.append(Object.assign(document.createElement("script"), {src: `${from}${states}.js`, onload: show}));
  };
  form.addEventListener("input", ({target}) => {
    if (target.type === "range") {
      const said = JSON.parse(target.dataset.values)[target.value];
      target.setAttribute("aria-valuetext", (target.nextElementSibling.value = said));
    }
    load();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.reset(); // a browser that comes back to the page would keep what was moved
}
