// Dispatch gap: y += 1 in one invocation; each dispatch needs the one before it.

@group(0) @binding(1) var<storage, read_write> y: array<f32>;    // [1]

@compute @workgroup_size(1)
fn chain() {
  y[0] += 1.0;
}
