// A TimeBase provider in plain Node.js, written from schema/protocol.md alone: no package, no code of TimeBase.
// It knows one symbol, NODE: bars and trades whose prices can be computed by whoever tests it.

import net from "node:net";

const VERSION = 1;
const HANDSHAKE = Buffer.from([0x00, 0x53, 0x50, 0x00, 0x00, 0x10, 0x00, 0x00]);
const LENGTH_US = { "1m": 60e6, "5m": 300e6, "1h": 3600e6, "1d": 86400e6 };

// --- msgpack, as much of it as the protocol uses -------------------------------------------------------------------

function encode(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (value === true || value === false) return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === "number") return encodeNumber(value);
  if (typeof value === "string") return encodeText(value);
  if (Buffer.isBuffer(value)) return Buffer.concat([sized(value.length, null, 0xc4, 0xc5, 0xc6), value]);
  if (Array.isArray(value)) {
    return Buffer.concat([sized(value.length, [0x90, 15], null, 0xdc, 0xdd), ...value.map(encode)]);
  }
  const entries = Object.entries(value);
  const items = entries.flatMap(([key, item]) => [encodeText(key), encode(item)]);
  return Buffer.concat([sized(entries.length, [0x80, 15], null, 0xde, 0xdf), ...items]);
}

function encodeNumber(value) {
  if (!Number.isSafeInteger(value)) {
    const float = Buffer.alloc(9);
    float[0] = 0xcb;
    float.writeDoubleBE(value, 1);
    return float;
  }
  if (value >= 0 && value < 128) return Buffer.from([value]);
  const integer = Buffer.alloc(9);
  integer[0] = 0xd3;
  integer.writeBigInt64BE(BigInt(value), 1);
  return integer;
}

function encodeText(text) {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([sized(bytes.length, [0xa0, 31], 0xd9, 0xda, 0xdb), bytes]);
}

function sized(length, short, in8, in16, in32) {
  if (short && length <= short[1]) return Buffer.from([short[0] | length]);
  if (in8 && length < 0x100) return Buffer.from([in8, length]);
  const head = Buffer.alloc(length < 0x10000 ? 3 : 5);
  head[0] = length < 0x10000 ? in16 : in32;
  if (length < 0x10000) head.writeUInt16BE(length, 1);
  else head.writeUInt32BE(length, 1);
  return head;
}

function decode(bytes) {
  let at = 0;
  const take = (n) => bytes.subarray(at, (at += n));
  const text = (n) => take(n).toString("utf8");
  const array = (n) => Array.from({ length: n }, value);
  const map = (n) => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]));
  const readers = {
    0xc0: () => null,
    0xc2: () => false,
    0xc3: () => true,
    0xc4: () => take(take(1).readUInt8()),
    0xc5: () => take(take(2).readUInt16BE()),
    0xc6: () => take(take(4).readUInt32BE()),
    0xca: () => take(4).readFloatBE(),
    0xcb: () => take(8).readDoubleBE(),
    0xcc: () => take(1).readUInt8(),
    0xcd: () => take(2).readUInt16BE(),
    0xce: () => take(4).readUInt32BE(),
    0xcf: () => Number(take(8).readBigUInt64BE()),
    0xd0: () => take(1).readInt8(),
    0xd1: () => take(2).readInt16BE(),
    0xd2: () => take(4).readInt32BE(),
    0xd3: () => Number(take(8).readBigInt64BE()),
    0xd9: () => text(take(1).readUInt8()),
    0xda: () => text(take(2).readUInt16BE()),
    0xdb: () => text(take(4).readUInt32BE()),
    0xdc: () => array(take(2).readUInt16BE()),
    0xdd: () => array(take(4).readUInt32BE()),
    0xde: () => map(take(2).readUInt16BE()),
    0xdf: () => map(take(4).readUInt32BE()),
  };
  function value() {
    const head = take(1)[0];
    if (head < 0x80) return head;
    if (head < 0x90) return map(head & 0x0f);
    if (head < 0xa0) return array(head & 0x0f);
    if (head < 0xc0) return text(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    return readers[head]();
  }
  return value();
}

