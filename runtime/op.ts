/**
 * The contract between an op's folder and everything that runs, tests, verifies or times it.
 *
 * An op is one object. Nothing outside its folder names it, apart from the list in `kernels/mod.ts`
 * and the model that calls it.
 *
 * @module
 */

import type { DeviceProfile } from "./device.ts";
import type { HostTensor, Shape, TensorSpec } from "./tensor.ts";
import type { WgslFile } from "./wgsl.ts";

/** One value per input name; the optional inputs may be absent. */
export type Inputs<T, Input extends string, Optional extends string> =
  & Readonly<Record<Exclude<Input, Optional>, T>>
  & { readonly [name in Optional]?: T | undefined };

/** An operand as a reference sees it: plain numbers. */
export interface ReferenceInput {
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** The stored elements, widened to numbers. */
  readonly values: ArrayLike<number>;
}

/** A result as a reference writes it. */
export interface ReferenceOutput {
  /** Sizes, outermost first. */
  readonly shape: Shape;
  /** The result in f64. For an output that aliases an input it starts as that input's contents. */
  readonly values: Float64Array;
  /**
   * The magnitude that the error of each element is measured against: for a sum, the sum of the
   * absolute values of its terms. It starts as NaN; where it is left so, |value| is used. 0 says that
   * the element is a copy: only the value itself, rounded to the output's dtype, will do.
   */
  readonly scale: Float64Array;
}

/** Compulsory work of an op: what any algorithm must do, not what a variant happens to do. */
export interface Work {
  /** Floating-point operations; a multiply-add counts as two. */
  readonly flop: number;
  /** Bytes: each input read once, each output written once. */
  readonly bytes: number;
}

/**
 * How far a result may be from the f64 reference:
 * `|y − y64| ≤ units · 2⁻²⁴ · scale + absolute + rounding of the stored dtype`. "exact" asks for y64
 * rounded to the stored dtype, to nearest and ties to even, with the sign of a zero kept.
 */
export type Tolerance = "exact" | {
  /** Multiples of f32's unit roundoff 2⁻²⁴, of the reference's scale. */
  readonly units: number;
  /** An absolute part, in the output's own unit; 0 unless given. */
  readonly absolute?: number;
  /** Bound on the normalised mean squared error of the f32 result; a stored 16-bit dtype adds its own. */
  readonly nmse?: number;
};

/** What the inputs of a case are drawn from. Same-sign sums round more than signed ones do. */
export type Family =
  | "normal"
  | "uniform"
  | "positive"
  | "large"
  | "outlier"
  | "cancelling"
  | "offset"
  | "subnormal"
  | "constant"
  | "zeros";

/** How to make one input of a case. */
export type CaseInput = TensorSpec & {
  /** Distribution of the elements; by default the case's. */
  readonly family?: Family;
  /** The elements themselves, where chance would not do. */
  readonly values?: ArrayLike<number>;
};

/** Named inputs and attributes: what a variant is verified and timed on. */
export interface Case<Input extends string, Optional extends Input, Attributes extends object> {
  /** Says what is special about it: "17×33×65, nothing divides". */
  readonly name: string;
  /** Distribution of the inputs; normal unless given. */
  readonly family?: Family;
  /** Shape, dtype and family per input; u32 inputs are drawn below their `below`. */
  readonly inputs: Inputs<CaseInput, Input, Optional>;
  /** The op's attributes. */
  readonly attributes: Attributes;
}

/** Sizes of one StableLM, from which the timed cases are made. */
export interface ModelShape {
  /** Short name, as in `--shapes`. */
  readonly name: string;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Width inside the MLP. */
  readonly intermediateSize: number;
  /** Query heads. */
  readonly numHeads: number;
  /** Key and value heads. */
  readonly numKvHeads: number;
  /** Elements per head. */
  readonly headDim: number;
  /** Elements of a head that RoPE rotates. */
  readonly rotaryDim: number;
  /** Rows of the embedding and of the LM head. */
  readonly vocabSize: number;
  /** Tokens of a prefill that is timed. */
  readonly prefillTokens: number;
  /** Keys in the cache while a decode step is timed. */
  readonly contextTokens: number;
}

/** Dtypes of a timed case. */
export interface BenchDtypes {
  /** Activations. */
  readonly activation: "f32" | "f16";
  /** Weights. */
  readonly weight: "f32" | "f16" | "bf16";
}

/** One launch of a kernel, as plain data. */
export interface Dispatch {
  /** The WGSL text and its file name. */
  readonly kernel: WgslFile;
  /** Values of the file's `override` declarations; each must be declared, and each declared one given. */
  readonly constants?: Readonly<Record<string, number>>;
  /** Fields of the file's `Params` struct, in camelCase. */
  readonly params?: Readonly<Record<string, number>>;
  /** Workgroups along x, y and z. */
  readonly workgroups: readonly [number, number, number];
  /** Tensor per binding, where the binding's name is not the tensor's in snake_case. */
  readonly bind?: Readonly<Record<string, string>>;
}

