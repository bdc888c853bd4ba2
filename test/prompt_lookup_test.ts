/** Drafts from a row itself: those that transformers makes, and the rules one by one. */

import { assert, assertEquals } from "@std/assert";
import { GenerationConfig, type GenerationConfigOptions } from "../mod.ts";
import { lookUp, PromptLookup } from "../model/generation/prompt_lookup.ts";

/** Made by `testdata/make_prompt_lookup.py`. */
interface Golden {
  readonly rows: readonly [
    ids: number[],
    tokens: number,
    ngram: number,
    eos: number[],
    vocabulary: number,
    settings: GenerationConfigOptions,
    draft: number[],
  ][];
}

/** The draft behind a row, by way of the settings of a call. */
async function draftOf(
  ids: readonly number[],
  settings: GenerationConfigOptions,
  { eos = [] as readonly number[], vocabulary = 97, most = 99 } = {},
): Promise<readonly number[]> {
  const config = new GenerationConfig(settings);
  const model = { config: { vocab_size: vocabulary } };
  const lengths = { promptLength: ids.length, maxLength: ids.length + 100 };
  using lookup = new PromptLookup({ config, model, eos, prompts: [ids], ...lengths });
  return (await lookup.draft(ids, most)).tokens;
}

Deno.test("drafts are those of transformers, also where the settings forbid tokens", async () => {
  const file = new URL("testdata/prompt_lookup.json", import.meta.url);
  const { rows } = JSON.parse(await Deno.readTextFile(file)) as Golden;
  for (const [ids, tokens, ngram, eos, vocabulary, settings, draft] of rows) {
    const lookup = { prompt_lookup_num_tokens: tokens, max_matching_ngram_size: ngram };
    const found = await draftOf(ids, { ...settings, ...lookup }, { eos, vocabulary });
    assertEquals(found, draft, JSON.stringify({ ids, tokens, ngram, eos, settings }));
  }
  const drafts = rows.filter(([, , , , , , draft]) => draft.length > 0).length;
  assert(rows.length === 240 && drafts > 60, `${drafts} drafts in ${rows.length} rows`);
});

Deno.test("the longest end that came up before counts, and of its places the first", () => {
  const rules = { tokens: 3, ngram: 2, eos: [] };
  assertEquals(lookUp([7, 1, 2, 3, 4, 9, 1, 2], rules), [3, 4, 9]);
  // 2 alone came up earlier; 1 2 is longer.
  assertEquals(lookUp([2, 8, 1, 2, 3, 1, 2], rules), [3, 1, 2]);
  assertEquals(lookUp([2, 8, 1, 2, 3, 1, 2], { ...rules, ngram: 1 }), [8, 1, 2]);
  assertEquals(lookUp([1, 2, 5, 1, 2, 6, 1, 2], rules), [5, 1, 2]);
  // A row that repeats its last token is found to go on so.
  assertEquals(lookUp([4, 4, 4], rules), [4]);
  assertEquals(lookUp([0, 1, 0], rules), [1, 0]);
  for (const ids of [[], [1], [1, 2, 3]]) assertEquals(lookUp(ids, rules), []);
});

Deno.test("a draft ends before an eos token, and where that is its first there is none", () => {
  const ids = [1, 2, 0, 3, 9, 3, 8, 1, 2];
  assertEquals(lookUp(ids, { tokens: 5, ngram: 3, eos: [8] }), [0, 3, 9, 3]);
  assertEquals(lookUp(ids, { tokens: 5, ngram: 3, eos: [0] }), []);
});

Deno.test("a place whose next token is forbidden gives way to the next, whatever its length", async () => {
  const ids = [1, 2, 5, 6, 1, 2, 7, 5, 1, 2];
  const lookup = { prompt_lookup_num_tokens: 4 };
  assertEquals(await draftOf(ids, lookup), [5, 6, 1, 2]);
  assertEquals(await draftOf(ids, { ...lookup, suppress_tokens: [5] }), [7]);
  assertEquals(await draftOf(ids, { ...lookup, suppress_tokens: [5, 7] }), []);
  const within = { ...lookup, suppress_tokens: [6], remove_invalid_values: true };
  assertEquals(await draftOf(ids, within), [5]);
});

Deno.test("the room that is left bounds a draft", async () => {
  for (const most of [0, 1, 3]) {
    const draft = await draftOf([1, 2, 5, 6, 1, 2], { prompt_lookup_num_tokens: 9 }, { most });
    assertEquals(draft, [5, 6, 1].slice(0, most));
  }
});
