// BullMQ doing the job: a worker that inserts one row a message. Speaks the benchmark's protocol on stdin and
// stdout: "fill N ROUND" adds N jobs, "run N" works until N rows are in; each is answered "done".
import { createInterface } from "node:readline";
import { Queue, Worker } from "bullmq";
import pg from "pg";

const connection = { host: "127.0.0.1", port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
let left = 0;
let finished = () => {};

const worker = new Worker(
  "bench",
  async (job) => {
    const event = job.data;
    await pool.query(
      "INSERT INTO bench.rows (id, type, subject, occurred_at, data) VALUES ($1, $2, $3, $4, $5)",
      [event.id, event.type, event.subject, event.time, event.data],
    );
  },
  { connection, concurrency: 100, autorun: false },
);
worker.on("completed", () => { if (--left === 0) finished(); });
worker.on("error", (error) => { console.error(error); process.exit(1); });
worker.on("failed", (_, error) => { console.error(error); process.exit(1); });
await worker.waitUntilReady();
await pool.query("SELECT 1");
console.log("ready");

let running = false;
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, count, path] = line.split(" ");
  if (verb === "fill") {
    await worker.pause();
    const { readFileSync } = await import("node:fs");
    const bodies = readFileSync(path, "utf8").trim().split("\n").map((text) => JSON.parse(text));
    await queue.addBulk(bodies.map((data) => ({
      name: "event", data, opts: { removeOnComplete: true, jobId: data.id },
    })));
  } else {
    left = Number(count);
    const done = new Promise((resolve) => { finished = resolve; });
    if (running) worker.resume();
    else { running = true; worker.run(); worker.resume(); }
    await done;
  }
  console.log("done");
}
process.exit(0);
