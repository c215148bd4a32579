const box = document.querySelector(".filter");
if (box) {
  const input = box.querySelector("input");
  const shown = box.querySelector("output");
  const articles = [...document.querySelectorAll("article")];
  const update = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const article of articles) {
      const text = article.textContent.toLowerCase();
      article.hidden = !words.every((word) => text.includes(word));
      if (!article.hidden) count += 1;
    }
    shown.textContent = `${count} of ${articles.length}`;
  };
  input.addEventListener("input", update);
  box.hidden = false;
  update();
}
