// Only a comfort: everything on the page is there without it. Hides the log lines that do not hold what is typed.
document.documentElement.classList.add("scripted");
for (const input of document.querySelectorAll(".search input")) {
  const pre = input.closest("details").querySelector("pre");
  const lines = pre.textContent.split("\n");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    pre.textContent = lines.filter((line) => line.toLowerCase().includes(wanted)).join("\n");
  });
}
