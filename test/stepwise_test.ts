/** Several tokens in one call that is stepwise: each has the bits that it has in a call of its own. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type AnyOp,
  type Backend,
  CpuBackend,
  type DeviceProfile,
  drawTensor,
  flashAttention,
  type FlashAttentionAttributes,
  HostTensor,
  ModelInputError,
  Random,
  StableLmConfig,
  type StableLmConfigOptions,
  StableLmForCausalLM,
  type Tensor,
  type TensorSpec,
} from "../mod.ts";
import { chooseVariant } from "../runtime/variants.ts";
import { SEED, sharedBackend } from "./device.ts";
import { CAUSAL_FILES, goldenModel, readGolden } from "./golden_files.ts";
import { recipeSource } from "./recipe.ts";

/** Tokens before the calls, with which the first of them goes past a split of 128 keys. */
const PROMPT = 124;

/** Tokens of the calls that are made one after another; three more than 8 rows are two passes over the weights. */
const CALLS = [2, 5, 11, 4];

for (const path of ["CPU", "GPU"] as const) {
  Deno.test(`a stepwise call gives each token the bits of a step: every model, ${path}`, async () => {
    const backend: Backend = path === "CPU" ? new CpuBackend() : await sharedBackend();
    for (const file of CAUSAL_FILES) {
      const config = StableLmConfig.fromJson(goldenModel(readGolden(file)).config);
      using model = await load(backend, config);
      // On the CPU a long prompt takes longer than all else together.
      const prompt = path === "CPU" ? 9 : PROMPT;
      const steps = await rowsOf(model, prompt, CALLS.flatMap((count) => Array(count).fill(1)));
      assertEquals(await rowsOf(model, prompt, CALLS), steps, file);
    }
  });
}

const GROUPED: StableLmConfigOptions = {
  vocab_size: 97,
  hidden_size: 96,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
};

Deno.test("a stepwise call has these bits with padding, halves, and attention that is not fused", async () => {
  const backend = await sharedBackend();
  const config = new StableLmConfig(GROUPED);
  const ones = CALLS.flatMap((count) => Array(count).fill(1));
  for (const activationDtype of ["f32", "f16"] as const) {
    using model = await load(backend, config, activationDtype);
    for (const outputAttentions of [false, true]) {
      for (const padding of [0, 5]) {
        const options = { outputAttentions, padding };
        const steps = await rowsOf(model, 20, ones, options);
        assertEquals(await rowsOf(model, 20, CALLS, options), steps);
      }
    }
  }
});

Deno.test("a call that is not stepwise has other bits on this device, or the tests above say nothing", async () => {
  using model = await load(await sharedBackend(), new StableLmConfig(GROUPED));
  const steps = await rowsOf(model, 20, [1, 1, 1]);
  const together = await rowsOf(model, 20, [3], { stepwise: false });
  assert(together.some((row, i) => row !== steps[i]));
});

Deno.test("stepwise must be true or false", async () => {
  using model = await load(new CpuBackend(), new StableLmConfig(GROUPED));
  const inputs = { inputIds: [[1, 2]], stepwise: 1 as unknown as boolean };
  await assertRejects(
    () => model.forward(inputs),
    ModelInputError,
    "stepwise must be true or false: 1",
  );
});

/** Query heads, key heads and elements of a head. */
const HEADS = [[4, 1, 80], [6, 2, 40], [20, 1, 8], [2, 1, 33]] as const;

Deno.test("flash_attention: stepwise, every variant gives each token the bits that it has alone", async () => {
  const backend = await sharedBackend();
  const [tokens, past] = [7, 124];
  for (const [heads, keyHeads, size] of HEADS) {
    const random = new Random(SEED, "stepwise");
    const draw = (shape: number[]) => drawTensor({ shape, dtype: "f32" }, "normal", random);
    const q = draw([1, tokens, heads, size]);
    const cache = [1, keyHeads, past + tokens + 3, size];
    using k = backend.upload(draw(cache));
    using v = backend.upload(draw(cache));
    for (const { name, supports } of flashAttention.variants) {
      const attend = async (t: number, count: number) => {
        const values = Float32Array.from(q.numbers).subarray(t * heads * size);
        const part = values.slice(0, count * heads * size);
        using some = backend.upload(new HostTensor([1, count, heads, size], part));
        const attributes = { keyLength: past + t + count, causal: true, stepwise: count > 1 };
        const inputs = { q: some, k, v, mask: undefined };
        if (supports(inputs, attributes, backend.profile) !== true) return undefined;
        using y = backend.run(flashAttention, inputs, attributes, { variant: name }).y;
        return await backend.read(y);
      };
      const whole = await attend(0, tokens);
      for (let t = 0; t < tokens; t++) {
        const alone = await attend(t, 1);
        assertEquals(alone === undefined, whole === undefined, name);
        if (!alone || !whole) continue;
        const place =
          `token ${t} of ${name}, heads ${heads} on ${keyHeads} of ${size} (seed ${SEED})`;
        const bytes = alone.bytes.length;
        assertEquals(
          whole.bytes.subarray(t * bytes, (t + 1) * bytes).toHex(),
          alone.bytes.toHex(),
          place,
        );
      }
    }
  }
});

