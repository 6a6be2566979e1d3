// Shows the numbers behind a drawing under the pointer, and the step they belong to.
(() => {
  let shown = null;
  const hide = () => {
    if (!shown) return;
    shown.querySelector(".pointer").setAttribute("visibility", "hidden");
    const told = shown.parentElement.querySelector(".told");
    if (told) told.textContent = "";
    shown = null;
  };
  document.addEventListener("pointermove", (e) => {
    const svg = e.target instanceof Element ? e.target.closest("svg[data-to]") : null;
    if (svg !== shown) hide();
    if (!svg) return;
    const { to, left, wide } = svg.dataset;
    const at = (e.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width * svg.viewBox.baseVal.width;
    const step = (at - left) / wide * to;
    const curves = [...svg.querySelectorAll("polyline[data-steps]")].map((line) => ({
      name: line.dataset.name, steps: line.dataset.steps.split(" ").map(Number), values: line.dataset.values.split(" "),
    }));
    let best = null;
    for (const c of curves) for (const s of c.steps) if (best === null || Math.abs(s - step) < Math.abs(best - step)) best = s;
    if (best === null) return;
    shown = svg;
    const line = svg.querySelector(".pointer"), x = Number(left) + best / to * wide;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.setAttribute("visibility", "visible");
    const told = svg.parentElement.querySelector(".told");
    if (told) told.textContent = "step " + best + ": " + curves.filter((c) => c.steps.includes(best))
      .map((c) => (curves.length > 1 ? c.name + " " : "") + c.values[c.steps.lastIndexOf(best)]).join("   ");
  });
})();
