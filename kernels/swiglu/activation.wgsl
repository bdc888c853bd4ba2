
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
// relative accuracy where it is small. Chebyshev fit of Numerical Recipes §6.2, 1.2e-7 relative.
fn normal_cdf(x: f32) -> f32 {
  let a = abs(x) * 0.70710678;
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 +
    t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let half = 0.5 * t * exp(max(p - a * a, -80.0));
  return select(half, 1.0 - half, x >= 0.0);
}
