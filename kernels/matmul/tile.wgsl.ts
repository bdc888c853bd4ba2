/**
 * Writes the WGSL of the tile kernels. naga unrolls nothing and keeps indexed arrays in memory, so a
 * fast kernel spells its sums out under names of their own; here they are written by a loop. Four k are
 * spelled out per turn of the inner loop: naga's guard of a loop is then a few instructions to 256
 * multiply-adds, and the text stays short enough to read and to compile.
 *
 * @module
 */

import type { WgslFile } from "../../runtime/wgsl.ts";
import type { MatmulLayout } from "./matmul.ts";

/** Sizes of a tile. */
export interface TileShape {
  /** Rows of y per workgroup. */
  readonly tileM: number;
  /** Columns of y per workgroup. */
  readonly tileN: number;
  /** Terms of the sums per stage in workgroup memory. */
  readonly tileK: number;
  /** Invocations along m and n; each has tileM / m by tileN / n outputs: 4 or 8 either way. */
  readonly invocations: readonly [m: number, n: number];
}

/** How the operands are stored. */
export interface TileForm {
  /** Layout of weight. */
  readonly layout: MatmulLayout;
  /** Elements of x in one load: 4 where K is a multiple of 4. */
  readonly xLanes: 1 | 4;
  /** Elements of weight in one load: 4 where its rows are a multiple of 4. */
  readonly weightLanes: 1 | 4;
  /** Elements of y and bias in one access: 4 where N is a multiple of 4. */
  readonly yLanes: 1 | 4;
}

/**
 * The kernel of a tile shape and a storage form.
 *
 * @throws {RangeError} If the blocks of a stage cannot be dealt out evenly
 */
