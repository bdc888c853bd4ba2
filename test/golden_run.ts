/**
 * Runs a model through what a golden file has of it, and holds every output to the stored one.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { CpuBackend } from "../mod.ts";
import { StableLmModel } from "../model/base_model.ts";
import { StableLmForCausalLM } from "../model/causal_lm.ts";
import { StableLmConfig } from "../model/config.ts";
import type { KvCache } from "../model/kv_cache.ts";
import type { ActivationDtype } from "../model/layers.ts";
import type { LoadOptions } from "../model/loading.ts";
import type { Head } from "../model/parameters.ts";
import { StableLmForSequenceClassification } from "../model/sequence_classification.ts";
import { StableLmForTokenClassification } from "../model/token_classification.ts";
import type { WeightDtype } from "../model/weights/weight_source.ts";
import type { Backend } from "../runtime/backend.ts";
import { elementCount, HostTensor, type Shape, type Tensor } from "../runtime/tensor.ts";
import { sharedBackend } from "./device.ts";
import type { GoldenCall, GoldenFile, GoldenModel, GoldenRun } from "./golden_files.ts";
import { recipeSource, recipeTensor } from "./recipe.ts";

/** What of a model a run needs; the models of the library have it. */
interface RunnableModel extends Disposable {
  readonly backend: Backend;
  readonly config: StableLmConfig;
  readonly dtype: WeightDtype;
  readonly activationDtype: ActivationDtype;
  createCache(options: { batch: number; capacity: number }): KvCache;
  // deno-lint-ignore no-explicit-any -- the inputs of the models differ
  forward(inputs: any): Promise<RunOutput>;
}

/** What of an output is compared. */
interface RunOutput extends Disposable {
  readonly logits?: Tensor;
  readonly lastHiddenState?: Tensor;
  readonly loss?: number | undefined;
  readonly hiddenStates?: readonly Tensor[] | undefined;
  readonly attentions?: readonly Tensor[] | undefined;
  readonly pastKeyValues?: KvCache | undefined;
}

/** Where a model runs. */
export type Place = "CPU" | "GPU";

/** Both places. */
export const PLACES: readonly Place[] = ["CPU", "GPU"];

/** How far an output may be off, as a share of the stored tensor's largest element. */
const GATES: Readonly<Record<Place, number>> = { CPU: 2e-5, GPU: 1e-4 };

/** How far a loss may be off, as a share of it. */
const LOSS_GATE = 1e-5;

/** Our head and loader for each class of transformers. */
const CLASSES: Readonly<
  Record<string, [Head, (options: LoadOptions<Tensor>) => Promise<RunnableModel>]>
> = {
  StableLmModel: ["none", (options) => StableLmModel.load(options)],
  StableLmForCausalLM: ["causal-lm", (options) => StableLmForCausalLM.load(options)],
  StableLmForSequenceClassification: [
    "sequence-classification",
    (options) => StableLmForSequenceClassification.load(options),
  ],
  StableLmForTokenClassification: [
    "token-classification",
    (options) => StableLmForTokenClassification.load(options),
  ],
};

/** How a golden model is loaded, and which of its runs are made. */
export interface RunOptions {
  /** Dtype of the weights; f32 unless given. */
  readonly dtype?: WeightDtype;
  /** Dtype of the activations; f32 unless given. */
  readonly activationDtype?: ActivationDtype;
  /** Names of the runs to make; all unless given. */
  readonly runs?: readonly string[];
}

/**
 * Puts each model of a file through its runs, a test step for each, and compares every tensor that the file has
 * of them.
 */
export async function checkModels(
  t: Deno.TestContext,
  place: Place,
  golden: GoldenFile,
  { dtype = "f32", activationDtype = "f32", runs }: RunOptions = {},
): Promise<void> {
  for (const entry of golden.models) {
    using model = await loadGolden(place, entry, dtype, activationDtype);
    assertEquals([model.dtype, model.activationDtype], [dtype, activationDtype]);
    const chosen = entry.runs.filter(({ name }) => runs?.includes(name) ?? true);
    assert(chosen.length === (runs?.length ?? entry.runs.length), "a run is missing");
    const stored = [...golden.tensors.keys()].filter((name) => !name.endsWith("/truth"));
    for (const run of chosen) {
      await t.step(`${entry.name}: ${run.name}`, async () => {
        const compared = await checkRun(model, golden, entry, run, place);
        const expected = stored.filter((name) => name.startsWith(`${entry.name}/${run.name}/`));
        assert(expected.length > 0, "the file has nothing of this run");
        assertEquals(compared, expected.length);
      });
    }
  }
}

