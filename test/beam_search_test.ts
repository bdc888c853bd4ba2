/** Beam search: known results, the best of all texts, when rows end, and what is given back. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type GenerateOutput,
  GenerationConfig,
  type GenerationSettings,
  type LogitsProcessor,
  type StableLmConfigOptions,
} from "../mod.ts";
import { beamSearch } from "../model/generation/beam_search.ts";
import type { GenerationRun } from "../model/generation/output.ts";
import { makeRequest } from "../model/generation/request.ts";
import { sharedBackend } from "./device.ts";
import { tinyCpuModel, tinyModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 8, 60, 23];
const OTHER = [9, 30, 71];

/** Token 0 ends a text and fills rows up. */
const KNOWN: StableLmConfigOptions = {
  hidden_size: 64,
  num_key_value_heads: 4,
  max_position_embeddings: 64,
  eos_token_id: 0,
};
const PARALLEL: StableLmConfigOptions = {
  hidden_size: 96,
  num_key_value_heads: 2,
  qk_layernorm: true,
  use_parallel_residual: true,
};

const model = await tinyCpuModel();

/** What transformers 5.18 finds after {@linkcode PROMPT}: new tokens and scores of the rows. */
const FOUND: readonly {
  readonly config?: StableLmConfigOptions;
  readonly options: GenerationSettings;
  readonly rows: readonly (readonly [tokens: string, score?: number])[];
}[] = [
  { options: { numBeams: 3 }, rows: [["9 40 31 88 80 1 59 92"]] },
  { config: { use_qkv_bias: true }, options: { numBeams: 3 }, rows: [["19 3 43 32 3 70 32 3"]] },
  { config: PARALLEL, options: { numBeams: 3 }, rows: [["70 41 8 85 52 64 82 6"]] },
  {
    options: { numBeams: 3, lengthPenalty: 2, earlyStopping: "never" },
    rows: [["9 40 31 88 80 1 59 92", -0.27106]],
  },
  {
    config: { use_qkv_bias: true },
    options: { numBeams: 3, lengthPenalty: 2, earlyStopping: "never" },
    rows: [["19 3 43 32 3 70 32 3", -0.271489]],
  },
  {
    options: { numBeams: 4, numReturnSequences: 3 },
    rows: [
      ["19 19 38 2 10 6 80 39", -2.069066],
      ["19 19 38 2 10 6 80 73", -2.167993],
      ["19 19 38 2 10 6 2 10", -2.211161],
    ],
  },
  {
    options: { numBeams: 4, numReturnSequences: 3, lengthPenalty: 0, earlyStopping: true },
    rows: [
      ["9 40 31 0 0 0 0 0", -9.224624],
      ["19 19 38 2 10 6 80 39", -16.552526],
      ["19 19 38 2 10 6 80 73", -17.343945],
    ],
  },
  {
    config: { use_qkv_bias: true },
    options: { numBeams: 4, numReturnSequences: 3 },
    rows: [
      ["19 3 43 32 3 70 32 3", -2.17191],
      ["19 3 43 32 3 70 10 46", -2.196429],
      ["19 3 43 32 3 70 10 10", -2.284874],
    ],
  },
  {
    config: PARALLEL,
    options: { numBeams: 4, numReturnSequences: 3 },
    rows: [
      ["70 41 8 85 52 64 82 6", -1.677039],
      ["70 41 8 85 52 32 69 64", -1.708857],
      ["70 41 8 85 52 64 82 28", -1.723234],
    ],
  },
];

for (const place of ["CPU", "GPU"] as const) {
  Deno.test(`known beams on the ${place}`, async () => {
    for (const { config, options, rows } of FOUND) {
      const full = { ...KNOWN, ...config };
      using known = place === "CPU"
        ? await tinyCpuModel(full)
        : await tinyModel(await sharedBackend(), full);
      const { sequences, sequencesScores } = await known.generate({
        inputIds: [PROMPT],
        maxNewTokens: 8,
        outputScores: true,
        ...options,
      });
      assertEquals(
        sequences,
        rows.map(([tokens]) => [...PROMPT, ...tokens.split(" ").map(Number)]),
      );
      rows.forEach(([tokens, score = NaN], row) => {
        const difference = Math.abs(sequencesScores![row]! - score);
        assert(!(difference > 2e-5), `${tokens}: ${sequencesScores![row]}, not ${score}`);
      });
    }
  });
}

Deno.test("rows are filled up with the pad token, be its id 0", async () => {
  using known = await tinyCpuModel(KNOWN);
  for (const padTokenId of [0, 7]) {
    const { sequences, newTokens, finishReasons } = await known.generate({
      inputIds: [PROMPT],
      maxNewTokens: 8,
      numBeams: 4,
      numReturnSequences: 2,
      lengthPenalty: 0,
      earlyStopping: true,
      eosTokenId: 31,
      padTokenId,
    });
    // transformers takes a pad token of 0 for none, and fills with the eos token, 31.
    const ids = [[9, 40, 31, padTokenId], [19, 84, 92, 31]];
    assertEquals(sequences, ids.map((tokens) => [...PROMPT, ...tokens]));
    assertEquals(newTokens, [[9, 40, 31], [19, 84, 92, 31]]);
    assertEquals(finishReasons, ["eos", "eos"]);
  }
});

