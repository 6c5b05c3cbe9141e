// What every page needs: theme, search key, copying, dialogs, forms that send themselves. No state beyond the page.

const dialog = document.querySelector("#dialog");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It lasts as long as the page.
  }
  document.dispatchEvent(new CustomEvent("theme"));
}

async function copy(button) {
  const source = button.dataset.copy ?? document.getElementById(button.dataset.copyFrom)?.textContent ?? "";
  try {
    await navigator.clipboard.writeText(source.trim());
  } catch {
    select(button, source);
    return;
  }
  const before = button.getAttribute("aria-label") ?? button.textContent;
  button.classList.add("is-done");
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    button.classList.remove("is-done");
    button.setAttribute("aria-label", before);
  }, 1500);
}

// Without the right to the clipboard (plain http on another machine), a hidden field does it the old way.
function select(button, source) {
  const field = document.createElement("textarea");
  field.value = source.trim();
  field.className = "off-screen";
  button.after(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  button.focus();
}

function showTab(tab) {
  for (const other of tab.closest("[role=tablist]").querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

// In a narrow window the tab or the section that is open may lie out of sight.
for (const open of document.querySelectorAll(".tabs [aria-current], .side [aria-current]")) {
  const row = open.closest("ul");
  row.scrollLeft = Math.max(0, open.offsetLeft - row.clientWidth / 2);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const theme = target?.closest("[data-theme-toggle]");
  const copying = target?.closest("[data-copy], [data-copy-from]");
  const tab = target?.closest("[role=tab]");
  if (theme) toggleTheme();
  else if (copying) copy(copying);
  else if (tab) showTab(tab);
  else if (target?.closest("[data-close]") || target === dialog) dialog?.close();
  else if (target?.closest("[data-dismiss]")) target.closest("[data-dismiss]").parentElement.remove();
});

// `g`, then the key of a section within a second, leads there.
let going = -Infinity;

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (target?.closest("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#search")?.select();
  }
  if (event.timeStamp - going < 1000 && !dialog?.open) document.querySelector(`[data-go="${CSS.escape(event.key)}"]`)?.click();
  going = event.key === "g" ? event.timeStamp : -Infinity;
  const tab = target?.closest("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
    showTab(next);
    next.focus();
  }
});

// What was written and could not be sent, because the session had ended, is written again once its form is back. No secrets.
const KEPT = "form that was sent";

function keep(form) {
  const words = [...form.elements].filter((each) => each.name && !["hidden", "password", "submit"].includes(each.type));
  const written = words.filter((each) => !["checkbox", "radio"].includes(each.type) || each.checked).map((each) => [each.name, each.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ action: form.action, written }));
}

function restore(loaded) {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept || document.querySelector(".door")) return;
  if (document.querySelector("[data-not-sent]")) {
    sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, lost: true }));
    return;
  }
  const form = [...document.forms].find((each) => each.method === "post" && each.action === kept.action);
  if (kept.lost && form) {
    for (const [name, value] of kept.written) {
      for (const field of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
        if (["checkbox", "radio"].includes(field.type)) field.checked = field.value === value;
        else field.value = value;
      }
    }
  }
  if (kept.lost ? form : loaded) sessionStorage.removeItem(KEPT);
}

document.addEventListener("submit", (event) => {
  if (event.target.method === "post" && !event.target.closest(".door, .top")) keep(event.target);
});

document.addEventListener("change", (event) => {
  if (event.target instanceof Element && event.target.closest("[data-send-on-change]")) event.target.form?.requestSubmit();
});

// Once a part was told that it is kept up to date no more, the page says so, once, and asks no further.
document.addEventListener("htmx:before:request", (event) => {
  const told = document.querySelector("#not-kept")?.childElementCount;
  if (told && event.detail.ctx.sourceEvent?.type === "every") event.preventDefault();
});

// What was fetched into the dialog is shown in it; closing empties it, so that nothing stale is confirmed.
document.addEventListener("htmx:after:swap", () => {
  if (dialog && !dialog.open && dialog.querySelector("#dialog-content").childElementCount) {
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  }
  restore(false);
});
dialog?.addEventListener("close", () => dialog.querySelector("#dialog-content").replaceChildren());
restore(true);
