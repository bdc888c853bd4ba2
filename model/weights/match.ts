/**
 * Which tensor of a checkpoint is which parameter of the model, and whether all of them fit.
 *
 * @module
 */

import { ModelFormatError } from "../../runtime/errors.ts";
import { sameShape } from "../../runtime/tensor.ts";
import type { Parameter } from "../parameters.ts";
import type { WeightSource } from "./weight_source.ts";

/** What {@linkcode matchTensors} found. */
export interface TensorMatch {
  /** The source's name of each tensor that the model needs, by the model's name. */
  readonly names: ReadonlyMap<string, string>;
  /** The source's tensors that the model has no use for. */
  readonly unexpected: readonly string[];
}

/** What a checkpoint of the bare decoder leaves out of its names. */
const BASE_PREFIX = "model.";

/** Names listed in a message; the rest is counted. */
const LISTED = 5;

/**
 * Finds every tensor of the parameters in a source. Checkpoints of the bare decoder name their tensors
 * without `model.`; the frequencies that old files store are left alone.
 *
 * @throws {ModelFormatError} If tensors are missing, or one has another shape than the model
 */
export function matchTensors(
  source: WeightSource,
  parameters: readonly Parameter[],
): TensorMatch {
  const names = new Map<string, string>();
  const missing: string[] = [];
  for (const parameter of parameters) {
    for (const wanted of parameter.tensors) {
      const name = findTensor(source, wanted);
      if (name === undefined) {
        missing.push(wanted);
        continue;
      }
      names.set(wanted, name);
      const { shape, file, byteOffset } = source.tensors.get(name)!;
      if (sameShape(shape, parameter.tensorShape)) continue;
      throw new ModelFormatError({
        file,
        place: `tensor ${JSON.stringify(name)} at byte ${byteOffset}`,
        reason: "tensor-shape",
        rule: `the config asks for shape [${parameter.tensorShape.join(", ")}]`,
        value: `[${shape.join(", ")}]`,
      });
    }
  }
  const used = new Set(names.values());
  const unexpected = [...source.tensors.keys()].filter((name) =>
    !used.has(name) && !name.endsWith("rotary_emb.inv_freq")
  );
  if (missing.length > 0) {
    const others = unexpected.length > 0 ? `; it has no use for ${list(unexpected)}` : "";
    throw new ModelFormatError({
      file: source.name,
      reason: "tensors-missing",
      rule: "the checkpoint must hold every tensor of the model",
      value: `${list(missing)} missing${others}`,
    });
  }
  return { names, unexpected };
}

/** The source's name for a tensor of the model, if it has it. */
export function findTensor(source: WeightSource, name: string): string | undefined {
  if (source.tensors.has(name)) return name;
  if (!name.startsWith(BASE_PREFIX)) return undefined;
  const short = name.slice(BASE_PREFIX.length);
  return source.tensors.has(short) ? short : undefined;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, LISTED).join(", ");
  return names.length > LISTED ? `${shown} and ${names.length - LISTED} more` : shown;
}
