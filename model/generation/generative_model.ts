/**
 * What generation asks of a model.
 *
 * @module
 */

import type { Tensor } from "../../runtime/tensor.ts";
import type { CausalLmInputs } from "../causal_lm.ts";
import type { HeadOutput } from "../output.ts";
import type { StableLmPreTrainedModel } from "../pretrained.ts";

/** A model that scores next tokens. */
export interface GenerativeModel<T extends Tensor = Tensor> extends
  Pick<
    StableLmPreTrainedModel<T>,
    "backend" | "config" | "generationConfig" | "createCache" | "activationDtype"
  > {
  /** Logits [B, kept, V] of tokens, added to a cache where one is given. */
  forward(inputs: CausalLmInputs<T>): Promise<HeadOutput<T>>;
}
