// Keeps a page live: what has changed comes as HTML from the server, and takes the place of the element with its id.
"use strict";
(() => {
  const RETRY = 15000; // ms; for answers after which a browser does not try again by itself
  const live = document.getElementById("live");
  const stale = document.getElementById("stale");
  const said = document.getElementById("said");
  const field = document.getElementById("q");
  const list = document.getElementById("routes");
  document.documentElement.classList.add("live");

  function show(on) {
    live.classList.toggle("on", on);
    stale.hidden = on;
    if (on) live.lastChild === stale && live.append(live.dataset.live);
    else if (live.lastChild !== stale) live.lastChild.remove();
  }

  function made(html) {
    const template = document.createElement("template");
    template.innerHTML = html; // the server's, which escapes whatever is not its own
    return template.content.firstElementChild;
  }

  // The focus stays on the same link, by its address, although its element is another one.
  function keepingFocus(change) {
    const link = document.activeElement?.closest?.("#content a")?.getAttribute("href");
    change();
    if (link && document.activeElement === document.body) {
      document.querySelector(`#content a[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
    }
  }

  function replace(parts) {
    for (const [id, html] of Object.entries(parts)) {
      const old = document.getElementById(id);
      const now = made(html);
      if (!old) {
        if (id.startsWith("r-")) list?.append(now);
        continue;
      }
      if (now.dataset.state && now.dataset.state !== old.dataset.state) {
        now.classList.add("changed");
        const name = now.querySelector("h3")?.textContent ?? document.querySelector("h1").textContent;
        said.textContent = `${name}: ${now.dataset.word}`;
      }
      if (now.dataset.title) document.title = now.dataset.title;
      if (old.open !== undefined) now.open = old.open;
      const [from, to] = [old, now].map((it) => it.querySelector(".scroll"));
      const [top, left, focused] = [from?.scrollTop, from?.scrollLeft, from && from === document.activeElement];
      old.replaceWith(now);
      if (to && from) to.scrollTo(left, top);
      if (focused) to?.focus({ preventScroll: true });
    }
  }

  function arrange(order) {
    const wanted = new Set(order);
    for (const card of [...list.children]) if (!wanted.has(card.id)) card.remove();
    let next = list.firstElementChild;
    for (const id of order) {
      const card = document.getElementById(id);
      if (card === next) next = next.nextElementSibling;
      else if (card) list.insertBefore(card, next);
    }
  }

  function filter() {
    if (!field) return;
    const text = field.value.toLowerCase();
    let left = 0;
    for (const card of list.children) {
      card.hidden = !card.querySelector("div").textContent.toLowerCase().includes(text);
      left += !card.hidden;
    }
    document.getElementById("nothing").hidden = left > 0;
  }

  function listen() {
    const stream = new EventSource(document.body.dataset.stream);
    stream.onopen = () => show(true);
    stream.onmessage = (message) => {
      const news = JSON.parse(message.data);
      keepingFocus(() => {
        if (news.html) replace(news.html);
        if (news.order && list) arrange(news.order);
      });
      filter();
      document.dispatchEvent(new CustomEvent("news"));
    };
    stream.onerror = () => {
      show(false);
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, RETRY);
    };
    addEventListener("pagehide", () => stream.close(), { once: true });
    addEventListener("pageshow", (event) => event.persisted && location.reload(), { once: true });
  }

  // What is typed filters at once.
  field?.addEventListener("input", filter);
  field?.form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && field && document.activeElement !== field && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      field.focus();
    } else if (event.key === "Escape" && document.activeElement === field) {
      field.value = "";
      filter();
    }
  });
  filter();
  if (document.body.dataset.stream) listen();
})();
