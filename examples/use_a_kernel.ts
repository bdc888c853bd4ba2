// The MLP of StableLM 3B on one token: y = (silu(x · Wgᵀ) · (x · Wuᵀ)) · Wdᵀ
import { GpuBackend, HostTensor, matmul, Random, swiglu } from "../mod.ts";

const hidden = 2560, intermediate = 6912;
const random = new Random(1);
const weights = (rows: number, columns: number) =>
  HostTensor.from(
    [rows, columns],
    Float32Array.from({ length: rows * columns }, () => 0.02 * random.normal()),
    "f16",
  );

using backend = await GpuBackend.create();
using x = backend.upload(HostTensor.from([1, hidden], new Float32Array(hidden).fill(1)));
using gateWeight = backend.upload(weights(intermediate, hidden));
using upWeight = backend.upload(weights(intermediate, hidden));
using downWeight = backend.upload(weights(hidden, intermediate));

// Each run is recorded; nothing waits until a result is read.
const layout = "linear"; // weights are [out, in], as in PyTorch
using gate = backend.run(matmul, { x, weight: gateWeight }, { layout }).y;
using up = backend.run(matmul, { x, weight: upWeight }, { layout }).y;
using inner = backend.run(swiglu, { gate, up }, { activation: "silu" }).y;
using y = backend.run(matmul, { x: inner, weight: downWeight }, { layout }).y;

const result = await backend.read(y);
console.log(`${backend.description}: y[0] = ${result.numbers[0]}, ${y.shape[1]} elements`);
console.log(`${backend.memory.liveBytes} bytes in ${backend.memory.liveTensors} tensors`);
