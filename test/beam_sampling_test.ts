/** Beam sampling: what draws depend on, and how often candidates are drawn. */

import { assert, assertEquals } from "@std/assert";
import type { LogitsProcessor } from "../mod.ts";
import { sharedBackend } from "./device.ts";
import { tinyCpuModel, tinyModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 8, 60, 23];
const OTHER = [9, 30, 71];

const model = await tinyCpuModel();

Deno.test("beam sampling depends on seed and prompt alone, and is the same on both backends", async () => {
  const options = {
    inputIds: [PROMPT, OTHER],
    numBeams: 3,
    numReturnSequences: 3,
    doSample: true,
    temperature: 1.5,
    maxNewTokens: 6,
    padTokenId: 1,
  };
  const one = await model.generate({ ...options, seed: 7 });
  assertEquals((await model.generate({ ...options, seed: 7n })).sequences, one.sequences);
  assert(String((await model.generate({ ...options, seed: 8 })).sequences) !== `${one.sequences}`);
  const alone = await model.generate({ ...options, inputIds: [PROMPT], seed: 7 });
  assertEquals(alone.newTokens, one.newTokens.slice(0, 3));
  const twin = await model.generate({ ...options, inputIds: [PROMPT, PROMPT], seed: 7 });
  assertEquals(twin.newTokens.slice(0, 3), alone.newTokens);
  assert(String(twin.newTokens.slice(3)) !== String(alone.newTokens));
  using device = await tinyModel(await sharedBackend());
  assertEquals((await device.generate({ ...options, seed: 7 })).sequences, one.sequences);
});

/** Checks how often things were seen against how often they should be, by χ² at about four standard deviations. */
function checkFrequencies(
  seen: ReadonlyMap<string, number>,
  expected: ReadonlyMap<string, number>,
): void {
  const count = seen.values().reduce((sum, n) => sum + n, 0);
  let [statistic, cells, restSeen, rest] = [0, 0, count, count];
  for (const [name, probability] of expected) {
    const mean = count * probability;
    if (mean < 5) continue;
    cells++;
    statistic += ((seen.get(name) ?? 0) - mean) ** 2 / mean;
    restSeen -= seen.get(name) ?? 0;
    rest -= mean;
  }
  if (rest > 5) statistic += (restSeen - rest) ** 2 / rest;
  const most = cells + 4 * Math.sqrt(2 * cells);
  assert(cells > 4 && statistic < most, `χ² = ${statistic} of ${cells} cells, at most ${most}`);
}

/** The probability of each pair that is drawn without putting back. */
function pairs(weights: ReadonlyMap<string, number>): Map<string, number> {
  const total = weights.values().reduce((sum, w) => sum + w, 0);
  const result = new Map<string, number>();
  for (const [a, p] of weights) {
    for (const [b, q] of weights) {
      const name = [a, b].sort().join(" ");
      const both = p / total * q / (total - p);
      if (a !== b) result.set(name, (result.get(name) ?? 0) + both);
    }
  }
  return result;
}

Deno.test("candidates are drawn without putting back, from all beams together", async () => {
  using small = await tinyCpuModel({ vocab_size: 6 });
  const scores = (ids: readonly number[]) =>
    [0, 1, 2, 3, 4, 5].map((id) => Math.sin(3 * id + 5 * ids.at(-1)!) - 0.2 * id);
  const script: LogitsProcessor = (row, ids) => row.set(scores(ids));
  /** The first beams are tokens 2 and 4, of one score. */
  const second: LogitsProcessor = (row, ids) =>
    row.set(
      ids.length === 1 ? row.map((_, id) => [2, 4].includes(id) ? -1 : -Infinity) : scores(ids),
    );
  const weights = (ids: readonly number[]) =>
    scores([1, ...ids]).map((score, id) => [[...ids, id].join(), Math.exp(score)] as const);
  for (
    const [maxNewTokens, processor, all] of [
      [1, script, weights([])],
      [2, second, [...weights([2]), ...weights([4])]],
    ] as const
  ) {
    const seen = new Map<string, number>();
    for (let seed = 0; seed < 6; seed++) {
      const { newTokens } = await small.generate({
        inputIds: new Array(500).fill([1]),
        maxNewTokens,
        numBeams: 2,
        numReturnSequences: 2,
        doSample: true,
        topK: null,
        padTokenId: 0,
        logitsProcessors: [processor],
        seed,
      });
      for (let row = 0; row < newTokens.length; row += 2) {
        const pair = newTokens.slice(row, row + 2).map(String).sort().join(" ");
        seen.set(pair, (seen.get(pair) ?? 0) + 1);
      }
    }
    checkFrequencies(seen, pairs(new Map(all)));
  }
});
