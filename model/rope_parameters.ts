/**
 * How positions turn into angles: the `rope_parameters` of a config.
 *
 * Source: the `rope_type`s of Hugging Face's modeling_rope_utils.py that a StableLM can use
 *
 * @module
 */

import type { JsonFields, NumberRule } from "./json_fields.ts";

/** What every kind of rotary embedding has. */
export interface RopeBase {
  /** Base of the frequencies. */
  readonly rope_theta: number;
  /** Share of each head that is rotated. */
  readonly partial_rotary_factor: number;
}

/** Angles of p·θ^(−2i/R), nothing else. */
export interface DefaultRope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "default";
}

/** Every frequency divided by a factor. */
export interface LinearRope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "linear";
  /** The divisor. */
  readonly factor: number;
}

/** A base that grows with the sequence once that is longer than `max_position_embeddings`. */
export interface DynamicRope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "dynamic";
  /** How fast the base grows. */
  readonly factor: number;
}

/** YaRN: low frequencies divided by a factor, high ones kept, a ramp between, and scaled attention. */
export interface YarnRope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "yarn";
  /** The divisor of the low frequencies. */
  readonly factor: number;
  /** Positions of the model before it was extended. */
  readonly original_max_position_embeddings: number;
  /** Rotations over the original positions above which a frequency is kept. */
  readonly beta_fast: number;
  /** Rotations over the original positions below which a frequency is divided by the factor. */
  readonly beta_slow: number;
  /** True if the ramp's ends are rounded outwards to whole pairs. */
  readonly truncate: boolean;
  /** What cosine and sine are multiplied by; computed from factor and mscale if absent. */
  readonly attention_factor?: number;
  /** Weight of log(factor) in the attention's scale; takes effect together with `mscale_all_dim`. */
  readonly mscale?: number;
  /** Weight of log(factor) in what the attention's scale is divided by. */
  readonly mscale_all_dim?: number;
}

/** Llama 3.1: long wavelengths divided by a factor, short ones kept, a blend between. */
export interface Llama3Rope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "llama3";
  /** The divisor of the long wavelengths. */
  readonly factor: number;
  /** Positions of the model before it was extended. */
  readonly original_max_position_embeddings: number;
  /** Original positions per wavelength below which the frequency is divided. */
  readonly low_freq_factor: number;
  /** Original positions per wavelength above which the frequency is kept. */
  readonly high_freq_factor: number;
}

/** LongRoPE: a divisor for each pair, one set for short sequences and one for long ones. */
export interface LongRope extends RopeBase {
  /** Which kind. */
  readonly rope_type: "longrope";
  /** How far the model was extended; sets the attention's scale. */
  readonly factor: number;
  /** Positions of the model before it was extended; a longer sequence takes `long_factor`. */
  readonly original_max_position_embeddings: number;
  /** Divisors for sequences of at most the original positions, one a pair. */
  readonly short_factor: readonly number[];
  /** Divisors for longer sequences, one a pair. */
  readonly long_factor: readonly number[];
  /** What cosine and sine are multiplied by; computed from the factor if absent. */
  readonly attention_factor?: number;
}

/** Resolved rotary parameters; keys are those of a config.json. */
export type RopeParameters =
  | DefaultRope
  | LinearRope
  | DynamicRope
  | YarnRope
  | Llama3Rope
  | LongRope;

/** A kind of rotary embedding, as a config's `rope_type` names it. */
export type RopeType = RopeParameters["rope_type"];

/** What rotary parameters may hold before they are resolved; `type` is an older word for `rope_type`. */
export interface RopeParametersInput {
  /** Which kind; "default" unless given. */
  readonly rope_type?: RopeType;
  /** The same under its older name. */
  readonly type?: RopeType;
  /** Base of the frequencies. */
  readonly rope_theta?: number;
  /** Share of each head that is rotated. */
  readonly partial_rotary_factor?: number;
  /** The divisor; what it divides depends on the kind. */
  readonly factor?: number | null;
  /** Positions before extension: yarn, llama3, longrope. */
  readonly original_max_position_embeddings?: number;
  /** Scale of cosine and sine: yarn, longrope. */
  readonly attention_factor?: number | null;
  /** Upper end of the ramp: yarn. */
  readonly beta_fast?: number | null;
  /** Lower end of the ramp: yarn. */
  readonly beta_slow?: number | null;
  /** Weight in the attention's scale: yarn. */
  readonly mscale?: number | null;
  /** Weight in its divisor: yarn. */
  readonly mscale_all_dim?: number | null;
  /** Whether the ramp's ends are rounded: yarn. */
  readonly truncate?: boolean;
  /** Divisors for short sequences: longrope. */
  readonly short_factor?: readonly number[];
  /** Divisors for long sequences: longrope. */
  readonly long_factor?: readonly number[];
  /** Where the divided frequencies begin: llama3. */
  readonly low_freq_factor?: number;
  /** Where the kept frequencies end: llama3. */
  readonly high_freq_factor?: number;
}

