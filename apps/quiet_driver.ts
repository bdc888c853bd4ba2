/**
 * Keeps a driver from writing to standard error.
 *
 * Mesa's drivers look for a Wayland display and complain where `XDG_RUNTIME_DIR` is not set, as in most
 * containers. The variable is about windows, which nothing here opens, so any value will do.
 */
export function quietDriver(): void {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "XDG_RUNTIME_DIR" });
  if (state === "granted" && Deno.env.get("XDG_RUNTIME_DIR") === undefined) {
    Deno.env.set("XDG_RUNTIME_DIR", "/tmp");
  }
}
