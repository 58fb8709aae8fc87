/** How a figure shows itself in Jupyter: the one file that knows MIME types of figures. */
import { encodeBase64 } from "./numbers.ts";

/** The MIME type that JupyterLab (with Plotly's extension), VS Code and our own exports draw. */
export const PLOTLY_MIME = "application/vnd.plotly.v1+json";

/** What is shown: a figure. */
interface Shown {
  readonly caption: string;
  toJSON(): object;
  png(): Promise<Uint8Array>;
}

/** Settings for the browser's side: no logo, sharp pictures from the camera button. */
export const PLOTLY_CONFIG = {
  displaylogo: false,
  responsive: false,
  toImageButtonOptions: { format: "png", scale: 2 },
};

/**
 * The forms in which a figure goes to a notebook. A reader takes the best that it can draw: Plotly's, else the picture (a
 * forge's preview, nbconvert, a mail), else the caption.
 *
 * @param options.picture false leaves it out of a figure that will be drawn over at once
 */
export async function displayBundle(
  figure: Shown,
  { picture = true }: { readonly picture?: boolean } = {},
): Promise<Record<string, unknown>> {
  return {
    [PLOTLY_MIME]: { ...figure.toJSON(), config: PLOTLY_CONFIG },
    ...(picture ? { "image/png": encodeBase64(await figure.png()) } : {}),
    "text/plain": figure.caption,
  };
}
