/**
 * Error classes. Each carries a stable `code`, and a message of the form
 * "action: rule: value" that a caller can act on.
 *
 * @module
 */

/** Stable identifiers of the failures that a caller may want to tell apart. */
export type ErrorCode =
  | "kernel-argument"
  | "gpu-unavailable"
  | "gpu-feature"
  | "gpu-limit"
  | "gpu-out-of-memory"
  | "gpu-shader"
  | "gpu-validation"
  | "gpu-device-lost"
  | "reference-file";

/** Base of every error that this library throws on purpose. */
export class KernelsError extends Error {
  /** Stable identifier, safe to compare against. */
  readonly code: ErrorCode;

  /** Takes the identifier and a message of the form "action: rule: value". */
  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}

/** What a {@linkcode KernelArgumentError} says about the argument at fault. */
export interface ArgumentFault {
  /** Name of the op or function that was called. */
  readonly op: string;
  /** Name of the argument that broke the rule. */
  readonly argument: string;
  /** The rule, as a phrase that follows the argument's name: "must be …". */
  readonly rule: string;
  /** The value that was given, in short. */
  readonly value: string;
}

/**
 * An argument of an op breaks a rule. Thrown synchronously, before any GPU call, with the backend's
 * state unchanged.
 */
export class KernelArgumentError extends KernelsError {
  /** Op, argument, rule and value, for programs that want to show them in their own way. */
  readonly fault: ArgumentFault;

  /** Takes op, argument, rule and value, of which it makes the message. */
  constructor(fault: ArgumentFault) {
    super(
      "kernel-argument",
      `Cannot run ${fault.op}: ${fault.argument} ${fault.rule}: ${fault.value}`,
    );
    this.fault = fault;
  }
}

/** No WebGPU adapter could be had. */
export class GpuUnavailableError extends KernelsError {
  /** Takes the message: what was tried and what to do. */
  constructor(message: string) {
    super("gpu-unavailable", message);
  }
}

/** The device lacks a feature that the call needs. */
export class GpuFeatureError extends KernelsError {
  /** Takes the message: action, feature needed, features present. */
  constructor(message: string) {
    super("gpu-feature", message);
  }
}

/** A size is above a limit of the device. */
export class GpuLimitError extends KernelsError {
  /** Takes the message: action, limit, size. */
  constructor(message: string) {
    super("gpu-limit", message);
  }
}

/** The device could not allocate memory. */
export class GpuOutOfMemoryError extends KernelsError {
  /** Takes the message: action and bytes asked for. */
  constructor(message: string) {
    super("gpu-out-of-memory", message);
  }
}

/** A kernel's WGSL does not compile; the message starts with `file.wgsl:line:column`. */
export class GpuShaderError extends KernelsError {
  /** Takes the message: place and the compiler's first line. */
  constructor(message: string) {
    super("gpu-shader", message);
  }
}

/** The device reported a validation error; results since the last read must not be used. */
export class GpuValidationError extends KernelsError {
  /** Takes the message: the device's own words. */
  constructor(message: string) {
    super("gpu-validation", message);
  }
}

/** The device is gone; build a new backend. */
export class GpuDeviceLostError extends KernelsError {
  /** Takes the message: reason given by the device. */
  constructor(message: string) {
    super("gpu-device-lost", message);
  }
}

/** A file of reference outputs is damaged or does not describe a case. */
export class ReferenceFileError extends KernelsError {
  /** Takes the message: file, rule and value. */
  constructor(message: string) {
    super("reference-file", message);
  }
}

/** Throws a {@linkcode KernelArgumentError} unless `condition` holds. */
export function requireArgument(
  condition: boolean,
  op: string,
  argument: string,
  rule: string,
  value: string,
): asserts condition {
  if (!condition) throw new KernelArgumentError({ op, argument, rule, value });
}
