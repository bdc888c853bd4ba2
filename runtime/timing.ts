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

/** How to measure a pass. */
export interface TimingOptions {
  /** Read the device's timestamps, where it has them; true unless given. It costs one more copy. */
  readonly timestamps?: boolean;
}

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

/** Least wall time that a calibration spans: the wait of about 11 ms is then a small part of it. */
const CALIBRATION_SECONDS = 0.3;

/** A factor this near 1 is the wall clock's own uncertainty. */
const CALIBRATION_SLACK = 0.02;

/** Times passes on one device. */
export class PassTimer {
  readonly #opened: OpenedDevice;
  #queries: { set: GPUQuerySet; resolve: GPUBuffer; staging: GPUBuffer } | undefined;
  #secondsPerTick = NANOSECONDS;

  /**
   * Makes a timer; its queries are created when they are first needed.
   *
   * @param opened the device
   */
  constructor(opened: OpenedDevice) {
    this.#opened = opened;
  }

  /**
   * Runs `record` in a pass of its own.
   *
   * @param recorder where `record` leaves its dispatches
   * @throws {RangeError} If the pass has no room for them, or `record` ends it
   */
  async measure(
    recorder: Recorder,
    record: () => void,
    { timestamps = true }: TimingOptions = {},
  ): Promise<Timing> {
    const pass = await this.#run(recorder, record, timestamps);
    const { ticks, wallSeconds, cpuSeconds } = pass;
    return {
      gpuSeconds: ticks && Number(ticks.end - ticks.begin) * this.#secondsPerTick,
      wallSeconds,
      cpuSeconds,
    };
  }

  /**
   * Compares the device's clock with the wall clock: runs `record` again and again, and divides the
   * wall time between the first and the last start by the ticks between them. A factor that differs
   * from 1 by more than 2 % is applied to every later measurement.
   *
   * @returns true nanoseconds per tick; undefined without timestamps
   */
  async calibrate(recorder: Recorder, record: () => void): Promise<number | undefined> {
    if (!this.#opened.profile.hasTimestamps) return undefined;
    // The first pass may compile, which would move its start.
    await this.#run(recorder, record, true);
    const first = await this.#run(recorder, record, true);
    let last = first;
    while (last.submittedAt - first.submittedAt < CALIBRATION_SECONDS) {
      last = await this.#run(recorder, record, true);
    }
    const ticks = Number(last.ticks!.begin - first.ticks!.begin);
    const factor = (last.submittedAt - first.submittedAt) / (ticks * NANOSECONDS);
    if (!(Number.isFinite(factor) && factor > 0)) return undefined;
    this.#secondsPerTick = NANOSECONDS * (Math.abs(factor - 1) > CALIBRATION_SLACK ? factor : 1);
    return factor;
  }

  async #run(recorder: Recorder, record: () => void, timestamps: boolean): Promise<Pass> {
    const { device, profile } = this.#opened;
    const queries = timestamps && profile.hasTimestamps
      ? this.#queries ??= createQueries(device)
      : undefined;
    recorder.openTimedPass(
      queries && {
        querySet: queries.set,
        beginningOfPassWriteIndex: 0,
        endOfPassWriteIndex: 1,
      },
    );
    try {
      record();
      if (!recorder.isTimed) {
        throw new RangeError("Cannot time a pass: it must hold ops only: something else ended it");
      }
    } catch (error) {
      recorder.submit(); // what comes next does not belong into this pass
      throw error;
    }
    const cpuBefore = cpuSeconds();
    const submittedAt = performance.now() / 1000;
    recorder.submit((encoder) => {
      if (!queries) return;
      encoder.resolveQuerySet(queries.set, 0, 2, queries.resolve, 0);
      encoder.copyBufferToBuffer(queries.resolve, 0, queries.staging, 0, 16);
    });
    // Either wait takes Deno 11 ms, so the map must serve as the wait where there is one.
    if (queries) await queries.staging.mapAsync(1 /* GPUMapMode.READ */);
    else await device.queue.onSubmittedWorkDone();
    const wallSeconds = performance.now() / 1000 - submittedAt;
    const cpuAfter = cpuSeconds();
    let ticks: Pass["ticks"];
    if (queries) {
      const [begin, end] = new BigUint64Array(queries.staging.getMappedRange().slice(0));
      queries.staging.unmap();
      ticks = { begin: begin!, end: end! };
    }
    return {
      ticks,
      submittedAt,
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

interface Pass {
  readonly ticks: { readonly begin: bigint; readonly end: bigint } | undefined;
  readonly submittedAt: number;
  readonly wallSeconds: number;
  readonly cpuSeconds: number | undefined;
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