/** Every text of at most so many tokens, its log-probability, and whether it has ended. */
async function allTexts(
  small: Awaited<ReturnType<typeof tinyCpuModel>>,
  prompt: readonly number[],
  tokens: number,
  eos: number,
): Promise<{ ids: number[]; sum: number }[]> {
  const { vocab_size: size } = small.config;
  const ended: { ids: number[]; sum: number }[] = [];
  let open = [{ ids: [] as number[], sum: 0 }];
  for (let t = 0; t < tokens; t++) {
    using output = await small.forward({
      inputIds: open.map(({ ids }) => [...prompt, ...ids]),
      logitsToKeep: 1,
    });
    const { numbers } = await small.backend.read(output.logits);
    open = open.flatMap(({ ids, sum }, row) => {
      const logits = Array.from(numbers.slice(row * size, (row + 1) * size));
      const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      return logits.map((x, id) => ({ ids: [...ids, id], sum: sum + x - total }));
    });
    ended.push(...open.filter(({ ids }) => ids.at(-1) === eos || ids.length === tokens));
    open = open.filter(({ ids }) => ids.at(-1) !== eos);
  }
  return ended;
}

Deno.test("with a beam for every text, the best of all texts are found", async () => {
  using small = await tinyCpuModel({ vocab_size: 5 });
  for (const [prompt, eos] of [[[1, 4], 2], [[3], 0], [[1, 2, 2], -1]] as const) {
    const texts = await allTexts(small, prompt, 4, eos);
    assertEquals(texts.length, eos < 0 ? 5 ** 4 : 1 + 4 + 16 + 64 * 5);
    for (const lengthPenalty of [1, 0, -1, 0.7, 2]) {
      const { newTokens, finishReasons, sequencesScores } = await small.generate({
        inputIds: [prompt],
        maxNewTokens: 4,
        numBeams: 128,
        numReturnSequences: 12,
        eosTokenId: eos < 0 ? null : eos,
        padTokenId: 0,
        lengthPenalty,
        earlyStopping: "never",
        outputScores: true,
      });
      const best = texts
        .map(({ ids, sum }) => ({ ids, score: sum / ids.length ** lengthPenalty }))
        .sort((a, b) => b.score - a.score)
        .slice(0, 12);
      assertEquals(newTokens, best.map(({ ids }) => ids));
      best.forEach(({ ids, score }, row) => {
        const difference = Math.abs(sequencesScores![row]! - score);
        assert(difference < 1e-5 * Math.max(1, Math.abs(score)), `${ids}: ${difference}`);
        const isCut = ids.length === 4 ? "length" : "eos";
        assertEquals(finishReasons[row], isCut);
      });
    }
  }
});

Deno.test("one beam is greedy search", async () => {
  for (const eosTokenId of [null, 30, 4]) {
    const options = { inputIds: [PROMPT, OTHER], maxNewTokens: 16, eosTokenId, padTokenId: 1 };
    const greedy = await model.generate(options);
    assertEquals(greedy.finishReasons.includes("eos"), eosTokenId !== null);
    const request = makeRequest(model, { ...options, numBeams: 2, earlyStopping: true });
    const config = new GenerationConfig({ ...stated(request.config), num_beams: 1 });
    const { sequences, newTokens, finishReasons } = await finish(
      beamSearch({ ...request, config }),
    );
    assertEquals({ sequences, newTokens, finishReasons }, {
      sequences: greedy.sequences,
      newTokens: greedy.newTokens,
      finishReasons: greedy.finishReasons,
    });
  }
});

function stated(
  { other: _, ...config }: GenerationConfig,
): Omit<GenerationConfig, "other" | "toJSON"> {
  return config;
}

async function finish(run: GenerationRun): Promise<GenerateOutput> {
  for (;;) {
    const { done, value } = await run.next();
    if (done) return value;
  }
}

