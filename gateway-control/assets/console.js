// What happens, as it happens. Every page says all of this without a script, when it is loaded again.
"use strict";

const live = document.getElementById("live");
if (live && window.EventSource) {
  const source = new EventSource(live.dataset.events);
  const say = (text) => { live.textContent = text; };
  const since = () => new Date().toISOString().slice(11, 19) + " UTC";

  let lost = false;
  source.addEventListener("open", () => {
    if (!lost) say("Live: what changes appears here.");
    else if (live.dataset.reload) source.dispatchEvent(new Event("again"));
    else say("Live again. What happened meanwhile is shown when you load the page again.");
    lost = false;
  });
  source.addEventListener("error", () => {
    lost = true;
    say("Not live: the connection is lost. Load the page again for news.");
  });
  source.addEventListener("end", (event) => {
    source.close();
    let detail = "";
    try { detail = JSON.parse(event.data).detail; } catch { detail = "it is over"; }
    say("Not live any more: " + detail + ".");
  });
  if (live.dataset.reload) reloads(source, live.dataset.reload.split(" "), say, since);
  if (live.dataset.append) appends(source, document.getElementById(live.dataset.append));
}

// Parts of the page are taken anew from the gateway, unless somebody writes in them.
function reloads(source, ids, say, since) {
  let waiting = null;
  const busy = () => ids.some((id) => [...document.getElementById(id).querySelectorAll("textarea")]
    .some((area) => area.value !== "" || area === document.activeElement));
  const take = async () => {
    waiting = null;
    if (busy()) {
      say("There is news. It is shown when you have decided, or load the page again.");
      return;
    }
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ids) {
      const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
      if (old && now) old.replaceWith(document.importNode(now, true));
    }
    say("Updated at " + since() + ".");
  };
  const soon = () => { waiting ??= setTimeout(take, 300); };
  source.addEventListener("again", soon);
  source.addEventListener("approval", (event) => {
    let news;
    try { news = JSON.parse(event.data); } catch { return; }
    // A stream begins with those that are open; most are on the page.
    if (news.what === "open" && document.getElementById(news.approval.id)) return;
    soon();
  });
}

// Events of a session become rows of its transcript. Texts are texts: nothing of them is read as markup.
function appends(source, rows) {
  const ODD = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2028\u2029\u{e0000}-\u{e0fff}]/u;
  const MOST = 1000;
  const element = (name, kind) => {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    return made;
  };
  const text = (value, lines) => {
    const made = element("bdo");
    made.dir = "ltr";
    for (const c of String(value)) {
      const odd = ODD.test(c) && !(lines && (c === "\n" || c === "\t"));
      const last = made.lastChild;
      if (odd) {
        const span = element("span", "odd");
        span.textContent = "\\u{" + c.codePointAt(0).toString(16) + "}";
        made.append(span);
      } else if (last && last.nodeType === Node.TEXT_NODE) {
        last.appendData(c);
      } else {
        made.append(c);
      }
    }
    return made;
  };
  const tones = { allow: "approved", deny: "denied", hold: "open" };
  const add = (event) => {
    let row;
    try { row = JSON.parse(event.data); } catch { return; }
    const line = element("tr", "new");
    const cell = (kind) => { const made = element("td", kind); line.append(made); return made; };
    cell("quiet").textContent = String(row.at).replace("T", " ").slice(0, 19) + " UTC";
    cell().textContent = String(row.kind).replaceAll("_", " ");
    cell();
    const verdict = cell();
    if (row.verdict) {
      const chip = element("span", "chip " + (tones[row.verdict] || ""));
      chip.textContent = row.verdict;
      verdict.append(chip);
    }
    if (row.rules) { const rules = element("span", "quiet"); rules.append(" ", text(row.rules.join(", "))); verdict.append(rules); }
    cell("num").textContent = row.rows ?? "";
    const rest = cell();
    if (row.operation) { const what = element("strong"); what.append(text(row.operation)); rest.append(what, " "); }
    if (row.statement && row.statement !== row.operation) { const shown = element("pre", "statement"); shown.append(text(row.statement, true)); rest.append(shown); }
    (row.parameters || []).forEach((value, at) => {
      const shown = element("code", "wrap");
      shown.append("$" + (at + 1) + " = ", value === null ? "NULL" : text(value));
      rest.append(shown, " ");
    });
    if (row.detail) rest.append(text(row.detail));
    if (row.error) { const chip = element("span", "chip denied"); chip.append(text(row.error)); rest.append(" ", chip); }
    rows.append(line);
    while (rows.children.length > MOST) rows.firstElementChild.remove();
  };
  for (const kind of ["operation", "outcome", "cancel", "session_ended"]) source.addEventListener(kind, add);
}
