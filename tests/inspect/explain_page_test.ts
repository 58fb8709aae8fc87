/** `task explain`: the page says what the pass computed, and works in a browser without a network. */
import assert from "node:assert/strict";
import type { Browser, Page as BrowserPage } from "npm:playwright-core@1.65.1";
import { explainPage } from "../../inspect/explain_page/build.ts";
import { ExplainError, MAX_POSITIONS, pageContent } from "../../inspect/explain_page/data.ts";
import { fitHalves, packNumbers, rounded } from "../../inspect/explain_page/pack.ts";
import { Page, ROUNDING, unpackNumbers } from "../../inspect/explain_page/page/numbers.js";
import { recompute } from "../../inspect/explain_page/page/recompute.js";
import { FORWARD, sourceOf } from "../../inspect/explain_page/source.ts";
import { textsOf } from "../../inspect/explain_page/texts/mod.ts";
import { loadModel, type Model } from "../../mod.ts";
import { stepName } from "../../engine/plan/plan.ts";
import { launchBrowser } from "../support/browser.ts";
import { Folder } from "../support/folder.ts";
import { randomLlama, type RandomLlamaOptions } from "../support/models/random_llama.ts";
import { deno, ROOT } from "../support/command.ts";

const PROMPT = "Once upon a time, Lily had a red";

const tiny = await loadModel("tiny");
const { html, content } = await explainPage(tiny, PROMPT);

type Content = typeof content;

/** Every step of a page computed again at every position: a number of each, and whether it agrees. */
function recomputed({ data, numbers }: Content) {
  const page = new Page(data, numbers);
  return data.steps.filter(({ operation }) => operation !== "ids").flatMap((step) =>
    data.positions.map((position) => ({
      step: step.name,
      position,
      ...recompute(page, step, position, step.pick),
    }))
  );
}

/** Fails unless every step agrees at every position. */
function assertAgrees(content: Content) {
  const all = recomputed(content);
  assert.equal(all.length, (content.data.steps.length - 1) * content.data.positions.length);
  for (const { step, position, value, captured, agree, why } of all) {
    assert.ok(agree, `${step} at ${position}: ${value} is not ${captured} (${why})`);
  }
}

async function withRandomModel(
  options: RandomLlamaOptions,
  use: (model: Model) => Promise<void>,
): Promise<void> {
  using folder = new Folder();
  const path = folder.write(
    "model.gguf",
    randomLlama({ vocabulary: "llama", vocab: 300, ...options }),
  );
  using model = await loadModel(path, { backend: "cpu" });
  await use(model);
}

Deno.test("explain: the page has a step for everything that the plan computes, in its order", () => {
  const names = content.data.steps.map(({ name }) => name);
  const plan = tiny.plan.map(stepName)
    .filter((name) => !/\.head_result$|^sample$|^surprisal$/.test(name)); // run on request only
  assert.deepEqual(names, ["ids", ...plan]);
});

Deno.test("explain: each step has words, a formula and its line of forward()", () => {
  const lines = new Map(FORWARD.map(({ number, text }) => [number, text]));
  for (const { name, kind, operation } of content.data.steps) {
    assert.ok(textsOf(content.data.steps)[kind], name);
    const { line, inner } = sourceOf({ name, operation });
    const template = kind === "ids" ? "token_embd" : kind.replace(/_(rms|pre)$/, "");
    assert.match(
      lines.get(line)!,
      new RegExp(`\\w\\(["\`](\\$\\{at\\}\\.)?${template}["\`]`),
      name,
    );
    const shared = /_norm(_rms|_pre)?$/.test(kind) || kind === "ids";
    assert.equal(inner !== undefined && inner.length > 0, shared, name);
    if (inner && kind !== "ids") assert.match(inner[0].text, new RegExp(`record\\("${operation}"`));
  }
  assert.throws(() => sourceOf({ name: "blk.0.nothing", operation: "add" }), RangeError);
});

Deno.test("explain: one number of each step, computed from the page's own numbers, is the captured one", () => {
  assertAgrees(content);
});

Deno.test("explain: a number that was not computed so is told apart", () => {
  const wrong = recomputedWithFault(content, "blk.2.attn_out");
  const failed = [...new Set(wrong.filter(({ agree }) => agree === false).map(({ step }) => step))];
  assert.deepEqual(failed, ["blk.2.attn_out", "blk.2.ffn_inp"]);
});

/** The page with one tensor two thousandths larger. */
function recomputedWithFault({ data, numbers, packed }: Content, name: string) {
  const changed = numbers.slice();
  const { at, shape } = data.tensors[name];
  const size = shape.reduce((product, dim) => product * dim, 1);
  for (let i = at; i < at + size; i++) changed[i] *= 1.002;
  return recomputed({ data, numbers: changed, packed });
}

