/**
 * A model's parameters on a backend: allocated from the config alone, then filled from a checkpoint.
 *
 * @module
 */

import type { Backend } from "../../runtime/backend.ts";
import { ModelFormatError, ModelUnsupportedError } from "../../runtime/errors.ts";
import { bytesPerElement, elementCount, HostTensor, type Tensor } from "../../runtime/tensor.ts";
import type { Parameter } from "../parameters.ts";
import { convertTo, firstNonFinite } from "./convert.ts";
import { matchTensors } from "./match.ts";
import type { WeightDtype, WeightSource } from "./weight_source.ts";

/** How far a long operation has come. */
export interface LoadProgress {
  /** What is being done. */
  readonly phase: "download" | "load";
  /** Bytes of the checkpoint that are done. */
  readonly loadedBytes: number;
  /** Bytes of the checkpoint in all. */
  readonly totalBytes: number;
  /** Mean rate since the start of the phase. */
  readonly bytesPerSecond: number;
  /** The tensor or file at hand. */
  readonly item: string;
}

/** How to fill a {@linkcode ParameterStore}. */
export interface FillOptions {
  /** Stops between two reads. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each read. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Accept weights that are NaN or infinite; false unless given. */
  readonly allowNonFinite?: boolean | undefined;
}

/** Stored bytes that are read at a time: what loading holds in host memory is a few times this. */
const READ_BYTES = 32 * 1024 * 1024;

/** Pieces begin at multiples of this many rows, so that kernels can write their columns in fours. */
const PIECE_ROWS = 64;

/** A parameter in as few tensors as the backend's largest binding allows, split between rows. */
interface StoredParameter<T> {
  readonly parameter: Parameter;
  readonly pieces: readonly T[];
  /** Rows of each piece but the last. */
  readonly pieceRows: number;
}

/** A model's parameters, in tensors of a backend. */
export class ParameterStore<T extends Tensor> implements Disposable {
  /** Element type of every parameter. */
  readonly dtype: WeightDtype;
  readonly #backend: Backend<T>;
  readonly #parameters = new Map<string, StoredParameter<T>>();