/** Facts of a config that its rotary parameters depend on. */
export interface RopeContext {
  /** Positions of the model, and the original ones where nothing is said of those. */
  readonly max_position_embeddings: number;
  /** Elements of a head. */
  readonly head_dim: number;
}

/** Kinds by name, with the keys that each cannot do without. */
const REQUIRED_KEYS: Readonly<Record<RopeType, readonly string[]>> = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor"],
  yarn: ["factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor"],
  longrope: ["short_factor", "long_factor"],
};

// A base of 1 turns every pair alike; one of 10³⁰ leaves room in f32 for what the scalings do to it.
const THETA: NumberRule = { least: 1, most: 1e30 };
const SHARE: NumberRule = { above: 0, most: 1 };
const POSITIVE: NumberRule = { above: 0, most: 1e6 };
const WEIGHT: NumberRule = { least: 0, most: 1e6 };

const THETA_KEY = "rope_theta";
const SHARE_KEY = "partial_rotary_factor";

/** Positions are multiplied as f32, which counts up to here without a gap. */
export const POSITIONS: NumberRule = { whole: true, least: 1, most: 2 ** 24 };

/** Elements of a head that are rotated. The product is cut, not rounded, as the models were built. */
export function rotaryDimOf(headDim: number, partialRotaryFactor: number): number {
  return Math.trunc(headDim * partialRotaryFactor);
}

/**
 * Resolves and checks what a config says about its rotary embedding, in either of its two forms.
 *
 * `rope_scaling` replaces `rope_parameters` where both hold something. Base and share stand inside, or
 * else beside, or are 10,000 and 0.25. Original positions that stand beside win over those inside.
 *
 * @param config the config's own fields
 * @param context what was read of them before
 * @throws {ModelConfigError} If a key is missing or breaks a rule
 * @throws {ModelUnsupportedError} If the kind is no {@linkcode RopeType}
 */
export function resolveRopeParameters(config: JsonFields, context: RopeContext): RopeParameters {
  const scaling = config.object("rope_scaling");
  const fields = scaling.keys().length > 0 ? scaling : config.object("rope_parameters");
  const rope_type = ropeTypeOf(fields);
  requireKeys(fields, rope_type);
  const holderOf = (key: string) => fields.has(key) ? fields : config;
  const base = {
    rope_theta: holderOf(THETA_KEY).number(THETA_KEY, THETA, 10_000),
    partial_rotary_factor: holderOf(SHARE_KEY).number(SHARE_KEY, SHARE, 0.25),
  };
  const rotaryDim = rotaryDimOf(context.head_dim, base.partial_rotary_factor);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    holderOf(SHARE_KEY).refuse(
      SHARE_KEY,
      "rotary-dim",
      `must rotate an even number of a head's ${context.head_dim} elements, at least 2`,
      `${base.partial_rotary_factor}, which rotates ${rotaryDim}`,
    );
  }
  switch (rope_type) {
    case "default":
      return { rope_type, ...base };
    case "linear":
      return { rope_type, ...base, factor: required(fields, "factor") };
    case "dynamic":
      if (rotaryDim === 2) {
        fields.refuse(
          typeKeyOf(fields),
          "rotary-dim",
          "must not be dynamic where a head rotates 2 elements: the base would grow by a power of 2 / 0",
        );
      }
      return { rope_type, ...base, factor: required(fields, "factor") };
    case "yarn":
      if (base.rope_theta === 1) {
        const rule = "must be above 1 for yarn, which divides by its logarithm";
        holderOf(THETA_KEY).refuse(THETA_KEY, "number", rule);
      }
      return { rope_type, ...base, ...yarn(fields, config, context) };
    case "llama3":
      return { rope_type, ...base, ...llama3(fields, config, context) };
    case "longrope":
      return { rope_type, ...base, ...longRope(fields, config, context, rotaryDim / 2) };
  }
}