Deno.test("explain: grouped heads, biases, a tied output, RoPE of a part and with factors agree too", async () => {
  await withRandomModel({
    kvHeads: 2,
    biases: true,
    tied: true,
    ropeWidth: 8,
    ropeFactors: true,
    ropeFactor: 2,
  }, async (model) => assertAgrees(await pageContent(model, "hello there")));
});

Deno.test("explain: what the page holds of a tensor is the tensor", async () => {
  // The same points, so that the same kernels run.
  const capture = tiny.pointList.filter(({ onRequest }) => !onRequest).map(({ name }) => name);
  const run = await tiny.run(PROMPT, { capture });
  const page = new Page(content.data, content.numbers);
  const near = (a: Float32Array, b: Float32Array) => {
    assert.equal(a.length, b.length);
    for (const [i, value] of a.entries()) {
      assert.ok(Math.abs(value - b[i]) <= ROUNDING[content.data.width] * Math.abs(b[i]));
    }
  };
  near(
    page.vector("blk.3.attn_probs", 5),
    run.tensor("blk.3.attn_probs").at({ query: 5 }).toFloat32Array(),
  );
  near(
    page.vector("blk.3.ffn_act", 2),
    run.tensor("blk.3.ffn_act").at({ position: 2 }).toFloat32Array(),
  );
  const logits = run.tensor("logits").at({ position: 7 }).toFloat32Array();
  near(
    page.vector("logits", 7),
    Float32Array.from(content.data.logits.columns, (id) => logits[id]),
  );
  assert.equal(content.data.chosen.at(-1), run.top(1)[0].id);
});

Deno.test("explain: numbers are rounded to the bytes that fit, and come back", () => {
  const numbers = Float32Array.of(0, -0, 1, -1 / 3, 6.1e-5, 65_503, 1e-8, Infinity, -Infinity, NaN);
  assert.deepEqual(unpackNumbers(packNumbers(numbers, 4), 4), numbers);
  for (const width of [3, 2] as const) {
    for (const [i, value] of rounded(numbers, width).entries()) {
      if (!Number.isFinite(numbers[i])) assert.ok(Object.is(value, numbers[i]));
      else {assert.ok(
          Math.abs(value - numbers[i]) <= ROUNDING[width] * Math.abs(numbers[i]) + 2 ** -25,
        );}
    }
  }
  assert.deepEqual(rounded(numbers, 2), Float32Array.from(Float16Array.from(numbers)));
  assert.equal(fitHalves(numbers), true);
  assert.equal(fitHalves(Float32Array.of(70_000)), false);
});

Deno.test("explain: where the numbers do not fit, the last positions stay, all keys with them", async () => {
  const small = await pageContent(tiny, PROMPT, { maxBytes: 400_000 });
  const { positions, tensors, tokens, width } = small.data;
  assert.ok(small.packed.length <= 400_000, `${small.packed.length}`);
  assert.equal(width, 2);
  assert.ok(positions.length > 1 && positions.length < tokens.length, `${positions}`);
  assert.equal(positions.at(-1), tokens.length - 1);
  assert.deepEqual(tensors["blk.0.attn_probs"].shape, [8, positions.length, tokens.length]);
  assert.deepEqual(tensors["blk.0.cache_k"].shape[0], tokens.length);
  assertAgrees(small);
});

Deno.test("explain: generated tokens become positions, but the last", async () => {
  const { data } = await pageContent(tiny, "Once upon", { maxTokens: 4 });
  const generation = tiny.generate("Once upon", { maxTokens: 4 });
  const ids: number[] = [];
  for await (const { id } of generation) ids.push(id);
  assert.deepEqual(data.tokens.map(({ id }) => id), [...generation.promptIds, ...ids.slice(0, 3)]);
  assert.equal(data.chosen.at(-1), ids[3]);
  assert.equal(data.promptLength, generation.promptIds.length);
});

Deno.test("explain: a prompt that is too long says how long a page can be", async () => {
  await assert.rejects(
    pageContent(tiny, "cat ".repeat(80)),
    (error) => error instanceof ExplainError && error.message.includes(`at most ${MAX_POSITIONS}`),
  );
});

