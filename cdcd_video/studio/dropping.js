() => {
  // A file that is dropped beside a field would replace the page; it is opened instead, as by the buttons.
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    const accepted = file.type.startsWith("image/") ? "image/*" : ".json";
    const input = document.querySelector(`input[type=file][accept*="${accepted}"]`);
    const held = new DataTransfer();
    held.items.add(file);
    input.files = held.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, true);
}
