/** Worker of mod_test.ts: imports the public module where any look at WebGPU throws. */

/// <reference lib="deno.worker" />

Object.defineProperty(navigator, "gpu", {
  get() {
    throw new Error("importing mod.ts looked at navigator.gpu");
  },
});
const module = await import("../mod.ts");
self.postMessage(Object.keys(module).length);

export {};
