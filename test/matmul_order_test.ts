/** The order of matmul's sums: with `order` given, a row's bits do not depend on the number of rows. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  CpuBackend,
  type DeviceProfile,
  drawTensor,
  type GpuBackend,
  type GpuTensor,
  HostTensor,
  KernelArgumentError,
  matmul,
  MATMUL_ORDERS,
  type MatmulAttributes,
  type MatmulOrder,
  Random,
  type TensorSpec,
} from "../mod.ts";
import type { AnyOp } from "../mod.ts";
import { chooseVariant } from "../runtime/variants.ts";
import { SEED, sharedBackend } from "./device.ts";

/** A product without its number of rows. */
interface Product {
  readonly name: string;
  readonly k: number;
  readonly n: number;
  readonly layout?: "linear" | "plain";
  readonly x?: "f32" | "f16";
  readonly weight?: "f32" | "f16" | "bf16";
  readonly bias?: "f32" | "bf16";
}

const PRODUCTS: readonly Product[] = [
  { name: "f32, odd N, bias", k: 264, n: 41, bias: "f32" },
  { name: "f32, K of no whole words, bias", k: 267, n: 41, bias: "f32" },
  { name: "f16 weight", k: 264, n: 44, weight: "f16" },
  {
    name: "bf16 weight, f16 x and y, odd N, bias",
    k: 264,
    n: 41,
    x: "f16",
    weight: "bf16",
    bias: "bf16",
  },
  { name: "bf16 weight, half a word over", k: 260, n: 70, weight: "bf16" },
  { name: "plain", k: 36, n: 44, layout: "plain" },
];

const ROWS = [1, 2, 3, 8, 9, 17, 33];
const MOST_ROWS = Math.max(...ROWS);

/** Variants that sum in one order: a choice among them changes no bit. */
const SAME_ORDER: readonly (readonly string[])[] = [
  ["matvec_subgroup"],
  ["matvec_tree"],
  ["subgroup_tile", "direct_8x8", "matvec_direct"],
  ["tile_32", "tile_64", "tile_128"],
];

function orderOfVariants([name]: readonly string[]): MatmulOrder {
  return name === "matvec_subgroup" || name === "matvec_tree" ? "vector" : "tile";
}

/** True for what order vector is made for; of other products it makes a tile. */
function hasWholeWords({ k, layout, weight = "f32" }: Product): boolean {
  return layout !== "plain" && k * (weight === "f32" ? 4 : 2) % 16 === 0;
}

/** Operands of the longest run; shorter ones take the first or the last of its rows. */
function draw({ k, n, layout, x = "f32", weight = "f32", bias }: Product) {
  const random = new Random(SEED, "matmul_order");
  const weightShape = layout === "plain" ? [k, n] : [n, k];
  return {
    x: drawTensor({ shape: [MOST_ROWS, k], dtype: x }, "normal", random),
    weight: drawTensor({ shape: weightShape, dtype: weight }, "normal", random),
    ...(bias && { bias: drawTensor({ shape: [n], dtype: bias }, "normal", random) }),
  };
}

/** A number of rows, from the beginning or from the end, and the variant that computes them. */
interface Part {
  readonly rows: number;
  readonly fromEnd?: boolean;
  readonly variant?: string;
}

/** Runs each part, and says which of their rows differ from those of the first part: the whole. */
async function rowsThatDiffer(
  backend: GpuBackend,
  product: Product,
  order: MatmulOrder,
  parts: readonly Part[],
): Promise<string[]> {
  const { x, weight, bias } = draw(product);
  const tensors: GpuTensor[] = [];
  const keep = (tensor: GpuTensor) => (tensors.push(tensor), tensor);
  const operands = {
    weight: keep(backend.upload(weight)),
    ...(bias && { bias: keep(backend.upload(bias)) }),
  };
  const attributes: MatmulAttributes = { layout: product.layout ?? "linear", order };
  const outputs = parts.map(({ rows, fromEnd = false, variant }) => {
    const perRow = x.bytes.length / MOST_ROWS;
    const first = fromEnd ? MOST_ROWS - rows : 0;
    const own = { shape: [rows, product.k], dtype: x.dtype };
    const some = keep(backend.upload(HostTensor.fromBytes(own, x.bytes.subarray(first * perRow))));
    const inputs = { x: some, ...operands };
    return keep(
      backend.run(matmul, inputs, attributes, variant === undefined ? {} : { variant }).y,
    );
  });
  const values = await Promise.all(outputs.map((y) => backend.read(y)));
  for (const tensor of tensors) tensor[Symbol.dispose]();

  const whole = rowsOf(values[0]!);
  assertEquals(whole.length, MOST_ROWS);
  assert(new Set(whole).size === MOST_ROWS, "rows of different x are different");
  return parts.flatMap(({ rows, fromEnd = false, variant = "preferred" }, i) => {
    const wanted = fromEnd ? whole.slice(-rows) : whole.slice(0, rows);
    return rowsOf(values[i]!).flatMap((bits, row) =>
      bits === wanted[row] ? [] : [`${variant}: row ${row} of ${rows}${fromEnd ? " last" : ""}`]
    );
  });
}

