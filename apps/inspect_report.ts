/**
 * What `deno task inspect` prints.
 *
 * @module
 */

import type { InspectedTensor, Inspection } from "./inspect.ts";

/** The inspection as text. @param everyTensor list each tensor, rather than one line for all layers */
export function formatInspection(inspection: Inspection, everyTensor: boolean): string {
  const { config, assumed, estimate: plan, device, tensors, unexpected, warnings } = inspection;
  const features = [
    config.use_parallel_residual ? "parallel residual" : "sequential residual",
    config.qk_layernorm && "per-head norms",
    config.use_qkv_bias && "qkv bias",
    config.tie_word_embeddings && "tied embeddings",
  ].filter(Boolean).join(", ");
  const { rope_type, rope_theta } = config.rope_parameters;
  const heads = config.num_attention_heads === config.num_key_value_heads
    ? `${config.num_attention_heads}`
    : `${config.num_attention_heads}, keys and values ${config.num_key_value_heads}`;
  const sections: [heading: string, rows: [string, string][]][] = [
    ["Config", [
      [
        "sizes",
        `vocabulary ${count(config.vocab_size)}, hidden ${count(config.hidden_size)}, MLP ${
          count(config.intermediate_size)
        }, layers ${config.num_hidden_layers}`,
      ],
      ["heads", `${heads}, of ${config.head_dim} elements`],
      ["RoPE", `${config.rotary_dim} elements of a head, theta ${count(rope_theta)}, ${rope_type}`],
      ["features", `${features}, ${config.hidden_act}`],
      ["context", `${count(config.max_position_embeddings)} tokens`],
      [
        "token ids",
        `begin ${config.bos_token_id ?? "none"}, end ${config.eos_token_id ?? "none"}, padding ${
          config.pad_token_id ?? "none"
        }`,
      ],
    ]],
    ["Tensors", [
      ["parameters", count(inspection.parameters)],
      ...tensorRows(tensors, everyTensor),
      ...unexpected.length > 0 ? [["not used", listed(unexpected)] as [string, string]] : [],
    ]],
    [
      "Memory",
      [
        ["held as", `weights ${assumed.dtype}, activations ${assumed.activationDtype}`],
        ["room for", `${count(assumed.contextTokens)} tokens, ${many(assumed.batch, "sequence")}`],
        ["prompts", `${count(assumed.promptTokens)} tokens at a time`],
        ["weights", bytes(plan.weightBytes)],
        ["keys, values", bytes(plan.cacheBytes)],
        ["scratch", bytes(plan.scratchBytes)],
        ["total", bytes(plan.totalBytes)],
      ],
    ],
    ["A token at the end of the context", [
      ["reads", bytes(plan.bytesPerToken)],
      [
        "computes",
        `${
          (plan.flopPerToken / 1e9).toPrecision(3)
        } GFLOP in ${plan.dispatchesPerToken} dispatches`,
      ],
    ]],
    ["Device", [
      ["adapter", device.description],
      ["largest tensor", `${bytes(device.maxTensorBytes)}; larger ones are split`],
      ...device.freeBytes === undefined
        ? []
        : [["free", bytes(device.freeBytes)] as [string, string]],
      [
        "fits",
        `${
          device.fits === undefined ? "not known" : device.fits ? "yes" : "no"
        }: ${device.evidence}`,
      ],
    ]],
  ];
  const lines = [inspection.model];
  for (const [heading, rows] of sections) {
    const width = Math.max(14, ...rows.map(([name]) => name.length));
    lines.push("", heading, ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`));
  }
  if (warnings.length > 0) lines.push("", ...warnings.map((warning) => `warning: ${warning}`));
  return lines.join("\n");
}

/** A row per tensor, or one for the same tensor of all layers. */
function tensorRows(tensors: readonly InspectedTensor[], every: boolean): [string, string][] {
  const groups = new Map<string, InspectedTensor[]>();
  for (const tensor of tensors) {
    const pattern = tensor.name.replace(/\blayers\.\d+\./, "layers.*.").replace(
      /\bnorms\.\d+\./,
      "norms.*.",
    );
    const key = every ? tensor.name : `${pattern}|${tensor.shape}|${tensor.storedAs}`;
    const group = groups.get(key);
    if (group) group.push(tensor);
    else groups.set(key, [tensor]);
  }
  return Array.from(groups, ([key, group]) => {
    const [{ shape, storedAs }] = group as [InspectedTensor];
    const times = group.length === 1 ? "" : `${group.length} × `;
    const total = group.reduce((sum, { bytes }) => sum + bytes, 0);
    const name = key.split("|")[0]!;
    // Without what nearly all names begin with, a line fits 80 columns.
    return [
      every ? name : name.replace(/^model\./, ""),
      `${times}${storedAs} [${shape.join(", ")}]  ${bytes(total)}`,
    ];
  });
}

function many(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

function count(value: number): string {
  return value.toLocaleString("en");
}

/** Bytes in the unit that suits them. */
function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}
