// Throughline for websites. See docs/tracking.md; the server leaves out comments and indentation.
(() => {
  const w = window, d = document, script = d.currentScript;
  if ((w.throughline || {}).track) return;
  const o = script.dataset, base = script.src.split("/t/throughline.js")[0];
  const ID = "tl_id", QUEUE = "tl_queue", KNOWN = "tl_known", memory = {};
  const quiet = "respectPrivacy" in o && (navigator.globalPrivacyControl || navigator.doNotTrack == "1");

  // localStorage may be forbidden: then what is kept lives as long as the page.
  const get = (name) => { try { return localStorage.getItem(name); } catch { return memory[name]; } };
  const set = (name, value) => { try { localStorage.setItem(name, value); } catch { memory[name] = value; } };
  const uuid = () => [...crypto.getRandomValues(new Uint8Array(16))]
    .map((x, i) => (i == 6 ? x & 15 | 64 : i == 8 ? x & 63 | 128 : x))
    .map((x, i) => (/^(4|6|8|10)$/.test(i) ? "-" : "") + (x + 256).toString(16).slice(1)).join("");

  // Who: an id of this browser, in a cookie of the site.
  let id;
  const become = (value) => {
    id = value;
    set(ID, id);
    d.cookie = ID + "=" + id + "; path=/; max-age=34560000; samesite=lax" + (location.protocol == "https:" ? "; secure" : "")
      + (o.cookieDomain ? "; domain=" + o.cookieDomain : "");
  };
  if (!quiet) become((d.cookie.match(/(?:^|; )tl_id=([0-9a-f-]{36})/) || [])[1] || get(ID) || uuid());

  // What waits to be sent: at most 100 items, kept until the server has answered. k: key, i: the browser's id then.
  const load = () => { try { return JSON.parse(get(QUEUE)) || []; } catch { return []; } };
  const save = (items) => set(QUEUE, JSON.stringify(items.slice(-100)));
  let busy = 0, wait = 0, timer;
  const next = (skip) => {
    const batch = [];
    let size = 0;
    for (const item of load()) {
      if (item.k in sent && skip) continue;
      size += JSON.stringify(item).length;
      if (batch[0] && (item.i != batch[0].i || size > 16000)) break;
      batch.push(item);
      if (item.u) break;
    }
    return batch;
  };
  const body = (batch) => JSON.stringify({
    key: o.key, anonymous_id: batch[0].i, sent_at: new Date(),
    events: batch.filter((x) => x.e).map((x) => ({ ...x.e, idempotency_key: x.k })),
    identify: (batch.find((x) => x.u) || {}).u,
  });
  let sent = {};
  const rotate = (from, to) => {
    if (!to || from == to) return;
    save(load().map((x) => (x.i == from ? { ...x, i: to } : x)));
    if (id == from) become(to);
  };
  const flush = () => {
    const batch = next();
    if (busy || !batch[0]) return;
    const who = batch[0].i;
    busy = 1;
    batch.forEach((x) => { sent[x.k] = 1; });
    fetch(base + "/t/e", { method: "POST", body: body(batch), keepalive: true, credentials: "omit" }).then((r) => {
      if (r.status == 429 || r.status > 499) throw r;
      return r.ok ? r.json() : console.warn("throughline", r.status);
    }).then((answer) => {
      save(load().filter((x) => !(x.k in sent)));
      const to = answer && answer.anonymous_id, told = batch.find((x) => x.u);
      rotate(who, to);
      if (to && told) set(KNOWN, to + JSON.stringify(told.u));
      wait = 0;
    }).catch(() => {
      wait = Math.min(wait * 2 || 1000, 60000);
    }).then(() => {
      busy = 0;
      sent = {};
      clearTimeout(timer);
      timer = setTimeout(flush, wait);
    });
  };
  const put = (item) => {
    const full = { k: uuid(), i: id, ...item };
    if (quiet || JSON.stringify(full).length > 16000) return;
    save([...load(), full]);
    flush();
  };
  const leave = () => {
    const rest = next(1);
    // What goes now stays in the queue: sent again on the next page it counts once.
    if (d.visibilityState == "hidden" && busy && rest[0]) navigator.sendBeacon(base + "/t/e", body(rest));
  };
  d.addEventListener("visibilitychange", leave);
  w.addEventListener("online", flush);

  // What a page can call.
  const api = {
    track: (type, properties = {}) => put({ e: { type, properties, occurred_at: new Date() } }),
    identify: (traits) => { if (get(KNOWN) != id + JSON.stringify(traits)) put({ u: traits }); },
    reset: () => { set(KNOWN, ""); if (!quiet) become(uuid()); },
    anonymousId: () => id,
    push: (call) => api[call[0]](...call.slice(1)),
  };

  // Page views: each address once, also where the page changes its address by itself.
  let last, from = d.referrer;
  const view = () => {
    const url = location.href.replace(/#(?!\/).*/, "");
    if (url == last) return;
    const utm = {};
    new URLSearchParams(location.search).forEach((v, k) => { if (/^utm_\w+$/.test(k)) utm[k] = v; });
    api.track("page.viewed", { url, path: location.pathname, title: d.title, referrer: last || from, ...utm });
    last = url;
  };
  const pushed = history.pushState;
  history.pushState = function () { pushed.apply(this, arguments); setTimeout(view); };
  w.addEventListener("popstate", () => setTimeout(view));

  // Forms: sent by fetch; where that fails, by the browser as if there were no script.
  const say = (form, text, role) => {
    const p = form.querySelector("[data-throughline-message]") || form.appendChild(d.createElement("p"));
    p.dataset.throughlineMessage = "";
    p.setAttribute("role", role);
    p.textContent = text;
  };
  const hide = (form, name, value) => {
    const input = form.elements[name] || form.appendChild(d.createElement("input"));
    Object.assign(input, { type: "hidden", name, value });
  };
  d.addEventListener("submit", (event) => {
    const form = event.target, key = form.dataset.throughlineForm;
    if (!key || event.defaultPrevented) return;
    event.preventDefault();
    if (form.tl) return;
    form.tl = 1;
    if (!form.elements.tl_submission || !form.elements.tl_submission.value) hide(form, "tl_submission", uuid());
    if (!quiet) hide(form, "tl_anonymous_id", id);
    hide(form, "tl_url", location.href);
    const fields = [...form.elements];
    fields.forEach((x) => x.removeAttribute("aria-invalid"));
    fetch(base + "/forms/" + key, {
      method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" },
      credentials: "omit",
    }).then((r) => r.json().then((answer) => {
      if (r.ok) {
        if (answer.anonymous_id) become(answer.anonymous_id);
        if (answer.redirect_url) return location.assign(answer.redirect_url);
        form.reset();
        form.elements.tl_submission.value = "";
        say(form, answer.message, "status");
      } else if (r.status == 422) {
        say(form, answer.errors.map((e) => {
          const field = form.elements[e.field];
          if (field && field.setAttribute) field.setAttribute("aria-invalid", "true");
          return (field && field.labels && field.labels[0] ? field.labels[0].textContent + ": " : "") + e.reason;
        }).join(". "), "alert");
      } else throw r;
    })).catch(() => HTMLFormElement.prototype.submit.call(form)).then(() => { form.tl = 0; });
  });

  // A page rendered ahead is seen when it is shown, if ever.
  const start = () => {
    const waiting = w.throughline || [];
    w.throughline = api;
    view();
    waiting.forEach(api.push);
    flush();
  };
  if (d.prerendering) d.addEventListener("prerenderingchange", start);
  else start();
})();
