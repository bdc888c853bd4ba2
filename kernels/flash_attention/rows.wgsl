
// Where the rows of a key head are. Expects: params, GROUPS.

// First group of a row of q and y; of the last row, where there are no more.
fn row_start(key_head: u32, wanted: u32) -> u32 {
  let row = min(wanted, params.rows - 1u);
  let shared_by = params.h / params.g;
  let token = key_head / params.g * params.t + row / shared_by;
  return (token * params.h + key_head % params.g * shared_by + row % shared_by) * GROUPS;
}