/** The bits of each row, as text. */
function rowsOf({ shape, bytes }: HostTensor): string[] {
  const perRow = bytes.length / shape[0]!;
  return Array.from(
    { length: shape[0]! },
    (_, row) => bytes.subarray(row * perRow, (row + 1) * perRow).toHex(),
  );
}

const EVERY_LENGTH: readonly Part[] = [
  { rows: MOST_ROWS },
  ...ROWS.map((rows) => ({ rows })),
  ...ROWS.map((rows) => ({ rows, fromEnd: true })),
];

for (const order of MATMUL_ORDERS) {
  Deno.test(`matmul: in order ${order} a row has the same bits among 1 to ${MOST_ROWS} rows`, async () => {
    const backend = await sharedBackend();
    for (const product of PRODUCTS) {
      const differ = await rowsThatDiffer(backend, product, order, EVERY_LENGTH);
      assertEquals(differ, [], `${product.name} (seed ${SEED})`);
    }
  });
}

for (const names of SAME_ORDER) {
  Deno.test(`matmul: a row has the same bits in ${names.join(", ")}`, async () => {
    const backend = await sharedBackend();
    const order = orderOfVariants(names);
    for (const product of PRODUCTS.filter((any) => order === "tile" || hasWholeWords(any))) {
      const parts = names.flatMap((variant) =>
        EVERY_LENGTH
          .filter(({ rows }) => variant !== "matvec_direct" || rows === 1)
          .map((part) => ({ ...part, variant }))
      );
      const differ = await rowsThatDiffer(backend, product, order, parts);
      assertEquals(differ, [], `${product.name} (seed ${SEED})`);
    }
  });
}

Deno.test("matmul: with an order, the number of rows chooses among variants of the same bits", async () => {
  const { profile } = await sharedBackend();
  const gpu = { ...profile, isSoftware: false };
  const sizes = (least: number, most = least) => ({
    hasSubgroups: true,
    subgroupMinSize: least,
    subgroupMaxSize: most,
  });
  const none = { hasSubgroups: false, subgroupMinSize: 0, subgroupMaxSize: 0 };
  const devices: Record<string, DeviceProfile> = {
    "this one": profile,
    "software, subgroups of 8": { ...profile, isSoftware: true, ...sizes(8) },
    "software, subgroups of 4": { ...profile, isSoftware: true, ...sizes(4) },
    "software without subgroups": { ...profile, isSoftware: true, ...none },
    "GPU, subgroups of 32": { ...gpu, ...sizes(32) },
    "GPU, subgroups of 32 or 64": { ...gpu, ...sizes(32, 64) },
    "GPU without subgroups": { ...gpu, ...none },
  };
  const rows = [...Array.from({ length: 40 }, (_, i) => i + 1), 100, 513, 4096, 20_000];
  for (const [device, itsProfile] of Object.entries(devices)) {
    for (const product of [...PRODUCTS, { name: "3B gate", k: 2560, n: 6912 }]) {
      for (const order of MATMUL_ORDERS) {
        const names = new Set(rows.map((m) => chosen(itsProfile, product, order, m)));
        const group = SAME_ORDER.find((group) => [...names].every((name) => group.includes(name)));
        assert(group, `${device}, ${product.name}, ${order}: ${[...names].join(", ")}`);
        // Where the driver may choose a subgroup's size, the order in it is not fixed.
        const isFixed = itsProfile.subgroupMinSize === itsProfile.subgroupMaxSize;
        assert(isFixed || !names.has("matvec_subgroup"), `${device}, ${product.name}`);
        const isVector = order === "vector" && orderOfVariants(group) === "vector";
        const wantsVector = order === "vector" && hasWholeWords(product);
        assertEquals(isVector, wantsVector, `${device}, ${product.name}, ${order}`);
      }
    }
  }
});

function chosen(device: DeviceProfile, product: Product, order: MatmulOrder, m: number): string {
  const { k, n, layout = "linear", x = "f32", weight = "f32", bias } = product;
  const inputs: Record<string, TensorSpec> = {
    x: { shape: [m, k], dtype: x },
    weight: { shape: layout === "linear" ? [n, k] : [k, n], dtype: weight },
    ...(bias && { bias: { shape: [n], dtype: bias } }),
  };
  return chooseVariant(matmul as unknown as AnyOp, inputs, { layout, order }, device).name;
}

Deno.test("matmul: an order that is none is refused by name, on both backends", async () => {
  const backend = await sharedBackend();
  using cpu = new CpuBackend();
  const x = HostTensor.from([1, 4], [1, 2, 3, 4]);
  using onDevice = backend.upload(x);
  const attributes = (order: unknown) => ({ layout: "linear", order }) as MatmulAttributes;
  for (const order of ["fast", null, 0, true]) {
    const rule = `order must be one of vector, tile: ${order}`;
    const refused = (run: () => unknown) => assertThrows(run, KernelArgumentError, rule);
    refused(() => cpu.run(matmul, { x, weight: x }, attributes(order)));
    refused(() => backend.run(matmul, { x: onDevice, weight: onDevice }, attributes(order)));
  }
});
