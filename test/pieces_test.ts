/** Weights that are kept in pieces, as a binding holds only so much: the pieces give the bits of the whole. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type Backend,
  CpuBackend,
  drawTensor,
  type Dtype,
  embedding,
  embeddingPiece,
  HostTensor,
  KernelArgumentError,
  matmul,
  MATMUL_ORDERS,
  type MatmulOrder,
  Random,
  type Tensor,
  writeColumns,
} from "../mod.ts";
import { SEED, sharedBackend } from "./device.ts";

/** Rows `first` to `end` − 1 of a matrix, or elements of a vector. */
function slice(tensor: HostTensor, first: number, end: number): HostTensor {
  const [rows, ...rest] = tensor.shape as [number, ...number[]];
  const perRow = tensor.bytes.length / rows;
  const spec = { shape: [end - first, ...rest], dtype: tensor.dtype };
  return HostTensor.fromBytes(spec, tensor.bytes.subarray(first * perRow, end * perRow));
}

/** Ends of pieces, as pairs of neighbours. */
function piecesOf(ends: readonly number[]): [first: number, end: number][] {
  return ends.slice(1).map((end, i) => [ends[i]!, end]);
}

const IDS = HostTensor.from([3, 5], [0, 23, 4, 5, 5, 13, 14, 22, 0, 13, 7, 23, 14, 6, 1], "u32");

async function lookUpInPieces<T extends Tensor>(
  backend: Backend<T>,
  table: HostTensor,
  dtype: "f32" | "f16",
  pieces: readonly (readonly [first: number, end: number])[],
): Promise<HostTensor> {
  using ids = backend.upload(IDS);
  using y = backend.zeros({ shape: [3, 5, table.shape[1]!], dtype });
  for (const [first, end] of pieces) {
    using piece = backend.upload(slice(table, first, end));
    backend.run(embeddingPiece, { table: piece, ids, y }, { firstRow: first });
  }
  return await backend.read(y);
}

const TABLES: readonly [table: Dtype, y: "f32" | "f16", columns: number][] = [
  ["f32", "f32", 12],
  ["f32", "f16", 7],
  ["f16", "f16", 12],
  ["bf16", "f32", 7],
];

for (const [dtype, yDtype, columns] of TABLES) {
  Deno.test(`embedding: pieces of a ${dtype} table give the ${yDtype} rows of the whole`, async () => {
    const table = drawTensor({ shape: [24, columns], dtype }, "normal", new Random(SEED, "table"));
    const backend = await sharedBackend();
    using whole = backend.upload(table);
    using ids = backend.upload(IDS);
    using y = backend.run(embedding, { table: whole, ids }, { dtype: yDtype }).y;
    const expected = (await backend.read(y)).bytes;
    using cpu = new CpuBackend();
    for (const ends of [[0, 24], [0, 5, 14, 24], [0, 1, 2, 23, 24]]) {
      for (const pieces of [piecesOf(ends), piecesOf(ends).reverse()]) {
        const onDevice = await lookUpInPieces(backend, table, yDtype, pieces);
        assertEquals(onDevice.bytes, expected, `${pieces} (seed ${SEED})`);
        const onHost = await lookUpInPieces(cpu, table, yDtype, pieces);
        assertEquals(onHost.bytes, expected, `${pieces} on the CPU (seed ${SEED})`);
      }
    }
  });
}

