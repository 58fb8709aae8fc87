// Draws the figures in the page. Each one's picture stands until Plotly has drawn, and stays where it cannot.
(async () => {
  for (const figure of document.querySelectorAll("figure.plotly")) {
    const { data, layout, config, frames } = JSON.parse(figure.querySelector("script").textContent);
    const plot = document.createElement("div");
    figure.append(plot);
    try {
      await Plotly.newPlot(plot, { data, layout, config, frames });
      figure.querySelector("img")?.remove();
    } catch (error) {
      plot.remove();
      console.error(error);
    }
    // Between two of them the page scrolls and answers.
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.body.dataset.drawn = "";
})();
