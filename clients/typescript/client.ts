// Creates a task, watches it to its end, also through restarts of the server, and prints its
// result as JSON. Its exit status is 0 where the task succeeded.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Task, Task_State } from "./gen/taskwatch/v1/task_pb.js";
import { TaskService } from "./gen/taskwatch/v1/task_service_pb.js";

const LAST_WORDS = [
  Code.InvalidArgument,
  Code.NotFound,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.Unimplemented,
];
const { values: args, positionals } = parseArgs({
  options: { address: { type: "string", default: "127.0.0.1:50051" } },
  allowPositionals: true,
});
const [kind, input = "{}"] = positionals;
// The pings find out when a server is gone without a word.
const transport = createGrpcTransport({ baseUrl: `http://${args.address}`, pingIntervalMs: 20_000 });
const client = createClient(TaskService, transport);

// Under one id, so that a create whose answer was lost creates no second task.
const create = { task: { kind, input: JSON.parse(input) }, requestId: randomUUID() };
let task: Task | undefined;
for (let pause = 100; !task?.endTime; pause = Math.min(2 * pause, 2000)) {
  try {
    if (!task) {
      task = await client.createTask(create, { timeoutMs: 10_000 });
      console.error(task.name);
    }
    // A stream that ends before the task has ended was cut, whatever its status.
    for await (const frame of client.watchTask({ name: task.name, afterRevision: task.revision })) {
      task = frame.task!;
      pause = 100;
      const percent = (task.progress?.percent ?? 0).toFixed();
      console.error(`${Task_State[task.state]} ${percent}% ${task.progress?.message ?? ""}`);
    }
  } catch (failure) {
    const error = ConnectError.from(failure);
    console.error(error.message);
    if (LAST_WORDS.includes(error.code)) process.exit(1);
  }
  if (!task?.endTime) await sleep(pause);
}
if (task.state === Task_State.SUCCEEDED) {
  console.log(JSON.stringify(toJson(ValueSchema, task.result!)));
} else {
  console.error(`${Task_State[task.state]}: ${task.error?.message}`);
}
process.exit(task.state === Task_State.SUCCEEDED ? 0 : 1);