export function tileWgsl(shape: TileShape, form: TileForm): WgslFile {
  const { tileM, tileN, tileK, invocations: [rowsOfLanes, columnsOfLanes] } = shape;
  const { layout, xLanes, weightLanes, yLanes } = form;
  const name = `matmul_tile_${tileM === tileN ? tileM : `${tileM}x${tileN}`}`;
  const lanes = rowsOfLanes * columnsOfLanes;
  const [rowGroups, columnGroups] = [tileM / rowsOfLanes / 4, tileN / columnsOfLanes / 4];
  const [xQuads, weightQuads] = [tileM / 4, tileN / 4];
  const lines = [
    `// y = x · ${
      layout === "linear" ? "Wᵀ" : "W"
    } + bias, ${tileM}×${tileN} outputs per workgroup, ` +
    `${4 * rowGroups}×${4 * columnGroups} per invocation.`,
    "//",
    "// Slices of x and W are staged in workgroup memory, k outermost, so that one read gives four rows or",
    "// four columns. The next slice is on its way from memory while this one is multiplied. An",
    "// invocation's groups of four lie far apart, so that neighbours read neighbouring words.",
    "// Written by tile.wgsl.ts.",
    "",
    "override HAS_BIAS: bool;",
    `override K_TAIL: bool;   // K is not a multiple of ${tileK}`,
    "",
    "struct Params {",
    "  m: u32,                // rows of x per batch, at least 1",
    "  n: u32,                // columns of y, at least 1",
    "  k: u32,                // terms of a sum, at least 1",
    "  row_tiles: u32,        // tiles along m",
    "  column_tiles: u32,     // tiles along n",
    "  count: u32,            // tiles of all batches",
    "}",
    "",
    "@group(0) @binding(0) var<uniform> params: Params;",
    `@group(0) @binding(1) var<storage, read> x: array<x_${kind(xLanes)}>;  // [B, M, K]`,
    `@group(0) @binding(2) var<storage, read> weight: array<weight_${kind(weightLanes)}>;  // ` +
    (layout === "linear" ? "[B, N, K]" : "[B, K, N]"),
    `@group(0) @binding(3) var<storage, read> bias: array<bias_${kind(yLanes)}>;  // [N]`,
    `@group(0) @binding(4) var<storage, read_write> y: array<y_${kind(yLanes)}>;  // [B, M, N]`,
    "",
    `// x [${tileK}, ${tileM}], then W [${tileK}, ${tileN}]; quads of 4k to 4k + 3 are swapped in place by 2k,`,
    "// so that the invocations that stage one row's neighbouring k write to different banks.",
    `var<workgroup> stage: array<vec4<f32>, ${tileK * (xQuads + weightQuads)}>;`,
    "",
    ...blockOfRows("x", "m", xLanes),
    "",
    ...(layout === "linear"
      ? blockOfRows("weight", "n", weightLanes)
      : blockOfColumns(weightLanes)),
    "",
    `@compute @workgroup_size(${lanes})`,
    `fn ${name}(`,
    "  @builtin(workgroup_id) workgroup: vec3<u32>,",
    "  @builtin(num_workgroups) workgroups: vec3<u32>,",
    "  @builtin(local_invocation_index) lane: u32,",
    ") {",
    "  let tile = workgroup.y * workgroups.x + workgroup.x;",
    "  if (tile >= params.count) {",
    "    return;",
    "  }",
    "  // Eight tiles down, then one to the right: the tiles in flight share their operands in the cache.",
    "  let tiles = params.row_tiles * params.column_tiles;",
    "  let batch = tile / tiles;",
    "  let strip = tile % tiles / (8u * params.column_tiles);",
    "  let place = tile % tiles % (8u * params.column_tiles);",
    "  let height = min(params.row_tiles - strip * 8u, 8u);",
    `  let tile_row = (strip * 8u + place % height) * ${tileM}u;`,
    `  let tile_column = place / height * ${tileN}u;`,
    `  let lane_row = lane / ${columnsOfLanes}u;`,
    `  let lane_column = lane % ${columnsOfLanes}u;`,
    "",
    ...indent(1, stagePlan(shape, form)),
    "",
    ...each(
      4 * rowGroups,
      (row) => each(columnGroups, (group) => [`  var sum${row}_${group} = vec4<f32>();`]),
    ),
    `  for (var k = 0u; k < params.k; k += ${tileK}u) {`,
    ...indent(2, stageWrite(shape)),
    "    // Makes the slice visible to all.",
    "    workgroupBarrier();",
    `    if (k + ${tileK}u < params.k) {`,
    ...indent(3, stageLoad(shape, `k + ${tileK}u`, false)),
    "    }",
    `    for (var four = 0u; four < ${tileK / 4}u; four++) {`,
    `      let x_at = four * ${4 * xQuads}u + (lane_row ^ (four * 2u));`,
    `      let weight_at = ${tileK * xQuads}u + four * ${
      4 * weightQuads
    }u + (lane_column ^ (four * 2u));`,
    ...indent(3, each(4, (k) => multiplyAdd(k, rowGroups, columnGroups, shape))),
    "    }",
    "    // Keeps the slice until all have read it.",
    "    workgroupBarrier();",
    "  }",
    "",
    "  // Write. Rolled, since compile time grows with the square of the number of stores.",
    `  for (var part = 0u; part < ${4 * rowGroups * columnGroups}u; part++) {`,
    "    var value = vec4<f32>();",
    "    switch part {",
    ...each(4 * rowGroups, (row) =>
      each(columnGroups, (group) => [
        `      case ${row * columnGroups + group}u: { value = sum${row}_${group}; }`,
      ])),
    "      default: {}",
    "    }",
    `    let part_row = part / ${columnGroups}u;`,
    `    let row = tile_row + part_row / 4u * ${
      tileM / rowGroups
    }u + lane_row * 4u + part_row % 4u;`,
    `    let column = tile_column + part % ${columnGroups}u * ${
      tileN / columnGroups
    }u + lane_column * 4u;`,
    "    if (row < params.m && column < params.n) {",
    ...indent(3, store(yLanes)),
    "    }",
    "  }",
    "}",
    "",
  ];
  const variant = `${layout}, ${xLanes}-${weightLanes}-${yLanes}`;
  return {
    file: `matmul/tile.wgsl.ts (${tileM}×${tileN}×${tileK}, ${lanes} invocations, ${variant})`,
    text: lines.join("\n"),
  };
}

const kind = (lanes: 1 | 4) => lanes === 4 ? "vec4" : "scalar";

/** The lines that `make` gives for 0 to count − 1. */
function each(count: number, make: (i: number) => string[]): string[] {
  return Array.from({ length: count }, (_, i) => make(i)).flat();
}

function indent(levels: number, lines: readonly string[]): string[] {
  return lines.map((line) => "  ".repeat(levels) + line);
}