Deno.test("embedding: an id that is in no piece leaves its row as it was", async () => {
  const table = HostTensor.from([2, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
  const ids = HostTensor.from([4], [10, 9, 12, 11], "u32");
  const kept = HostTensor.from([4, 4], Array(16).fill(-1));
  const expected = [1, 2, 3, 4, ...Array(8).fill(-1), 5, 6, 7, 8];
  const backend = await sharedBackend();
  using inputs = disposableInputs(backend, { table, ids, y: kept });
  const { y } = backend.run(embeddingPiece, inputs.tensors, { firstRow: 10 });
  assertEquals(Array.from((await backend.read(y)).numbers), expected);
  assert(y === inputs.tensors.y, "the output is the input");
  using cpu = new CpuBackend();
  const own = { table, ids, y: cpu.upload(kept) };
  assertEquals(Array.from(cpu.run(embeddingPiece, own, { firstRow: 10 }).y.numbers), expected);
});

/** y in pieces of N, against y in one. */
async function multiplyInPieces<T extends Tensor>(
  backend: Backend<T>,
  [x, weight, bias]: readonly [HostTensor, HostTensor, HostTensor],
  order: MatmulOrder,
  ends: readonly number[],
): Promise<HostTensor> {
  const dtype = x.dtype as "f32" | "f16";
  using onDevice = backend.upload(x);
  using y = backend.zeros({ shape: [x.shape[0]!, weight.shape[0]!], dtype });
  for (const [first, end] of piecesOf(ends)) {
    using inputs = disposableInputs(backend, {
      weight: slice(weight, first, end),
      bias: slice(bias, first, end),
    });
    const operands = { x: onDevice, ...inputs.tensors };
    using part = backend.run(matmul, operands, { layout: "linear", order }).y;
    backend.run(writeColumns, { y, x: part }, { column: first });
  }
  return await backend.read(y);
}

for (const order of MATMUL_ORDERS) {
  Deno.test(`matmul: pieces of weight give the columns of the whole, in order ${order}`, async () => {
    const backend = await sharedBackend();
    const random = new Random(SEED, "pieces");
    for (const [m, dtype] of [[1, "f32"], [3, "f16"], [33, "f32"]] as const) {
      const operands = [
        drawTensor({ shape: [m, 72], dtype }, "normal", random),
        drawTensor({ shape: [44, 72], dtype: "bf16" }, "normal", random),
        drawTensor({ shape: [44], dtype: "bf16" }, "normal", random),
      ] as const;
      const [x, weight, bias] = operands;
      using inputs = disposableInputs(backend, { x, weight, bias });
      using y = backend.run(matmul, inputs.tensors, { layout: "linear", order }).y;
      const expected = (await backend.read(y)).bytes;
      for (const ends of [[0, 20, 44], [0, 17, 18, 44]]) {
        const inPieces = await multiplyInPieces(backend, operands, order, ends);
        assertEquals(inPieces.bytes, expected, `${m} rows, ${ends} (seed ${SEED})`);
      }
    }
  });
}

Deno.test("write_columns: both backends write the same columns and hand back y itself", async () => {
  const y = HostTensor.from([2, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const x = HostTensor.from([2, 2], [-1, -2, -3, -4]);
  const expected = [0, 1, -1, -2, 4, 5, 6, -3, -4, 9];
  const backend = await sharedBackend();
  using inputs = disposableInputs(backend, { y, x });
  const written = backend.run(writeColumns, inputs.tensors, { column: 2 }).y;
  assert(written === inputs.tensors.y);
  assertEquals(Array.from((await backend.read(written)).numbers), expected);
  using cpu = new CpuBackend();
  const own = cpu.upload(y);
  assert(cpu.run(writeColumns, { y: own, x }, { column: 2 }).y === own);
  assertEquals(Array.from(own.numbers), expected);
});

Deno.test("pieces that do not fit are refused, with the rule", () => {
  using cpu = new CpuBackend();
  const numbers = (shape: number[], dtype: Dtype = "f32") => cpu.zeros({ shape, dtype });
  const [table, ids, y] = [numbers([3, 4]), numbers([2], "u32"), numbers([2, 4])];
  const lookUp = (firstRow: number, operands: Partial<Record<"table" | "ids" | "y", HostTensor>>) =>
    cpu.run(embeddingPiece, { table, ids, y, ...operands }, { firstRow });
  const write = (column: number, x: HostTensor) => cpu.run(writeColumns, { y, x }, { column });
  const refusals: [run: () => unknown, message: string][] = [
    [() => lookUp(-1, {}), "firstRow must be a whole number from 0 to 4294967293"],
    [() => lookUp(0.5, {}), "firstRow must be a whole number"],
    [() => lookUp(2 ** 32 - 2, {}), "firstRow must be a whole number"],
    [() => lookUp(0, { y: numbers([2, 5]) }), "y must have shape [2, 4]"],
    [() => lookUp(0, { y: numbers([2, 4], "bf16") }), "y must be f32 or f16"],
    [() => lookUp(0, { ids: numbers([2], "i32") }), "ids must be u32"],
    [() => lookUp(0, { table: numbers([3, 4, 1]) }), "table must have two axes"],
    [() => write(1, numbers([2, 4])), "column must be a whole number from 0 to 0"],
    [() => write(-1, numbers([2, 1])), "column must be a whole number from 0 to 3"],
    [() => write(NaN, numbers([2, 1])), "column must be a whole number from 0 to 3"],
    [() => write(0, numbers([2, 5])), "x must have at most 4 columns"],
    [() => write(0, numbers([3, 2])), "x must be f32[2, columns]"],
    [() => write(0, numbers([2, 2], "f16")), "x must be f32[2, columns]"],
    [() => write(0, y), "y must not be another input too"],
  ];
  for (const [run, message] of refusals) assertThrows(run, KernelArgumentError, message);
  lookUp(2 ** 32 - 3, {});
  write(3, numbers([2, 1]));
});

/** Tensors on a backend that are given back together. */
function disposableInputs<T extends Tensor, Name extends string>(
  backend: Backend<T>,
  tensors: Readonly<Record<Name, HostTensor>>,
): { readonly tensors: Readonly<Record<Name, T>> } & Disposable {
  const uploaded = {} as Record<Name, T>;
  for (const name in tensors) uploaded[name] = backend.upload(tensors[name]);
  return {
    tensors: uploaded,
    [Symbol.dispose]() {
      for (const name in uploaded) uploaded[name][Symbol.dispose]();
    },
  };
}
