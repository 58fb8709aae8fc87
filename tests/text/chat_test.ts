/** Chat templates against what llama.cpp makes of them. */
import assert from "node:assert/strict";
import { ChatTemplateError, createTokenizer, type Metadata, renderChat } from "../../text/mod.ts";
import fixture from "../fixtures/chat_templates.json" with { type: "json" };
import golden from "../fixtures/smollm2-135m.json" with { type: "json" };
import { llamaSpm, smolLm2 } from "../support/text/vocabularies.ts";

const { conversation } = fixture;

for (const { name, template, bos, eos, expected, refusal } of fixture.cases) {
  Deno.test(`chat template of ${name}`, async () => {
    const rendered = renderChat(template, conversation, {
      variables: { bos_token: bos, eos_token: eos },
    });
    if (refusal === undefined) assert.equal(await rendered, expected);
    else await assert.rejects(rendered, refused(new RegExp(refusal)));
  });
}

Deno.test("a file's own template gives the ids that its model was trained on", async () => {
  const metadata = await smolLm2();
  const text = await renderChat(metadata, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "What is gravity?" },
  ]);
  assert.equal(
    text,
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is gravity?<|im_end|>\n" +
      "<|im_start|>assistant\n",
  );
  const ids = createTokenizer(metadata).encode(text);
  assert.deepEqual(ids.slice(-13), golden.runs.at(-1)!.prompt_ids);
  const silent = await renderChat(metadata, [{ role: "system", content: "Be brief." }], {
    addGenerationPrompt: false,
  });
  assert.equal(silent, "<|im_start|>system\nBe brief.<|im_end|>\n");
});

Deno.test("a BOS token that the template writes is not added twice", async () => {
  const template =
    "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{{ eos_token }}{% endfor %}";
  const metadata = new Map([...await llamaSpm(), ["tokenizer.chat_template", template]]);
  const messages = [{ role: "user", content: "Hello" }];
  const text = await renderChat(metadata, messages);
  assert.equal(text, "[Hello]</s>");
  const ids = createTokenizer(metadata).encode(text);
  assert.deepEqual(ids.filter((id) => id === 1), [1]);
  assert.equal(ids.at(-1), 2);
  const unasked = new Map([...metadata, ["tokenizer.ggml.add_bos_token", false]]);
  assert.equal(await renderChat(unasked, messages), "<s>[Hello]</s>");
});

Deno.test("no template, a broken one and a refusal are one line each", async () => {
  const messages = [{ role: "user", content: "Hello" }];
  await assert.rejects(renderChat(await llamaSpm(), messages), refused(/has no chat template/));
  for (const broken of ["{% if %}", "{{", "{% for m in messages %}", "{% include 'x' %}"]) {
    // Not in the words of a JavaScript engine.
    const line = /^the chat template \(tokenizer.chat_template\) is broken(?!.*undefined).*; write/;
    await assert.rejects(renderChat(broken, messages), refused(line));
  }
  await assert.rejects(renderChat("{{ nothing() }}", messages), refused(/does not take these/));
  await assert.rejects(
    renderChat("{{ raise_exception('two\nlines') }}", messages),
    refused(/: two lines$/),
  );
});

Deno.test("what is wrong with a file's template or tokens names the file", async () => {
  const messages = [{ role: "user", content: "Hello" }];
  const named = (metadata: Metadata, message: RegExp) =>
    assert.rejects(renderChat(metadata, messages, { file: "a.gguf" }), message);
  const metadata = await llamaSpm();
  const template: [string, unknown] = ["tokenizer.chat_template", "{{"];
  await named(metadata, /^ChatTemplateError: a\.gguf: the file has no chat template/);
  await named(new Map([...metadata, template]), /^ChatTemplateError: a\.gguf: the chat template/);
  await named(new Map([template]), /^TokenizerError: a\.gguf: the file has no vocabulary/);
});

function refused(message: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof ChatTemplateError && message.test(error.message) &&
    !error.message.includes("\n");
}
