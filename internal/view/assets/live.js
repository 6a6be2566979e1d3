// Looks again whether the page has changed, and shows what is new without losing what is ticked.
(() => {
  const main = document.querySelector("main[data-every]"), lost = document.getElementById("lost");
  let tag = "";
  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
        lost.textContent = "";
        if (answer.status === 200) {
          tag = answer.headers.get("ETag") || "";
          const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
          if (next && next.innerHTML !== main.innerHTML) renew(next);
        }
      } catch {
        lost.textContent = "The server has ended: t5ctl runs view starts it again.";
      }
    }
    setTimeout(look, Number(main.dataset.every));
  };
  const renew = (next) => {
    for (const box of main.querySelectorAll("input:checked")) {
      const same = next.querySelector(`input[value="${CSS.escape(box.value)}"]`);
      if (same) same.checked = true;
    }
    const focused = document.activeElement && main.contains(document.activeElement) ? document.activeElement : null;
    const again = focused && (focused.value ? `input[value="${CSS.escape(focused.value)}"]` : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : "");
    main.dataset.every = next.dataset.every;
    main.replaceChildren(...next.childNodes);
    if (again) main.querySelector(again)?.focus({ preventScroll: true });
  };
  setTimeout(look, Number(main.dataset.every));
})();
