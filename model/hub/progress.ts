/**
 * How far a download of several files has come.
 *
 * @module
 */

import type { LoadProgress } from "../weights/parameter_store.ts";
import type { RepoFile } from "./repo_listing.ts";

/** Milliseconds between two reports on the same file. */
const REPORT_MS = 100;

/** Adds the files up. What it reports never goes back, and ends at the total. */
export class DownloadMeter {
  readonly #report: ((progress: LoadProgress) => void) | undefined;
  readonly #total: number;
  readonly #start = performance.now();
  #before = 0;
  #highest = 0;
  #received = 0;
  #reported = -Infinity;

  /** Takes the files that are wanted, whether they are here or not. */
  constructor(files: readonly RepoFile[], report: ((progress: LoadProgress) => void) | undefined) {
    this.#report = report;
    this.#total = files.reduce((sum, { size }) => sum + size, 0);
  }

  /** Reports that `here` bytes of a file are here before a request for the rest. */
  begin(file: RepoFile, here: number): void {
    this.#reach(here);
    this.#tell(file);
  }

  /** Reports that `here` bytes of a file are here, of which `received` have just come. */
  advance(file: RepoFile, here: number, received: number): void {
    this.#received += received;
    this.#reach(here);
    if (performance.now() - this.#reported >= REPORT_MS) this.#tell(file);
  }

  /** Reports that a file is here as a whole. */
  finish(file: RepoFile): void {
    this.#reach(file.size);
    this.#before += file.size;
    this.#tell(file);
  }

  #reach(here: number): void {
    this.#highest = Math.max(this.#highest, this.#before + here);
  }

  #tell({ name }: RepoFile): void {
    this.#reported = performance.now();
    this.#report?.({
      phase: "download",
      item: name,
      loadedBytes: this.#highest,
      totalBytes: this.#total,
      bytesPerSecond: this.#received === 0
        ? 0
        : this.#received / ((this.#reported - this.#start) / 1000),
    });
  }
}
