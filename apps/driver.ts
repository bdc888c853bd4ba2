/**
 * What the commands and the tests settle with the environment before they ask for an adapter.
 *
 * @module
 */

/**
 * On Linux, WebGPU is told to use Vulkan alone, unless the user has said otherwise. Left to try all of
 * its backends, 4 of 95 test processes that had compiled new shaders aborted after their last line
 * ("double free or corruption"); of 150 with Vulkan alone, none did. The cause is not known.
 *
 * Mesa's drivers look for a Wayland display, and complain on standard error where `XDG_RUNTIME_DIR` is
 * not set, as in most containers. The variable is about windows, which nothing here opens.
 */
export function prepareDriver(): void {
  if (Deno.build.os !== "linux") return;
  setDefault("DENO_WEBGPU_BACKEND", "vulkan");
  setDefault("XDG_RUNTIME_DIR", "/tmp");
}

/** Sets a variable that is not set, if that is permitted. */
function setDefault(variable: string, value: string): void {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  if (state === "granted" && Deno.env.get(variable) === undefined) Deno.env.set(variable, value);
}
