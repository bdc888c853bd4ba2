/** Beams whose scores are set by hand: when rows end, when a search does, and what is left to choose. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type GenerateOutput,
  type GenerationSettings,
  type LogitsProcessor,
  ModelInputError,
} from "../mod.ts";
import { tinyCpuModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 8, 60, 23];

const model = await tinyCpuModel();

/** Scores for the new tokens so far; what is not named has −50. */
type Script = (tokens: readonly number[]) => Readonly<Record<number, number>>;

/** Puts a script in the place of what the model says. */
function scripted(script: Script): LogitsProcessor {
  return (scores, ids) => {
    scores.fill(-50);
    const next = script(ids.slice(PROMPT.length));
    for (const [id, score] of Object.entries(next)) scores[Number(id)] = score;
  };
}

async function follow(script: Script, options: GenerationSettings): Promise<GenerateOutput> {
  return await model.generate({
    inputIds: [PROMPT],
    numBeams: 2,
    numReturnSequences: 2,
    eosTokenId: 0,
    outputScores: true,
    ...options,
    logitsProcessors: [scripted(script)],
  });
}

Deno.test("only the first candidates, as many as there are beams, end rows", async () => {
  const third: Script = ({ length }) => length === 0 ? { 5: -1, 6: -2, 0: -3 } : { 7: -4, 8: -8 };
  const { newTokens } = await follow(third, { maxNewTokens: 2, lengthPenalty: 0 });
  // [0] would have been the best of all.
  assertEquals(newTokens, [[5, 7], [6, 7]]);
  const second: Script = ({ length }) => length === 0 ? { 5: -1, 0: -2, 6: -3 } : { 7: -4, 8: -8 };
  const { newTokens: early } = await follow(second, { maxNewTokens: 2, lengthPenalty: 0 });
  assertEquals(early, [[0], [5, 7]]);
});

Deno.test("a search ends when it is full, when nothing better seems to come, or when nothing can", async () => {
  const texts: Script = (tokens) =>
    ({
      "": { 0: -1, 1: -1.25, 2: -1.5 },
      "1": { 3: -0.875, 0: -1 },
      "1,3": { 0: -1, 4: -1.25 },
      "1,3,4": { 5: -0.125 },
    })[tokens.join()] ?? {};
  const expected = [
    [true, 2, [[[0], -1], [[1, 0], -2.25 / 2]]],
    [false, 3, [[[0], -1], [[1, 3, 0], -3.125 / 3]]],
    ["never", 4, [[[1, 3, 4, 5], -3.5 / 4], [[0], -1]]],
  ] as const;
  for (const [earlyStopping, steps, rows] of expected) {
    const found = await follow(texts, { maxNewTokens: 4, earlyStopping });
    assertEquals(found.newTokens, rows.map(([tokens]) => [...tokens]), `${earlyStopping}`);
    assertEquals(found.sequencesScores, rows.map(([, score]) => Math.fround(score)));
    assertEquals(found.scores!.length, steps);
  }
});

Deno.test("where scores grow with the length, hope is for the length that is there", async () => {
  const texts: Script = (tokens) =>
    ({
      "": { 1: -0.5, 0: -3 },
      "1": { 2: -0.125, 0: -2.5 },
      "1,2": { 0: -0.125 },
    })[tokens.join()] ?? {};
  const options = { maxNewTokens: 12, earlyStopping: "never", lengthPenalty: -1 } as const;
  const { newTokens, sequencesScores } = await follow(texts, options);
  assertEquals(newTokens, [[1, 2, 0], [0]]);
  assertEquals(sequencesScores, [-0.75 * 3, -3]);
});

Deno.test("a prompt whose search is over stays as it is while others go on", async () => {
  const long: Script = ({ length }) => length < 5 ? { 8: -1, 9: -2 } : { 0: -1, 8: -2 };
  const texts = (next: number): Script => (tokens) =>
    ({
      "": { 0: -1, 1: -1.25, 2: -1.5 },
      "1": { 0: -1, 3: next },
      "1,3": { 0: -0.015625, 4: -1 },
    })[tokens.join()] ?? { 8: -1 };
  // Over as it is full, though there is hope; over as there is none.
  for (const [earlyStopping, next] of [[true, -0.875], [false, -1.0625]] as const) {
    const script = (row: number) => scripted(row < 2 ? texts(next) : long);
    const { newTokens, scores } = await model.generate({
      inputIds: [PROMPT, PROMPT],
      numBeams: 2,
      numReturnSequences: 2,
      eosTokenId: 0,
      maxNewTokens: 8,
      earlyStopping,
      outputScores: true,
      logitsProcessors: [(scores, ids, row) => script(row)(scores, ids, row)],
    });
    // [1, 3, 0] would have been the best of all.
    assertEquals(newTokens.slice(0, 2), [[0], [1, 0]]);
    assertEquals(newTokens.slice(2).map((tokens) => tokens.at(-1)), [0, 0]);
    assert(scores!.length >= 6);
  }
});

