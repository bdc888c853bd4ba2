// What a project of its own sees of the library, under compiler options of its own: checked, never run.
import {
  type Backend,
  CpuBackend,
  GpuBackend,
  type KvCache,
  StableLmForCausalLM,
  StableLmForSequenceClassification,
} from "@stablelm/kernels";

/** A model on whichever backend there is. */
export async function open(useGpu: boolean): Promise<StableLmForCausalLM> {
  const backend: Backend = useGpu ? await GpuBackend.create() : new CpuBackend();
  return await StableLmForCausalLM.fromPretrained("./folder", { backend });
}

/** Without a cast: ids, outputs, what is kept of them, numbers. */
export async function run(): Promise<KvCache | undefined> {
  using backend = await GpuBackend.create();
  using model = await StableLmForCausalLM.fromPretrained("owner/name", { backend, dtype: "bf16" });
  using output = await model.forward({ inputIds: [[1, 2, 3]], labels: [[1, 2, 3]] });
  const { numbers } = await backend.read(output.logits);
  const [first] = numbers;
  for (const value of numbers.subarray(0, 3)) console.log(value, first, output.loss?.toFixed(3));
  return output.keep(output.pastKeyValues);
}

/** A classifier, with typed arrays where they are at hand. */
export async function classify(ids: BigInt64Array): Promise<number | undefined> {
  using backend = new CpuBackend();
  const options = { backend, config: { pad_token_id: 1 } };
  const where = new URL("file:///folder");
  using model = await StableLmForSequenceClassification.fromPretrained(where, options);
  using output = await model.forward({ inputIds: [ids], labels: Int32Array.of(1) });
  return output.loss;
}
