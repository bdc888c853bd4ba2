export { describe, it } from "node:test";
