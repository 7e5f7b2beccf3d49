// Shared by the pages: fetch the page again and swap its main part, without losing the reader's place.
"use strict";
const place = (main) => {
  const links = [...main.querySelectorAll("a")];
  return { links, index: links.indexOf(document.activeElement) };
};

async function swap() {
  const response = await fetch(location.pathname, { headers: { accept: "text/html" } });
  if (!response.ok) throw new Error(String(response.status));
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const old = document.getElementById("main"), fresh = page.getElementById("main");
  if (!fresh) throw new Error("no content");
  const { links, index } = place(old);
  old.replaceWith(fresh);
  document.title = page.title;
  if (index < 0) return;
  // The focus stays on the link that had it, or on its successor in the same place.
  const now = [...fresh.querySelectorAll("a")];
  const href = links[index].getAttribute("href");
  const same = now[index] && now[index].getAttribute("href") === href ? now[index] : now.find((link) => link.getAttribute("href") === href);
  (same || now[index] || fresh).focus({ preventScroll: true });
}

function link(state, text) {
  const element = document.getElementById("link");
  if (element.textContent === text) return;
  element.className = `link ${state}`;
  element.textContent = text;
}
