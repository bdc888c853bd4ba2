/** Scores of generated tokens, one by one. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ModelInputError } from "../mod.ts";
import { transitionScores } from "../model/generation/transition_scores.ts";
import { tinyCpuModel } from "./tiny_model.ts";

const PROMPT = [5, 17, 3, 96, 42, 8, 60, 23];
const OTHER = [9, 30, 71];

Deno.test("transition scores add up to a row's score", async () => {
  using model = await tinyCpuModel();
  const lengthPenalty = -0.3;
  const output = await model.generate({
    inputIds: [PROMPT, OTHER],
    numBeams: 4,
    numReturnSequences: 4,
    maxNewTokens: 8,
    eosTokenId: [18, 61],
    padTokenId: 1,
    lengthPenalty,
    outputScores: true,
    outputLogits: true,
  });
  assert(output.newTokens.some(({ length }) => length < 8));
  const transitions = transitionScores(output);
  const normalized = transitionScores(output, { normalizeLogits: true });
  output.newTokens.forEach(({ length }, row) => {
    const own = transitions[row]!.slice(0, length);
    const sum = own.reduce((sum, x) => sum + x, 0);
    assert(Math.abs(sum / length ** lengthPenalty - output.sequencesScores![row]!) < 1e-5);
    assertEquals(transitions[row]!.length, output.beamIndices![row]!.length);
    assert(transitions[row]!.slice(length).every((score) => score === 0));
    // They are log-probabilities as they are.
    own.forEach((score, step) => assert(Math.abs(score - normalized[row]![step]!) < 1e-5));
  });
  // Scores are those of a step, not of the text so far; logits are the model's own.
  const [scores, logits] = [output.scores![2]![5]!, output.logits![2]![5]!];
  const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
  assert(scores.every((score, id) => Math.abs(score - (logits[id]! - total)) < 1e-5));
});

Deno.test("transition scores without beams are those of the chosen tokens", async () => {
  using known = await tinyCpuModel({
    hidden_size: 64,
    num_key_value_heads: 4,
    max_position_embeddings: 64,
    eos_token_id: 0,
  });
  const options = { inputIds: [PROMPT], maxNewTokens: 4, outputScores: true };
  const output = await known.generate(options);
  const expected = [-2.234752, -2.459422, -2.467538, -2.062909];
  const [row] = transitionScores(output, { normalizeLogits: true });
  expected.forEach((score, step) => assert(Math.abs(row![step]! - score) < 1e-5, `${row}`));
  const plain = transitionScores(output)[0]!;
  assertEquals([...plain], output.newTokens[0]!.map((id, step) => output.scores![step]![0]![id]!));
  const { scores: _, ...bare } = output;
  const error = assertThrows(() => transitionScores(bare), ModelInputError) as Error;
  assertEquals(
    error.message,
    "Cannot run transitionScores: output must have scores, as with outputScores: true: none",
  );
  const unknown = { normalise: true } as object;
  assertThrows(() => transitionScores(output, unknown), ModelInputError, "normalise");
});