Deno.test("explain: the page is small and loads nothing", () => {
  assert.ok(html.length < 1.3e6, `${html.length} bytes`);
  const withoutLinks = html.replaceAll(/"url":"https:[^"]+"/g, "").replaceAll(
    "http://www.w3.org/",
    "",
  );
  assert.doesNotMatch(withoutLinks, /https?:\/\//);
  assert.doesNotMatch(
    html,
    /\bfetch\(|XMLHttpRequest|\bimport\s*\(|@import|<link [^>]*stylesheet|<(?:script|img|iframe)[^>]*\ssrc=/,
  );
  assert.match(html, /default-src 'none'/);
});

Deno.test("explain: without scripts the page is a readable list", () => {
  const list = html.match(/<noscript>([\s\S]+?)<\/noscript>/)![1];
  for (const { name } of content.data.steps) assert.ok(list.includes(`<code>${name}</code>`), name);
});

Deno.test("explain: a prompt with markup stays text", async () => {
  const prompt = "</script><b>&\u2028";
  const page = await explainPage(tiny, prompt);
  assert.equal(page.html.split("</script>").length, html.split("</script>").length);
  await inBrowser(page.html, "", async (tab) => {
    assert.ok((await tab.textContent("h1"))!.includes(prompt));
  });
});

function explain(...args: string[]) {
  return deno(["run", "-q", "-P=explain", "inspect/commands/explain.ts", ...args]);
}

Deno.test("explain: the command writes the page and says how large it is", async () => {
  using folder = new Folder();
  const out = folder.at("page.html");
  const { code, out: stdout, err } = await explain("--json", "--out", out, "Once upon");
  assert.deepEqual([code, err], [0, ""]);
  const { bytes, ids, positions } = JSON.parse(stdout);
  assert.equal(bytes, Deno.statSync(out).size);
  assert.deepEqual([ids, positions], [[1, 447, 463], [0, 1, 2]]);
  assert.deepEqual(folder.names(), ["page.html"]);
});

for (
  const [what, args, expected] of [
    ["no --out", ["Once"], [2, /--out is missing/]],
    ["an empty prompt", ["--out", "x.html", ""], [2, /PROMPT is empty/]],
    ["no folder", ["--out", "no/such/folder/x.html", "Once"], [
      1,
      /there is no folder no\/such\/folder/,
    ]],
    ["a folder", ["--out", "tests", "Once"], [1, /it is a folder/]],
    ["a long prompt", ["--out", "x.html", "cat ".repeat(80)], [1, /shorten the prompt/]],
  ] as const
) {
  Deno.test(`explain: ${what} is one line on stderr, and leaves no file`, async () => {
    const { code, err: stderr } = await explain(...args);
    assert.equal(code, expected[0]);
    assert.match(stderr, expected[1]);
    assert.equal(stderr.trim().split("\n").length, 1);
    for (const { name } of Deno.readDirSync(ROOT)) assert.ok(!name.startsWith("x.html"), name);
  });
}

let browser: Promise<Browser> | undefined;

/** Opens a page from a file, without a network, and fails if it says anything on its console. */
async function inBrowser(
  html: string,
  hash: string,
  use: (tab: BrowserPage) => Promise<void>,
  size = { width: 1280, height: 900 },
): Promise<void> {
  using folder = new Folder();
  const path = folder.write("page.html", html);
  const context = await (await (browser ??= launchBrowser())).newContext({ viewport: size });
  try {
    await context.setOffline(true);
    const tab = await context.newPage();
    const said: string[] = [];
    tab.on("console", (message) => said.push(message.text()));
    tab.on("pageerror", (error) => said.push(error.message));
    tab.on("request", (request) => {
      if (!/^(file|data):/.test(request.url())) said.push(`asked for ${request.url()}`);
    });
    await tab.goto(`file://${path}${hash}`);
    await tab.waitForSelector("main[data-step]");
    await use(tab);
    assert.deepEqual(said, []);
  } finally {
    await context.close();
  }
}

const stepShown = (tab: BrowserPage) => tab.getAttribute("main", "data-step");

/** How many pixels of a canvas are drawn, and in how many colours. */
async function pixels(tab: BrowserPage, selector: string) {
  return await tab.evaluate(`(() => {
    const canvas = document.querySelector(${JSON.stringify(selector)});
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const words = new Uint32Array(data.buffer).filter((word) => word !== 0);
    return { drawn: words.length, colors: new Set(words).size };
  })()`) as { drawn: number; colors: number };
}

Deno.test({
  name: "explain: in a browser",
  // The browser's pipes outlive the steps.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn(t) {
    const steps = content.data.steps.map(({ name }) => name);

    await t.step(
      "arrows go to the next step, the one before, the other layers",
      () =>
        inBrowser(html, "", async (tab) => {
          assert.equal(await stepShown(tab), "ids");
          const press = async (key: string, expected: string) => {
            await tab.keyboard.press(key);
            assert.equal(await stepShown(tab), expected, key);
          };
          await press("ArrowRight", "token_embd");
          await press("ArrowRight", "blk.0.attn_norm_rms");
          await press("ArrowDown", "blk.1.attn_norm_rms");
          await press("ArrowRight", "blk.1.attn_norm_pre");
          await press("ArrowUp", "blk.0.attn_norm_pre");
          await press("ArrowLeft", "blk.0.attn_norm_rms");
          await press("End", "argmax");
          await press("ArrowRight", "argmax");
          await press("ArrowUp", "blk.4.out");
          await press("ArrowDown", "last_rows");
        }),
    );

    await t.step(
      "every step shows itself, its numbers agree, and formula, line and picture are there",
      () =>
        inBrowser(html, "", async (tab) => {
          for (const name of steps) {
            assert.equal(await stepShown(tab), name);
            assert.equal(await tab.locator("main math").count(), 1, name);
            const cut = await tab.$eval(".formula .scroll", (box) =>
              box.scrollWidth - box.clientWidth);
            assert.ok(cut <= 0, `the formula of ${name} is ${cut} pixels too wide`);
            assert.equal(await tab.locator("main .code .here").count(), 1, name);
            assert.ok(
              await tab.locator("main canvas, main .bars .line, main .ids, main .choices").count() >
                0,
            );
            if (name !== "ids") {
              assert.equal(await tab.getAttribute(".recompute", "data-agree"), "true", name);
            }
            await tab.keyboard.press("ArrowRight");
          }
        }),
    );

    await t.step(
      "a link opens at a step, a token and a head; the attention map is drawn",
      () =>
        inBrowser(html, "#blk.3.attn_probs&position=6&head=2", async (tab) => {
          assert.equal(await stepShown(tab), "blk.3.attn_probs");
          assert.match((await tab.textContent("#tokens .here"))!, /Lily/);
          assert.match((await tab.textContent("main .card h3"))!, /^Head 2/);
          const { drawn, colors } = await pixels(tab, "canvas.attention");
          assert.ok(drawn > 10_000 && colors > 20, `${drawn} pixels in ${colors} colours`);
          assert.equal(await tab.locator(".heads canvas").count(), 8);
          await tab.click(".heads button:nth-child(6)");
          assert.match((await tab.textContent("main .card h3"))!, /^Head 5/);
          assert.match(tab.url(), /#blk\.3\.attn_probs&position=6&head=5$/);
          await tab.evaluate("location.hash = '#blk.1.ffn_act&position=2'");
          await tab.waitForSelector("main[data-step='blk.1.ffn_act']");
          assert.match((await tab.textContent("#tokens .here"))!, /upon/);
        }),
    );

    await t.step(
      "the pointer shows values; clicks choose a cell, a token, a step of the map",
      () =>
        inBrowser(html, "#blk.2.ffn_act", async (tab) => {
          const box = (await tab.locator("canvas.vector").boundingBox())!;
          await tab.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
          assert.match((await tab.textContent("#tip"))!, /number \d+position 9/);
          await tab.locator("canvas.vector").click({ position: { x: 60, y: 5 } });
          const note = (await tab.textContent(".recompute .note"))!;
          assert.match(note, /^number \d+, position 9/);
          assert.equal(await tab.getAttribute(".recompute", "data-agree"), "true");
          await tab.click("#tokens button:nth-child(3)");
          assert.match((await tab.textContent(".recompute .note"))!, /position 2/);
          await tab.keyboard.press("Shift+ArrowRight");
          assert.match((await tab.textContent(".recompute .note"))!, /position 3/);
          await tab.click(`#cells [href="#blk.4.v"]`);
          assert.equal(await stepShown(tab), "blk.4.v");
        }),
    );

    for (const colorScheme of ["light", "dark"] as const) {
      await t.step(
        `a phone's width is enough, ${colorScheme}`,
        () =>
          inBrowser(html, "#blk.3.attn_scores", async (tab) => {
            await tab.emulateMedia({ colorScheme });
            for (const name of ["blk.3.attn_scores", "blk.3.ffn_up", "probs", "argmax", "ids"]) {
              await tab.evaluate(`location.hash = "#${name}"`);
              await tab.waitForSelector(`main[data-step="${name}"]`);
              const wide = await tab.evaluate("document.documentElement.scrollWidth - innerWidth");
              assert.ok(Number(wide) <= 0, `${name} is ${wide} pixels too wide`);
            }
          }, { width: 360, height: 740 }),
      );
    }
    await (await browser)?.close();
  },
});
