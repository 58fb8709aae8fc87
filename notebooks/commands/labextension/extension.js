// JupyterLab's drawing of figures, as a prebuilt extension: a module federation container, which is an object with `init` and `get`.
// The one that comes with Plotly's Python package shows the picture until the mouse comes, in the picture's own size, and draws no
// second time when a figure is updated in place.
(() => {
  const NAME = "lamina-figures";
  const MIME = "application/vnd.plotly.v1+json";
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  let shared;
  let plotly;

  /** Plotly is loaded when the first figure comes. */
  function loadPlotly() {
    return plotly ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${folder}plotly.js`;
      script.onload = () => resolve(globalThis.Plotly);
      script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
      document.head.append(script);
    });
  }

  async function mimeExtension() {
    const [lumino] = Object.values(shared["@lumino/widgets"]);
    const { Widget } = (await lumino.get())();

    class Figure extends Widget {
      #attached = Promise.withResolvers();

      constructor() {
        super();
        this.addClass("jp-RenderedPlotly");
        this.node.style.overflowX = "auto";
        this.node.append(document.createElement("div"));
      }

      /** Called again for each update. */
      async renderModel(model) {
        // Plotly writes into what it is given, and JupyterLab's is to stay as it is.
        const { data, layout, config, frames } = structuredClone(model.data[MIME]);
        const [Plotly] = await Promise.all([loadPlotly(), this.#attached.promise]);
        await Plotly.react(this.node.firstChild, { data, layout, config, frames });
      }

      onAfterAttach() {
        this.#attached.resolve();
      }

      dispose() {
        if (!this.isDisposed) globalThis.Plotly?.purge(this.node.firstChild);
        super.dispose();
      }
    }

    const rendererFactory = {
      safe: true,
      mimeTypes: [MIME],
      createRenderer: () => new Figure(),
    };
    // Before that of Plotly's package, whose rank is 2.
    const extension = { id: `${NAME}:renderer`, rendererFactory, rank: 1, dataType: "json" };
    return { __esModule: true, default: extension };
  }

  globalThis._JUPYTERLAB ??= {};
  globalThis._JUPYTERLAB[NAME] = {
    init: (scope) => void (shared = scope),
    get: async () => {
      const module = await mimeExtension();
      return () => module;
    },
  };
})();
