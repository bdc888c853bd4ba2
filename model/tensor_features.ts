/**
 * What the names of a checkpoint's tensors tell about its architecture.
 *
 * @module
 */

/** Switches of a config that tensor names decide. */
export const FEATURES = ["qk_layernorm", "use_parallel_residual", "use_qkv_bias"] as const;

/** A switch of a config that tensor names decide. */
export type Feature = typeof FEATURES[number];

/** What the names say of one switch. */
export interface FeatureSign {
  /** Whether it is on. */
  readonly present: boolean;
  /** The tensor that shows it, or the lack of one, as a phrase that follows "has". */
  readonly evidence: string;
}

/** The tensor of a layer that a switch adds, or takes away. */
const SIGNS: Readonly<Record<Feature, { readonly tensor: string; readonly adds: boolean }>> = {
  qk_layernorm: { tensor: "self_attn.q_layernorm.norms.0.weight", adds: true },
  use_parallel_residual: { tensor: "post_attention_layernorm.weight", adds: false },
  use_qkv_bias: { tensor: "self_attn.q_proj.bias", adds: true },
};

/** Every layer has it, with all switches. */
const LAYER_TENSOR = "input_layernorm.weight";

/** The switches, or undefined if the names are not those of decoder layers. */
export function featuresOf(
  names: Iterable<string>,
): Readonly<Record<Feature, FeatureSign>> | undefined {
  // The first name of each kind, in whichever layer it is.
  const found = new Map<string, string>();
  for (const name of names) {
    const [, tensor] = /(?:^|\.)layers\.\d+\.(.+)$/.exec(name) ?? [];
    if (tensor !== undefined && !found.has(tensor)) found.set(tensor, name);
  }
  if (!found.has(LAYER_TENSOR)) return undefined;
  const signOf = (feature: Feature): FeatureSign => {
    const { tensor, adds } = SIGNS[feature];
    const name = found.get(tensor);
    const evidence = name === undefined ? `no layers.*.${tensor}` : name;
    return { present: (name !== undefined) === adds, evidence };
  };
  return {
    qk_layernorm: signOf("qk_layernorm"),
    use_parallel_residual: signOf("use_parallel_residual"),
    use_qkv_bias: signOf("use_qkv_bias"),
  };
}
