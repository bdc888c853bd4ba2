/**
 * Writes the attention kernel for GPUs: two products of tiles, as in a tiled matmul, with the softmax
 * between them.
 *
 * What bounds it is reading workgroup memory, so each invocation keeps a small tile of scores and one of
 * the result in registers. Those must be named, since neither WGSL nor every driver unrolls a loop, and
 * how many there are depends on D and on the workgroup memory of the device.
 *
 * @module
 */

import type { WgslFile } from "../../runtime/wgsl.ts";
import rowsWgsl from "./rows.wgsl" with { type: "text" };
import visibleWgsl from "./visible.wgsl" with { type: "text" };

/** How a workgroup shares out a tile of rows by keys. */
export interface TileShape {
  /** Invocations. */
  readonly invocations: number;
  /** Rows of the tile. */
  readonly rows: number;
  /** Keys of the tile. */
  readonly keys: number;
  /** Rows of an invocation's scores. */
  readonly scoreRows: number;
  /** Keys of an invocation's scores: 2 or 4. */
  readonly scoreKeys: number;
  /** Rows of an invocation's result, which is one group of four columns wide. */
  readonly resultRows: number;
}

const LEAST_INVOCATIONS = 64;
const MOST_INVOCATIONS = 192;
const MOST_ROWS = 64;
const MOST_KEYS = 64;

/** What four barriers cost an invocation, in reads of workgroup memory: an estimate. */
const BARRIER_READS = 40;

/**
 * The shape that reads workgroup memory least often for a score, of those that fit.
 *
 * @param headDim elements of a head: a multiple of 4, at most 256
 * @param bytes workgroup memory
 */
export function tileShape(headDim: number, bytes: number): TileShape | undefined {
  // Without a remainder: 160 invocations for heads of 80 and 160, 128 for 64, 128 and 256.
  for (let resultLanes = 16; resultLanes >= 1; resultLanes /= 2) {
    if (resultLanes * headDim / 4 > MOST_INVOCATIONS) continue;
    let best: TileShape | undefined, least = Infinity;
    for (const shape of shapes(headDim, resultLanes)) {
      const reads = readsPerScore(headDim, shape);
      if (reads < least && workgroupBytes(headDim, shape) <= bytes) [best, least] = [shape, reads];
    }
    if (best) return best;
  }
  return undefined;
}

function* shapes(headDim: number, resultLanes: number): Generator<TileShape> {
  const invocations = Math.max(LEAST_INVOCATIONS, resultLanes * headDim / 4);
  for (const resultRows of [8, 4, 2, 1]) {
    const rows = resultLanes * resultRows;
    if (rows > MOST_ROWS) continue;
    for (const scoreRows of [4, 2, 1].filter((n) => rows % n === 0)) {
      for (const scoreKeys of [4, 2]) {
        // All invocations, or a half or a quarter of them where memory is short.
        for (const share of [1, 2, 4]) {
          const keyLanes = Math.floor(invocations * scoreRows / rows / share);
          const keys = Math.min(keyLanes * scoreKeys, MOST_KEYS);
          if (keys > 0) yield { invocations, rows, keys, scoreRows, scoreKeys, resultRows };
        }
      }
    }
  }
}

function readsPerScore(headDim: number, shape: TileShape): number {
  const { invocations, rows, keys, scoreRows, scoreKeys, resultRows } = shape;
  const groups = headDim / 4;
  const scores = groups * (scoreRows + scoreKeys) / (scoreRows * scoreKeys);
  const results = groups * (resultRows + scoreKeys) / (resultRows * scoreKeys);
  const idleScores = invocations * scoreRows * scoreKeys / (rows * keys);
  const idleResults = invocations * resultRows / (rows * groups);
  return scores * idleScores + results * idleResults +
    invocations * BARRIER_READS / (rows * keys) + 2 * groups / rows;
}

/** Groups from one row of a tile to the next: odd, so that a column lies in different banks. */
function pitch(headDim: number): number {
  return headDim / 4 | 1;
}

