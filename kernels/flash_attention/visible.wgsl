
// Expects: params.

// Keys that a row may see.
fn visible(row: u32) -> u32 {
  let token = min(row / (params.h / params.g), params.t - 1u);
  return params.key_length - params.causal * (params.t - 1u - token);
}
