/**
 * Writes the attention kernel for rasterisers that run on a CPU.
 *
 * There a load costs as much as ten arithmetic operations, whatever its address, a broadcast costs one,
 * and a loop that is not spelled out costs a third of the speed; compile time grows with the square of
 * the number of loads and stores. So a subgroup of eight shares every load, sums stay in registers
 * with constant indices, and the number of registers, which depends on D, needs text of its own.
 *
 * @module
 */

import type { WgslFile } from "../../runtime/wgsl.ts";
import rowsWgsl from "./rows.wgsl" with { type: "text" };
import visibleWgsl from "./visible.wgsl" with { type: "text" };

/** What the text of the kernel depends on. */
export interface SubgroupKernel {
  /** Elements of a head, D: a multiple of 4. */
  readonly headDim: number;
  /** Rows of a tile: 4, 8 or 16. */
  readonly rows: number;
  /** Keys that each lane takes of a tile: 2 or 4. */
  readonly keysPerLane: number;
}

const COMPONENTS = ["x", "y", "z", "w"];

/** The kernel for one head size and tile. */
export function subgroup8({ headDim, rows, keysPerLane }: SubgroupKernel): WgslFile {
  const groups = headDim / 4;
  const slots = Math.floor(groups / 8), rest = groups % 8;
  // Four groups left over: half of the lanes take them from one key, half from the next.
  const isHalf = rest === 4;
  const width = slots + (rest > 0 ? 1 : 0);
  const eachRow = range(rows), eachKey = range(keysPerLane), eachQuad = range(rows / 4);
  const quad = (r: number) => `[${Math.floor(r / 4)}].${COMPONENTS[r % 4]}`;
  const key = (c: number) => COMPONENTS[c];
  const perRow = (line: (r: number) => string) => eachRow.map(line);
  const slot = (w: number) => w < slots || isHalf ? `lane${plus(8 * w)}` : `last_slot`;
  const scores = `vec${keysPerLane}<f32>`;

  const text = `\
// y = Σ_j p_j · v_j with p = softmax_j(scale · q · k_j), a tile of ${rows} rows per subgroup of 8.
// D = ${headDim}. A row is one token and one of the heads that share a key head. Each lane takes
// ${keysPerLane} keys of a tile for the scores, and ${width} groups of four columns for the result.

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

const GROUPS = ${groups}u;         // of four elements of a head
const LOWEST = -1.0e38;     // below every score
const UNSEEN = -2.0e38;     // the score of a key that is not seen: 2 to its distance from LOWEST is 0

@compute @workgroup_size(8)
fn flash_attention_subgroup_8(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = workgroup.y * workgroups.x + workgroup.x;
  if (index >= params.key_heads * params.tiles) {
    return;
  }
  // The last tiles have the most keys and go first.
  let row = (params.tiles - 1u - index / params.key_heads) * ${rows}u;
  let key_head = index % params.key_heads;
  let first_key = key_head * params.capacity;
${
    range(Math.ceil(rows / 8)).map((i) =>
      `  let q_start${i} = row_start(key_head, row${plus(8 * i)} + lane % ${Math.min(rows, 8)}u);`
    ).join("\n")
  }
  let end = visible(min(row + ${rows - 1}u, params.rows - 1u));
  let end_for_all = visible(row);${
    rest > 0 && !isHalf ? `\n  let last_slot = min(lane + ${8 * slots}u, GROUPS - 1u);` : ""
  }

  var highest: array<vec4<f32>, ${rows / 4}>;
${eachQuad.map((i) => `  highest[${i}] = vec4<f32>(LOWEST);`).join("\n")}
  var total: array<vec4<f32>, ${rows / 4}>;     // of this lane's keys
  var acc: array<vec4<f32>, ${rows * width}>;   // ${width} groups of columns for each row
  for (var key = 0u; key < end; key += ${8 * keysPerLane}u) {
    // Scores. Each lane loads its keys and a row of q, which is broadcast to all.
${
    eachKey.map((c) =>
      `    let k_start${c} = (first_key + min(key${plus(8 * c)} + lane, end - 1u)) * GROUPS;`
    ).join("\n")
  }
    var s = array<${scores}, ${rows}>();  // said outright, as naga clears it only once otherwise
    for (var i = 0u; i < GROUPS; i++) {
${eachKey.map((c) => `      let k${c} = load_k4(k_start${c} + i);`).join("\n")}
${range(Math.ceil(rows / 8)).map((i) => `      let q${i} = load_q4(q_start${i} + i);`).join("\n")}
${
    perRow((r) =>
      `      let a${r} = subgroupBroadcast(q${Math.floor(r / 8)}, ${r % 8}u);\n` +
      `      s[${r}] += ${scores}(${eachKey.map((c) => `dot(a${r}, k${c})`).join(", ")});`
    ).join("\n")
  }
    }
${perRow((r) => `    s[${r}] *= params.scale;`).join("\n")}
    let own_keys = key + lane + ${vector(eachKey.map((c) => `${8 * c}u`))};
    if (key + ${8 * keysPerLane}u > end_for_all) {
${
    perRow((r) =>
      `      s[${r}] = select(${scores}(UNSEEN), s[${r}], own_keys < ` +
      `vec${keysPerLane}<u32>(visible(row${plus(r)})));`
    ).join("\n")
  }
    }
    var real = vec${keysPerLane}<bool>(true);
    if (HAS_MASK) {
      let first = key_head / params.g * params.key_length;
      real = vec${keysPerLane}<bool>(
${eachKey.map((c) => `        mask[first + min(own_keys.${key(c)}, end - 1u)] != 0u,`).join("\n")}
      );
${perRow((r) => `      s[${r}] = select(${scores}(UNSEEN), s[${r}], real);`).join("\n")}
    }

    // Weights, and what the sums so far must shrink by as the maximum grows.
    var shrinks = false;
    var factor: array<vec4<f32>, ${rows / 4}>;
${
    eachQuad.map((i) => {
      const most = (r: number) => maxOf(eachKey.map((c) => `s[${r}].${key(c)}`));
      const four = range(4).map((n) => 4 * i + n);
      return `    let raised${i} = max(highest[${i}], across_max(vec4<f32>(\n      ${
        four.map(most).join(",\n      ")
      },\n    )));
    factor[${i}] = exp2(highest[${i}] - raised${i});
    shrinks = shrinks || any(factor[${i}] != vec4<f32>(1.0));
    highest[${i}] = raised${i};
${four.map((r) => `    s[${r}] = exp2(s[${r}] - highest${quad(r)});`).join("\n")}
    total[${i}] = total[${i}] * factor[${i}] + vec4<f32>(\n      ${
        four.map((r) => eachKey.map((c) => `s[${r}].${key(c)}`).join(" + ")).join(",\n      ")
      },\n    );`;
    }).join("\n")
  }
    if (shrinks) {
${
    perRow((r) =>
      range(width).map((w) => `      acc[${r * width + w}] *= factor${quad(r)};`).join("\n")
    ).join("\n")
  }
    }

    // Result. Every lane loads its columns of one key after another.
    for (var i = 0u; i < 8u; i++) {
${
    eachKey.map((c) =>
      `      let v_start${c} = (first_key + min(key${plus(8 * c)} + i, end - 1u)) * GROUPS;`
    ).join("\n")
  }
${
    [
      ...eachKey.flatMap((c) =>
        range(isHalf ? slots : width).map((w) =>
          `      var v${c}_${w} = load_v4(v_start${c} + ${slot(w)});`
        )
      ),
      ...range(isHalf ? keysPerLane / 2 : 0).map((n) =>
        `      var v_half${n} = load_v4(select(v_start${2 * n}, v_start${
          2 * n + 1
        }, lane >= 4u) + ` +
        `lane % 4u${plus(8 * slots)});`
      ),
    ].join("\n")
  }
      if (HAS_MASK) {  // padding may hold NaN, which a weight of 0 would not silence
        let seen = subgroupShuffle(vec${keysPerLane}<u32>(real), i);
${
    [
      ...eachKey.flatMap((c) =>
        range(isHalf ? slots : width).map((w) => silenced(`v${c}_${w}`, `seen.${key(c)}`))
      ),
      ...range(isHalf ? keysPerLane / 2 : 0).map((n) =>
        silenced(`v_half${n}`, `select(seen.${key(2 * n)}, seen.${key(2 * n + 1)}, lane >= 4u)`)
      ),
    ].join("\n")
  }
      }
${
    perRow((r) => {
      const lines = [`      let p${r} = subgroupShuffle(s[${r}], i);`];
      for (const w of range(isHalf ? slots : width)) {
        const terms = eachKey.map((c) => `p${r}.${key(c)} * v${c}_${w}`).join(" + ");
        lines.push(`      acc[${r * width + w}] += ${terms};`);
      }
      if (isHalf) {
        const terms = range(keysPerLane / 2).map((n) =>
          `select(p${r}.${key(2 * n)}, p${r}.${key(2 * n + 1)}, lane >= 4u) * v_half${n}`
        );
        lines.push(`      acc[${r * width + slots}] += ${terms.join(" + ")};`);
      }
      return lines.join("\n");
    }).join("\n")
  }
    }
  }

  // Write. Rolled, since compile time grows with the square of the number of stores; the rows move up
  // one by one, since a computed index would keep the sums out of registers.
${
    [
      ...eachQuad.map((i) => `  total[${i}] = subgroupAdd(total[${i}]);`),
      ...(isHalf ? eachRow : []).map((r) => {
        const sum = `acc[${r * width + slots}]`;
        return `  ${sum} += subgroupShuffleXor(${sum}, 4u);`;
      }),
    ].join("\n")
  }
  for (var r = 0u; r < ${rows}u && row + r < params.rows; r++) {
    let share = select(0.0, 1.0 / total[0].x, total[0].x > 0.0);  // a row that sees no key is 0
    let start = row_start(key_head, row + r);
${
    range(width).map((w) =>
      8 * w + 8 <= groups
        ? `    store_y4(start + lane${plus(8 * w)}, share * acc[${w}]);`
        : `    if (lane < ${groups - 8 * w}u) {
      store_y4(start + lane${plus(8 * w)}, share * acc[${w}]);
    }`
    ).join("\n")
  }
${range(rows - 1).map((r) => `    total${quad(r)} = total${quad(r + 1)};`).join("\n")}
${range((rows - 1) * width).map((i) => `    acc[${i}] = acc[${i + width}];`).join("\n")}
  }
}

fn across_max(value: vec4<f32>) -> vec4<f32> {
  let pairs = max(value, subgroupShuffleXor(value, 1u));
  let quads = max(pairs, subgroupShuffleXor(pairs, 2u));
  return max(quads, subgroupShuffleXor(quads, 4u));
}
`;
  return {
    file: `flash_attention/subgroup_8_d${headDim}_r${rows}_k${keysPerLane}.wgsl`,
    text: text + rowsWgsl + visibleWgsl,
  };
}

/** A line that makes a value 0 where a flag is 0. */
function silenced(value: string, flag: string): string {
  return `        ${value} = select(vec4<f32>(), ${value}, ${flag} != 0u);`;
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function vector(items: readonly string[]): string {
  return `vec${items.length}<u32>(${items.join(", ")})`;
}

/** An offset, left out where it is 0. */
function plus(offset: number): string {
  return offset === 0 ? "" : ` + ${offset}u`;
}

function maxOf(items: readonly string[]): string {
  return items.reduce((a, b) => `max(${a}, ${b})`);
}