function workgroupBytes(headDim: number, { rows, keys, scoreKeys }: TileShape): number {
  const tiles = 16 * pitch(headDim) * (rows + keys);
  return tiles + 4 * rows * keys + 4 * rows * keys / scoreKeys + 4 * rows + 3 * 16;
}

const COMPONENTS = ["x", "y", "z", "w"];

/** The kernel for one head size and tile. */
export function tileWgsl(headDim: number, shape: TileShape): WgslFile {
  const { invocations, rows, keys, scoreRows, scoreKeys, resultRows } = shape;
  const keyLanes = keys / scoreKeys, rowLanes = rows / scoreRows;
  const resultLanes = rows / resultRows * headDim / 4;
  const scores = `vec${scoreKeys}<f32>`;
  const eachScoreRow = range(scoreRows), eachKey = range(scoreKeys), eachRow = range(resultRows);
  const among = (lanes: number, lines: string) =>
    lanes === invocations
      ? lines
      : `    if (lane < ${lanes}u) {\n${lines.replace(/^(?=.)/gm, "  ")}\n    }`;
  const component = (c: number) => COMPONENTS[c];

  const text = `\
// y = Σ_j p_j · v_j with p = softmax_j(scale · q · k_j), a tile of ${rows} rows per workgroup, ${keys} keys
// at a time. D = ${headDim}. A row is one token and one of the heads that share a key head.
// For the scores ${rowLanes} × ${keyLanes} invocations take ${scoreRows} rows × ${scoreKeys} keys each;
// for the result ${rows / resultRows} × ${headDim / 4} take ${resultRows} rows × 4 columns each.

override HAS_MASK: bool;

struct Params {
  rows: u32,          // T · H / G
  t: u32,             // tokens
  h: u32,             // query heads
  g: u32,             // key heads; divides h
  capacity: u32,      // slots of the cache, C
  key_length: u32,    // keys in the cache, at least 1 and at most C
  causal: u32,        // 1: row t sees the keys before key_length − (T − 1 − t), 0: every key
  key_heads: u32,     // B · G
  tiles: u32,         // tiles of rows
  scale: f32,         // scale · log2 e, as powers of 2 are taken
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<q_vec4>;        // [B, T, H, D]
@group(0) @binding(2) var<storage, read> k: array<k_vec4>;        // [B, G, C, D]
@group(0) @binding(3) var<storage, read> v: array<v_vec4>;        // [B, G, C, D]
@group(0) @binding(4) var<storage, read> mask: array<u32>;        // [B, key_length] or absent
@group(0) @binding(5) var<storage, read_write> y: array<y_vec4>;  // [B, T, H, D]

const GROUPS = ${headDim / 4}u;         // of four elements of a head
const PITCH = ${pitch(headDim)}u;          // groups from row to row in workgroup memory
const ROWS = ${rows}u;
const KEYS = ${keys}u;
const KEY_LANES = ${keyLanes}u;      // invocations that share a row of scores
const LOWEST = -1.0e38;     // below every score
const UNSEEN = -2.0e38;     // the score of a key that is not seen: 2 to its distance from LOWEST is 0

var<workgroup> queries: array<vec4<f32>, ROWS * PITCH>;
var<workgroup> cached: array<vec4<f32>, KEYS * PITCH>;          // k, then v
var<workgroup> weights: array<${scores}, ROWS * KEY_LANES>;
var<workgroup> statistics: array<f32, ROWS * KEY_LANES>;        // maxima, and at last sums
var<workgroup> factors: array<f32, ROWS>;                       // what the result so far shrinks by

@compute @workgroup_size(${invocations})
fn flash_attention_tile(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = workgroup.y * workgroups.x + workgroup.x;
  if (index >= params.key_heads * params.tiles) {
    return;
  }
  // The last tiles have the most keys and go first.
  let row = (params.tiles - 1u - index / params.key_heads) * ROWS;
  let key_head = index % params.key_heads;
  let first_key = key_head * params.capacity;
  let end = visible(min(row + ROWS - 1u, params.rows - 1u));
  let end_for_all = visible(row);
  let score_row = lane / KEY_LANES * ${scoreRows}u;
  let key_lane = lane % KEY_LANES;
  let result_row = lane / GROUPS * ${resultRows}u;
  let column = lane % GROUPS;

  for (var i = lane; i < ROWS * GROUPS; i += ${invocations}u) {
    let start = row_start(key_head, row + i / GROUPS);
    queries[i / GROUPS * PITCH + i % GROUPS] = params.scale * load_q4(start + i % GROUPS);
  }
${eachScoreRow.map((i) => `  var highest${i} = LOWEST;\n  var total${i} = 0.0;`).join("\n")}
${eachRow.map((r) => `  var acc${r} = vec4<f32>();`).join("\n")}
  for (var key = 0u; key < end; key += KEYS) {
    // Load k. Keys that one invocation takes are apart, so that neighbours read neighbouring slots.
    for (var i = lane; i < KEYS * GROUPS; i += ${invocations}u) {
      let j = i / GROUPS;
      let slot = j % ${scoreKeys}u * KEY_LANES + j / ${scoreKeys}u;
      let start = (first_key + min(key + j, end - 1u)) * GROUPS;
      cached[slot * PITCH + i % GROUPS] = load_k4(start + i % GROUPS);
    }
    workgroupBarrier();  // q and k are there before any is read

    // Scores.
${eachScoreRow.map((i) => `    var s${i} = ${scores}();`).join("\n")}
${
    among(
      rowLanes * keyLanes,
      `    for (var i = 0u; i < GROUPS; i++) {
${
        eachKey.map((c) => `      let k${c} = cached[${keySlot(c)} * PITCH + i];`)
          .join("\n")
      }
${
        eachScoreRow.map((i) => {
          const dots = eachKey.map((c) => `dot(q${i}, k${c})`).join(", ");
          return `      let q${i} = queries[${at("score_row", i)} * PITCH + i];
      s${i} += ${scores}(${dots});`;
        }).join("\n")
      }
    }
    let own_keys = key + key_lane * ${scoreKeys}u + vec${scoreKeys}<u32>(${
        eachKey.map((c) => `${c}u`).join(", ")
      });
    if (key + KEYS > end_for_all) {
${
        eachScoreRow.map((i) =>
          `      s${i} = select(${scores}(UNSEEN), s${i}, own_keys < ` +
          `vec${scoreKeys}<u32>(visible(row + score_row${plus(i)})));`
        ).join("\n")
      }
    }
    if (HAS_MASK) {
      let first = key_head / params.g * params.key_length;
      let real = vec${scoreKeys}<bool>(
${
        eachKey.map((c) => `        mask[first + min(own_keys.${component(c)}, end - 1u)] != 0u,`)
          .join("\n")
      }
      );
${
        eachScoreRow.map((i) => `      s${i} = select(${scores}(UNSEEN), s${i}, real);`)
          .join("\n")
      }
    }
${
        eachScoreRow.map((i) =>
          `    statistics[${at("score_row", i)} * KEY_LANES + key_lane] = ` +
          `${maxOf(eachKey.map((c) => `s${i}.${component(c)}`))};`
        ).join("\n")
      }`,
    )
  }
    workgroupBarrier();  // every maximum is there, and k was read before v takes its place

    // Load v.
    for (var i = lane; i < KEYS * GROUPS; i += ${invocations}u) {
      let j = min(key + i / GROUPS, end - 1u);
      var value = load_v4((first_key + j) * GROUPS + i % GROUPS);
      if (HAS_MASK) {  // padding may hold NaN, which a weight of 0 would not silence
        let real = mask[key_head / params.g * params.key_length + j] != 0u;
        value = select(vec4<f32>(), value, real);
      }
      cached[i / GROUPS * PITCH + i % GROUPS] = value;
    }

    // Weights, and what the sums so far must shrink by as the maximum grows.
${
    among(
      rowLanes * keyLanes,
      `${eachScoreRow.map((i) => `    var raised${i} = highest${i};`).join("\n")}
    for (var i = 0u; i < KEY_LANES; i++) {
${
        eachScoreRow.map((i) =>
          `      raised${i} = max(raised${i}, statistics[${at("score_row", i)} * KEY_LANES + i]);`
        ).join("\n")
      }
    }
${
        eachScoreRow.map((i) =>
          `    s${i} = exp2(s${i} - raised${i});
    let factor${i} = exp2(highest${i} - raised${i});
    total${i} = total${i} * factor${i} + ${eachKey.map((c) => `s${i}.${component(c)}`).join(" + ")};
    highest${i} = raised${i};
    weights[${at("score_row", i)} * KEY_LANES + key_lane] = s${i};`
        ).join("\n")
      }
    if (key_lane == 0u) {
${eachScoreRow.map((i) => `      factors[score_row${plus(i)}] = factor${i};`).join("\n")}
    }`,
    )
  }
    workgroupBarrier();  // weights, factors and v are there before any is read

    // Result.
${
    among(
      resultLanes,
      `${eachRow.map((r) => `    acc${r} *= factors[result_row${plus(r)}];`).join("\n")}
    for (var i = 0u; i < KEY_LANES; i++) {
${
        eachKey.map((c) =>
          `      let v${c} = cached[(i * ${scoreKeys}u${plus(c)}) * PITCH + column];`
        ).join("\n")
      }
${
        eachRow.map((r) => {
          const terms = eachKey.map((c) => `p${r}.${component(c)} * v${c}`).join(" + ");
          return `      let p${r} = weights[${at("result_row", r)} * KEY_LANES + i];
      acc${r} += ${terms};`;
        }).join("\n")
      }
    }`,
    )
  }
    workgroupBarrier();  // v, weights and maxima were read before they are overwritten
  }

  // Write.
${
    outdent(among(
      rowLanes * keyLanes,
      eachScoreRow.map((i) =>
        `    statistics[${at("score_row", i)} * KEY_LANES + key_lane] = total${i};`
      ).join("\n"),
    ))
  }
  workgroupBarrier();  // every part of the sums is there before any is read
${
    outdent(among(
      resultLanes,
      eachRow.map((r) => `    write_row(key_head, row, result_row${plus(r)}, column, acc${r});`)
        .join("\n"),
    ))
  }
}

fn write_row(key_head: u32, first: u32, r: u32, column: u32, acc: vec4<f32>) {
  var sum = 0.0;
  for (var i = 0u; i < KEY_LANES; i++) {
    sum += statistics[r * KEY_LANES + i];
  }
  let share = select(0.0, 1.0 / sum, sum > 0.0);  // a row that sees no key is 0
  if (first + r < params.rows) {
    store_y4(row_start(key_head, first + r) + column, share * acc);
  }
}
`;
  return {
    file: `flash_attention/tile_d${headDim}_${rows}x${keys}.wgsl`,
    text: text + rowsWgsl + visibleWgsl,
  };
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** An offset, left out where it is 0. */
function plus(offset: number): string {
  return offset === 0 ? "" : ` + ${offset}u`;
}

function at(base: string, offset: number): string {
  return offset === 0 ? base : `(${base} + ${offset}u)`;
}

/** Where the c-th key of an invocation is. */
function keySlot(c: number): string {
  return c === 0
    ? "key_lane"
    : c === 1
    ? "(key_lane + KEY_LANES)"
    : `(key_lane + ${c}u * KEY_LANES)`;
}

/** The lines, one level further out. */
function outdent(lines: string): string {
  return lines.replace(/^ {2}/gm, "");
}

function maxOf(items: readonly string[]): string {
  return items.reduce((a, b) => `max(${a}, ${b})`);
}
