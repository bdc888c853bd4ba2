/**
 * Measures GPU work: by the device's own timestamps, by the process's CPU time where the "device" is a
 * software rasteriser on these very cores, or by the wall clock where there is nothing better.
 *
 * @module
 */

import { BUFFER_USAGE } from "./buffers.ts";
import type { OpenedDevice } from "./device.ts";
import type { Recorder } from "./recorder.ts";

/** Which clock a duration comes from. */
export type TimerName = "timestamp" | "cpu" | "wall";

/** Durations of one pass. */
export interface Timing {
  /** Device time by timestamp queries; undefined without the feature. */
  readonly gpuSeconds: number | undefined;
  /** Wall time from submit to completion; in Deno it includes a fixed wait of about 11 ms. */
  readonly wallSeconds: number;
  /** CPU time of all threads of the process meanwhile; undefined outside Deno and Node. */
  readonly cpuSeconds: number | undefined;
}

/** Timestamps are read as nanoseconds unless a calibration says otherwise. */
const NANOSECONDS = 1e-9;

/** Times passes on one device. */
export class PassTimer {
  readonly #opened: OpenedDevice;
  #queries: { set: GPUQuerySet; resolve: GPUBuffer; staging: GPUBuffer } | undefined;
  #secondsPerTick = NANOSECONDS;

  /** @param opened the device */
  constructor(opened: OpenedDevice) {
    this.#opened = opened;
  }

  /**
   * Runs `record` in a pass of its own.
   *
   * @param recorder where `record` leaves its dispatches
   */
  async measure(recorder: Recorder, record: () => void): Promise<Timing> {
    const { device, profile } = this.#opened;
    const queries = profile.hasTimestamps ? this.#queries ??= createQueries(device) : undefined;
    recorder.openTimedPass(
      queries && {
        querySet: queries.set,
        beginningOfPassWriteIndex: 0,
        endOfPassWriteIndex: 1,
      },
    );
    record();
    const cpuBefore = cpuSeconds();
    const wallBefore = performance.now();
    recorder.submit((encoder) => {
      if (!queries) return;
      encoder.resolveQuerySet(queries.set, 0, 2, queries.resolve, 0);
      encoder.copyBufferToBuffer(queries.resolve, 0, queries.staging, 0, 16);
    });
    await device.queue.onSubmittedWorkDone();
    const wallSeconds = (performance.now() - wallBefore) / 1000;
    const cpuAfter = cpuSeconds();
    let gpuSeconds: number | undefined;
    if (queries) {
      await queries.staging.mapAsync(1 /* GPUMapMode.READ */);
      const [begin, end] = new BigUint64Array(queries.staging.getMappedRange().slice(0));
      queries.staging.unmap();
      gpuSeconds = Number(end! - begin!) * this.#secondsPerTick;
    }
    return {
      gpuSeconds,
      wallSeconds,
      cpuSeconds: cpuBefore === undefined || cpuAfter === undefined
        ? undefined
        : cpuAfter - cpuBefore,
    };
  }

  /** Destroys the query set and its buffers. */
  destroy(): void {
    this.#queries?.set.destroy();
    this.#queries?.resolve.destroy();
    this.#queries?.staging.destroy();
  }
}

function createQueries(device: GPUDevice) {
  return {
    set: device.createQuerySet({ type: "timestamp", count: 2 }),
    resolve: device.createBuffer({
      size: 256,
      usage: BUFFER_USAGE.queryResolve | BUFFER_USAGE.copySource,
    }),
    staging: device.createBuffer({
      size: 16,
      usage: BUFFER_USAGE.mapRead | BUFFER_USAGE.copyTarget,
    }),
  };
}

/** CPU time of all threads of this process; undefined in a browser. */
function cpuSeconds(): number | undefined {
  const { process } = globalThis as {
    process?: { cpuUsage?(): { user: number; system: number } };
  };
  const usage = process?.cpuUsage?.();
  return usage && (usage.user + usage.system) / 1e6;
}
