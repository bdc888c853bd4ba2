
// The activations, shared by the variants. Expects: override ACTIVATION.

fn act(x: f32) -> f32 {
  switch ACTIVATION {
    case 0u: { return x * sigmoid(x); }
    case 1u: { return x * normal_cdf(x); }
    // (1 + tanh z) / 2 = σ(2z), and σ needs no tanh, whose accuracy WGSL hardly bounds.
    case 2u: { return x * sigmoid(1.5957691 * (x + 0.044715 * x * x * x)); }
    default: { return max(x, 0.0); }
  }
}

// Beyond ±80 the exponential would overflow, which WGSL leaves undefined.
fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0)));
}

// Φ(x) = erfc(−x/√2) / 2. The complement is fitted for positive arguments only, so that Φ keeps its
// relative accuracy where it is small: ln(erfc(a) e^(a²) / t) with t = 1 / (1 + a/2), interpolated at
// ten Chebyshev nodes, is within 7e-8 up to a = 13, where erfc is far below f32's range.
fn normal_cdf(x: f32) -> f32 {
  let a = abs(x) * 0.70710678;
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26549987 + t * (0.999750731 + t * (0.376513471 + t * (0.0853316627 +
    t * (-0.154138232 + t * (0.222852720 + t * (-1.07427160 + t * (1.44848178 +
    t * (-0.807733825 + t * 0.168713224))))))));
  let half = 0.5 * t * exp(max(p - a * a, -80.0));
  return select(half, 1.0 - half, x >= 0.0);
}
