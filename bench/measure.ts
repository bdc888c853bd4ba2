/**
 * How a launch is timed.
 *
 * A sample is one pass of `repeats` launches, enough of them that the pass is long beside what the
 * clock resolves. By timestamps a launch takes T(repeats) / repeats. By the other two clocks a pass
 * carries a fixed cost (submission, and Deno's wait), so it takes (T(repeats) − T(1)) / (repeats − 1).
 * Launches of one pass write the same buffers, so each waits for the one before it.
 *
 * @module
 */

import type { DeviceProfile } from "../runtime/device.ts";
import type { GpuBackend } from "../runtime/gpu_backend.ts";
import type { TimerName } from "../runtime/timing.ts";
import { quantile } from "./statistics.ts";

/** Something that can be launched again and again. */
export interface Subject {
  /** Records one launch. */
  launch(): void;
  /** Dispatches of a launch, which a pass has room for only so many of. */
  readonly dispatches: number;
}

/** The clock to believe on a device. */
export function chooseTimer(profile: DeviceProfile): TimerName {
  // A software device shares its cores with everything else: CPU time does not count what others use.
  if (profile.isSoftware) return "cpu";
  return profile.hasTimestamps ? "timestamp" : "wall";
}

/** What each clock stands for, for the header of a report. */
export const TIMER_SUMMARY: Readonly<Record<TimerName, string>> = {
  timestamp: "the device's timestamps at the ends of a pass",
  cpu: "the process's CPU time over a pass, divided by the cores",
  wall: "wall clock from submission to completion, less that of one launch",
};

/** Least seconds that the launches of a sample take together. */
const LEAST_SECONDS: Readonly<Record<TimerName, number>> = {
  timestamp: 0.5e-3,
  cpu: 3e-3,
  wall: 30e-3,
};

/** A single launch of so many seconds needs no correction for the fixed cost of a pass. */
const LONG_SECONDS: Readonly<Record<TimerName, number>> = { timestamp: 0, cpu: 20e-3, wall: 2 };

/** Times passes by one clock. */
export class Stopwatch {
  /** The clock. */
  readonly timer: TimerName;
  readonly #backend: GpuBackend;
  readonly #cores: number;

  /**
   * Makes a stopwatch.
   *
   * @param cores what CPU time is divided by
   */
  constructor(
    backend: GpuBackend,
    timer: TimerName = chooseTimer(backend.profile),
    cores: number = navigator.hardwareConcurrency,
  ) {
    this.#backend = backend;
    this.timer = timer;
    this.#cores = cores;
  }

  /** Launches that a pass has room for. */
  room(subject: Subject): number {
    return Math.max(1, Math.floor(this.#backend.maxTimedDispatches / subject.dispatches));
  }

  /** Seconds of one pass of `repeats` launches. */
  async pass(subject: Subject, repeats: number): Promise<number> {
    const timing = await this.#backend.time(() => {
      for (let i = 0; i < repeats; i++) subject.launch();
    }, { timestamps: this.timer === "timestamp" });
    if (this.timer === "timestamp") return timing.gpuSeconds ?? timing.wallSeconds;
    if (this.timer === "cpu" && timing.cpuSeconds !== undefined) {
      return timing.cpuSeconds / this.#cores;
    }
    return timing.wallSeconds;
  }
}

/** A subject with its number of repeats, and the samples taken of it so far. */
export class Measurement {
  /** Seconds per launch, one a sample. */
  readonly samples: number[] = [];
  /** Launches in a sample. */
  readonly repeats: number;
  /** Wall seconds that a sample takes. */
  readonly wallSeconds: number;
  readonly #stopwatch: Stopwatch;
  readonly #subject: Subject;
  readonly #single: number;

  private constructor(
    stopwatch: Stopwatch,
    subject: Subject,
    { repeats, single, wallSeconds }: Calibration,
  ) {
    this.#stopwatch = stopwatch;
    this.#subject = subject;
    this.repeats = repeats;
    this.wallSeconds = wallSeconds;
    this.#single = single;
  }

  /** Warms a subject up and finds how often to repeat it. */
  static async start(stopwatch: Stopwatch, subject: Subject): Promise<Measurement> {
    return new Measurement(stopwatch, subject, await calibrate(stopwatch, subject));
  }

  /** Takes one more sample. */
  async sample(): Promise<void> {
    const seconds = await this.#stopwatch.pass(this.#subject, this.repeats);
    this.samples.push(this.#perLaunch(seconds));
  }

  #perLaunch(seconds: number): number {
    const { repeats } = this;
    if (repeats === 1 || this.#stopwatch.timer === "timestamp") return seconds / repeats;
    // Noise may make a pass look shorter than its first launch; no launch takes less than a nanosecond.
    return Math.max((seconds - this.#single) / (repeats - 1), 1e-9);
  }
}

interface Calibration {
  readonly repeats: number;
  /** Seconds of a pass of one launch. */
  readonly single: number;
  readonly wallSeconds: number;
}

async function calibrate(stopwatch: Stopwatch, subject: Subject): Promise<Calibration> {
  const { timer } = stopwatch;
  const least = LEAST_SECONDS[timer];
  const room = stopwatch.room(subject);
  let wallSeconds = 0;
  const pass = async (repeats: number) => {
    const start = performance.now();
    const seconds = await stopwatch.pass(subject, repeats);
    wallSeconds = (performance.now() - start) / 1000;
    return seconds;
  };
  const first = await pass(1);
  const long = timer === "timestamp" ? least : LONG_SECONDS[timer];
  if (first >= long || room === 1) return { repeats: 1, single: first, wallSeconds };
  const single = timer === "timestamp" ? 0 : quantile([first, await pass(1)], 0.5);
  let repeats = timer === "timestamp" ? 1 : Math.min(4, room);
  while (true) {
    const spent = await pass(repeats) - single;
    if (spent >= least || repeats === room) return { repeats, single, wallSeconds };
    const factor = Math.min(Math.max(1.25 * least / Math.max(spent, 1e-9), 2), 16);
    repeats = Math.min(Math.ceil(repeats * factor), room);
  }
}
