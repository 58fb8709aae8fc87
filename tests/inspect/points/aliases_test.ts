/**
 * Every alias of every point by value: llama.cpp, Hugging Face and TransformerLens ran the same small model once
 * (fixtures/aliases_*.json); here its passes run on both backends.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Engine } from "../../../engine/backend.ts";
import { asAsked, listPoints, resolvePoints } from "../../../inspect/points/points.ts";
import huggingFace from "../../fixtures/aliases_huggingface.json" with { type: "json" };
import llamaCpp from "../../fixtures/aliases_llamacpp.json" with { type: "json" };
import transformerLens from "../../fixtures/aliases_transformerlens.json" with { type: "json" };
import { ALIAS_IDS, ALIAS_MODEL } from "../../support/models/alias_model.ts";
import { randomLlama } from "../../support/models/random_llama.ts";
import { modelOf } from "../../support/models/random_model.ts";

const FIXTURES = [llamaCpp, huggingFace, transformerLens];
const T = ALIAS_IDS.length;

/** All engines compute in 32 bits; differences are parts of the tensor's largest magnitude. Seen is 6e-7 at most. */
const TOLERANCE = 1e-5;

/** Names that none of the references has: `blk.3.inp`, and standard addresses like `resid_post.3`. */
const OWN = /^(blk\..*|[a-z_]+\.\d+|embeddings|final_norm)$/;

const bytes = randomLlama(ALIAS_MODEL);

/** The references' values by alias. */
function references(): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  for (const { aliases } of FIXTURES) {
    for (const [alias, base64] of Object.entries<string>(aliases)) {
      assert.ok(!values.has(alias), `${alias} is in two fixtures`);
      values.set(alias, new Float32Array(Uint8Array.fromBase64(base64).buffer));
    }
  }
  return values;
}

/** Largest difference as a part of the reference's largest magnitude; in attention, of the keys that a query sees. */
function error(found: Float32Array, expected: Float32Array, attention: boolean): number {
  assert.equal(found.length, expected.length);
  let difference = 0;
  let magnitude = 0;
  for (let i = 0; i < expected.length; i++) {
    if (attention && i % T > Math.floor(i / T) % T) continue;
    assert.ok(Number.isFinite(found[i]) && Number.isFinite(expected[i]), `number ${i}`);
    difference = Math.max(difference, Math.abs(found[i] - expected[i]));
    magnitude = Math.max(magnitude, Math.abs(expected[i]));
  }
  return difference / magnitude;
}

async function withEngine(
  backend: "webgpu" | "cpu",
  use: (engine: Engine) => Promise<void>,
): Promise<void> {
  using aliases = await modelOf(bytes, backend);
  await use(aliases.model.engine);
}

Deno.test("the references ran the model that the tests make", () => {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  for (const fixture of FIXTURES) {
    assert.equal(fixture.sha256, sha256, `make the fixtures again: ${fixture.provenance}`);
  }
});

for (const backend of ["webgpu", "cpu"] as const) {
  Deno.test(`every alias has its reference's value, ${backend}`, () =>
    withEngine(backend, async (engine) => {
      const points = listPoints(engine.config, engine.plan);
      const session = engine.session({ capacity: T });
      const values = await session.pass({
        ids: ALIAS_IDS,
        rows: T,
        wanted: points.map(({ name }) => name),
      });
      session.dispose();
      const expected = references();
      for (const alias of points.flatMap((point) => point.aliases)) {
        if (OWN.test(alias)) continue;
        const [resolved, ...others] = resolvePoints(points, [alias]);
        assert.equal(others.length, 0);
        const { data } = values.get(resolved.point.name)!;
        const reference = expected.get(alias);
        assert.ok(reference, `${alias} has no reference`);
        const attention = resolved.point.axes.includes("key");
        const found = error(asAsked(resolved, data), reference, attention);
        assert.ok(found < TOLERANCE, `${alias}: ${resolved.point.name} is ${found} away`);
        if (resolved.rowOrder === "half" || resolved.factor !== 1) {
          const unconverted = error(data, reference, attention);
          assert.ok(unconverted > 0.1, `${alias}: the conversion changes nothing`);
        }
        expected.delete(alias);
      }
      // TransformerLens's fixture has all its hooks: none is without a point.
      assert.deepEqual([...expected.keys()], []);
    }));
}

Deno.test("aliases of our own name what the references' names do", () =>
  withEngine("cpu", (engine) => {
    const points = listPoints(engine.config, engine.plan);
    for (let layer = 0; layer < engine.config.layers; layer++) {
      const [ours, theirs] = resolvePoints(points, [
        `blk.${layer}.inp`,
        `model.layers.${layer}.input`,
      ]);
      assert.equal(ours.point, theirs.point);
    }
    return Promise.resolve();
  }));