/** What a variant wants launched, in order. */
export interface Plan {
  /** Intermediate tensors that live as long as the plan runs. */
  readonly scratch?: Readonly<Record<string, TensorSpec>>;
  /** Launches, in order; each sees the writes of those before it. */
  readonly dispatches: readonly Dispatch[];
}

/** One way to compute an op on the GPU. */
export interface Variant<Input extends string, Optional extends Input, Attributes extends object> {
  /** snake_case; with the op's name it labels profiles, rows and errors. */
  readonly name: string;
  /** One line: what it is for. */
  readonly summary: string;
  /** True where it gives the right answer, else the reason why it cannot run. */
  supports(
    inputs: Inputs<TensorSpec, Input, Optional>,
    attributes: Attributes,
    device: DeviceProfile,
  ): true | string;
  /** False where it would be right but a later variant is the better choice; true unless given. */
  preferred?(
    inputs: Inputs<TensorSpec, Input, Optional>,
    attributes: Attributes,
    device: DeviceProfile,
  ): boolean;
  /** Describes the launches; called only where `supports` says true. */
  plan(
    inputs: Inputs<TensorSpec, Input, Optional>,
    attributes: Attributes,
    device: DeviceProfile,
  ): Plan;
}

/** A mathematical operation with its contract. */
export interface Op<
  Input extends string,
  Output extends string,
  Attributes extends object,
  Optional extends Input = never,
> {
  /** snake_case, as in papers and profiles. */
  readonly name: string;
  /** The equation, in one line. */
  readonly summary: string;
  /** Input names, in the order in which messages and reports list them. */
  readonly inputs: readonly Input[];
  /** Inputs that may be absent. */
  readonly optional?: readonly Optional[];
  /** Output names. */
  readonly outputs: readonly Output[];
  /** Outputs that are written into an input: output name to input name. */
  readonly aliases?: { readonly [name in Output]?: Input };
  /** Attribute names; any other is refused. */
  readonly attributes: readonly string[];
  /**
   * Checks every rule and gives the outputs' shapes. The only place that throws on arguments. An
   * output that these inputs do not produce is left out.
   *
   * @throws {KernelArgumentError} naming op, argument, rule and value
   */
  infer(
    inputs: Inputs<TensorSpec, Input, Optional>,
    attributes: Attributes,
  ): { readonly [name in Output]?: TensorSpec };
  /**
   * The definition, in f64 and plain loops. `rows` lists which rows of the outputs (all axes but the
   * last, flattened) to compute, so that a large case can be checked on a sample.
   */
  reference(
    inputs: Inputs<ReferenceInput, Input, Optional>,
    attributes: Attributes,
    outputs: { readonly [name in Output]: ReferenceOutput },
    rows: Iterable<number>,
  ): void;
  /** Ways to compute it, most preferred first; the last runs everywhere and reads like the formula. */
  readonly variants: readonly Variant<Input, Optional, Attributes>[];
  /** Compulsory FLOP and bytes. */
  work(inputs: Inputs<TensorSpec, Input, Optional>, attributes: Attributes): Work;
  /** Bound on the error, derived from dtype and reduction length. */
  tolerance(
    inputs: Inputs<TensorSpec, Input, Optional>,
    attributes: Attributes,
    family: Family,
  ): Tolerance;
  /** Shapes and values to verify on. */
  readonly cases: readonly Case<Input, Optional, Attributes>[];
  /** Shapes of a StableLM to time. */
  benchCases(model: ModelShape, dtypes: BenchDtypes): readonly Case<Input, Optional, Attributes>[];
  /** Relations that hold without a reference; checked on the preferred variant. */
  readonly relations?: readonly Relation<Input, Optional, Attributes>[];
}

/**
 * A relation between two runs of an op: change the inputs in a known way and the outputs must change
 * in a known way.
 */
export interface Relation<Input extends string, Optional extends Input, Attributes extends object> {
  /** The claim: "a later token never changes an earlier row". */
  readonly name: string;
  /** Shapes and attributes of the first run. */
  readonly base: Case<Input, Optional, Attributes>;
  /** Inputs and attributes of the second run. */
  transform(
    inputs: Inputs<HostTensor, Input, Optional>,
    attributes: Attributes,
  ): {
    readonly inputs: Inputs<HostTensor, Input, Optional>;
    readonly attributes: Attributes;
  };
  /** What the second run's output must be, given the first run's; indexes that are NaN are not compared. */
  expected(
    first: ArrayLike<number>,
    inputs: Inputs<HostTensor, Input, Optional>,
  ): ArrayLike<number>;
  /** Largest absolute difference allowed; 0 asks for the same bits. */
  readonly within: number;
}

/** Any op, where only the contract matters. */
export type AnyOp = Op<string, string, object, string>;
/** Any variant, where only the contract matters. */
export type AnyVariant = Variant<string, string, object>;
/** Any case, where only the contract matters. */
export type AnyCase = Case<string, string, object>;