  /** Allocates every parameter, as zeros. */
  constructor(backend: Backend<T>, parameters: readonly Parameter[], dtype: WeightDtype) {
    this.#backend = backend;
    this.dtype = dtype;
    try {
      for (const parameter of parameters) this.#allocate(parameter);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** True if the model has a parameter of this name. */
  has(name: string): boolean {
    return this.#parameters.has(name);
  }

  /** The one tensor of a parameter that no model has to split. */
  tensor(name: string): T {
    const pieces = this.pieces(name);
    if (pieces.length !== 1) {
      throw new RangeError(`Parameter ${name} is in ${pieces.length} pieces`);
    }
    return pieces[0]!;
  }

  /** The tensors of a parameter, each with the rows that follow those of the one before. */
  pieces(name: string): readonly T[] {
    const stored = this.#parameters.get(name);
    if (!stored) throw new RangeError(`The model has no parameter ${name}`);
    return stored.pieces;
  }

  /**
   * Reads every parameter from a source, a range of rows at a time, and converts it on the way.
   *
   * @returns names of the source's tensors that the model has no use for
   * @throws {ModelFormatError} If tensors are missing, have the wrong shape, or hold NaN or infinity
   * @throws {ModelUnsupportedError} If a weight does not fit the dtype
   */
  async fill(source: WeightSource, options: FillOptions = {}): Promise<readonly string[]> {
    const { signal, onProgress, allowNonFinite = false } = options;
    const parameters = [...this.#parameters.values()].map(({ parameter }) => parameter);
    const { names, unexpected } = matchTensors(source, parameters);
    let totalBytes = 0;
    for (const name of names.values()) totalBytes += source.tensors.get(name)!.byteLength;
    let loadedBytes = 0;
    const start = performance.now();
    const report = (item: string, bytes: number) => {
      loadedBytes += bytes;
      const seconds = Math.max(performance.now() - start, 1) / 1000;
      const bytesPerSecond = loadedBytes / seconds;
      onProgress?.({ phase: "load", loadedBytes, totalBytes, bytesPerSecond, item });
    };
    for (const stored of this.#parameters.values()) {
      const { tensors } = stored.parameter;
      const rows: HostTensor[] = [];
      for (const name of tensors.map((tensor) => names.get(tensor)!)) {
        for await (const { first, part, bytes } of readParts(source, name, signal)) {
          if (!allowNonFinite) requireFinite(source, name, first, part);
          const converted = convertTo(part, this.dtype);
          if (this.dtype === "f16") requireFit(source, name, part, converted);
          if (tensors.length > 1) rows.push(converted);
          else this.#write(stored, first, converted);
          report(name, bytes);
        }
      }
      // Together, since a row with an odd number of 16-bit elements would end inside a word.
      if (tensors.length > 1) this.#write(stored, 0, stack(rows));
    }
    await this.#backend.finish();
    return unexpected;
  }

  /** Gives every tensor back. */
  [Symbol.dispose](): void {
    for (const { pieces } of this.#parameters.values()) {
      for (const piece of pieces) piece[Symbol.dispose]();
    }
    this.#parameters.clear();
  }

  #allocate(parameter: Parameter): void {
    const { name, shape } = parameter;
    const [rows, ...rest] = shape as [number, ...number[]];
    const rowBytes = elementCount(rest) * bytesPerElement(this.dtype);
    const most = Math.floor(this.#backend.maxTensorBytes / rowBytes);
    // A bias is split where its weight is.
    const pieceRows = this.#parameters.get(name.replace(/\.bias$/, ".weight"))?.pieceRows ??
      (rows <= most ? rows : Math.floor(most / PIECE_ROWS) * PIECE_ROWS);
    const pieces: T[] = [];
    this.#parameters.set(name, { parameter, pieces, pieceRows });
    for (let row = 0; row < rows; row += pieceRows) {
      const shape = [Math.min(pieceRows, rows - row), ...rest];
      pieces.push(this.#backend.zeros({ shape, dtype: this.dtype }));
    }
  }

  /** Writes a part into the pieces that it falls into. */
  #write(
    { parameter, pieces, pieceRows }: StoredParameter<T>,
    first: number,
    part: HostTensor,
  ): void {
    const pieceElements = pieceRows * elementCount(parameter.shape.slice(1));
    const { values } = part;
    for (let done = 0; done < values.length;) {
      const piece = Math.floor((first + done) / pieceElements);
      const offset = first + done - piece * pieceElements;
      const count = Math.min(values.length - done, pieceElements - offset);
      const slice = values.subarray(done, done + count);
      this.#backend.write(pieces[piece]!, offset, new HostTensor([count], slice, part.dtype));
      done += count;
    }
  }
}

/** Parts of a tensor of about {@linkcode READ_BYTES}, with the index of their first element. */
async function* readParts(source: WeightSource, name: string, signal: AbortSignal | undefined) {
  const { shape, byteLength } = source.tensors.get(name)!;
  const rows = shape[0]!;
  // An even number of rows, so that a part of 16-bit elements begins and ends with a word.
  const step = Math.max(2, 2 * Math.floor(READ_BYTES * rows / Math.max(byteLength, 1) / 2));
  for (let begin = 0; begin < rows; begin += step) {
    const end = Math.min(begin + step, rows);
    const part = await source.read(name, { begin, end }, signal);
    yield {
      first: begin * elementCount(shape.slice(1)),
      part,
      bytes: byteLength * (end - begin) / rows,
    };
  }
}

function stack(parts: readonly HostTensor[]): HostTensor {
  const { shape, dtype } = parts[0]!;
  const all = HostTensor.fromBytes(
    { shape: [parts.length, ...shape], dtype },
    new Uint8Array(parts.reduce((bytes, part) => bytes + part.bytes.byteLength, 0)),
  );
  parts.forEach((part, i) => all.values.set(part.values, i * elementCount(shape)));
  return all;
}

function requireFinite(source: WeightSource, name: string, first: number, part: HostTensor): void {
  const at = firstNonFinite(part);
  if (at < 0) return;
  const { file, byteOffset, storedAs } = source.tensors.get(name)!;
  throw new ModelFormatError({
    file,
    place: `tensor ${JSON.stringify(name)}, ${storedAs} from byte ${byteOffset} on`,
    reason: "weight-not-finite",
    rule: "weights must be finite",
    value: `element ${first + at} is ${part.numbers[at]}`,
  });
}

function requireFit(
  source: WeightSource,
  name: string,
  part: HostTensor,
  converted: HostTensor,
): void {
  if (part.dtype === "f16") return;
  const at = firstNonFinite(converted);
  if (at < 0 || !Number.isFinite(part.numbers[at])) return;
  throw new ModelUnsupportedError({
    file: source.tensors.get(name)!.file,
    place: `tensor ${JSON.stringify(name)}`,
    reason: "weight-above-f16",
    rule: 'weights must be at most 65504 for dtype "f16"; use "bf16" or "f32"',
    value: String(part.numbers[at]),
  });
}
