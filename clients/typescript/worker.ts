// A worker for tasks of kind hash-files: {"directory": "..."} to {"files": n, "sha256": "..."},
// a chain over the files in the order of their paths: link = SHA-256(link before +
// SHA-256(file) + path), the first one from 32 zero bytes.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
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
type Report = MessageInitShape<typeof pb.ReportTasksRequest_ReportSchema>;
const third = (Number(args.lease) * 1000) / 3;
const transport = createGrpcTransport({ baseUrl: `http://${args.address}`, defaultTimeoutMs: 10_000 });
const client = createClient(pb.WorkerService, transport);
const stopping = new AbortController();
process.on("SIGTERM", () => stopping.abort());

/** Asks until it is answered: only the server knows whether a lease still lives. */
async function call<A>(ask: () => Promise<A>): Promise<A> {
  for (let pause = 100; ; pause = Math.min(2 * pause, 2000)) {
    try {
      return await ask();
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (code === Code.InvalidArgument || code === Code.Unimplemented || stopping.signal.aborted) throw error;
      await sleep(pause);
    }
  }
}

/** Hashes the files behind the checkpoint; reports after each MiB and each file. */
async function work(top: string, kept: JsonObject, report: (what?: Report) => Promise<void>) {
  const found = await readdir(top, { recursive: true, withFileTypes: true });
  const paths = found.filter((it) => it.isFile()).map((it) => relative(top, join(it.parentPath, it.name)));
  paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  let done = Number(kept.done ?? 0);
  let sha256 = String(kept.sha256 ?? "00".repeat(32));
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

/** Runs one task, from its lease to its outcome. */
async function run({ task, leaseToken }: pb.Lease) {
  const ids = { name: task!.name, leaseToken };
  let beat = Date.now();

  /** Tells what there is to tell, and every third of the lease that the work lives. */
  async function report(what?: Report) {
    if (!what) await sleep(Number(args.delay));
    for (let again = !!what; again || stopping.signal.aborted || Date.now() - beat > third; what = {}) {
      const [answer] = (await call(() => client.reportTasks({ reports: [{ ...ids, ...what }] }))).answers;
      if (answer.error) throw new Error(answer.error.message);
      beat = Date.now();
      if (answer.wantedState === Task_State.CANCELLING) throw "cancelled";
      if (stopping.signal.aborted) throw "released";
      again = answer.wantedState === Task_State.PAUSED;
      if (again) await sleep(Math.min(third, 1000));
    }
  }

  const top = String(task!.input?.directory);
  const outcome = await work(top, task!.checkpoint ?? {}, report).then(
    (result) => ({ outcome: { case: "result" as const, value: fromJson(ValueSchema, result) } }),
    async (error) => {
      if (error === "cancelled" || error === "released") return { outcome: { case: error, value: true as const } };
      const missing = !(await stat(top).catch(() => undefined))?.isDirectory();
      const code = missing ? Code.InvalidArgument : Code.Internal;
      return { outcome: { case: "error" as const, value: { code, message: String(error) } }, permanent: missing };
    },
  );
  // Where the task is no longer ours, this is refused.
  await call(() => client.finishTasks({ outcomes: [{ ...ids, ...outcome }] }));
}

const poll = { worker: `typescript-${process.pid}`, kinds: ["hash-files"], wait: { seconds: 20n } };
const request = { ...poll, leaseDuration: { seconds: BigInt(args.lease) } };
const options = { signal: stopping.signal, timeoutMs: 30_000 };
while (!stopping.signal.aborted) {
  const { leases } = await call(() => client.leaseTasks(request, options));
  for (const lease of leases) await run(lease);
}