/** The model of an entry with the recipe's weights. */
export async function loadGolden(
  place: Place,
  { class_name, config: json }: GoldenModel,
  dtype: WeightDtype = "f32",
  activationDtype: ActivationDtype = "f32",
): Promise<RunnableModel> {
  const [head, load] = CLASSES[class_name]!;
  const config = StableLmConfig.fromJson(json);
  using source = recipeSource(config, { head, prefix: head !== "none" });
  const backend = place === "CPU" ? new CpuBackend() : await sharedBackend();
  return await load({
    backend: backend as unknown as Backend,
    config,
    source,
    dtype,
    activationDtype,
  });
}

/** Calls a model as a run says, and compares what is stored of it. Returns the number of compared tensors. */
export async function checkRun(
  model: RunnableModel,
  golden: GoldenFile,
  entry: GoldenModel,
  run: GoldenRun,
  on: Place,
): Promise<number> {
  using owned = new DisposableStack();
  let cache: KvCache | undefined;
  let compared = 0;
  for (const [index, call] of run.calls.entries()) {
    const place = `${entry.name}/${run.name}/${index}/`;
    const stored = storedOutputs(golden, place);
    const inputs = inputsOf(call, stored, model.config.hidden_size);
    if (run.calls.length > 1) {
      if (cache === undefined || call.fresh) {
        const [batch, capacity] = call.inputs_embeds ??
          [call.input_ids!.length, call.input_ids![0]!.length];
        // Just room for the first call, so that the next one makes it grow.
        cache = owned.use(model.createCache({ batch, capacity }));
      }
      if (call.crop !== undefined) cache.crop(call.crop);
      if (call.reorder !== undefined) cache.reorder(call.reorder);
    }
    const past = cache?.length ?? 0;
    using output = await model.forward(cache ? { ...inputs, pastKeyValues: cache } : inputs);
    if (call.use_cache === false) assertEquals(output.pastKeyValues, undefined, place);
    const truth = stored.get("truth");
    for (const [name, expected] of stored) {
      if (name === "truth") continue;
      compared++;
      if (name === "loss") {
        checkLoss(place + name, output.loss, expected.numbers[0]!);
        continue;
      }
      const actual = await outputNamed(model.backend, output, name);
      assertEquals(actual.shape, expected.shape, place + name);
      const isCounted = countedRows(call, expected.shape, past);
      if (truth) {
        checkHalf(place + name, actual, expected, truth, isCounted);
      } else {
        checkClose(place + name, actual, expected, isCounted, GATES[on]);
        if (name === "logits") checkLargest(place + name, actual, expected, isCounted);
      }
    }
  }
  return compared;
}

/** What a file has of a call, by output. */
function storedOutputs({ tensors }: GoldenFile, place: string): Map<string, HostTensor> {
  const stored = [...tensors].filter(([name]) => name.startsWith(place));
  return new Map(stored.map(([name, tensor]) => [name.slice(place.length), tensor]));
}

/** A call in the words of `forward`; what is stored of it is asked for. */
function inputsOf(
  call: GoldenCall,
  stored: ReadonlyMap<string, HostTensor>,
  hiddenSize: number,
): object {
  const inputs = {
    inputIds: call.input_ids,
    inputsEmbeds: call.inputs_embeds &&
      recipeTensor("inputs_embeds", [...call.inputs_embeds, hiddenSize]),
    attentionMask: call.attention_mask,
    positionIds: call.position_ids,
    labels: call.labels,
    shiftLabels: call.shift_labels,
    numItemsInBatch: call.num_items_in_batch,
    logitsToKeep: call.logits_to_keep,
    useCache: call.use_cache,
    outputHiddenStates: stored.has("hidden_states.0") || undefined,
    outputAttentions: stored.has("attentions.0") || undefined,
  };
  // The heads do not know each other's inputs, and throw at a name that they do not know.
  return Object.fromEntries(Object.entries(inputs).filter(([, value]) => value !== undefined));
}

/** An output by the name that it is stored under. */
async function outputNamed(
  backend: Backend,
  output: RunOutput,
  name: string,
): Promise<HostTensor> {
  const [kind, index] = name.split(".");
  const { pastKeyValues: cache } = output;
  switch (kind) {
    case "logits":
      return await backend.read(output.logits!);
    case "last_hidden_state":
      return await backend.read(output.lastHiddenState!);
    case "hidden_states":
      return await backend.read(output.hiddenStates![Number(index)]!);
    case "attentions":
      return await backend.read(output.attentions![Number(index)]!);
    case "key":
    case "value":
      return firstSlots(await backend.read(cache!.layers[0]![kind]), cache!.length);
    default:
      throw new RangeError(`There is no output ${name}`);
  }
}

