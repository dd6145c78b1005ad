// Swaps the part of a page that changes for what the hub sends, and does nothing else; every page works
// without it. What somebody has chosen or stands on is not taken away under their hands.
(() => {
  const region = document.getElementById("live");
  if (!region || !window.EventSource) return;
  let source, waiting;
  const swap = () => {
    const busy = region.querySelector("input:checked") || region.contains(document.activeElement);
    if (waiting === undefined || busy) return;
    region.innerHTML = waiting;
    waiting = undefined;
  };
  const look = () => {
    if (source) source.close();
    source = undefined;
    if (document.hidden) return;
    source = new EventSource(region.dataset.from);
    source.onmessage = (event) => { waiting = event.data; swap(); };
  };
  region.addEventListener("change", swap);
  region.addEventListener("focusout", () => setTimeout(swap));
  document.addEventListener("visibilitychange", look);
  look();
})();
