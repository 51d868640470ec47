// A worker for tasks of kind hash-files: {"directory": "..."} to {"files": n, "sha256": "..."}, a chain over
// the files by path: link = SHA-256(link before + SHA-256(file) + path), the first one from 32 zero bytes.
import { createHash } from "node:crypto";
import { createReadStream, readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { fromJson, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Task_State } from "./gen/taskwatch/v1/task_pb.js";
import * as pb from "./gen/taskwatch/v1/worker_service_pb.js";

const { values: args } = parseArgs({
  options: {
    address: { type: "string", default: "127.0.0.1:50051" },
    lease: { type: "string", default: "30" }, // seconds without a report
    delay: { type: "string", default: "0" }, // milliseconds to rest after a MiB
  },
});
type Outcome = MessageInitShape<typeof pb.FinishTasksRequest_OutcomeSchema>;
type Report = MessageInitShape<typeof pb.ReportTasksRequest_ReportSchema>;
const third = (Number(args.lease) * 1000) / 3;
const transport = createGrpcTransport({ baseUrl: `http://${args.address}`, defaultTimeoutMs: 10_000 });
const client = createClient(pb.WorkerService, transport);
let [busy, stopping] = [false, false];
process.on("SIGTERM", () => (busy ? (stopping = true) : process.exit()));

/** Asks until it is answered: only the server knows whether a lease still lives. */
async function call<A>(ask: () => Promise<A>): Promise<A> {
  for (let pause = 100; ; pause = Math.min(2 * pause, 2000)) {
    try {
      return await ask();
    } catch (error) {
      if (ConnectError.from(error).code === Code.InvalidArgument || stopping) throw error;
      await sleep(pause);
    }
  }
}

/** Hashes the files behind the checkpoint; reports after each MiB and each file. */
async function work(top: string, kept: JsonObject, report: (what?: Report) => Promise<void>) {
  const found = readdirSync(top, { recursive: true, withFileTypes: true });
  const paths = found.filter((it) => it.isFile()).map((it) => relative(top, join(it.parentPath, it.name)));
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  let [done, sha256] = [Number(kept.done ?? 0), String(kept.sha256 ?? "00".repeat(32))];
  for (const path of paths.slice(done)) {
    const digest = createHash("sha256");
    for await (const part of createReadStream(join(top, path), { highWaterMark: 1 << 20 })) {
      digest.update(part);
      await report();
    }
    const link = createHash("sha256").update(sha256, "hex").update(digest.digest()).update(path);
    [done, sha256] = [done + 1, link.digest("hex")];
    const progress = { completedUnits: BigInt(done), totalUnits: BigInt(paths.length), message: path };
    await report({ progress, checkpoint: { done, sha256 } });
  }
  return { files: done, sha256 };
}

async function run({ task, leaseToken }: pb.Lease) {
  const ids = { name: task!.name, leaseToken };
  let beat = Date.now();
  /** Tells what there is to tell, and every third of the lease that the work lives. */
  async function report(what?: Report) {
    if (!what) await sleep(Number(args.delay));
    for (let again = !!what; again || stopping || Date.now() - beat > third; what = {}) {
      const [answer] = (await call(() => client.reportTasks({ reports: [{ ...ids, ...what }] }))).answers;
      if (answer.error) throw new Error(answer.error.message);
      beat = Date.now();
      if (answer.wantedState === Task_State.CANCELLING) throw "cancelled";
      if (stopping) throw "released";
      if ((again = answer.wantedState === Task_State.PAUSED)) await sleep(Math.min(third, 1000));
    }
  }
  const top = String(task!.input?.directory);
  let outcome: Outcome;
  try {
    const result = fromJson(ValueSchema, await work(top, task!.checkpoint ?? {}, report));
    outcome = { outcome: { case: "result", value: result } };
  } catch (error) {
    const permanent = !statSync(top, { throwIfNoEntry: false })?.isDirectory();
    const value = { code: permanent ? Code.InvalidArgument : Code.Internal, message: String(error) };
    if (error === "cancelled" || error === "released") outcome = { outcome: { case: error, value: true } };
    else outcome = { outcome: { case: "error", value }, permanent };
  }
  // Where the task is no longer ours, this is refused.
  await call(() => client.finishTasks({ outcomes: [{ ...ids, ...outcome }] }));
}

const poll = { worker: `typescript-${process.pid}`, kinds: ["hash-files"], wait: { seconds: 20n } };
const request = { ...poll, leaseDuration: { seconds: BigInt(args.lease) } };
for (; !stopping; busy = false) {
  const { leases } = await call(() => client.leaseTasks(request, { timeoutMs: 30_000 }));
  busy = true;
  for (const lease of leases) await run(lease);
}
process.exit();
