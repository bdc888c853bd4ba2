/**
 * The folder that a model's files lie in: on disk, or picked in a browser.
 *
 * @module
 */

import { ModelFormatError } from "../../runtime/errors.ts";
import { quoteName } from "../../runtime/json_text.ts";
import { blobBytes, type ByteSource, failUnreadable, fileBytes } from "./byte_source.ts";

/** Files by name. */
export interface ModelFolder {
  /** What messages call it. */
  readonly name: string;
  /**
   * Opens a file whose name the program chose: `config.json`. Links are followed.
   *
   * @returns the file, or undefined if there is none of this name
   * @throws {ModelFormatError} If there is something of this name that cannot be read
   */
  open(name: string): Promise<ByteSource | undefined>;
  /**
   * Opens a file whose name another file chose, which nobody vouches for: a link is followed only
   * within the model.
   *
   * @returns the file, or undefined if there is none of this name
   * @throws {ModelFormatError} reason `link-outside`, or as for {@linkcode ModelFolder.open}
   */
  openChosen(name: string): Promise<ByteSource | undefined>;
  /** Names of the files, in order. */
  list(): Promise<readonly string[]>;
}

/**
 * A folder on disk, in Deno, Node or Bun.
 *
 * Permissions: `--allow-read` of the folder.
 *
 * @param path the folder
 */
export function diskFolder(path: string): ModelFolder {
  const folder = path.replace(/(?<=.)[/\\]+$/, "") || ".";
  const pathOf = (name: string) => `${folder}/${name}`;
  const open = async (name: string): Promise<ByteSource | undefined> => {
    try {
      return await fileBytes(pathOf(name));
    } catch (error) {
      if (error instanceof ModelFormatError && error.fault.reason === "missing-file") {
        return undefined;
      }
      throw error;
    }
  };
  return {
    name: folder,
    open,
    async openChosen(name) {
      await requireLinkInside(folder, pathOf(name));
      return await open(name);
    },
    async list() {
      const { readdir } = await import("node:fs/promises");
      try {
        return (await readdir(folder)).sort();
      } catch (error) {
        return failNoFolder(folder, error);
      }
    },
  };
}

/**
 * Files that a browser has picked or been given.
 *
 * @param files by their name without folders
 * @param name what messages call the folder
 */
export function blobFolder(files: ReadonlyMap<string, Blob>, name: string): ModelFolder {
  const open = (file: string): Promise<ByteSource | undefined> => {
    const blob = files.get(file);
    return Promise.resolve(blob && blobBytes(blob, `${name}/${file}`));
  };
  return { name, open, openChosen: open, list: () => Promise.resolve([...files.keys()].sort()) };
}

/**
 * True if a link of a model's folder leads to a file of the same model: in the folder itself, or, in
 * Hugging Face's cache, where `models--owner--name/snapshots/<revision>` links to `../../blobs`, within
 * `models--owner--name`.
 *
 * @param folder the folder's real path
 * @param target the real path that the link leads to
 */
export function isWithinModel(folder: string, target: string): boolean {
  // Real paths: of Windows, they have no slash, and elsewhere a backslash is part of a name.
  const separator = folder.includes("/") ? "/" : "\\";
  const parts = folder.split(separator), targetParts = target.split(separator);
  const isCache = parts.at(-2) === "snapshots" && /^models--./.test(parts.at(-3) ?? "");
  const root = isCache ? parts.slice(0, -2) : parts;
  return targetParts.length > root.length && root.every((part, i) => part === targetParts[i]);
}

/** A permission to read a folder reaches through its links: Deno's own does not hold them in. */
async function requireLinkInside(folder: string, path: string): Promise<void> {
  const { lstat, realpath } = await import("node:fs/promises");
  let target: string;
  try {
    if (!(await lstat(path)).isSymbolicLink()) return;
    target = await realpath(path);
  } catch (error) {
    // What is not there is for the caller to report, with the file that named it.
    if ((error as { code?: unknown }).code === "ENOENT") return;
    return failUnreadable(path, error);
  }
  if (isWithinModel(await realpath(folder), target)) return;
  throw new ModelFormatError({
    file: path,
    reason: "link-outside",
    rule: "a link that another file names must lead to a file of the same model",
    value: `it leads to ${quoteName(target)}`,
  });
}

function failNoFolder(folder: string, error: unknown): never {
  const code = (error as { code?: unknown }).code;
  if (code === "ENOENT" || code === "ENOTDIR") {
    throw new ModelFormatError({
      file: folder,
      reason: "missing-folder",
      rule: "must be a folder of a model's files",
      value: code === "ENOENT" ? "there is none" : "it is a file",
    });
  }
  return failUnreadable(folder, error);
}
