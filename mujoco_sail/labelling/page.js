"use strict";

// The server says what is shown; this page keeps nothing but its own name and its clips.
const $ = (id) => document.getElementById(id);
const SHORTCUTS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", ArrowUp: "skip", Backspace: "undo", u: "undo",
  " ": "pause", s: "slow",
};
const ANSWERS = ["left", "right", "tie", "skip"];
const RETRY = 1500; // ms between two tries to reach the server, and between two looks for new pairs

const videos = [$("clip-left"), $("clip-right")];
const clips = new Map(); // address of a clip -> promise of its local address
let shown = null; // what the server said last
let since = 0; // when the clips of the pair were first seen
let busy = true;

const pageName = () => {
  let name = sessionStorage.getItem("page");
  if (!name) {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    name = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("page", name);
  }
  return name;
};
const page = pageName();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const say = (text) => { if ($("status").textContent !== text) $("status").textContent = text; };

// Asks until the server answers: an answer that arrived, but whose reply was lost, is refused the
// second time, and the page goes on with the next pair.
async function ask(path, body) {
  for (;;) {
    try {
      const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
      const reply = await fetch(path, options);
      if (reply.ok) return await reply.json();
      if (reply.status === 507) say(await reply.text());
      else if (body && reply.status < 500) return await ask(`next?page=${page}`);
      else say("The server refuses this page. Open the address that mujoco-sail label printed.");
    } catch {
      say("The server does not answer. Your answers are safe; trying again.");
    }
    await pause(RETRY);
  }
}

function clip(address) {
  if (!clips.has(address)) {
    const made = fetch(address).then(async (reply) => {
      if (!reply.ok) throw new Error(await reply.text());
      return URL.createObjectURL(await reply.blob());
    });
    made.catch(() => clips.delete(address));
    clips.set(address, made);
  }
  return clips.get(address);
}

function forget(kept) {
  for (const [address, made] of clips) {
    if (kept.includes(address)) continue;
    clips.delete(address);
    made.then((url) => URL.revokeObjectURL(url), () => {});
  }
}

// Both clips loop in step: they start anew together, when the longer one has ended.
function restart() {
  for (const video of videos) { video.currentTime = 0; video.playbackRate = slow() ? 0.5 : 1; }
  if (!paused()) for (const video of videos) video.play().catch(() => {});
}
const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";
const paused = () => pressed("pause");
const slow = () => pressed("slow");
for (const video of videos) {
  video.addEventListener("ended", () => { if (videos.every((each) => each.ended)) restart(); });
}

async function show(next) {
  shown = next;
  const asking = next.state === "ask";
  $("undo").disabled = !next.undo;
  if (!asking) {
    $("pair").hidden = true;
    forget([]);
    if (next.others) say("The pairs that are left are shown on other pages.");
    else if (next.state === "answered") say("All pairs are answered. The run goes on in a moment.");
    else say("No run waits for an answer. This page looks again by itself.");
    busy = false;
    await pause(RETRY);
    if (shown === next && !busy) await step("next");
    return;
  }
  forget([...next.clips, ...next.ahead]);
  $("question").textContent = document.title = next.question;
  $("task").textContent = next.title;
  say("The clips are being drawn.");
  try {
    const urls = await Promise.all(next.clips.map(clip));
    $("pair").hidden = false;
    videos.forEach((video, side) => { video.src = urls[side]; });
    await Promise.all(videos.map((video) => new Promise((done) => {
      video.onloadeddata = done;
      video.onerror = done;
    })));
  } catch (error) {
    say(`The clips cannot be drawn (${error.message}); trying again.`);
    await pause(RETRY);
    await step("next");
    return;
  }
  if (shown !== next) return;
  restart();
  since = performance.now();
  const again = next.repeat ? " This pair is shown a second time." : "";
  say(`${next.left} left in this session, ${next.left_in_all} in all.${again}`);
  busy = false;
  for (const address of next.ahead) clip(address).catch(() => {});
}

async function step(path, body) {
  busy = true;
  await show(path === "next" ? await ask(`next?page=${page}`) : await ask(path, body));
}

function act(name) {
  if (name === "pause" || name === "slow") {
    $(name).setAttribute("aria-pressed", String(!pressed(name)));
    if (name === "slow") localStorage.setItem("slow", String(slow()));
    if (paused()) videos.forEach((video) => video.pause());
    else restart();
  } else if (busy) {
    return;
  } else if (name === "undo") {
    if (shown.undo) step("undo", { page });
  } else if (shown.state === "ask") {
    const seconds = (performance.now() - since) / 1000;
    const { key, pair, repeat } = shown;
    step("answer", { key, pair, repeat, answer: name, seconds, page });
  }
}

for (const name of [...ANSWERS, "undo", "pause", "slow"]) {
  $(name).addEventListener("click", () => act(name));
}
document.addEventListener("keydown", (event) => {
  const name = SHORTCUTS[event.key];
  if (!name || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target instanceof HTMLButtonElement) return; // presses the button
  event.preventDefault();
  act(name);
});
$("slow").setAttribute("aria-pressed", String(localStorage.getItem("slow") !== "false"));
// A page that is closed gives its pair to others at once, not only after two minutes.
addEventListener("pagehide", () => navigator.sendBeacon("release", JSON.stringify({ page })));
addEventListener("pageshow", (event) => { if (event.persisted) step("next"); });
if (matchMedia("(prefers-reduced-motion: reduce)").matches) $("pause").setAttribute("aria-pressed", "true");
step("next");