// --- SP over a Unix socket -----------------------------------------------------------------------------------------

function connect(address, onMessage) {
  const socket = net.connect(address.replace(/^ipc:\/\//, ""));
  let waiting = Buffer.alloc(0);
  let isGreeted = false;
  socket.write(HANDSHAKE);
  socket.on("data", (data) => {
    waiting = Buffer.concat([waiting, data]);
    if (!isGreeted && waiting.length >= HANDSHAKE.length) {
      if (!waiting.subarray(0, HANDSHAKE.length).equals(HANDSHAKE)) process.exit(1);
      waiting = waiting.subarray(HANDSHAKE.length);
      isGreeted = true;
    }
    while (isGreeted && waiting.length >= 9) {
      const end = 9 + Number(waiting.readBigUInt64BE(1));
      if (waiting.length < end) break;
      const payload = waiting.subarray(9, end);
      waiting = waiting.subarray(end);
      onMessage(decode(payload));
    }
  });
  socket.on("close", () => process.exit(0));
  socket.on("error", () => process.exit(1));
  return (type, id, fields = {}) => {
    const payload = encode({ v: VERSION, id, type, ...fields });
    const frame = Buffer.alloc(9);
    frame[0] = 0x01;
    frame.writeBigUInt64BE(BigInt(payload.length), 1);
    socket.write(Buffer.concat([frame, payload]));
  };
}

// --- the provider --------------------------------------------------------------------------------------------------

let hello = {};
const waitingForCredit = new Map(); // id -> {credit, wake}
const waitingForBudget = new Map(); // id -> {resolve, reject}
let spends = 0;

class ProviderError extends Error {
  constructor(code, message, retryAfter) {
    super(message);
    this.fields = { code, message, ...(retryAfter === undefined ? {} : { retry_after: retryAfter }) };
  }
}

function column(values, write) {
  const bytes = Buffer.alloc(8 * values.length);
  values.forEach((value, row) => write(bytes, value, 8 * row));
  return bytes;
}

const int64s = (values) => column(values, (bytes, value, at) => bytes.writeBigInt64LE(BigInt(value), at));
const float64s = (values) => column(values, (bytes, value, at) => bytes.writeDoubleLE(value, at));

function bars(times) {
  const opens = times.map((time) => 100 + ((time / 60e6) % 1000) / 8);
  return {
    n: times.length,
    time: int64s(times),
    open: float64s(opens),
    high: float64s(opens.map((price) => price + 2)),
    low: float64s(opens.map((price) => price - 2)),
    close: float64s(opens.map((price) => price + 1)),
    volume: float64s(times.map(() => 10)),
  };
}

async function credit(id) {
  const question = waitingForCredit.get(id);
  while (question.credit === 0 && !question.isCancelled) await new Promise((wake) => (question.wake = wake));
  question.credit -= 1;
  return !question.isCancelled;
}

function spend(n) {
  return new Promise((resolve, reject) => {
    spends += 1;
    waitingForBudget.set(spends, { resolve, reject });
    send("spend", spends, { n });
  });
}

async function history({ id, symbol, interval, start, end }) {
  if (symbol === "LIMITED") throw new ProviderError("rate_limited", "the vendor says: slow down", 1.5);
  if (symbol === "PAGED") await spend(2);
  else if (symbol !== "NODE") throw new ProviderError("unknown_symbol", `no ${symbol} here`);
  const step = LENGTH_US[interval];
  if (step === undefined) throw new ProviderError("unsupported", `no ${interval} bars here`);
  if (!(await credit(id))) return;
  send("actions", id, { rows: [{ ex_date: 1577836800000000, kind: "split", value: 2, currency: "" }] });
  const rows = hello.options.page_rows ?? hello.batch_rows;
  let times = [];
  for (let time = Math.ceil(start / step) * step; time < end; time += step) {
    times.push(time);
    if (times.length === rows) {
      if (!(await credit(id))) return;
      send("bars", id, bars(times));
      times = [];
    }
  }
  if (times.length && (await credit(id))) send("bars", id, bars(times));
  send("end", id, { warnings: ["these prices are computed"] });
}

// --- the stream ----------------------------------------------------------------------------------------------------

const EPOCH_US = 1577836800000000;
const MOST_WAITING = 1000;
const feeds = new Map(); // id -> {next, waiting: numbers of trades that have not gone out}
let streamCredit = 0;

function subscribe({ id, kind, symbol }) {
  if (kind !== "trades") return send("error", id, { code: "unsupported", message: `no ${kind} here` });
  if (symbol !== "NODE") return send("error", id, { code: "unknown_symbol", message: `no ${symbol} here` });
  feeds.set(id, { next: 1, waiting: [] });
  send("feed", 0, { feeds: [id], is_up: true });
}

function flush() {
  const full = [...feeds].filter(([, feed]) => feed.waiting.length > 0);
  if (streamCredit === 0 || full.length === 0) return;
  streamCredit -= 1;
  const counts = full.map(([, feed]) => feed.waiting.length);
  const numbers = full.flatMap(([, feed]) => feed.waiting.splice(0));
  send("trades", 0, {
    feeds: full.map(([id]) => id),
    counts,
    time: int64s(numbers.map((n) => EPOCH_US + 1000 * n)),
    price: float64s(numbers.map((n) => 100 + (n % 1000) / 8)),
    size: float64s(numbers.map(() => 0.5)),
    side: int64s(numbers.map((n) => (n % 3) - 1)),
    trade_id: int64s(numbers),
  });
}

function grow() {
  for (const feed of feeds.values()) {
    for (let n = 0; n < 10 && feed.waiting.length < MOST_WAITING; n += 1) feed.waiting.push(feed.next++);
  }
  flush();
}

function pulse() {
  const quiet = [...feeds].filter(([, feed]) => feed.waiting.length === 0);
  for (const [id, feed] of quiet) send("pulse", 0, { feeds: [id], time: EPOCH_US + 1000 * (feed.next - 1) });
}

setInterval(grow, 1);
setInterval(pulse, 100);

// --- one question --------------------------------------------------------------------------------------------------

async function answer(message) {
  waitingForCredit.set(message.id, { credit: message.credit, wake: () => {}, isCancelled: false });
  try {
    await history(message);
  } catch (problem) {
    send("error", message.id, problem.fields ?? { code: "upstream", message: String(problem) });
  }
  waitingForCredit.delete(message.id);
}

const on = {
  hello: (message) => {
    hello = message;
    streamCredit = message.stream_credit;
    if (message.secrets.key === "wrong") send("error", message.id, { code: "auth", message: "the key is wrong" });
    else send("ready", message.id, { methods: ["history", "symbols", "stream"] });
    send("log", 0, { level: "info", message: `${message.slug} is set up, grüezi` });
  },
  history: answer,
  subscribe,
  unsubscribe: ({ id }) => feeds.delete(id),
  credit: ({ id, n }) => {
    if (id === 0) return (streamCredit += n), flush();
    const question = waitingForCredit.get(id);
    if (question) (question.credit += n), question.wake();
  },
  cancel: ({ id }) => {
    const question = waitingForCredit.get(id);
    if (question) (question.isCancelled = true), question.wake();
  },
  granted: ({ id }) => waitingForBudget.get(id)?.resolve(),
  error: ({ id, code, message, retry_after }) =>
    waitingForBudget.get(id)?.reject(new ProviderError(code, message, retry_after)),
  symbols: ({ id, limit }) =>
    send("symbols", id, { rows: [{ symbol: "NODE", asset_class: "stock", name: "Node Ltd" }].slice(0, limit) }),
  ping: ({ id }) => send("pong", id),
  shutdown: () => process.exit(0),
};

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
const send = connect(process.env.TIMEBASE_LINK, (message) => on[message.type]?.(message));
send("hello", 0, { sdk: "node-plain/1", pid: process.pid });
