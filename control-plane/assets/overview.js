// Keeps the overview fresh. Without JavaScript the page reloads itself.
"use strict";
async function refresh() {
  if (document.hidden) return;
  // Who is selecting text is not disturbed.
  if (!document.getSelection().isCollapsed) return;
  try {
    await swap();
    link("on", "live");
  } catch {
    link("off", "no answer, trying again");
  }
}
link("on", "live");
setInterval(refresh, 3000);
