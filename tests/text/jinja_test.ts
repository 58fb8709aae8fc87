/**
 * Chat templates against what Python's jinja2 makes of them (fixtures/make_jinja.py), and templates that would never
 * end. llama.cpp's collection of public templates is fetched from npm once, into Lamina's cache; its tests are ignored
 * where it cannot be had.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { formatTime } from "../../text/jinja/text.ts";
import { type ChatMessage, ChatTemplateError, renderChat } from "../../text/mod.ts";
import snippets from "../fixtures/jinja_snippets.json" with { type: "json" };
import fixture from "../fixtures/jinja_templates.json" with { type: "json" };
import { llamaCppTemplates } from "../support/engines/llamacpp_source.ts";

/** The clock of the fixtures. */
const strftime_now = (format: string) => formatTime(new Date(2026, 0, 2, 3, 4, 5), format);

/** The text, or null where the template is broken or refuses. */
async function rendered(
  template: string,
  messages: readonly ChatMessage[],
  variables: Record<string, unknown>,
): Promise<string | null> {
  try {
    return await renderChat(template, messages, { variables: { strftime_now, ...variables } });
  } catch (error) {
    assert.ok(error instanceof ChatTemplateError, String(error));
    return null;
  }
}

const { messages, ...variables } = snippets.variables;
for (const { template, expected } of snippets.cases) {
  Deno.test(`as jinja2 renders it: ${JSON.stringify(template)}`, async () => {
    assert.equal(await rendered(template, messages, variables), expected);
  });
}

type Runs = Record<string, { messages: string; tools: boolean; variables?: object }>;
type Digests = Record<string, string | null>;

const folder = await llamaCppTemplates();
for (const [name, digests] of Object.entries(fixture.templates as Record<string, Digests>)) {
  Deno.test({
    name: `as jinja2 renders it: ${name}`,
    ignore: folder === undefined,
    async fn() {
      const template = await Deno.readTextFile(join(folder!, name));
      const conversations = fixture.conversations as unknown as Record<string, ChatMessage[]>;
      for (const [run, { messages, tools, variables }] of Object.entries(fixture.runs as Runs)) {
        const text = await rendered(template, conversations[messages], {
          bos_token: "<s>",
          eos_token: "</s>",
          tools: tools ? fixture.tools : null,
          ...variables,
        });
        const digest = text === null ? null : createHash("sha256").update(text).digest("hex");
        assert.equal(digest, digests[run], `${run}:\n${text}`);
      }
    },
  });
}

Deno.test("the templates of the fixture are those of llama.cpp", {
  ignore: folder === undefined,
}, async () => {
  const names = [];
  for await (const { name } of Deno.readDir(folder!)) names.push(name);
  assert.deepEqual(names.sort(), Object.keys(fixture.templates).sort());
});

const GROW = (set: string) =>
  `{% set ns = namespace(x=[1], s='a', n=3) %}{% for i in range(99) %}{% set ${set} %}{% endfor %}`;
const MANY = (body: string) =>
  `{% set s = 'ab' * 5000000 %}{% for i in range(100000) %}{% for j in range(100000) %}${body}` +
  "{% endfor %}{% endfor %}";
const ENDLESS: Record<string, [template: string, problem: RegExp]> = {
  "nested loops": [MANY(""), /more than 5000000 steps$/],
  "nested loops that write": [MANY("xxxxxxxxxxxxxxxx"), /more than 5000000 steps$/],
  "a long range": ["{{ range(1000000000)|length }}", /range of more than 100000 items is too big$/],
  "ranges that nobody reads": [MANY("{% set r = range(100000) %}"), /more than 5000000 steps$/],
  "a text that doubles": [GROW("ns.s = ns.s ~ ns.s"), /text of more than 20000000 characters$/],
  "a list that doubles": [GROW("ns.x = ns.x + ns.x"), /more than 5000000 steps$/],
  "a list of itself, as JSON": [
    GROW("ns.x = [ns.x, ns.x]") + "{{ ns.x|tojson }}",
    /more than 5000000 steps$/,
  ],
  "a list of itself, compared": [
    GROW("ns.x = [ns.x, ns.x]") + "{% set a = ns.x %}" + "{{ [a, a] == [[a[0], a[1]], a] }}" +
    "{{ ns.x|string == '' }}",
    /more than 5000000 steps$/,
  ],
  "a number that is squared": [GROW("ns.n = ns.n * ns.n"), /number of more than 4300 digits$/],
  "a power": ["{{ 9 ** 999999999 }}", /number of more than 4300 digits$/],
  "a repeated text": ["{{ 'x' * 1000000000 }}", /more than 20000000 characters$/],
  "a repeated list": ["{{ [1] * 1000000000 }}", /more than 20000000 characters$/],
  "an indentation": ["{{ [1]|tojson(indent=1000000000) }}", /more than 20000000 characters$/],
  "a macro that calls itself": [
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    /nests too deep/,
  ],
  "searches of a long text": [MANY("{{ s.replace('a', 'c')|length }}"), /more than 5000000 steps$/],
  "brackets": [`{{ ${"(".repeat(1e5)}1${")".repeat(1e5)} }}`, /it nests too deep; write/],
};
for (const [name, [template, problem]] of Object.entries(ENDLESS)) {
  Deno.test(`a template without end is stopped: ${name}`, async () => {
    await assert.rejects(renderChat(template, []), (error) => {
      assert.ok(error instanceof ChatTemplateError);
      assert.match(error.message, problem);
      return !error.message.includes("\n");
    });
  });
}

Deno.test("long white space in a tag takes no longer than other text", async () => {
  const space = " ".repeat(1e6);
  assert.equal(await renderChat(`{{${space}'${space}'${space}|length }}`, []), "1000000");
  await assert.rejects(renderChat(`{{${space}}}`, []), ChatTemplateError);
  assert.equal(await renderChat("{{ '{% generation %}' }}", []), "{% generation %}");
});

Deno.test("a conversation of ten thousand turns is far from the limits", async () => {
  const turn = { role: "user", content: "Hello 🦙, how are you? ".repeat(20) };
  const template = "{% for m in messages %}{% if m.role == 'user' and m.content is string %}" +
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endif %}{% endfor %}";
  const text = await renderChat(template, Array.from({ length: 10_000 }, () => turn));
  assert.equal(text.split("<|im_start|>").length, 10_001);
});