Deno.test("flash_attention: stepwise, the number of tokens does not choose the variant", async () => {
  const { profile } = await sharedBackend();
  const sizes = (size: number) => ({
    hasSubgroups: true,
    subgroupMinSize: size,
    subgroupMaxSize: size,
  });
  const none = { hasSubgroups: false, subgroupMinSize: 0, subgroupMaxSize: 0 };
  const devices: Record<string, DeviceProfile> = {
    "this one": profile,
    "software, subgroups of 8": { ...profile, isSoftware: true, ...sizes(8) },
    "software without subgroups": { ...profile, isSoftware: true, ...none },
    "GPU, subgroups of 32": { ...profile, isSoftware: false, ...sizes(32) },
    "GPU without subgroups": { ...profile, isSoftware: false, ...none },
  };
  for (const [device, itsProfile] of Object.entries(devices)) {
    for (const [heads, keyHeads, size] of HEADS) {
      const chosen = (tokens: number, stepwise: boolean) => {
        const inputs: Record<string, TensorSpec> = {
          q: { shape: [1, tokens, heads, size], dtype: "f32" },
          k: { shape: [1, keyHeads, 400, size], dtype: "f32" },
          v: { shape: [1, keyHeads, 400, size], dtype: "f32" },
        };
        const attributes: FlashAttentionAttributes = { keyLength: 300, causal: true, stepwise };
        return planOf(inputs, attributes, itsProfile);
      };
      const alone = chosen(1, false);
      for (const tokens of [1, 2, 3, 11, 21, 100]) {
        assertEquals(
          chosen(tokens, true),
          alone,
          `${device}, ${heads} heads on ${keyHeads} of ${size}`,
        );
      }
    }
  }
});

/** The kernels that compute a call: file, text and constants. */
function planOf(
  inputs: Record<string, TensorSpec>,
  attributes: FlashAttentionAttributes,
  device: DeviceProfile,
): unknown {
  const variant = chooseVariant(flashAttention as unknown as AnyOp, inputs, attributes, device);
  const { dispatches } = variant.plan(inputs, attributes, device);
  return dispatches.map(({ kernel, constants }) => ({ kernel, constants }));
}

function load<T extends Tensor>(
  backend: Backend<T>,
  config: StableLmConfig,
  activationDtype: "f32" | "f16" = "f32",
): Promise<StableLmForCausalLM<T>> {
  return StableLmForCausalLM.load({
    backend,
    config,
    source: recipeSource(config),
    activationDtype,
  });
}

/** The bits of the logits of each token after the prompt, which calls of so many tokens give. */
async function rowsOf<T extends Tensor>(
  model: StableLmForCausalLM<T>,
  prompt: number,
  calls: readonly number[],
  { stepwise = true, outputAttentions = false, padding = 0 } = {},
): Promise<string[]> {
  const { vocab_size: vocabulary } = model.config;
  using cache = model.createCache({ capacity: 16 });
  const rows: string[] = [];
  let begin = 0;
  for (const [call, count] of [prompt, ...calls].entries()) {
    const end = begin + count;
    const mask = Array.from({ length: end }, (_, t) => t < padding ? 0 : 1);
    using output = await model.forward({
      inputIds: [Array.from({ length: count }, (_, i) => ((begin + i) * 37 + 11) % vocabulary)],
      attentionMask: [mask],
      pastKeyValues: cache,
      outputAttentions,
      stepwise: stepwise && call > 0,
    });
    const { bytes } = await model.backend.read(output.logits);
    if (call > 0) {
      for (let i = 0; i < count; i++) {
        rows.push(bytes.subarray(4 * i * vocabulary, 4 * (i + 1) * vocabulary).toHex());
      }
    }
    begin = end;
  }
  return rows;
}
