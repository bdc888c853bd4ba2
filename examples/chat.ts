// A conversation: each turn runs only the tokens that are new.
import { Chat, GpuBackend } from "../mod.ts";

using backend = await GpuBackend.create();
using chat = await Chat.fromPretrained("stabilityai/stablelm-zephyr-3b", { backend }, {
  doSample: true,
  temperature: 0.8,
  maxNewTokens: 100,
  seed: 1,
});

for (const question of ["What is a kernel?", "And who writes one?"]) {
  console.log(`> ${question}`);
  let reply = "";
  for await (const { text } of chat.send(question)) reply += text;
  console.log(reply);
}
console.log(`${chat.messages.length} messages`);
