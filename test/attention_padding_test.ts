/** What stands in slots that no query may see must not be seen, whatever it is. */

import { assert, assertEquals } from "@std/assert";
import { flashAttention, HostTensor, judgeVariants, Random } from "../mod.ts";
import { SEED, sharedBackend } from "./device.ts";

/** [batch, tokens, heads, key heads, slots, head size, keys] */
const SHAPES = [
  [2, 9, 4, 2, 24, 80, 20],
  [2, 1, 4, 2, 300, 80, 290],
  [1, 5, 2, 1, 12, 64, 12],
  [1, 3, 2, 2, 9, 18, 7],
] as const;

for (const shape of SHAPES) {
  const [batch, tokens, heads, keyHeads, slots, size, keyLength] = shape;
  Deno.test(`NaN in padding stays there: ${shape.join(" ")}`, async () => {
    const backend = await sharedBackend();
    const random = new Random(SEED);
    const draw = (...shape: number[]) => {
      const count = shape.reduce((product, n) => product * n, 1);
      return HostTensor.from(shape, Float64Array.from({ length: count }, () => random.normal()));
    };
    const q = draw(batch, tokens, heads, size);
    const k = draw(batch, keyHeads, slots, size);
    const v = draw(batch, keyHeads, slots, size);
    // Three keys on the left and one in the middle are padding, and so are the slots after the last key.
    const isSeen = (j: number) => j >= 3 && j !== 5 && j < keyLength;
    const mask = new Uint32Array(batch * keyLength).map((_, i) => isSeen(i % keyLength) ? 1 : 0);
    const poisoned = (tensor: HostTensor) => {
      const copy = Float32Array.from(tensor.numbers);
      copy.forEach((_, i) => {
        if (!isSeen(Math.floor(i / size) % slots)) copy[i] = NaN;
      });
      return new HostTensor(tensor.shape, copy);
    };
    const attributes = { keyLength, causal: true };
    const run = async (variant: string, k: HostTensor, v: HostTensor) => {
      using tensors = new DisposableStack();
      const upload = (tensor: HostTensor) => tensors.use(backend.upload(tensor));
      const inputs = {
        q: upload(q),
        k: upload(k),
        v: upload(v),
        mask: upload(new HostTensor([batch, keyLength], mask)),
      };
      const { y } = backend.run(flashAttention, inputs, attributes, { variant });
      return Array.from((await backend.read(tensors.use(y))).numbers);
    };
    const specs = { q, k, v, mask: { shape: [batch, keyLength], dtype: "u32" } as const };
    let ran = 0;
    for (
      const { variant, supported } of judgeVariants(
        flashAttention as never,
        specs,
        attributes,
        backend.profile,
      )
    ) {
      if (supported !== true) continue;
      const clean = await run(variant.name, k, v);
      assert(clean.every(Number.isFinite));
      assertEquals(await run(variant.name, poisoned(k), poisoned(v)), clean, variant.name);
      ran++;
    }
    assert(ran >= 1);
  });
}