Deno.test("a prompt of a batch has the beams that it has alone, with and without a cache, in any chunks", async () => {
  const settings = {
    maxNewTokens: 12,
    numBeams: 4,
    numReturnSequences: 3,
    repetitionPenalty: 1.4,
    noRepeatNgramSize: 2,
    eosTokenId: [2, 44],
    padTokenId: 1,
    minNewTokens: 3,
    outputScores: true,
  };
  const prompts = [PROMPT, OTHER, [50]];
  const alone = [];
  for (const prompt of prompts) {
    alone.push(await model.generate({ inputIds: [prompt], ...settings }));
  }
  const scores = alone.flatMap(({ sequencesScores }) => sequencesScores!);
  assertEquals(
    new Set(alone.flatMap(({ finishReasons }) => finishReasons)),
    new Set(["eos", "length"]),
  );
  for (const more of [{}, { useCache: false }, { prefillChunkSize: 3 }]) {
    const together = await model.generate({ inputIds: prompts, ...settings, ...more });
    assertEquals(together.newTokens, alone.flatMap(({ newTokens }) => newTokens));
    assertEquals(together.finishReasons, alone.flatMap(({ finishReasons }) => finishReasons));
    together.sequencesScores!.forEach((score, row) => {
      assert(Math.abs(score - scores[row]!) < 1e-5, `row ${row}: ${score}, not ${scores[row]}`);
    });
    // Beams are numbered through the batch, four to a prompt.
    together.beamIndices!.forEach((beams, row) => {
      const prompt = Math.floor(row / 3);
      assertEquals(beams.length, together.sequences[row]!.length - PROMPT.length);
      beams.forEach((beam, step) => {
        const isFilled = step >= together.newTokens[row]!.length;
        assertEquals(isFilled ? -1 : prompt, isFilled ? beam : Math.floor(beam / 4));
      });
    });
  }
});

Deno.test("criteria and processors see the row of the beam that a candidate continues", async () => {
  const seen = { criterion: new Set<number>(), processor: new Set<number>() };
  const prompts = new Set<string>();
  const lengths = new Set<number>();
  const { finishReasons, newTokens } = await model.generate({
    inputIds: [PROMPT, PROMPT.toReversed()],
    numBeams: 3,
    numReturnSequences: 2,
    maxNewTokens: 9,
    padTokenId: 1,
    earlyStopping: true,
    prefixAllowedTokens: (prompt, ids) => {
      prompts.add(`${prompt}: ${ids.slice(0, PROMPT.length)}`);
      return Array.from({ length: 97 }, (_, id) => id);
    },
    stoppingCriteria: [(ids, row) => {
      seen.criterion.add(row);
      lengths.add(ids.length);
      return row >= 3 && ids.length === PROMPT.length + 4;
    }],
    logitsProcessors: [(scores, ids, row) => {
      seen.processor.add(row);
      // Rows of the second prompt only: token 11 never comes.
      if (row >= 3) scores[11] = -Infinity;
      lengths.add(ids.length + 1);
    }],
  });
  assertEquals(finishReasons, ["length", "length", "criterion", "criterion"]);
  assertEquals(newTokens.map(({ length }) => length), [9, 9, 4, 4]);
  assertEquals([...seen.processor].sort(), [0, 1, 2, 3, 4, 5]);
  assertEquals([...prompts], [`0: ${PROMPT}`, `1: ${PROMPT.toReversed()}`]);
  assert(seen.criterion.isSubsetOf(seen.processor) && seen.criterion.has(3));
  assertEquals([...lengths], Array.from({ length: 9 }, (_, i) => PROMPT.length + 1 + i));
});

Deno.test("steps hand out no token before the last, which hands out all", async () => {
  const run = beamSearch(makeRequest(model, {
    inputIds: [PROMPT, OTHER],
    numBeams: 3,
    numReturnSequences: 2,
    maxNewTokens: 4,
    padTokenId: 0,
  }));
  const none = { tokens: [[], [], [], []] };
  for (let step = 0; step < 3; step++) assertEquals((await run.next()).value, none);
  const { value: last } = await run.next();
  const { done, value } = await run.next();
  assert(done && "newTokens" in value);
  assertEquals(last, { tokens: value.newTokens });
});

Deno.test("a search that is stopped, left or fails gives everything back", async () => {
  const backend = await sharedBackend();
  using device = await tinyModel(backend);
  const options = { inputIds: [PROMPT, OTHER], numBeams: 3, padTokenId: 0, maxNewTokens: 12 };
  const whole = await device.generate(options);
  assertEquals(whole.newTokens.map(({ length }) => length), [12, 12]);
  const { liveBytes, liveTensors } = backend.memory;
  const isBack = () =>
    assertEquals([backend.memory.liveBytes, backend.memory.liveTensors], [liveBytes, liveTensors]);

  const left = beamSearch(makeRequest(device, options));
  await left.next();
  await left.next();
  assert(backend.memory.liveBytes > liveBytes);
  await left.return(undefined as never);
  isBack();

  const stop = new AbortController();
  const stopAt: LogitsProcessor = (_, ids) => {
    if (ids.length === PROMPT.length + 3) stop.abort(new RangeError("enough"));
  };
  const stopped = { ...options, logitsProcessors: [stopAt], signal: stop.signal };
  await assertRejects(() => device.generate(stopped), RangeError, "enough");
  isBack();

  const fail: LogitsProcessor = (_, ids) => {
    if (ids.length === PROMPT.length + 2) throw new TypeError("a processor fails");
  };
  await assertRejects(
    () => device.generate({ ...options, logitsProcessors: [fail] }),
    TypeError,
    "a processor fails",
  );
  isBack();
});
