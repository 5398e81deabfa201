// Airflow keeps the user's theme under "theme"; it is read before the page is painted, and again when the user switches.
(function () {
  function apply() {
    var wanted = null;
    try { wanted = localStorage.getItem("theme"); } catch (error) { /* no storage: as the system has it */ }
    var dark = wanted === "dark" || (wanted !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.classList.toggle("dark", dark);
    document.documentElement.classList.toggle("light", !dark);
  }
  apply();
  addEventListener("storage", apply);
})();