/** Functions that load four k of four rows of x, or of a linear W; a matrix column per k. */
function blockOfRows(operand: "x" | "weight", rows: "m" | "n", lanes: 1 | 4): string[] {
  const perRow = lanes === 4 ? "(params.k / 4u)" : "params.k";
  return [
    `// Where four rows of ${operand} begin. Rows past the end read the last one, and are not stored.`,
    `fn ${operand}_starts(batch: u32, row: u32) -> vec4<u32> {`,
    `  let rows = min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.${rows} - 1u));`,
    `  return (batch * params.${rows} + rows) * ${perRow};`,
    "}",
    "",
    ...(lanes === 4
      ? [
        `fn ${operand}_four(start: u32, k: u32) -> vec4<f32> {`,
        "  if (!K_TAIL) {",
        `    return load_${operand}4(start + k / 4u);`,
        "  }",
        `  let four = load_${operand}4(start + min(k, params.k - 4u) / 4u);`,
        "  return select(vec4<f32>(), four, k < params.k);",
        "}",
      ]
      : [
        `fn ${operand}_one(start: u32, k: u32) -> f32 {`,
        `  return select(0.0, load_${operand}(start + min(k, params.k - 1u)), k < params.k);`,
        "}",
        "",
        `fn ${operand}_four(start: u32, k: u32) -> vec4<f32> {`,
        "  return vec4<f32>(",
        ...each(4, (i) => [`    ${operand}_one(start, k + ${i}u),`]),
        "  );",
        "}",
      ]),
    "",
    `fn ${operand}_block(starts: vec4<u32>, k: u32) -> mat4x4<f32> {`,
    "  return transpose(mat4x4<f32>(",
    ...["x", "y", "z", "w"].map((row) => `    ${operand}_four(starts.${row}, k),`),
    "  ));",
    "}",
  ];
}

/** Functions that load four k of four columns of a plain W; a matrix column per k. */
function blockOfColumns(lanes: 1 | 4): string[] {
  const perK = lanes === 4 ? "(params.n / 4u)" : "params.n";
  return [
    "// Where four columns of weight begin. Columns past the end read the last, and are not stored.",
    "fn weight_starts(batch: u32, column: u32) -> vec4<u32> {",
    lanes === 4
      ? "  let columns = vec4<u32>(min(column, params.n - 4u) / 4u);"
      : "  let columns = min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u));",
    `  return batch * params.k * ${perK} + columns;`,
    "}",
    "",
    "fn weight_four(starts: vec4<u32>, k: u32) -> vec4<f32> {",
    `  let at = starts + min(k, params.k - 1u) * ${perK};`,
    ...(lanes === 4 ? ["  let four = load_weight4(at.x);"] : [
      "  let four = vec4<f32>(",
      ...["x", "y", "z", "w"].map((column) => `    load_weight(at.${column}),`),
      "  );",
    ]),
    "  return select(vec4<f32>(), four, !K_TAIL || k < params.k);",
    "}",
    "",
    "fn weight_block(starts: vec4<u32>, k: u32) -> mat4x4<f32> {",
    "  return mat4x4<f32>(",
    ...each(4, (i) => [`    weight_four(starts, k + ${i}u),`]),
    "  );",
    "}",
  ];
}

/** One block that an invocation stages per slice: of x, of weight, or of x for the first `split`. */
type Turn = { readonly first: number; readonly of: "x" | "weight" | "either" };

/** Deals the 4×4 blocks of a slice out to the invocations. */
function turns({ tileM, tileN, tileK, invocations: [m, n] }: TileShape): Turn[] {
  const lanes = m * n;
  const xBlocks = tileM * tileK / 16;
  const blocks = xBlocks + tileN * tileK / 16;
  if (blocks % lanes !== 0) {
    throw new RangeError(`Cannot make a tile: ${blocks} blocks must divide among ${lanes} lanes`);
  }
  return Array.from({ length: blocks / lanes }, (_, turn) => {
    const first = turn * lanes;
    const of = first + lanes <= xBlocks ? "x" : first >= xBlocks ? "weight" : "either";
    return { first, of } as const;
  });
}

