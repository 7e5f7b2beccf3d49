// Keeps the overview fresh: fetches the same page and swaps its main part. Without JavaScript the page reloads itself.
"use strict";
async function refresh() {
  if (document.hidden) return;
  const response = await fetch("/", { headers: { accept: "text/html" } });
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const fresh = page.getElementById("main");
  if (fresh) document.getElementById("main").replaceWith(fresh);
}
setInterval(() => refresh().catch(() => {}), 3000);
