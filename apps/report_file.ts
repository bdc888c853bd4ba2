/**
 * The file that `--json` of a text command writes.
 *
 * @module
 */

/**
 * Makes the file, so that one that cannot be written is known before the work is done. What is empty in the end is
 * taken away.
 *
 * @param path where it is; no file unless given
 */
export async function reportFile(path: string | undefined): Promise<AsyncDisposable> {
  if (path !== undefined) await Deno.writeTextFile(path, "", { append: true });
  return {
    async [Symbol.asyncDispose](): Promise<void> {
      if (path === undefined) return;
      const { isFile, size } = await Deno.stat(path);
      if (isFile && size === 0) await Deno.remove(path);
    },
  };
}

/** A report as JSON to read: indented, but for lists of numbers, which take a line each. */
export function formatJson(report: object): string {
  const json = JSON.stringify(report, null, 2);
  // Text has no line end of its own in JSON.
  return json.replace(/\[\n\s+-?\d[\d.e+-]*(?:,\n\s+-?\d[\d.e+-]*)*\n\s+\]/g, (list) => {
    return list.replace(/\n\s+/g, " ").replace("[ ", "[").replace(" ]", "]");
  }) + "\n";
}
