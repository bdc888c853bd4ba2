
// A u32 that orders floats: larger for larger numbers, equal for both zeros, and 0, below that of every
// number, for NaN. Bits are tested, as a driver may take a comparison with NaN for whatever it likes.

fn order_of(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let magnitude = bits & 0x7fffffffu;
  let is_negative = bits > 0x80000000u;
  let order = select(magnitude | 0x80000000u, ~bits, is_negative);
  return select(order, 0u, magnitude > 0x7f800000u);
}