/** The first `length` slots of every head: [B, g, capacity, D] → [B, g, length, D]. */
function firstSlots(slots: HostTensor, length: number): HostTensor {
  const [batch = 0, heads = 0, capacity = 0, size = 0] = slots.shape;
  const { numbers } = slots;
  const kept = new Float32Array(batch * heads * length * size);
  const perHead = length * size;
  for (let i = 0; i < kept.length; i++) {
    kept[i] = numbers[Math.floor(i / perHead) * capacity * size + i % perHead]!;
  }
  return new HostTensor([batch, heads, length, size], kept);
}

/**
 * Which rows of an output say something: not those of padding, where a query may have no key to see. Rows are
 * all axes but the last, flattened.
 */
function countedRows(
  { attention_mask: mask, logits_to_keep: keep }: GoldenCall,
  shape: Shape,
  past: number,
): (row: number) => boolean {
  if (mask === undefined || shape.length < 3) return () => true;
  const positions = shape.at(-2)!;
  const rowsPerSequence = elementCount(shape.slice(1, -1));
  const first = typeof keep === "number" ? mask[0]!.length - keep : past;
  return (row) => mask[Math.floor(row / rowsPerSequence)]![first + row % positions] === 1;
}

/** The largest of |f(i)| over the elements i of the rows that count, and where; NaN if one is NaN. */
function largest(
  { shape }: HostTensor,
  isCounted: (row: number) => boolean,
  f: (i: number) => number,
): { readonly size: number; readonly at: number } {
  const length = shape.at(-1)!;
  let size = 0;
  let at = 0;
  for (let i = 0; i < elementCount(shape); i++) {
    const next = isCounted(Math.floor(i / length)) ? Math.abs(f(i)) : 0;
    if (next <= size) continue;
    size = next;
    at = i;
    if (Number.isNaN(size)) break;
  }
  return { size, at };
}

/** The largest difference must be within the gate. */
function checkClose(
  place: string,
  actual: HostTensor,
  expected: HostTensor,
  isCounted: (row: number) => boolean,
  gate: number,
): void {
  const [ours, theirs] = [actual.numbers, expected.numbers];
  const scale = largest(expected, isCounted, (i) => theirs[i]!).size;
  const { size, at } = largest(expected, isCounted, (i) => ours[i]! - theirs[i]!);
  assert(
    size <= gate * scale,
    `${place}: ${(size / scale).toExponential(2)} of the largest element off, at element ${at} ` +
      `of [${expected.shape.join(", ")}]: ${ours[at]}, not ${theirs[at]} (gate ${gate})`,
  );
}

/**
 * In f16 two right results differ by the rounding of every step. Ours may be twice as far from the f64 result
 * as that of transformers.
 */
function checkHalf(
  place: string,
  actual: HostTensor,
  half: HostTensor,
  truth: HostTensor,
  isCounted: (row: number) => boolean,
): void {
  const [ours, theirs, exact] = [actual.numbers, half.numbers, truth.numbers];
  const scale = largest(truth, isCounted, (i) => exact[i]!).size;
  const allowed = 2 * largest(truth, isCounted, (i) => theirs[i]! - exact[i]!).size + 1e-5 * scale;
  const { size, at } = largest(truth, isCounted, (i) => ours[i]! - exact[i]!);
  assert(
    size <= allowed,
    `${place}: ${size.toExponential(2)} off, at element ${at} of [${truth.shape.join(", ")}]: ` +
      `${ours[at]}, not ${exact[at]} (${allowed.toExponential(2)} is allowed)`,
  );
}

/** The largest logit of every row must be the same one. */
function checkLargest(
  place: string,
  actual: HostTensor,
  expected: HostTensor,
  isCounted: (row: number) => boolean,
): void {
  const length = expected.shape.at(-1)!;
  for (let row = 0; row < elementCount(expected.shape) / length; row++) {
    if (!isCounted(row)) continue;
    const best = ({ numbers }: HostTensor) => {
      const logits = Array.from({ length }, (_, i) => numbers[row * length + i]!);
      return logits.indexOf(Math.max(...logits));
    };
    assertEquals(best(actual), best(expected), `${place}: largest logit of row ${row}`);
  }
}

/** A loss of nothing is NaN; any other must be within its gate. */
function checkLoss(place: string, actual: number | undefined, expected: number): void {
  const isSame = Number.isNaN(expected)
    ? Number.isNaN(actual)
    : Math.abs(actual! - expected) <= LOSS_GATE * Math.abs(expected);
  assert(isSame, `${place}: ${actual}, not ${expected} (gate ${LOSS_GATE})`);
}
