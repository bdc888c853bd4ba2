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
  | "reference-file"
  | "model-format"
  | "model-unsupported"
  | "model-config"
  | "model-input"
  | "model-download"
  | "tokenizer"
  | "template";

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

/** What an error about a file says: where it is, which rule is broken, and by what. */
export interface FileFault {
  /** The file, as the caller named it. */
  readonly file: string;
  /** The place in it: `tensor "model.norm.weight"`, `key "hidden_size"`, `byte 8`. */
  readonly place?: string;
  /** Stable identifier of the rule, in kebab-case: `header-length`, `offsets-overlap`. */
  readonly reason: string;
  /** The rule, as a phrase that follows the place: "must be …". */
  readonly rule: string;
  /** What the file has instead, in short. */
  readonly value: string;
}

/** Base of the errors about files: action, file, place, rule, value. */
export class FileFaultError extends KernelsError {
  /** File, place, reason, rule and value, for programs that want to show them in their own way. */
  readonly fault: FileFault;

  /** Takes the code and the fault, of which it makes the message. */
  constructor(code: ErrorCode, fault: FileFault) {
    const { file, place, rule, value } = fault;
    const where = place === undefined ? file : `${file}: ${place}`;
    super(code, printable(`Cannot read ${where}: ${rule}: ${value}`, 600));
    this.fault = fault;
  }
}

/** Bytes that are not what their format asks for: the file is damaged, cut off or hostile. */
export class ModelFormatError extends FileFaultError {
  /** Takes the fault, of which it makes the message. */
  constructor(fault: FileFault) {
    super("model-format", fault);
  }
}

/** A well-formed file that asks for what this library does not do. */
export class ModelUnsupportedError extends FileFaultError {
  /** Takes the fault, of which it makes the message. */
  constructor(fault: FileFault) {
    super("model-unsupported", fault);
  }
}

/** A config that breaks a rule; `file` is the config's name, `place` the key. */
export class ModelConfigError extends FileFaultError {
  /** Takes the fault, of which it makes the message. */
  constructor(fault: FileFault) {
    super("model-config", fault);
  }
}

/** A tokenizer's file that breaks a rule, or asks for what this library does not do. */
export class TokenizerError extends FileFaultError {
  /** Takes the fault, of which it makes the message. */
  constructor(fault: FileFault) {
    super("tokenizer", fault);
  }
}

/** A chat template that is malformed, fails, refuses its messages, or takes more than its budget. */
export class TemplateError extends FileFaultError {
  /** Takes the fault, of which it makes the message. */
  constructor(fault: FileFault) {
    super("template", fault);
  }
}

/** An argument of a model's method breaks a rule. Thrown before any work, with all state unchanged. */
export class ModelInputError extends KernelsError {
  /** Method, argument, rule and value. */
  readonly fault: ArgumentFault;

  /** Takes method, argument, rule and value, of which it makes the message. */
  constructor(fault: ArgumentFault) {
    super(
      "model-input",
      `Cannot run ${fault.op}: ${fault.argument} ${fault.rule}: ${fault.value}`,
    );
    this.fault = fault;
  }
}

/** A download that did not succeed; what has arrived is kept where a later call can go on from it. */
export class ModelDownloadError extends KernelsError {
  /** Takes the message: action, address, rule and value. */
  constructor(message: string) {
    super("model-download", printable(message, 600));
  }
}

/**
 * Text from a file or a server, safe to show: control and direction-changing characters become `?`, and
 * what is longer than `most` characters is cut.
 */
export function printable(text: string, most = 120): string {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  // deno-lint-ignore no-control-regex
  return cut.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "?");
}

/** Throws a {@linkcode ModelInputError} unless `condition` holds. */
export function requireInput(
  condition: boolean,
  op: string,
  argument: string,
  rule: string,
  value: unknown,
): asserts condition {
  if (!condition) throw new ModelInputError({ op, argument, rule, value: String(value) });
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
