// Asks a running server by OpenAI's client for Node and prints what it received as one JSON object.
//
//     node openai_client.mjs http://127.0.0.1:8008/v1 KEY PICTURE QUESTION
//
// Needs the npm package `openai`.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const [baseURL, apiKey, picture, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const url = `data:image/png;base64,${await readFile(picture, "base64")}`;
const messages = [
  {
    role: "user",
    content: [
      { type: "image_url", image_url: { url } },
      { type: "text", text: question },
    ],
  },
];

async function listModels() {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  return names;
}

const [model] = await listModels();
const asked = { model, messages, seed: 1 };

async function plain() {
  const reply = await client.chat.completions.create(asked);
  const [{ message, finish_reason }] = reply.choices;
  return { ...message, finish_reason, usage: reply.usage };
}

async function streamed() {
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  const found = { content: "", reasoning_content: "" };
  for await (const chunk of stream) {
    const [choice] = chunk.choices;
    found.content += choice?.delta.content ?? "";
    found.reasoning_content += choice?.delta.reasoning_content ?? "";
    found.finish_reason = choice?.finish_reason ?? found.finish_reason;
    found.pixel_reasoner = chunk.pixel_reasoner ?? found.pixel_reasoner;
    found.usage = chunk.usage ?? found.usage;
  }
  return found;
}

async function helper() {
  const stream = client.chat.completions.stream({
    ...asked,
    stream_options: { include_usage: true },
  });
  let content = "";
  stream.on("content", (text) => (content += text));
  const reply = await stream.finalChatCompletion();
  const { total_tokens } = await stream.totalUsage();
  return { content, final: reply.choices[0].message.content, total_tokens };
}

async function followUp(reply) {
  const history = [
    ...messages,
    { role: "assistant", content: reply.content },
    { role: "user", content: question },
  ];
  const { choices, usage } = await client.chat.completions.create({ model, messages: history });
  return { content: choices[0].message.content, usage };
}

async function upload() {
  const file = await client.files.create({ file: createReadStream(picture), purpose: "vision" });
  const content = [{ type: "image_url", image_url: { url: file.id } }, messages[0].content[1]];
  const reply = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
  await client.files.delete(file.id);
  return reply.choices[0].message.content;
}

async function response() {
  const content = [
    { type: "input_image", image_url: url, detail: "auto" },
    { type: "input_text", text: question },
  ];
  const body = { model, input: [{ role: "user", content }] };
  const whole = await client.responses.create(body);
  let text = "";
  for await (const event of await client.responses.create({ ...body, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  return { whole: whole.output_text, streamed: text };
}

async function aborted() {
  const stream = client.chat.completions.stream(asked);
  stream.on("chunk", () => stream.abort());
  return errorOf(stream.done());
}

// The class and the fields of the error of a request.
async function errorOf(request) {
  try {
    await request;
  } catch (error) {
    const { status, code, param, headers } = error;
    const retry_after = headers?.get("retry-after");
    return { name: error.constructor.name, status, code, param, retry_after };
  }
  throw new Error("no error");
}

// More requests at once than the server accepts of one key.
async function busy(strict) {
  const requests = [1, 2, 3, 4].map(() => strict.chat.completions.create({ ...asked, n: 2 }));
  const settled = await Promise.allSettled(requests);
  const refused = settled.filter((one) => one.status === "rejected");
  return { ...(await errorOf(Promise.reject(refused[0].reason))), num_refused: refused.length };
}

async function errors() {
  const strict = client.withOptions({ maxRetries: 0 });
  const ask = (fields) => errorOf(strict.chat.completions.create({ ...asked, ...fields }));
  const tool = {
    type: "function",
    function: { name: "now", parameters: { type: "object" }, function: () => "12:00", parse: JSON.parse },
  };
  return {
    key: await errorOf(client.withOptions({ apiKey: "wrong" }).models.list()),
    model: await ask({ model: "gpt-9" }),
    temperature: await ask({ temperature: 9 }),
    response_format: await ask({ response_format: { type: "json_object" } }),
    n: await ask({ n: 3 }),
    busy: await busy(strict),
    tools: await errorOf(strict.chat.completions.runTools({ ...asked, tools: [tool] }).finalContent()),
    aborted: await aborted(),
  };
}

const whole = await plain();
const found = {
  models: await listModels(),
  plain: whole,
  streamed: await streamed(),
  helper: await helper(),
  follow_up: await followUp(whole),
  upload: await upload(),
  response: await response(),
  errors: await errors(),
};
console.log(JSON.stringify(found));
