import type { DeviceProfile } from "../../runtime/device.ts";
import type { Dispatch, Plan } from "../../runtime/op.ts";
import { bytesPerElement, type Dtype } from "../../runtime/tensor.ts";
import type { WgslFile } from "../../runtime/wgsl.ts";
import { linearGrid } from "../grid.ts";
import { supportsStoring } from "../support.ts";
import { geometry, hasWholeWords, type MatmulVariant, type Operands, orderOf } from "./geometry.ts";
import type { MatmulAttributes } from "./matmul.ts";
import matvecSubgroup from "./matvec_subgroup.wgsl" with { type: "text" };
import matvecTree from "./matvec_tree.wgsl" with { type: "text" };
import matvecWords from "./matvec_words.wgsl" with { type: "text" };

// Put together once: a text that is made anew for each launch would have to be looked up letter by letter.
const SUBGROUP_KERNEL: WgslFile = {
  file: "matmul/matvec_subgroup.wgsl",
  text: matvecSubgroup + matvecWords,
};
const TREE_KERNEL: WgslFile = { file: "matmul/matvec_tree.wgsl", text: matvecTree + matvecWords };

/** Rows up to which a product is bound by reading the weights, and takes one pass over them. */
const MATVEC_ROWS = 8;

/** Weight dtypes, numbered as in `matvec_words.wgsl`. */
const WEIGHT_FORMATS: readonly Dtype[] = ["f32", "f16", "bf16"];

/** The kernels whose sums are spread over neighbouring invocations: the order `vector`. */
export const matvecVariants: readonly MatmulVariant[] = [
  {
    name: "matvec_subgroup",
    summary: "few rows, four columns per subgroup, one pass over the weights in 16-byte words",
    supports(inputs, attributes, device) {
      if (!device.hasSubgroups) return "the device has no subgroups";
      // A driver may choose the size by the kernel, so by the number of rows, and with it the order.
      if (attributes.order !== undefined && device.subgroupMinSize !== device.subgroupMaxSize) {
        return "every subgroup must have the same size, as the order of the sums depends on it";
      }
      return supportsMatvec(inputs, attributes, device);
    },
    // A software adapter computes rather than waits for memory: from two rows on it prefers a tile.
    preferred: (inputs, { layout, order }, device) =>
      order === "vector" || !device.isSoftware || geometry(inputs, layout).m === 1,
    plan(inputs, attributes, device) {
      // Two subgroups of the usual 32: small enough to spread 2560 columns over a large device.
      const WORKGROUP_SIZE = Math.max(64, device.subgroupMaxSize);
      return planMatvec(
        SUBGROUP_KERNEL,
        { WORKGROUP_SIZE },
        WORKGROUP_SIZE / device.subgroupMaxSize,
        inputs,
        attributes,
        device,
      );
    },
  },
  {
    name: "matvec_tree",
    summary: "the same without subgroups, by a tree in workgroup memory",
    supports: supportsMatvec,
    preferred: (_inputs, { order }, device) => order === "vector" || !device.isSoftware,
    plan: (inputs, attributes, device) =>
      planMatvec(
        TREE_KERNEL,
        { GROUPS: 2 },
        2,
        inputs,
        attributes,
        device,
      ),
  },
];

function supportsMatvec(
  inputs: Operands,
  attributes: MatmulAttributes,
  device: DeviceProfile,
): true | string {
  const { layout, dtype = inputs.x.dtype } = attributes;
  if (layout !== "linear") return "the layout must be linear";
  if (!hasWholeWords(inputs, layout)) {
    const perWord = 16 / bytesPerElement(inputs.weight.dtype);
    return `K must be a multiple of ${perWord}, 16 bytes of weight`;
  }
  const order = orderOf(inputs, attributes);
  if (order === "tile") return "the order must be vector";
  const { m } = geometry(inputs, layout);
  if (m < 1 || (order === undefined && m > MATVEC_ROWS)) {
    return `it computes 1 to ${MATVEC_ROWS} rows, or any number in the order vector`;
  }
  return supportsStoring(dtype, device);
}

/** @param groups groups of rows and four columns per workgroup, at the least */
function planMatvec(
  kernel: WgslFile,
  constants: NonNullable<Dispatch["constants"]>,
  groups: number,
  inputs: Operands,
  { layout }: MatmulAttributes,
  device: DeviceProfile,
): Plan {
  const { batches, m, n, k } = geometry(inputs, layout);
  const { dtype } = inputs.weight;
  const rows = Math.min(m, MATVEC_ROWS);
  const rowGroups = Math.ceil(m / rows);
  const columnGroups = Math.ceil(n / 4);
  const count = batches * rowGroups * columnGroups;
  return {
    dispatches: [{
      kernel,
      constants: {
        ...constants,
        ROWS: rows,
        FORMAT: WEIGHT_FORMATS.indexOf(dtype),
        HAS_BIAS: inputs.bias ? 1 : 0,
      },
      params: { m, n, words: k * bytesPerElement(dtype) / 16, rowGroups, columnGroups, count },
      workgroups: linearGrid(Math.ceil(count / groups), device),
    }],
  };
}
