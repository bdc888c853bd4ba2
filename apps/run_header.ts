/**
 * Where and when a text command ran, as its JSON says it.
 *
 * @module
 */

import { projectCommit, projectVersion } from "../bench/project.ts";
import type { Backend } from "../runtime/backend.ts";
import { GpuBackend } from "../runtime/gpu_backend.ts";

/** Which program ran, and when. */
export interface ProgramHeader {
  /** Version of this project. */
  readonly version: string;
  /** Git commit; null where it cannot be read. */
  readonly commit: string | null;
  /** When the header was made, in ISO 8601. */
  readonly date: string;
  /** Runtime and version. */
  readonly runtime: string;
  /** Operating system and architecture. */
  readonly platform: string;
}

/** Where a run took place. */
export interface RunHeader extends ProgramHeader {
  /** Adapter description, which names the driver where the driver does, or the CPU path. */
  readonly device: string;
  /** Vendor as the runtime gives it; empty on the CPU path. */
  readonly vendor: string;
  /** True where a CPU does the work, behind a GPU interface or not. */
  readonly isSoftware: boolean;
}

/** Describes this program, for a run that starts now. */
export function programHeader(): ProgramHeader {
  return {
    version: projectVersion(),
    commit: projectCommit(),
    date: new Date().toISOString(),
    runtime: `Deno ${Deno.version.deno}`,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
  };
}

/** Describes a run that starts now. */
export function runHeader(backend: Backend): RunHeader {
  const profile = backend instanceof GpuBackend ? backend.profile : undefined;
  return {
    ...programHeader(),
    device: backend.description,
    vendor: profile?.vendor ?? "",
    isSoftware: profile?.isSoftware ?? true,
  };
}
