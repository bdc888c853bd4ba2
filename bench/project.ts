/**
 * Which state of this project is running.
 *
 * @module
 */

const ROOT = new URL("../", import.meta.url);

/** Version of the project, from its `deno.json`. */
export function projectVersion(): string {
  return JSON.parse(read("deno.json") ?? "{}").version ?? "unknown";
}

/** The checked-out git commit, read from git's own files; null where they cannot be read. */
export function projectCommit(): string | null {
  const head = read(".git/HEAD")?.trim();
  if (head === undefined) return null;
  const reference = /^ref: (.+)$/.exec(head)?.[1];
  if (reference === undefined) return commitOrNull(head);
  const loose = read(`.git/${reference}`)?.trim();
  if (loose !== undefined) return commitOrNull(loose);
  const packed = read(".git/packed-refs")?.split("\n").find((line) =>
    line.endsWith(` ${reference}`)
  );
  return commitOrNull(packed?.split(" ")[0]);
}

function commitOrNull(text: string | undefined): string | null {
  return text !== undefined && /^[0-9a-f]{40,64}$/.test(text) ? text : null;
}

/** A file of the project; undefined where there is none, or none that may be read. */
function read(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(new URL(path, ROOT));
  } catch {
    return undefined;
  }
}
