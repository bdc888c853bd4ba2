// Two sequences of different lengths, classified by a fine-tuned StableLM in a folder.
import { GpuBackend, StableLmForSequenceClassification } from "../mod.ts";

using backend = await GpuBackend.create();
using model = await StableLmForSequenceClassification.fromPretrained("./my-classifier", {
  backend,
});

// Filled up with the config's pad_token_id, here 1, on either side.
const inputIds = [[510, 8588, 310, 1900, 9386], [12092, 1533, 1, 1, 1]];
const attentionMask = inputIds.map((row) => row.map((id) => id === 1 ? 0 : 1));
using output = await model.forward({ inputIds, attentionMask, labels: [2, 0] });

const { numbers, shape } = await backend.read(output.logits); // [sequences, classes]
const [sequences, classes] = shape as [number, number];
for (let row = 0; row < sequences; row++) {
  const scores = Array.from({ length: classes }, (_, i) => numbers[row * classes + i]!);
  const best = scores.indexOf(Math.max(...scores));
  console.log(`sequence ${row}: ${model.config.id2label[best]}`);
}
console.log(`loss ${output.loss!.toFixed(3)}`);