Deno.test("beams go on however many candidates end", async () => {
  for (const eosTokenId of [0, [0, 1], [0, 1, 2]]) {
    const ends = Object.fromEntries([eosTokenId].flat().map((id) => [id, -0.125 * (1 + id)]));
    const texts: Script = ({ length }) =>
      [{ 5: -1, 6: -1.5 }, { ...ends, 7: -4 }, { 5: -1, 6: -1.25 }][length]!;
    const options = {
      eosTokenId,
      maxNewTokens: 3,
      lengthPenalty: 8,
      earlyStopping: "never",
    } as const;
    const { newTokens } = await follow(texts, options);
    assertEquals(newTokens, [[5, 7, 5], [5, 7, 6]]);
  }
});

Deno.test("beams that cannot go on give way to those that can", async () => {
  const only = (texts: Script): LogitsProcessor => (scores, ids) => {
    scores.fill(-Infinity);
    const next = texts(ids.slice(PROMPT.length));
    for (const [id, score] of Object.entries(next)) scores[Number(id)] = score;
  };
  const options = {
    inputIds: [PROMPT],
    numBeams: 2,
    numReturnSequences: 2,
    eosTokenId: 0,
    maxNewTokens: 4,
  };
  const texts: Script = (tokens) =>
    ({ "": { 5: -1, 6: -2 }, "5": { 7: -1 }, "5,7": { 8: -1, 9: -2 } })[tokens.join()] ?? { 0: -1 };
  const forked: Script = (tokens) => tokens[0] === 6 ? {} : texts(tokens);
  const ended: Script = ({ length }) => length === 0 ? { 0: -1, 5: -2 } : {};
  for (const doSample of [false, true]) {
    const settings = { ...options, doSample, topK: doSample ? null : undefined, seed: 1 };
    const found = await model.generate({ ...settings, logitsProcessors: [only(forked)] });
    assertEquals(found.newTokens, [[5, 7, 8, 0], [5, 7, 9, 0]]);
    // With something found, there need not be more.
    const { newTokens, finishReasons } = await model.generate({
      ...settings,
      logitsProcessors: [only(ended)],
    });
    assertEquals(newTokens, [[0], []]);
    assertEquals(finishReasons, ["eos", "exhausted"]);
  }
});

Deno.test("of equal scores the first beam and the lowest token come first", async () => {
  const equal = await follow(() => ({ 3: -1, 4: -1, 6: -1, 7: -1, 9: -1 }), {
    maxNewTokens: 2,
    numBeams: 3,
    numReturnSequences: 3,
  });
  assertEquals(equal.newTokens, [[3, 3], [3, 4], [3, 6]]);
  assertEquals(equal.beamIndices, [[0, 0], [0, 0], [0, 0]]);
});

Deno.test("what the settings leave too little for is filled up, or not found", async () => {
  // Nothing but an end is possible: the other beams are barred, and rows that they would give are none.
  const onlyEnd: LogitsProcessor = (scores) => {
    const end = scores[0]!;
    scores.fill(-Infinity);
    scores[0] = end;
  };
  const options = { inputIds: [PROMPT], numBeams: 3, numReturnSequences: 3, eosTokenId: 0 };
  const { sequences, newTokens, finishReasons, beamIndices, sequencesScores } = await model
    .generate({
      ...options,
      maxNewTokens: 6,
      logitsProcessors: [onlyEnd],
      outputScores: true,
    });
  assertEquals(newTokens, [[0], [], []]);
  assertEquals(finishReasons, ["eos", "exhausted", "exhausted"]);
  assertEquals(sequences, [0, 0, 0].map((end) => [...PROMPT, end]));
  assertEquals(beamIndices, [[0], [-1], [-1]]);
  assertEquals(sequencesScores!.slice(1), [-1e9, -1e9]);
  // A forced last token leaves fewer candidates than are looked at, drawn or not.
  for (const doSample of [false, true]) {
    const forced = await model.generate({
      ...options,
      maxNewTokens: 3,
      forcedEosTokenId: 7,
      doSample,
    });
    assertEquals(forced.newTokens.map((tokens) => tokens.at(-1)), [7, 7, 7]);
    assertEquals(new Set(forced.newTokens.map(String)).size, 3);
  }
  // All of a vocabulary may end rows.
  using small = await tinyCpuModel({ vocab_size: 3 });
  const all = await small.generate({
    inputIds: [[1]],
    numBeams: 2,
    numReturnSequences: 2,
    eosTokenId: [0, 1, 2],
    maxNewTokens: 5,
  });
  assertEquals(all.newTokens.map(({ length }) => length), [1, 1]);
});

Deno.test("scores that leave nothing to choose are refused", async () => {
  const refused = async (processor: LogitsProcessor, text: string, doSample = false) => {
    const options = { inputIds: [PROMPT], numBeams: 2, logitsProcessors: [processor], doSample };
    await assertRejects(() => model.generate(options), ModelInputError, text);
  };
  for (const doSample of [false, true]) {
    const rule = "scores must leave a token to choose: prompt 0 has −∞ for all";
    await refused((scores) => scores.fill(-Infinity), rule, doSample);
    const nan = "scores must not be NaN: token 9 of row 1 is";
    await refused((scores, _, row) => row === 1 && (scores[9] = NaN), nan, doSample);
  }
  await refused((scores) => scores[9] = Infinity, "scores must be finite or −∞ to draw", true);
});