/** Which block each turn stages, where it goes, and the first slice's loads. */
function stagePlan(shape: TileShape, { layout }: TileForm): string[] {
  const { tileM, tileN, tileK } = shape;
  const fours = tileK / 4;
  const xBlocks = tileM * tileK / 16;
  const place = (of: "x" | "weight", t: number, first: number) => {
    const skipped = first - (of === "weight" ? xBlocks : 0);
    const block = skipped === 0
      ? "lane"
      : skipped > 0
      ? `(lane + ${skipped}u)`
      : `(lane - ${-skipped}u)`;
    const quads = (of === "x" ? tileM : tileN) / 4;
    // Neighbours take neighbouring addresses: along k where rows are stored along k, else along n.
    const alongK = of === "x" || layout === "linear";
    const stageFirst = of === "x" ? 0 : tileK * tileM / 4;
    return [
      `four${t} = ${block} ${alongK ? "%" : "/"} ${alongK ? fours : quads}u;`,
      `let quad = ${block} ${alongK ? "/" : "%"} ${alongK ? fours : quads}u;`,
      `starts${t} = ${of}_starts(batch, tile_${of === "x" ? "row" : "column"} + quad * 4u);`,
      `to${t} = ${stageFirst}u + four${t} * ${4 * quads}u + (quad ^ (four${t} * 2u));`,
    ];
  };
  return turns(shape).flatMap(({ first, of }, t) => [
    `// Block ${t} that this invocation stages: four k of four ${
      of === "x" ? "rows of x" : of === "weight" ? "columns of y" : "rows of x, or columns of y"
    }.`,
    `var four${t}: u32;`,
    `var to${t}: u32;`,
    `var starts${t}: vec4<u32>;`,
    ...(of === "either"
      ? [
        `let stages_x = lane < ${xBlocks - first}u;`,
        "if (stages_x) {",
        ...indent(1, place("x", t, first)),
        "} else {",
        ...indent(1, place("weight", t, first)),
        "}",
      ]
      : ["{", ...indent(1, place(of, t, first)), "}"]),
    `var block${t}: mat4x4<f32>;`,
  ]).concat(stageLoad(shape, "0u", true));
}

/** Loads each turn's block of the slice at `k` into registers. */
function stageLoad(shape: TileShape, k: string, isFirst: boolean): string[] {
  return turns(shape).flatMap(({ of }, t) => {
    const at = isFirst ? `four${t} * 4u` : `${k} + four${t} * 4u`;
    const load = (operand: "x" | "weight") => `block${t} = ${operand}_block(starts${t}, ${at});`;
    return of === "either"
      ? ["if (stages_x) {", `  ${load("x")}`, "} else {", `  ${load("weight")}`, "}"]
      : [load(of)];
  });
}

/** Moves each turn's block from registers into workgroup memory. */
function stageWrite(shape: TileShape): string[] {
  const { tileM, tileN } = shape;
  return turns(shape).flatMap(({ of }, t) => {
    const quads = (of === "weight" ? tileN : tileM) / 4;
    return each(4, (k) => [`stage[to${t}${k > 0 ? ` + ${k * quads}u` : ""}] = block${t}[${k}];`]);
  });
}

/** Adds the products of one k. */
function multiplyAdd(
  k: number,
  rowGroups: number,
  columnGroups: number,
  { tileM, tileN, invocations: [m, n] }: TileShape,
): string[] {
  const read = (base: string, offset: number) =>
    `stage[${base}${offset > 0 ? ` + ${offset}u` : ""}]`;
  return [
    ...each(rowGroups, (g) => [`let x${k}_${g} = ${read("x_at", k * tileM / 4 + g * m)};`]),
    ...each(columnGroups, (g) => [`let w${k}_${g} = ${read("weight_at", k * tileN / 4 + g * n)};`]),
    ...each(4 * rowGroups, (row) =>
      each(columnGroups, (group) => {
        const [sum, x] = [`sum${row}_${group}`, `x${k}_${row >> 2}.${"xyzw"[row & 3]}`];
        return [`${sum} = fma(vec4<f32>(${x}), w${k}_${group}, ${sum});`];
      })),
  ];
}

/** Adds the bias to `value` and stores it at `row` and `column`. */
function store(lanes: 1 | 4): string[] {
  const start = "let start = (batch * params.m + row) * params.n + column;";
  return lanes === 4
    ? [
      start,
      "if (HAS_BIAS) {",
      "  value += load_bias4(column / 4u);",
      "}",
      "store_y4(start / 4u, value);",
    ]
    : [
      start,
      "for (var j = 0u; j < 4u && column + j < params.n; j++) {",
      "  var one = value[j];",
      "  if (HAS_BIAS) {",
      "    one += load_bias(column + j);",
      "  }",
      "  store_y(start + j, one);",
      "}",
    ];
}
