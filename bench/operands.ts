/**
 * The tensors of a timed case: drawn once, and copied so often that a launch does not find what the
 * launch before it left in a cache.
 *
 * @module
 */

import { type Named, presentInputs } from "../runtime/backend.ts";
import { BUFFER_USAGE, uploadBytes } from "../runtime/buffers.ts";
import { GpuOutOfMemoryError } from "../runtime/errors.ts";
import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { GpuTensor } from "../runtime/gpu_tensor.ts";
import type { AnyCase, AnyOp, CaseInput } from "../runtime/op.ts";
import { drawTensor, Random } from "../runtime/random.ts";
import { byteLength, elementCount, HostTensor, type TensorSpec } from "../runtime/tensor.ts";

/** Elements of which a large input is drawn; the rest repeats them. */
const MOST_DRAWN = 2 ** 21;

const MIB = 1024 * 1024;

/** Four times the largest cache of current GPUs; a software device is bound by its instructions. */
const WORKING_SET = { hardware: 200 * MIB, software: 16 * MIB };

/** Copies are bind groups too, which take 20 µs each to make. */
const MOST_COPIES = { hardware: 1024, software: 32 };

/**
 * Draws the inputs of a case. Drawing a hundred million numbers takes longer than everything else, so
 * a large input repeats its first rows; their number is odd, and so out of step with every tile.
 */
export function drawBenchInputs(op: AnyOp, testCase: AnyCase, seed: number): Named<HostTensor> {
  const drawn: Record<string, HostTensor> = {};
  const family = testCase.family ?? "normal";
  for (const [name, input] of presentInputs(op, testCase.inputs as Named<CaseInput>)) {
    const random = new Random(seed, `${op.name}/${testCase.name}/${name}`);
    const count = elementCount(input.shape);
    const columns = input.shape.at(-1) ?? 1;
    const rows = Math.floor(MOST_DRAWN / Math.max(columns, 1)) | 1;
    if (input.values || input.dtype === "u32" || count <= rows * columns) {
      drawn[name] = drawTensor(input, family, random);
    } else {
      const part = drawTensor({ ...input, shape: [rows, columns] }, family, random);
      drawn[name] = repeat(part, input);
    }
  }
  return drawn;
}

function repeat(part: HostTensor, { shape, dtype }: TensorSpec): HostTensor {
  const { bytes } = part;
  const whole = new Uint8Array(elementCount(shape) * (bytes.length / elementCount(part.shape)));
  for (let at = 0; at < whole.length; at += bytes.length) {
    whole.set(bytes.subarray(0, Math.min(bytes.length, whole.length - at)), at);
  }
  return HostTensor.fromBytes({ shape, dtype }, whole);
}

/** Bytes that a tensor may have on a device. */
export function mostTensorBytes({ profile }: GpuBackend): number {
  const { maxStorageBufferBindingSize, maxBufferSize } = profile.limits;
  // Verification puts guards around each tensor, for which its buffer must have room.
  return Math.min(maxStorageBufferBindingSize, maxBufferSize - 4096);
}

/** Copies of a case's inputs and outputs in GPU memory. */
export class WorkingSet implements Disposable {
  /** Bytes of all copies. */
  readonly bytes: number;
  /** Number of copies. */
  readonly copies: number;
  readonly #buffers: GPUBuffer[] = [];
  readonly #sets: { inputs: Record<string, GpuTensor>; outputs: Record<string, GpuTensor> }[];
  #next = 0;

  private constructor(backend: GpuBackend, op: AnyOp, operands: Operand[]) {
    const { isSoftware, limits } = backend.profile;
    const kind = isSoftware ? "software" : "hardware";
    const strides = operands.map(({ spec }) =>
      stride(spec, limits.minStorageBufferOffsetAlignment)
    );
    const once = strides.reduce((sum, bytes) => sum + bytes, 0);
    this.copies = Math.max(
      1,
      Math.min(
        Math.ceil(WORKING_SET[kind] / once),
        MOST_COPIES[kind],
        Math.floor(limits.maxBufferSize / Math.max(...strides)),
      ),
    );
    this.bytes = once * this.copies;
    this.#sets = Array.from({ length: this.copies }, () => ({ inputs: {}, outputs: {} }));
    operands.forEach(({ name, spec, contents, isInput }, i) => {
      // One buffer for all copies of an operand: WebGPU orders launches that write the same buffer, so
      // each waits for the one before it even though their copies differ.
      const buffer = backend.device.createBuffer({
        label: `${op.name} ${name}`,
        size: strides[i]! * this.copies,
        usage: BUFFER_USAGE.storage | BUFFER_USAGE.copyTarget,
      });
      this.#buffers.push(buffer);
      this.#sets.forEach((set, copy) => {
        const offset = copy * strides[i]!;
        if (contents) uploadBytes(backend.device, buffer, offset, contents);
        const size = Math.max(4, byteLength(spec));
        set[isInput ? "inputs" : "outputs"][name] = backend.adopt(spec, { buffer, offset, size });
      });
    });
    for (const [output, input] of Object.entries(op.aliases ?? {})) {
      for (const { inputs, outputs } of this.#sets) {
        if (input && inputs[input]) outputs[output] = inputs[input];
      }
    }
  }

  /**
   * Allocates and fills the copies.
   *
   * @throws {GpuOutOfMemoryError} If the device has too little memory for them
   */
  static async create(
    backend: GpuBackend,
    op: AnyOp,
    inputs: Named<HostTensor>,
    outputs: Named<TensorSpec>,
  ): Promise<WorkingSet> {
    const operands: Operand[] = [];
    for (const [name, tensor] of presentInputs(op, inputs)) {
      operands.push({ name, spec: tensor, contents: tensor.bytes, isInput: true });
    }
    for (const [name, spec] of Object.entries(outputs)) {
      if (spec && op.aliases?.[name] === undefined) operands.push({ name, spec, isInput: false });
    }
    backend.device.pushErrorScope("out-of-memory");
    const set = new WorkingSet(backend, op, operands);
    const error = await backend.device.popErrorScope();
    if (!error) return set;
    set[Symbol.dispose]();
    throw new GpuOutOfMemoryError(`Cannot allocate ${set.bytes} bytes: ${error.message}`);
  }

  /** The copy that is next in turn. */
  next(): { readonly inputs: Named<GpuTensor>; readonly outputs: Named<GpuTensor> } {
    const set = this.#sets[this.#next]!;
    this.#next = (this.#next + 1) % this.copies;
    return set;
  }

  /** Destroys the buffers. */
  [Symbol.dispose](): void {
    for (const { inputs, outputs } of this.#sets) {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) {
        tensor[Symbol.dispose]();
      }
    }
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

interface Operand {
  readonly name: string;
  readonly spec: TensorSpec;
  readonly contents?: Uint8Array<ArrayBuffer>;
  readonly isInput: boolean;
}

function stride(spec: TensorSpec, alignment: number): number {
  return Math.ceil(Math.max(4, byteLength(spec)) / alignment) * alignment;
}
