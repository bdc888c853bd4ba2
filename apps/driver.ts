/**
 * What the commands and the tests settle with the environment before they ask for an adapter.
 *
 * @module
 */

/**
 * On Linux, WebGPU is told to use Vulkan alone, unless the user has said otherwise. Asked for both, it
 * also loads Mesa's OpenGL, with which one process in twenty that had compiled new shaders was seen to
 * abort at its very end ("double free or corruption"); with Vulkan alone, none in a hundred and twenty.
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
