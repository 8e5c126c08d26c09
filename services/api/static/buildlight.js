// Keeps a page up to date: whatever happens, the page is fetched again and what changed in it is put in place.
// Without this file the pages are whole, and news comes by reloading.
"use strict";

const SETTLE_MS = 250; // events come in bursts
const PATIENCE_MS = 1000; // but a steady stream must not keep the page waiting
const AGAIN_MS = 1500; // the read models may be a moment behind the event
const CALL_MS = 4000; // between two announcements to screen readers

const main = () => document.getElementById("live");
const live = () => main()?.hasAttribute("hx-get");
let waitingSince = 0;
let timer;
let again;

function refresh() {
  waitingSince = 0;
  if (live() && !document.hidden) main().dispatchEvent(new CustomEvent("buildlight:changed"));
}

function changed() {
  const now = Date.now();
  waitingSince ||= now;
  clearTimeout(timer);
  clearTimeout(again);
  timer = setTimeout(refresh, Math.max(0, Math.min(SETTLE_MS, waitingSince + PATIENCE_MS - now)));
  again = setTimeout(refresh, AGAIN_MS);
}

// -- the connection

const connection = document.getElementById("connection");
let retryMs = 500;
let lastHeard = 0;
let socket;

function say(state, text) {
  connection.dataset.state = state;
  document.getElementById("connection-text").textContent = text;
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`);
  socket.addEventListener("open", () => {
    say("on", "Live");
    if (lastHeard) changed(); // what happened while we were away
    lastHeard = Date.now();
    retryMs = 500;
  });
  socket.addEventListener("message", ({ data }) => {
    lastHeard = Date.now();
    const frame = JSON.parse(data);
    if (frame.type === "heartbeat" || frame.type === "subscribed") return;
    const build = main()?.dataset.build;
    if (!build || !frame.data || frame.data.build_id === build || frame.type === "pipeline") changed();
    announce(frame);
  });
  socket.addEventListener("close", () => {
    say("lost", "Reconnecting");
    setTimeout(connect, retryMs * (0.5 + Math.random()));
    retryMs = Math.min(retryMs * 2, 15000);
  });
}

// -- what a screen reader hears: only what ended or turned, and not more often than one can listen

let calls = [];
let calling;

function announce(frame) {
  const { event, data } = frame;
  if (event === "pipeline.broke.v1") calls.push(`${data.repository} ${data.workflow} broke`);
  else if (event === "pipeline.recovered.v1") calls.push(`${data.repository} ${data.workflow} recovered`);
  else return;
  calling ??= setTimeout(() => {
    document.getElementById("announcements").textContent = calls.slice(-3).join(". ");
    calls = [];
    calling = undefined;
  }, CALL_MS / 4);
}

// -- time goes by

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  if (hours) return `${hours}h ${two(minutes)}m`;
  return minutes ? `${minutes}m ${two(whole % 60)}s` : `${whole}s`;
}

function ago(seconds) {
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return null; // the server's words stay
}

function tick() {
  for (const time of document.querySelectorAll("time[data-age], time[data-running]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const text = "running" in time.dataset ? duration(seconds) : ago(seconds);
    if (text !== null && text !== time.textContent) time.textContent = text;
  }
}

// -- the keyboard

const typing = (target) => target.closest("input, textarea, select, [contenteditable]");

function step(by) {
  const rows = [...document.querySelectorAll("a.row, details > summary")].filter((row) => row.offsetParent);
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const shortcuts = document.getElementById("shortcuts");
const keys = {
  j: () => step(1),
  k: () => step(-1),
  b: () => document.querySelector(".broken a.cover")?.focus(),
  g: () => location.assign("/"),
  "/": () => {
    const first = document.querySelector(".filter input:not([type=hidden])");
    if (first) first.focus();
    else location.assign("/builds");
  },
  "?": () => shortcuts.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || shortcuts.open || typing(event.target)) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

const help = document.getElementById("help");
help.hidden = false;
help.addEventListener("click", keys["?"]);

// A fresh fragment knows nothing of what a reader has unfolded.
let unfolded = [];
document.addEventListener("htmx:before:swap", () => {
  unfolded = [...document.querySelectorAll("details[open]")].map((details) => details.id);
});
document.addEventListener("htmx:after:swap", () => {
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
  if (main()?.dataset.title) document.title = main().dataset.title;
  tick();
});
document.addEventListener("visibilitychange", () => document.hidden || changed());
setInterval(tick, 1000);
if (live()) {
  say("wait", "Connecting");
  connect();
} else {
  connection.hidden = true;
}