/** Keys of a kind that the default one lacks. */
type Own<Rope extends RopeParameters> = Omit<Rope, keyof DefaultRope>;

function yarn(fields: JsonFields, config: JsonFields, context: RopeContext): Own<YarnRope> {
  const original_max_position_embeddings = originalPositions(fields, config, context);
  return {
    factor: fields.number("factor", POSITIVE, null) ??
      context.max_position_embeddings / original_max_position_embeddings,
    original_max_position_embeddings,
    beta_fast: fields.number("beta_fast", POSITIVE, null) ?? 32,
    beta_slow: fields.number("beta_slow", POSITIVE, null) ?? 1,
    truncate: fields.boolean("truncate", true),
    ...optional(fields, "attention_factor", POSITIVE),
    ...optional(fields, "mscale", WEIGHT),
    ...optional(fields, "mscale_all_dim", WEIGHT),
  };
}

function llama3(fields: JsonFields, config: JsonFields, context: RopeContext): Own<Llama3Rope> {
  const low_freq_factor = required(fields, "low_freq_factor");
  const high_freq_factor = required(fields, "high_freq_factor");
  if (high_freq_factor <= low_freq_factor) {
    fields.refuse("high_freq_factor", "order", `must be above low_freq_factor, ${low_freq_factor}`);
  }
  return {
    factor: required(fields, "factor"),
    original_max_position_embeddings: originalPositions(fields, config, context),
    low_freq_factor,
    high_freq_factor,
  };
}

function longRope(
  fields: JsonFields,
  config: JsonFields,
  context: RopeContext,
  pairs: number,
): Own<LongRope> {
  const original_max_position_embeddings = originalPositions(fields, config, context);
  if (original_max_position_embeddings === 1) {
    fields.refuse(
      ORIGINAL_POSITIONS,
      "number",
      "must be above 1 for longrope, which divides by its logarithm",
      "1",
    );
  }
  return {
    factor: fields.number("factor", POSITIVE, null) ??
      context.max_position_embeddings / original_max_position_embeddings,
    original_max_position_embeddings,
    short_factor: fields.numbers("short_factor", POSITIVE, { least: pairs, most: pairs }),
    long_factor: fields.numbers("long_factor", POSITIVE, { least: pairs, most: pairs }),
    ...optional(fields, "attention_factor", POSITIVE),
  };
}

const ORIGINAL_POSITIONS = "original_max_position_embeddings";

function originalPositions(fields: JsonFields, config: JsonFields, context: RopeContext): number {
  const inside = fields.number(ORIGINAL_POSITIONS, POSITIONS, context.max_position_embeddings);
  return config.number(ORIGINAL_POSITIONS, POSITIONS, inside);
}

function ropeTypeOf(fields: JsonFields): RopeType {
  const key = typeKeyOf(fields);
  const name = fields.text(key, "default");
  if (Object.hasOwn(REQUIRED_KEYS, name)) return name as RopeType;
  return fields.unsupported(
    key,
    "rope-type",
    `must be one of ${Object.keys(REQUIRED_KEYS).join(", ")}`,
  );
}

function typeKeyOf(fields: JsonFields): string {
  return fields.has("rope_type") ? "rope_type" : "type";
}

function requireKeys(fields: JsonFields, ropeType: RopeType): void {
  const missing = REQUIRED_KEYS[ropeType].filter((key) => !fields.has(key));
  if (missing.length === 0) return;
  fields.refuse(
    typeKeyOf(fields),
    "missing-keys",
    `"${ropeType}" needs the keys ${REQUIRED_KEYS[ropeType].join(", ")} beside it`,
    `missing ${missing.join(", ")}`,
  );
}

/** A field that {@linkcode requireKeys} has seen. */
function required(fields: JsonFields, key: string): number {
  return fields.number(key, POSITIVE, 1);
}

/** The field under its key, or nothing if it is absent or null. */
function optional<Key extends string>(
  fields: JsonFields,
  key: Key,
  rule: NumberRule,
): { readonly [Name in Key]?: number } {
  const value = fields.number(key, rule, null);
  return value === null ? {} : { [key]: value } as { readonly [Name in Key]: number };
}
