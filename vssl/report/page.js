// A click anywhere in a row of a table, or a link to a row, opens what is said about it further down.
function open() {
  const row = document.getElementById(location.hash.slice(1));
  if (row instanceof HTMLDetailsElement) {
    row.open = true;
    row.scrollIntoView();
  }
}
for (const row of document.querySelectorAll("tr[data-row]")) {
  row.addEventListener("click", () => {
    if (location.hash === "#" + row.dataset.row) open();
    else location.hash = row.dataset.row;
  });
}
addEventListener("hashchange", open);
open();
