/**
 * A repository's folder in the cache that Hugging Face's own programs share:
 *
 *     models--owner--name/
 *       blobs/<hash>                 contents
 *       refs/<revision>              the commit that a revision was when it was last asked for
 *       snapshots/<commit>/<file>    files, linked to their contents
 *
 * @module
 */

import { INDEX_FILE } from "../weights/sharded_source.ts";
import { CONFIG, shardNames, SINGLE_WEIGHTS } from "./checkpoint_files.ts";
import type { Host } from "./host.ts";
import { COMMIT } from "./repo_listing.ts";

/** One repository's folder. */
export class CacheFolder {
  readonly #host: Host;
  readonly #locks: string;
  readonly #root: string;

  /** Takes the cache's folder and `owner/name`, which was checked; neither need be there yet. */
  constructor(host: Host, cacheDir: string, repo: string) {
    const { path, hub } = host;
    const folder = hub.getRepoFolderName({ type: "model", name: repo });
    this.#host = host;
    this.#root = path.join(cacheDir, folder);
    this.#locks = path.join(cacheDir, ".locks", folder);
  }

  /** The folder of a commit's files. */
  snapshot(commit: string): string {
    return this.#host.path.join(this.#root, "snapshots", commit);
  }

  /** The file of a content. */
  blob(hash: string): string {
    return this.#host.path.join(this.#root, "blobs", hash);
  }

  /** The file that is locked while a content is fetched. */
  lockOf(hash: string): string {
    return this.#host.path.join(this.#locks, `${hash}.lock`);
  }

  /** Bytes of a file of a commit, or of what it links to; undefined if it is not there. */
  async sizeIn(commit: string, name: string): Promise<number | undefined> {
    return await this.#size(this.#fileIn(commit, name));
  }

  /** Bytes of a content; undefined if it is not there. */
  async blobSize(hash: string): Promise<number | undefined> {
    return await this.#size(this.blob(hash));
  }

  /** A whole file of a commit. */
  async read(commit: string, name: string): Promise<Uint8Array> {
    return await this.#host.fs.readFile(this.#fileIn(commit, name));
  }

  /**
   * The commit that a revision was when it was last here.
   *
   * @returns 40 hex digits, or undefined if it never was
   */
  async commitOf(revision: string): Promise<string | undefined> {
    if (COMMIT.test(revision)) return revision;
    const text = await this.#host.fs.readFile(this.#ref(revision), "utf8").catch(() => "");
    return COMMIT.test(text.trim()) ? text.trim() : undefined;
  }

  /** Notes which commit a revision is. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (await this.commitOf(revision) === commit) return;
    const { fs, path } = this.#host;
    const ref = this.#ref(revision);
    await fs.mkdir(path.dirname(ref), { recursive: true });
    const next = `${ref}.${crypto.randomUUID()}`;
    try {
      await fs.writeFile(next, commit);
      await fs.rename(next, ref);
    } finally {
      await fs.rm(next, { force: true });
    }
  }

  /**
   * Names of files that a commit lacks here to be a model. Files for text are not asked for: a repository need
   * not have them.
   */
  async missingIn(commit: string): Promise<string[]> {
    const lacks = async (name: string) => await this.sizeIn(commit, name) === undefined;
    const missing = await lacks(CONFIG) ? [CONFIG] : [];
    if (!(await lacks(SINGLE_WEIGHTS))) return missing;
    if (await lacks(INDEX_FILE)) return [...missing, SINGLE_WEIGHTS];
    for (const shard of shardNames(await this.read(commit, INDEX_FILE), INDEX_FILE)) {
      if (await lacks(shard)) missing.push(shard);
    }
    return missing;
  }

  /**
   * Makes a content a file of a commit: by a link to its name, or where that may not be, by a second name for
   * the same file, or else by moving or copying it, as Python's client does.
   *
   * @param isNew whether the content was fetched just now, so that no other commit can have it
   */
  async link(hash: string, commit: string, name: string, isNew: boolean): Promise<void> {
    const { fs, path, mayLinkByName } = this.#host;
    const blob = this.blob(hash);
    const file = this.#fileIn(commit, name);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await fs.rm(file, { force: true });
    const ways = [
      async () => fs.link(await fs.realpath(blob), file),
      () => isNew ? fs.rename(blob, file) : this.#copy(blob, file),
    ];
    if (await mayLinkByName()) {
      const target = path.relative(path.dirname(file), blob);
      ways.unshift(() => fs.symlink(target, file));
    }
    for (const [i, way] of ways.entries()) {
      try {
        return await way();
      } catch (error) {
        // Another call may have been faster.
        if ((error as { code?: unknown }).code === "EEXIST") return;
        if (i === ways.length - 1) throw error;
      }
    }
  }

  async #copy(from: string, to: string): Promise<void> {
    const { fs } = this.#host;
    const next = `${to}.${crypto.randomUUID()}`;
    try {
      await fs.copyFile(from, next);
      await fs.rename(next, to);
    } finally {
      await fs.rm(next, { force: true });
    }
  }

  async #size(path: string): Promise<number | undefined> {
    try {
      const found = await this.#host.fs.stat(path);
      return found.isFile() ? found.size : undefined;
    } catch (error) {
      if ((error as { code?: unknown }).code === "ENOENT") return undefined;
      throw error;
    }
  }

  #fileIn(commit: string, name: string): string {
    return this.#host.path.join(this.snapshot(commit), name);
  }

  #ref(revision: string): string {
    return this.#host.path.join(this.#root, "refs", ...revision.split("/"));
  }
}
