/**
 * Opens GGUF files of llama.cpp as checkpoints.
 *
 * @module
 */

import { quoteName } from "../../../runtime/json_text.ts";
import { elementCount, HostTensor } from "../../../runtime/tensor.ts";
import { requireOptions } from "../../inputs.ts";
import type { ByteSource } from "../byte_source.ts";
import { selectRows } from "../safetensors_source.ts";
import type { RowRange, StoredTensor, WeightSource } from "../weight_source.ts";
import type { Dequantize } from "./ggml_blocks.ts";
import { readGgufHeader } from "./header.ts";
import type { GgufValue } from "./metadata.ts";
import { configOf, type GgufConfig } from "./stablelm_config.ts";
import { slicesOf, type TensorSlice } from "./stablelm_tensors.ts";
import type { TensorType } from "./tensor_types.ts";

/** An opened GGUF file. */
export interface GgufCheckpoint {
  /** Every key of the file with its value: the tokenizer's lists and the chat template among them. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** What the file says about the model, in the words of a Hugging Face config.json. */
  readonly config: GgufConfig;
  /** The weights, under Hugging Face's names. */
  readonly source: WeightSource;
}

/** How to open a GGUF file. */
export interface OpenGgufOptions {
  /** Stops between two reads. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a GGUF file that holds a StableLM. Its header is read and checked; weights are read when they are
 * asked for.
 *
 * F32, F16 and BF16 tensors are handed out as they are; Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K
 * are dequantised to f32, to the bit as ggml does it.
 *
 * ```ts
 * const { config, source } = await openGguf(bytes);
 * const model = await StableLmForCausalLM.load({
 *   backend,
 *   config: StableLmConfig.fromJson(config, source.name),
 *   source,
 * });
 * ```
 *
 * @param bytes the file; it belongs to the returned source, which disposes it, and is disposed if
 * opening fails
 * @param options see {@linkcode OpenGgufOptions}
 * @throws {ModelFormatError} If the file is damaged, or its parts contradict each other
 * @throws {ModelInputError} If an option is unknown
 * @throws {ModelUnsupportedError} If it is a part of a split file, holds another architecture, or a type
 * of tensor that cannot be read
 */
export async function openGguf(
  bytes: ByteSource,
  options: OpenGgufOptions = {},
): Promise<GgufCheckpoint> {
  try {
    requireOptions("openGguf", options, ["signal"]);
    const header = await readGgufHeader(bytes, options.signal);
    const config = configOf(header);
    const source = new GgufWeightSource(bytes, slicesOf(header, config));
    return { metadata: header.metadata, config, source };
  } catch (error) {
    bytes[Symbol.dispose]();
    throw error;
  }
}

/** Stored bytes that are dequantised at a time, about. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/** The tensors of a GGUF file. */
class GgufWeightSource implements WeightSource {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly #bytes: ByteSource;
  readonly #slices: ReadonlyMap<string, TensorSlice>;

  constructor(bytes: ByteSource, slices: ReadonlyMap<string, TensorSlice>) {
    this.name = bytes.name;
    this.#bytes = bytes;
    this.#slices = slices;
    const tensors = new Map<string, StoredTensor>();
    for (const [name, slice] of slices) tensors.set(name, describe(slice, bytes.name));
    this.tensors = tensors;
  }

  async read(name: string, rows?: RowRange, signal?: AbortSignal): Promise<HostTensor> {
    const slice = this.#slices.get(name);
    if (slice === undefined) {
      throw new RangeError(`Cannot read ${this.name}: there is no tensor ${quoteName(name)}`);
    }
    const { stored: { type, byteOffset }, firstElement } = slice;
    const { shape, begin } = selectRows(this.name, name, slice.shape, rows);
    const first = firstElement + begin * elementCount(shape.slice(1));
    const offset = byteOffset + bytesOf(type, first);
    const count = elementCount(shape);
    if (type.dequantize === undefined) {
      const bytes = await this.#bytes.read(offset, bytesOf(type, count), signal);
      return HostTensor.fromBytes({ shape, dtype: type.dtype }, bytes);
    }
    const values = new Float32Array(count);
    await this.#dequantize(type, type.dequantize, offset, values, signal);
    return new HostTensor(shape, values);
  }

  [Symbol.dispose](): void {
    this.#bytes[Symbol.dispose]();
  }

  /** In chunks, so that little but the result is held. */
  async #dequantize(
    type: TensorType,
    dequantize: Dequantize,
    offset: number,
    values: Float32Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const step = Math.floor(CHUNK_BYTES / type.blockBytes) * type.blockElements;
    for (let first = 0; first < values.length; first += step) {
      const part = values.subarray(first, first + step);
      const at = offset + bytesOf(type, first);
      const blocks = await this.#bytes.read(at, bytesOf(type, part.length), signal);
      dequantize(blocks.byteOffset % 2 === 0 ? blocks : new Uint8Array(blocks), part);
    }
  }
}

/** What a slice looks like from outside. */
function describe(slice: TensorSlice, file: string): StoredTensor {
  const { stored: { type, byteOffset }, firstElement, shape } = slice;
  return {
    shape,
    dtype: type.dtype,
    storedAs: type.name,
    file,
    byteOffset: byteOffset + bytesOf(type, firstElement),
    byteLength: bytesOf(type, elementCount(shape)),
  };
}

/** Bytes of so many elements, which are whole blocks. */
function bytesOf({ blockElements, blockBytes }: TensorType, elements: number): number {
  return elements / blockElements * blockBytes;
}
