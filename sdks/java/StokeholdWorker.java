// Stokehold's SDK for workers in Java 11 and later: this file and nothing else. Copy it into your project.
// It speaks the protocol of protocol/SPEC.md; a name in brackets, such as [W-10], is a statement there.

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.Proxy;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A worker: handlers under names, and one call that serves a parent until it ends this process.
 *
 * <pre>{@code
 * public static void main(String[] args) {
 *     new StokeholdWorker()
 *         .on("count", (text, task) -> ((String) text).split(" ").length)
 *         .serve();
 * }
 * }</pre>
 *
 * <p>Values are what MessagePack has: {@code null}, {@link Boolean}, {@link Long} ({@link BigInteger} from 2^63 to 2^64 - 1),
 * {@link Double}, {@link String}, {@code byte[]}, {@link List}, and {@link Map} with texts as keys. Results may also have the
 * other integer and float types, arrays of objects and any collection.
 *
 * <p>Create it first thing in {@code main}: from then on standard input is empty, and what is printed cannot get between the
 * frames.
 */
public final class StokeholdWorker {
    /** Does one task. What it returns is the answer; what it throws fails the task, and nothing else. */
    public interface Handler {
        Object handle(Object input, Task task) throws Exception;
    }

    /** Makes the worker ready: loads a model, opens a database. The task it gets can log and tell its progress. */
    public interface Start {
        void run(Task task) throws Exception;
    }

    private static final int LEN_MIN = 5;
    private static final int LEN_MAX = 0x07FF_FFFF;
    private static final int MAX_FRAME_DEFAULT = 0x00FF_FFFF;
    private static final int MAX_FRAME_MIN = 65_536;
    private static final int HEADER = 8;
    private static final int DEPTH_MAX = 64;
    private static final int WINDOW_MAX = 65_536;
    private static final int OVERDRAFT_MAX = 65_536;
    private static final int PING_BYTES_MAX = 64;
    private static final int CHUNK = 65_536;
    private static final long ADDRESS_MAX = (1L << 53) - 1;

    private static final int NOT_READY = 1;
    private static final int READER_GONE = 1;
    private static final int WRONG_START = 2;
    private static final int TRUNCATED = 3;
    private static final int PARENT_BROKE = 4;
    private static final int INCOMPATIBLE = 5;
    private static final int PERMANENT = 125;

    /** Handlers shorter than this are tiny: a write for each of their answers would cost more than they do. */
    private static final long TINY_NANOS = 20_000;
    /** So many tiny ones in a row, and answers may wait for each other. */
    private static final int TINY_ROW = 1_024;

    private final Map<String, Handler> handlers = new LinkedHashMap<>();
    private final Input input;
    private final Output output;
    private final Object lock = new Object();
    /** Tasks that wait for a thread. Guarded by the lock, as the next three. */
    private final ArrayDeque<Task> queue = new ArrayDeque<>();
    /** Tasks without an answer, by their ids. */
    private final Map<Integer, Task> open = new HashMap<>();
    private boolean ended;
    private boolean ready;
    private final AtomicLong done = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();

    private Start start = task -> { };
    private int threads = 1;
    private int window = 64;
    private int maxFrame = MAX_FRAME_DEFAULT;

    /** What the parent's HELLO says. */
    private volatile int parentMaxFrame = MAX_FRAME_DEFAULT;
    private volatile long sender;
    private volatile long recipient;
    private volatile boolean tellsStarts;
    private boolean greeted;
    private int exitCode;
    /** The end may come while the start ends: both threads get here then. */
    private final AtomicBoolean saidBye = new AtomicBoolean();

    /**
     * Takes the connection to the parent away from standard input and output, or ends the process with status 2 if it was not
     * started as a worker.
     */
    public StokeholdWorker() {
        String transport = System.getenv("STOKEHOLD_IO");
        if (transport == null && isTerminal()) {
            throw end(WRONG_START, "this program is a worker: a parent starts it and speaks the Stokehold protocol with it on"
                + " standard input and output; run it with: stokehold run -- java ...");
        }
        Streams streams;
        try {
            streams = Streams.open(transport == null ? "stdio" : transport);
        } catch (IOException e) {
            throw end(WRONG_START, e.getMessage());
        }
        input = new Input(streams.input);
        output = new Output(streams.output);
        sender = ProcessHandle.current().pid();
        if (transport != null) {
            ignoreInterrupts();
        }
        checkOffer("STOKEHOLD_PROTO", "1", "version", 1L);
        checkOffer("STOKEHOLD_CODEC", "msgpack", "codec", "msgpack");
    }

    /** Serves with one handler, for DO: the request that has no name of its own. Does not return. */
    public static void serve(Handler handler) {
        new StokeholdWorker().on("DO", handler).serve();
    }

    /** Adds the handler of a request: {@code DO}, or any name that is not ALL-CAPS. */
    public StokeholdWorker on(String name, Handler handler) {
        int bytes = name.getBytes(StandardCharsets.UTF_8).length;
        if (bytes == 0 || bytes > 255 || isProtocol(name)) {
            throw new IllegalArgumentException("no request can have the name \"" + name + "\"");
        }
        if (handlers.putIfAbsent(name, handler) != null) {
            throw new IllegalArgumentException("the request \"" + name + "\" has a handler already");
        }
        return this;
    }

    /**
     * Sets what runs once before the first task, after the parent knows that the worker lives. What it throws is printed and
     * ends the process with status 1, or 125 for {@link Permanent}.
     */
    public StokeholdWorker start(Start start) {
        this.start = start;
        return this;
    }

    /**
     * The builder of a subprocess without the variables of the parent, so that it does not take itself for a worker. Java cannot
     * take them out of its own environment.
     */
    public static ProcessBuilder command(String... command) {
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().keySet().removeIf(name -> name.startsWith("STOKEHOLD_"));
        return builder;
    }

    /** Sets how many handlers may run at a time, each on a thread of its own. Default: 1, and then in the order of arrival. */
    public StokeholdWorker threads(int threads) {
        this.threads = Math.max(1, Math.min(threads, WINDOW_MAX));
        return this;
    }

    /**
     * Sets how many unanswered tasks the parent may send, at least as many as there are threads. Default: 64, so that the
     * next tasks are here when one is done. Set 1 if no task shall wait behind another.
     */
    public StokeholdWorker window(int tasks) {
        this.window = Math.max(1, Math.min(tasks, WINDOW_MAX));
        return this;
    }

    /** Sets the largest frame to take, in bytes, from 64 KiB to 128 MiB. Default: 16 MiB. */
    public StokeholdWorker maxFrame(int bytes) {
        this.maxFrame = Math.max(MAX_FRAME_MIN, Math.min(bytes, LEN_MAX));
        return this;
    }

    /** Serves until the parent ends it, and then ends the process: does not return. */
    public void serve() {
        if (handlers.isEmpty()) {
            throw new IllegalStateException("a worker needs a handler: add one with `on` before `serve`");
        }
        window = Math.max(window, threads);
        Packer packer = new Packer();
        hello(packer);
        daemon("stokehold-reader", this::read);
        daemon("stokehold-flusher", output::flushLate);
        Task opening = new Task(0, "");
        try {
            start.run(opening);
            opening.end();
        } catch (Throwable e) {
            e.printStackTrace();
            throw end(e instanceof Permanent ? PERMANENT : NOT_READY, "the worker could not start: " + describe(e));
        }
        synchronized (lock) {
            ready = true;
            if (!ended) {
                packer.frame(0, "READY", null);
                output.add(packer, false);
            }
        }
        List<Thread> others = new ArrayList<>();
        for (int n = 1; n < threads; n++) {
            others.add(daemon("stokehold-" + n, this::work));
        }
        work();
        for (Thread other : others) {
            joined(other);
        }
        finish();
    }

    /** Every task has its answer: says so and ends. */
    private void finish() {
        if (exitCode == 0 && !saidBye.getAndSet(true)) {
            Map<String, Object> counts = new LinkedHashMap<>();
            counts.put("done", done.get());
            counts.put("failed", failed.get());
            Packer packer = new Packer();
            packer.frame(0, "BYE", counts);
            output.add(packer, false);
        }
        output.flush();
        System.exit(exitCode);
    }

    private void hello(Packer packer) {
        Map<String, Object> hello = new LinkedHashMap<>();
        hello.put("v", 1);
        hello.put("window", window);
        if (window > 1) {
            // Without a limit a window full of the largest frames would not fit into the heap.
            hello.put("window_bytes", 4L * MAX_FRAME_DEFAULT);
        }
        List<String> caps = new ArrayList<>(List.of("cancel", "meta", "ping"));
        if (threads > 1) {
            // With one thread the order says which task runs, and STARTED would cost a write for each.
            caps.add("started");
        }
        hello.put("caps", caps);
        hello.put("max_frame", maxFrame);
        hello.put("serial", threads == 1);
        hello.put("sdk", "stokehold-java/1");
        hello.put("methods", names());
        packer.frame(0, "HELLO", hello);
        output.add(packer, false);
    }

    /** The names of the handlers, or nothing, which means any, if they would not fit into a HELLO. */
    private List<String> names() {
        int bytes = 0;
        for (String name : handlers.keySet()) {
            bytes += name.getBytes(StandardCharsets.UTF_8).length + 3;
        }
        return bytes > 60_000 || handlers.size() > 4_096 ? null : new ArrayList<>(handlers.keySet());
    }

    // ---- Work: the threads that run handlers ----

    private void work() {
        try {
            Packer packer = new Packer();
            Pace pace = new Pace();
            for (Task task = next(); task != null; task = next()) {
                run(task, packer, pace);
            }
        } catch (Throwable e) {
            // Not a handler's failure but this file's, or no memory is left: a thread less would be a worker that hangs.
            halt(1, "the worker failed: " + e);
        }
    }

    /** The next task, or null when there will be none. Nothing is held back while this waits [W-9]. */
    private Task next() {
        synchronized (lock) {
            Task task = queue.poll();
            if (task != null) {
                return task;
            }
        }
        output.flush();
        synchronized (lock) {
            while (queue.isEmpty() && !ended) {
                try {
                    lock.wait();
                } catch (InterruptedException e) {
                    // Meant for a handler that is over.
                }
            }
            return queue.poll();
        }
    }

    private void run(Task task, Packer packer, Pace pace) {
        long took = 0;
        boolean good = false;
        try {
            Handler handler = handlers.get(task.request);
            Object data = admit(task, handler);
            if (tellsStarts && task.id != 0) {
                packer.frame(task.id, "STARTED", null);
                output.add(packer, false);
            }
            task.begin();
            Object result;
            long began = System.nanoTime();
            try {
                result = handler.handle(data, task);
            } finally {
                took = System.nanoTime() - began;
                // A handler may leave its thread interrupted, which is nothing to the next task.
                Thread.interrupted();
            }
            if (task.id != 0) {
                packer.frame(task.id, "FINISHED", result);
            }
            good = true;
        } catch (Throwable e) {
            if (task.id != 0) {
                failure(task, e, packer);
            } else if (handlers.containsKey(task.request)) {
                say("the one-way request \"" + task.request + "\" failed: " + describe(e));
            }
        }
        task.end();
        pace.count(took);
        if (task.id != 0) {
            (good ? done : failed).incrementAndGet();
            synchronized (lock) {
                // Before the answer is written: once the parent has read it, the id may come again.
                open.remove(task.id);
            }
            output.add(packer, pace.mayWait());
        }
        pace.settle();
    }

    /** The input of a task that may begin. */
    private Object admit(Task task, Handler handler) {
        Failure refusal = task.refusal;
        if (refusal == null && handler == null) {
            refusal = new Failure("there is no handler for \"" + task.request + "\"").reserved("unknown_request");
        }
        if (refusal == null && task.cancelled) {
            refusal = Failure.cancelled();
        }
        if (refusal != null) {
            throw refusal.notBegun();
        }
        byte[] data = task.data;
        task.data = null;
        try {
            return new Unpacker(data, 0, data.length).only();
        } catch (Failure e) {
            throw e.notBegun();
        }
    }

    private void failure(Task task, Throwable thrown, Packer packer) {
        Map<String, Object> report;
        try {
            report = Failure.report(thrown);
        } catch (Throwable e) {
            // An exception whose own methods throw.
            report = new LinkedHashMap<>(Map.of("code", "error", "message", thrown.getClass().getName()));
        }
        try {
            packer.frame(task.id, "FAILED", report);
        } catch (Throwable e) {
            // The texts always fit; what the handler added may not, or be no value at all, or have methods that throw.
            report.remove("data");
            packer.frame(task.id, "FAILED", report);
            say("the data of a failure was left out: " + describe(e));
        }
    }

    /**
     * Whether answers may wait for each other. A worker that works in order writes each answer before the next handler begins,
     * so that a crash is never blamed on a task that was done [L-13]. That costs a write for each task; when the tasks are
     * tiny it says that it is no longer so, collects, and says when that ends [W-10].
     */
    private final class Pace {
        private int row;
        private boolean collects;
        private final Packer packer = new Packer();

        void count(long nanos) {
            row = nanos < TINY_NANOS ? Math.min(row + 1, TINY_ROW) : 0;
        }

        boolean mayWait() {
            // STARTED of the next task takes the answer along.
            return tellsStarts || (row == TINY_ROW && (threads > 1 || collects));
        }

        /** After the answer: says what has changed. */
        void settle() {
            boolean wants = threads == 1 && window > 1 && row == TINY_ROW;
            if (wants != collects) {
                collects = wants;
                packer.frame(0, "CREDIT", Map.of("serial", !collects));
                output.add(packer, false);
            }
        }
    }

    // ---- Reading: a thread that never runs a handler, so that PING and CANCEL are heard while one runs ----

    private void read() {
        try {
            int code = readFrames();
            synchronized (lock) {
                exitCode = code;
                ended = true;
                lock.notifyAll();
                if (ready || !queue.isEmpty()) {
                    return;
                }
            }
            // Nothing was asked of it, and the start may take minutes.
            finish();
        } catch (IOException e) {
            halt(1, "the input cannot be read: " + e.getMessage());
        } catch (Throwable e) {
            halt(1, "the worker failed: " + e);
        }
    }

    /** Reads to the end, and gives the exit code that belongs to it. What was received before is done in any case. */
    private int readFrames() throws IOException {
        Meta meta = null;
        while (true) {
            if (!input.has(4)) {
                return input.isEmpty() ? 0 : truncated();
            }
            long length = input.peek(0) & 0xFFFF_FFFFL;
            if (length < LEN_MIN || length > LEN_MAX) {
                // Judged by the length alone: the bytes after it may never come.
                say("the input is no stream of frames: a length of " + length);
                return PARENT_BROKE;
            }
            if (!input.has(HEADER)) {
                return truncated();
            }
            int id = input.peek(4);
            int size = (int) length - 4;
            Meta told = meta;
            meta = null;
            if (length > maxFrame) {
                input.drop(HEADER);
                if (!input.skip(size)) {
                    return truncated();
                }
                refuse(id, new Failure("a frame of " + length + " bytes, where " + maxFrame + " are the limit")
                    .reserved("too_large"));
                continue;
            }
            if (!input.has(HEADER + size)) {
                return truncated();
            }
            Unpacker body = new Unpacker(input.bytes, input.from + HEADER, input.from + HEADER + size);
            input.drop(HEADER + size);
            String request;
            try {
                request = body.head();
            } catch (Failure e) {
                refuse(id, e);
                continue;
            }
            if (!isProtocol(request)) {
                accept(new Task(id, request), body.rest(), told);
                continue;
            }
            Object data = null;
            byte[] encoded = body.rest();
            try {
                data = body.only();
            } catch (Failure e) {
                if (!request.equals("DIE")) {
                    continue;
                }
            }
            if (id == 0 && request.equals("DIE")) {
                if (data instanceof Map && Boolean.TRUE.equals(((Map<?, ?>) data).get("now"))) {
                    output.lockForGood();
                    Runtime.getRuntime().halt(0);
                }
                return 0;
            } else if (id == 0 && request.equals("HELLO")) {
                greet(data);
            } else if (id == 0 && request.equals("PING") && encoded.length <= PING_BYTES_MAX) {
                Packer packer = new Packer();
                packer.begin(0, "PONG");
                packer.raw(encoded);
                output.add(packer.finish(), false);
            } else if (id != 0 && request.equals("META") && data instanceof Map) {
                meta = new Meta(id, (Map<?, ?>) data);
            } else if (id != 0 && request.equals("CANCEL")) {
                Task task = find(id);
                if (task != null) {
                    task.cancelled = true;
                }
            }
        }
    }

    private int truncated() {
        say("the input ended inside a frame");
        return TRUNCATED;
    }

    private Task find(int id) {
        synchronized (lock) {
            return open.get(id);
        }
    }

    private void accept(Task task, byte[] data, Meta told) {
        task.data = data;
        if (told != null && told.id == task.id) {
            task.meta = told;
        }
        boolean full;
        synchronized (lock) {
            if (task.id != 0 && open.containsKey(task.id)) {
                return;
            }
            full = queue.size() >= window + OVERDRAFT_MAX;
            if (!full) {
                if (task.id != 0) {
                    open.put(task.id, task);
                }
                queue.add(task);
                lock.notify();
            }
        }
        if (full && task.id != 0) {
            Packer packer = new Packer();
            failure(task, new Failure("too many tasks wait here").reserved("overloaded").retry().notBegun(), packer);
            output.add(packer, false);
        } else if (full) {
            say("a one-way request \"" + task.request + "\" was dropped: too many wait here");
        }
    }

    /** Answers a frame that cannot be a task, when its turn comes; one without an id is ignored. */
    private void refuse(int id, Failure failure) {
        if (id != 0) {
            Task task = new Task(id, "");
            task.refusal = failure;
            accept(task, null, null);
        }
    }

    private void greet(Object data) {
        if (greeted || !(data instanceof Map)) {
            return;
        }
        greeted = true;
        Map<?, ?> hello = (Map<?, ?>) data;
        Object limit = hello.get("max_frame");
        if (limit instanceof Long) {
            parentMaxFrame = (int) Math.max(MAX_FRAME_MIN, Math.min((Long) limit, LEN_MAX));
        } else if (limit instanceof BigInteger) {
            parentMaxFrame = LEN_MAX;
        }
        if (isAddress(hello.get("pid")) && isAddress(hello.get("parent"))) {
            sender = (Long) hello.get("pid");
            recipient = (Long) hello.get("parent");
        }
        Object caps = hello.get("caps");
        tellsStarts = threads > 1 && caps instanceof List && ((List<?>) caps).contains("started");
    }

    private static boolean isAddress(Object value) {
        return value instanceof Long && (Long) value >= 1 && (Long) value <= ADDRESS_MAX;
    }

    /** ALL-CAPS names are the protocol's, known or not; DO alone is the user's. */
    private static boolean isProtocol(String name) {
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            boolean letter = c >= 'A' && c <= 'Z';
            boolean other = c >= '0' && c <= '9' || c == '_';
            if (!letter && (i == 0 || !other)) {
                return false;
            }
        }
        return !name.isEmpty() && !name.equals("DO");
    }

    // ---- What a handler sees ----

    /** A task: what is known of it, and what can be said about it before it is answered. Any thread may use it. */
    public final class Task {
        private static final long PROGRESS_NANOS = 10_000_000;
        private static final int LOG_LINES_MAX = 5_000;
        private static final int TEXT_BYTES_MAX = 32_768;

        private final int id;
        private final String request;
        private byte[] data;
        private Failure refusal;
        private Meta meta;
        private Instant deadline;
        private volatile boolean cancelled;
        private boolean over;
        /** For what is said; made when something is. */
        private Packer voice;
        private Map<String, Object> progress;
        private long progressAt;
        private long logSecond;
        private int logLines;

        private Task(int id, String request) {
            this.id = id;
            this.request = request;
        }

        /** The request's name. */
        public String request() {
            return request;
        }

        /** Which attempt this is, from 1. Above 1 an earlier attempt began, and what it did may have been done. */
        public long attempt() {
            return meta == null ? 1 : meta.attempt;
        }

        /** A text that is the same for every attempt of this task, and no other task's; null if the parent gave none. */
        public String key() {
            return meta == null ? null : meta.key;
        }

        /** When the answer must be there, or null. */
        public Instant deadline() {
            return deadline;
        }

        /** The milliseconds that this attempt had when it began, or null. */
        public Long deadlineMs() {
            return meta == null ? null : meta.deadlineMs;
        }

        /** The time until the deadline, zero if it has passed, or null. */
        public Duration timeLeft() {
            if (deadline == null) {
                return null;
            }
            Duration left = Duration.between(Instant.now(), deadline);
            return left.isNegative() ? Duration.ZERO : left;
        }

        /**
         * Whether nobody wants the answer any more. Nothing stops by itself: a handler that takes long asks now and then and
         * returns early, best with {@link Failure#cancelled}.
         */
        public boolean isCancelled() {
            return cancelled;
        }

        /** Sends one of many results. A one-way request has no results, and this does nothing then. */
        public synchronized void item(Object value) {
            if (id != 0) {
                send("ITEM", value, true);
            }
        }

        /** Says how far the task is. Each may be null. Called often, it sends some: the latest, every 10 ms and at the end. */
        public synchronized void progress(Number done, Number total, String note) {
            Map<String, Object> said = new LinkedHashMap<>();
            putIf(said, "done", done);
            putIf(said, "total", total);
            putIf(said, "note", note == null ? null : cut(note, TEXT_BYTES_MAX));
            progress = said;
            long now = System.nanoTime();
            if (progressAt == 0 || now - progressAt >= PROGRESS_NANOS) {
                progressAt = now;
                tellProgress();
            }
        }

        /** Writes a line for the parent's log; the level is one of debug, info, warn, error. At most 5,000 lines a second. */
        public synchronized void log(String level, String message) {
            long second = System.nanoTime() / 1_000_000_000;
            if (second != logSecond) {
                logSecond = second;
                logLines = 0;
            }
            // A parent may end a worker that floods it.
            if (logLines++ < LOG_LINES_MAX) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("level", cut(level, 64));
                line.put("msg", cut(message, TEXT_BYTES_MAX));
                send("LOG", line, true);
            }
        }

        private void tellProgress() {
            Map<String, Object> said = progress;
            progress = null;
            // With id 0 progress means that of the start.
            if (said != null && (id != 0 || request.isEmpty())) {
                send("PROGRESS", said, true);
            }
        }

        private void send(String name, Object value, boolean mayWait) {
            if (over) {
                throw new IllegalStateException("the task has its answer already");
            }
            if (voice == null) {
                voice = new Packer();
            }
            voice.frame(id, name, value);
            output.add(voice, mayWait);
        }

        private void begin() {
            Long ms = deadlineMs();
            if (ms != null) {
                deadline = Instant.now().plusMillis(ms);
            }
        }

        private synchronized void end() {
            try {
                tellProgress();
            } catch (Failure e) {
                say("the last progress was left out: " + e.getMessage());
            }
            over = true;
        }
    }

    private static void putIf(Map<String, Object> map, String key, Object value) {
        if (value != null) {
            map.put(key, value);
        }
    }

    /** What META says of the request behind it. */
    private static final class Meta {
        /** A century: what is longer is no limit, and would not fit into a date. */
        private static final long DEADLINE_MS_MAX = 3_155_760_000_000L;

        final int id;
        final long attempt;
        final String key;
        final Long deadlineMs;

        Meta(int id, Map<?, ?> data) {
            this.id = id;
            Object number = data.get("attempt");
            Object text = data.get("key");
            Object ms = data.get("deadline_ms");
            attempt = number instanceof Long && (Long) number > 0 ? (Long) number : 1;
            key = text instanceof String ? (String) text : null;
            boolean limited = ms instanceof Long && (Long) ms >= 0 && (Long) ms <= DEADLINE_MS_MAX;
            deadlineMs = limited ? (Long) ms : null;
        }
    }

    /**
     * An exception that says more to the parent than words: a code for programs, and whether another attempt may help. Any other
     * exception fails its task with the code {@code error}; if a {@code Failure} is among its causes, that one's code counts.
     */
    public static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;
        private static final Set<String> CODES = Set.of("error", "unknown_request", "bad_data", "bad_message", "too_large",
            "cancelled", "overloaded", "unavailable", "version", "codec");
        // Together below the 60,000 bytes that always fit [E-10].
        private static final int MESSAGE_BYTES = 16_384;
        private static final int TRACE_BYTES = 30_000;
        private static final int CAUSES = 16;
        private static final int CAUSE_BYTES = 512;
        private static final int CODE_BYTES = 255;

        // Vectors.java looks at it too.
        String code = "error";
        private boolean retry;
        private Long afterMs;
        private transient Object data;
        private boolean hasData;
        private boolean begun = true;
        /** Made by this file: its stack says nothing to anybody. */
        private boolean reserved;

        /** A failure with the code {@code error} and no retry. */
        public Failure(String message) {
            super(message);
        }

        /** A failure with the exception behind it. */
        public Failure(String message, Throwable cause) {
            super(message, cause);
        }

        /** For a handler that returns early because its task was cancelled. */
        public static Failure cancelled() {
            return new Failure("cancelled").reserved("cancelled");
        }

        /** Sets the code: one of your own with a dot, {@code acme.busy}, or one of the protocol's that a worker may send. */
        public Failure code(String code) {
            boolean allowed = CODES.contains(code) || code.contains(".");
            this.code = allowed ? cut(code, CODE_BYTES) : "error";
            return this;
        }

        /** Says that another attempt may help. */
        public Failure retry() {
            this.retry = true;
            return this;
        }

        /** Sets how many milliseconds must pass before another attempt. */
        public Failure afterMs(long ms) {
            this.afterMs = Math.max(0, ms);
            return this;
        }

        /** Adds a value for programs. */
        public Failure data(Object data) {
            this.data = data;
            this.hasData = true;
            return this;
        }

        private Failure reserved(String code) {
            this.code = code;
            this.reserved = true;
            return this;
        }

        private Failure notBegun() {
            this.begun = false;
            return this;
        }

        /** The data of FAILED. */
        private static Map<String, Object> report(Throwable thrown) {
            List<Throwable> causes = new ArrayList<>();
            // Causes may form a ring, and nobody reads the hundredth.
            for (Throwable cause = thrown; cause != null && causes.size() <= CAUSES; cause = cause.getCause()) {
                causes.add(cause);
            }
            Failure own = null;
            List<String> chain = new ArrayList<>();
            for (Throwable cause : causes) {
                if (own == null && cause instanceof Failure) {
                    own = (Failure) cause;
                }
                if (cause != thrown) {
                    chain.add(cut(describe(cause), CAUSE_BYTES));
                }
            }
            Map<String, Object> report = new LinkedHashMap<>();
            report.put("code", own == null ? "error" : own.code);
            report.put("message", cut(describe(thrown), MESSAGE_BYTES));
            if (own != null) {
                putIf(report, "retry", own.retry ? true : null);
                putIf(report, "after_ms", own.afterMs);
            }
            if (own != null && !own.begun) {
                report.put("begun", false);
            }
            if (own != thrown || !own.reserved) {
                StringWriter trace = new StringWriter();
                thrown.printStackTrace(new PrintWriter(trace));
                report.put("trace", cut(trace.toString(), TRACE_BYTES));
            }
            if (!chain.isEmpty()) {
                report.put("chain", chain);
            }
            if (own != null && own.hasData) {
                report.put("data", own.data);
            }
            return report;
        }
    }

    /** An exception of the start after which it makes no sense to start this worker again, for instance a missing licence. */
    public static final class Permanent extends RuntimeException {
        private static final long serialVersionUID = 1;

        public Permanent(String message) {
            super(message);
        }

        public Permanent(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** An exception in words. The class belongs to them: the message of many is a name only. */
    private static String describe(Throwable thrown) {
        try {
            return thrown instanceof Failure && thrown.getMessage() != null ? thrown.getMessage() : String.valueOf(thrown);
        } catch (Throwable e) {
            // Its own methods throw.
            return thrown.getClass().getName();
        }
    }

    /** The text as it can be sent, cut to so many bytes at the edge of a character. */
    private static String cut(String text, int bytesMax) {
        byte[] bytes = String.valueOf(text).getBytes(StandardCharsets.UTF_8);
        int end = Math.min(bytes.length, bytesMax);
        while (end < bytes.length && end > 0 && (bytes[end] & 0xC0) == 0x80) {
            end--;
        }
        return new String(bytes, 0, end, StandardCharsets.UTF_8);
    }

    // ---- The connection ----

    /** The two ends of the connection, away from what the program prints and reads. */
    private static final class Streams {
        final InputStream input;
        final OutputStream output;

        private Streams(InputStream input, OutputStream output) {
            this.input = input;
            this.output = output;
        }

        static Streams open(String transport) throws IOException {
            if (transport.equals("stdio")) {
                return stdio();
            }
            if (!transport.matches("fd:[0-9]{1,9},[0-9]{1,9}")) {
                throw new IOException("STOKEHOLD_IO=" + transport + " is no transport: those are `stdio` and `fd:R,W`");
            }
            String[] numbers = transport.substring(3).split(",");
            int r = Integer.parseInt(numbers[0]);
            int w = Integer.parseInt(numbers[1]);
            if (r <= 2 || w <= 2) {
                throw new IOException("STOKEHOLD_IO=" + transport + " must name two descriptors above 2");
            }
            Streams streams = again(r, w);
            System.setIn(InputStream.nullInputStream());
            return streams;
        }

        /**
         * Java has no dup, but the system's file of a descriptor can be opened, and closing 0 or 1 puts /dev/null there. So even a
         * subprocess that inherits them is harmless. Where that does not work, for instance on a socket, the frames stay on 0
         * and 1, and only what goes through System.in and System.out is kept away.
         */
        private static Streams stdio() {
            Streams streams;
            try {
                if (Files.isSameFile(link(1), link(2)) && !isDevice(2)) {
                    // Started with `2>&1`: what is said to people must not get between the frames either. (On a terminal
                    // a person looks at both.)
                    new FileOutputStream(FileDescriptor.err).close();
                }
            } catch (IOException | SecurityException e) {
                // Then they are not known to be the same.
            }
            try {
                streams = again(0, 1);
                new FileInputStream(FileDescriptor.in).close();
                new FileOutputStream(FileDescriptor.out).close();
            } catch (IOException e) {
                streams = new Streams(new FileInputStream(FileDescriptor.in), new FileOutputStream(FileDescriptor.out));
            }
            System.setIn(InputStream.nullInputStream());
            System.setOut(System.err);
            return streams;
        }

        private static Streams again(int r, int w) throws IOException {
            InputStream input = null;
            try {
                input = new FileInputStream(link(r).toFile());
                // Appending, because a file must not be cut to nothing by being opened.
                return new Streams(input, new FileOutputStream(link(w).toFile(), true));
            } catch (IOException e) {
                if (input != null) {
                    input.close();
                }
                throw new IOException("descriptor " + (input == null ? r : w) + " of the protocol cannot be opened: "
                    + e.getMessage() + "; it must be a pipe of the same user");
            }
        }

        private static boolean isDevice(int descriptor) throws IOException {
            return Files.readSymbolicLink(Path.of("/proc/self/fd/" + descriptor)).startsWith("/dev");
        }

        private static Path link(int descriptor) {
            return Path.of("/dev/fd/" + descriptor);
        }
    }

    /** Bytes from the parent, in pieces of any size [F-4]. */
    private static final class Input {
        private final InputStream stream;
        byte[] bytes = new byte[CHUNK];
        int from;
        private int to;

        Input(InputStream stream) {
            this.stream = stream;
        }

        boolean isEmpty() {
            return from == to;
        }

        /** The big-endian number so many bytes ahead. */
        int peek(int ahead) {
            int at = from + ahead;
            return bytes[at] << 24 | (bytes[at + 1] & 0xFF) << 16 | (bytes[at + 2] & 0xFF) << 8 | bytes[at + 3] & 0xFF;
        }

        void drop(int count) {
            from += count;
        }

        /** Reads until so many bytes are there; false if the stream ends before. Blocks. */
        boolean has(int count) throws IOException {
            if (to - from >= count) {
                return true;
            }
            if (from == to && bytes.length > 16 * CHUNK && count < CHUNK) {
                // One giant frame shall not cost its memory for ever.
                bytes = new byte[CHUNK];
            } else {
                System.arraycopy(bytes, from, bytes, 0, to - from);
            }
            to -= from;
            from = 0;
            while (to < count) {
                if (to == bytes.length) {
                    // Grows with what has arrived, not with what was announced [F-11].
                    bytes = Arrays.copyOf(bytes, (int) Math.min(2L * bytes.length, Math.max(count, CHUNK)));
                }
                int got = stream.read(bytes, to, Math.min(bytes.length - to, CHUNK));
                if (got < 0) {
                    return false;
                }
                to += got;
            }
            return true;
        }

        /** Reads so many bytes and forgets them. */
        boolean skip(int count) throws IOException {
            int left = count;
            while (left > 0) {
                if (isEmpty() && !has(1)) {
                    return false;
                }
                int some = Math.min(left, to - from);
                from += some;
                left -= some;
            }
            return true;
        }
    }

    /**
     * Frames to the parent. Those that may wait are written with the next one that may not, when there are many, or by the
     * flusher after a millisecond or two. When nobody reads them any more the process ends, whatever runs [L-5].
     */
    private static final class Output {
        private static final long WAIT_NANOS = 1_000_000;

        private final OutputStream stream;
        private final byte[] held = new byte[CHUNK];
        private int size;
        private long since;
        private boolean flusherSleeps;

        Output(OutputStream stream) {
            this.stream = stream;
        }

        synchronized void add(Packer frame, boolean mayWait) {
            if (frame.size > held.length - size) {
                flush();
            }
            if (frame.size > held.length) {
                write(frame.bytes, frame.size);
                return;
            }
            if (size == 0) {
                since = System.nanoTime();
            }
            System.arraycopy(frame.bytes, 0, held, size, frame.size);
            size += frame.size;
            if (!mayWait) {
                flush();
            } else if (flusherSleeps) {
                flusherSleeps = false;
                notify();
            }
        }

        synchronized void flush() {
            if (size > 0) {
                write(held, size);
                size = 0;
            }
        }

        private void write(byte[] bytes, int count) {
            try {
                stream.write(bytes, 0, count);
            } catch (IOException e) {
                Runtime.getRuntime().halt(READER_GONE);
            }
        }

        /** The flusher's thread. It sleeps for good while nothing waits. */
        synchronized void flushLate() {
            while (true) {
                try {
                    if (size == 0) {
                        flusherSleeps = true;
                        wait();
                        continue;
                    }
                    long left = since + WAIT_NANOS - System.nanoTime();
                    if (left <= 0) {
                        flush();
                    } else {
                        wait(1 + left / 1_000_000);
                    }
                } catch (InterruptedException e) {
                    // Nobody has a reason to; there is nothing to give up.
                }
            }
        }

        /** Waits until no frame is half written, but not for a parent that does not read. */
        void lockForGood() {
            Thread holder = daemon("stokehold-end", () -> {
                synchronized (this) {
                    Runtime.getRuntime().halt(0);
                }
            });
            try {
                holder.join(1_000);
            } catch (InterruptedException e) {
                // Then it ends at once.
            }
        }
    }

    // ---- MessagePack ----

    /** Writes one frame. What is no value of the data model, or too large for the parent, is a Failure. */
    // Vectors.java uses it too.
    final class Packer {
        byte[] bytes = new byte[512];
        int size;
        private int limit;

        void frame(int id, String request, Object data) {
            begin(id, request);
            value(data, 0);
            finish();
        }

        void begin(int id, String request) {
            if (bytes.length > 16 * CHUNK) {
                bytes = new byte[512];
            }
            limit = 4 + parentMaxFrame;
            size = 4;
            number(id, 4);
            put(0x94);
            text(request);
            integer(sender);
            if (recipient == 0) {
                put(0xC0);
            } else {
                integer(recipient);
            }
        }

        Packer finish() {
            int length = size - 4;
            int end = size;
            size = 0;
            number(length, 4);
            size = end;
            return this;
        }

        void raw(byte[] data) {
            room(data.length);
            System.arraycopy(data, 0, bytes, size, data.length);
            size += data.length;
        }

        void value(Object value, int depth) {
            if (value == null) {
                put(0xC0);
            } else if (value instanceof String) {
                text((String) value);
            } else if (value instanceof Long || value instanceof Integer || value instanceof Short || value instanceof Byte) {
                integer(((Number) value).longValue());
            } else if (value instanceof Boolean) {
                put((Boolean) value ? 0xC3 : 0xC2);
            } else if (value instanceof Double || value instanceof Float) {
                put(0xCB);
                number(Double.doubleToRawLongBits(((Number) value).doubleValue()), 8);
            } else if (value instanceof byte[]) {
                length(((byte[]) value).length, -1, 0, 0xC4, 0xC5, 0xC6);
                raw((byte[]) value);
            } else if (value instanceof Map) {
                map((Map<?, ?>) value, deeper(depth));
            } else if (value instanceof Collection) {
                array((Collection<?>) value, deeper(depth));
            } else if (value instanceof Object[]) {
                array(Arrays.asList((Object[]) value), deeper(depth));
            } else if (value instanceof BigInteger) {
                big((BigInteger) value);
            } else {
                throw badData("an object of " + value.getClass().getName() + " cannot be sent");
            }
        }

        private int deeper(int depth) {
            if (depth == DEPTH_MAX) {
                throw badData("the value is nested more than " + DEPTH_MAX + " deep");
            }
            return depth + 1;
        }

        private void map(Map<?, ?> map, int depth) {
            // First the keys and values of one moment: other threads may change the map while it is written.
            Set<String> keys = new HashSet<>();
            List<Object> pairs = new ArrayList<>();
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                Object key = entry.getKey();
                if (!(key instanceof String)) {
                    throw badData("the keys of a map must be texts, not " + key);
                }
                if (!keys.add((String) key)) {
                    throw badData("a map has the key \"" + cut((String) key, 64) + "\" twice");
                }
                pairs.add(key);
                pairs.add(entry.getValue());
                fits(pairs.size());
            }
            length(pairs.size() / 2, 15, 0x80, -1, 0xDE, 0xDF);
            for (Object value : pairs) {
                value(value, depth);
            }
        }

        private void array(Collection<?> values, int depth) {
            List<Object> all = new ArrayList<>();
            for (Object value : values) {
                all.add(value);
                fits(all.size());
            }
            length(all.size(), 15, 0x90, -1, 0xDC, 0xDD);
            for (Object value : all) {
                value(value, depth);
            }
        }

        private void text(String text) {
            int chars = text.length();
            int ascii = 0;
            while (ascii < chars && text.charAt(ascii) < 0x80) {
                ascii++;
            }
            if (ascii == chars) {
                length(chars, 31, 0xA0, 0xD9, 0xDA, 0xDB);
                room(chars);
                for (int i = 0; i < chars; i++) {
                    bytes[size++] = (byte) text.charAt(i);
                }
                return;
            }
            ByteBuffer encoded;
            try {
                // `getBytes` would write half a surrogate pair as a question mark.
                encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            } catch (CharacterCodingException e) {
                throw badData("a text has half of a surrogate pair");
            }
            int count = encoded.remaining();
            length(count, 31, 0xA0, 0xD9, 0xDA, 0xDB);
            room(count);
            encoded.get(bytes, size, count);
            size += count;
        }

        private void big(BigInteger value) {
            if (value.bitLength() < 64) {
                integer(value.longValue());
            } else if (value.signum() > 0 && value.bitLength() == 64) {
                put(0xCF);
                number(value.longValue(), 8);
            } else {
                throw badData("an integer of " + value.bitLength() + " bits cannot be sent");
            }
        }

        private void integer(long value) {
            if (value >= -32 && value < 128) {
                put((int) value);
            } else if (value >= 0) {
                int wide = value < 1 << 8 ? 0 : value < 1 << 16 ? 1 : value < 1L << 32 ? 2 : 3;
                put(0xCC + wide);
                number(value, 1 << wide);
            } else {
                int wide = value >= -128 ? 0 : value >= -32_768 ? 1 : value >= Integer.MIN_VALUE ? 2 : 3;
                put(0xD0 + wide);
                number(value, 1 << wide);
            }
        }

        /** A length in its shortest form; -1 is a form that the kind does not have. */
        private void length(int count, int shortMax, int shortMark, int mark8, int mark16, int mark32) {
            if (count <= shortMax) {
                put(shortMark + count);
            } else if (count < 1 << 8 && mark8 >= 0) {
                put(mark8);
                number(count, 1);
            } else if (count < 1 << 16) {
                put(mark16);
                number(count, 2);
            } else {
                put(mark32);
                number(count, 4);
            }
        }

        private void number(long value, int width) {
            room(width);
            for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) {
                bytes[size++] = (byte) (value >> shift);
            }
        }

        private void put(int value) {
            room(1);
            bytes[size++] = (byte) value;
        }

        /** Fails if the frame has no room for so many bytes. */
        private void fits(int count) {
            if (count > limit - size) {
                throw new Failure("the parent takes frames of at most " + (limit - 4) + " bytes, and this is longer")
                    .reserved("too_large");
            }
        }

        private void room(int count) {
            fits(count);
            if (count > bytes.length - size) {
                bytes = Arrays.copyOf(bytes, (int) Math.min(limit, Math.max(2L * bytes.length, (long) size + count)));
            }
        }
    }

    private static Failure badData(String message) {
        return new Failure(message).reserved("bad_data");
    }

    /** Reads one message. What breaks the data model is a Failure with the code `bad_data`, or `bad_message` for the head. */
    // Vectors.java uses it too.
    static final class Unpacker {
        private final byte[] bytes;
        private int at;
        private final int end;

        Unpacker(byte[] bytes, int from, int end) {
            this.bytes = bytes;
            this.at = from;
            this.end = end;
        }

        /** Reads the request, and checks sender and recipient, which a child does not need. */
        String head() {
            try {
                int mark = next();
                long fields = mark >> 4 == 9 ? mark & 15 : mark == 0xDC ? number(2) : mark == 0xDD ? number(4) : -1;
                if (fields != 4) {
                    throw badData("a message is an array of four");
                }
                int begin = at;
                int first = next();
                if (first >> 5 != 5 && (first < 0xD9 || first > 0xDB)) {
                    throw badData("the request is no text");
                }
                at = begin;
                String request = (String) value(0);
                int length = at - begin - (first >> 5 == 5 ? 1 : 1 + (1 << (first - 0xD9)));
                if (length < 1 || length > 255) {
                    throw badData("the request has " + length + " bytes");
                }
                if (!isWithin(scalar(), 0)) {
                    throw badData("the sender is no address");
                }
                Object recipient = scalar();
                boolean everyone = recipient instanceof Long && (Long) recipient == -1;
                if (recipient != null && !everyone && !isWithin(recipient, 1)) {
                    throw badData("the recipient is no address");
                }
                if (at == end) {
                    throw badData("the message has no data");
                }
                return request;
            } catch (Failure e) {
                throw new Failure(e.getMessage()).reserved("bad_message");
            }
        }

        private static boolean isWithin(Object value, long least) {
            return value instanceof Long && (Long) value >= least && (Long) value <= ADDRESS_MAX;
        }

        /** The bytes that are left, for later. */
        byte[] rest() {
            return Arrays.copyOfRange(bytes, at, end);
        }

        /** The one value that is left. */
        Object only() {
            Object value = value(0);
            if (at != end) {
                throw badData("there are bytes behind the value");
            }
            return value;
        }

        /** A value that is neither an array nor a map: where an address should be, there may be anything. */
        private Object scalar() {
            if (at < end) {
                int mark = bytes[at] & 0xFF;
                if (mark >= 0x80 && mark < 0xA0 || mark >= 0xDC && mark <= 0xDF) {
                    throw badData("an array or a map is no address");
                }
            }
            return value(0);
        }

        private Object value(int depth) {
            int mark = next();
            if (mark < 0x80 || mark >= 0xE0) {
                return (long) (byte) mark;
            }
            if (mark < 0x90) {
                return map(mark & 15, depth);
            }
            if (mark < 0xA0) {
                return array(mark & 15, depth);
            }
            if (mark < 0xC0) {
                return text(mark & 31);
            }
            switch (mark) {
                case 0xC0:
                    return null;
                case 0xC2:
                    return false;
                case 0xC3:
                    return true;
                case 0xC4:
                case 0xC5:
                case 0xC6:
                    return binary(number(1 << (mark - 0xC4)));
                case 0xCA:
                    return (double) Float.intBitsToFloat((int) number(4));
                case 0xCB:
                    return Double.longBitsToDouble(number(8));
                case 0xCC:
                case 0xCD:
                case 0xCE:
                    return number(1 << (mark - 0xCC));
                case 0xCF:
                    long bits = number(8);
                    return bits >= 0 ? (Object) bits : new BigInteger(Long.toUnsignedString(bits));
                case 0xD0:
                    return (long) (byte) number(1);
                case 0xD1:
                    return (long) (short) number(2);
                case 0xD2:
                    return (long) (int) number(4);
                case 0xD3:
                    return number(8);
                case 0xD9:
                case 0xDA:
                case 0xDB:
                    return text(number(1 << (mark - 0xD9)));
                case 0xDC:
                case 0xDD:
                    return array(number(2 << (mark - 0xDC)), depth);
                case 0xDE:
                case 0xDF:
                    return map(number(2 << (mark - 0xDE)), depth);
                default:
                    throw badData("the byte " + Integer.toHexString(mark) + " begins no value of the data model");
            }
        }

        private List<Object> array(long count, int depth) {
            check(count, depth);
            List<Object> values = new ArrayList<>((int) Math.min(count, 1_024));
            for (long n = 0; n < count; n++) {
                values.add(value(depth + 1));
            }
            return values;
        }

        private Map<String, Object> map(long count, int depth) {
            check(2 * count, depth);
            Map<String, Object> map = new LinkedHashMap<>();
            for (long n = 0; n < count; n++) {
                int mark = at < end ? bytes[at] & 0xFF : 0xA0;
                if (mark >> 5 != 5 && (mark < 0xD9 || mark > 0xDB)) {
                    throw badData("a key of a map is no text");
                }
                String key = (String) value(depth);
                Object value = value(depth + 1);
                int before = map.size();
                map.put(key, value);
                if (map.size() == before) {
                    throw badData("a map has the key \"" + key + "\" twice");
                }
            }
            return map;
        }

        /** Each value takes a byte at least, so a count above what is left is a lie that must cost nothing [D-9]. */
        private void check(long count, int depth) {
            if (depth == DEPTH_MAX) {
                throw badData("the value is nested more than " + DEPTH_MAX + " deep");
            }
            if (count > end - at) {
                throw badData("the value is not complete");
            }
        }

        private byte[] binary(long count) {
            int begin = skip(count);
            return Arrays.copyOfRange(bytes, begin, at);
        }

        private String text(long count) {
            int begin = skip(count);
            int ascii = begin;
            while (ascii < at && bytes[ascii] >= 0) {
                ascii++;
            }
            if (ascii == at) {
                return new String(bytes, begin, (int) count, StandardCharsets.ISO_8859_1);
            }
            try {
                // `new String` would put question marks where the bytes are wrong.
                return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes, begin, (int) count)).toString();
            } catch (CharacterCodingException e) {
                throw badData("a text is not UTF-8");
            }
        }

        private int skip(long count) {
            if (count > end - at) {
                throw badData("the value is not complete");
            }
            int begin = at;
            at += (int) count;
            return begin;
        }

        private int next() {
            return bytes[skip(1)] & 0xFF;
        }

        private long number(int width) {
            int begin = skip(width);
            long number = 0;
            for (int i = begin; i < at; i++) {
                number = number << 8 | bytes[i] & 0xFF;
            }
            return number;
        }
    }

    // ---- The process ----

    private static boolean isTerminal() {
        try {
            String target = Files.readSymbolicLink(Path.of("/proc/self/fd/0")).toString();
            return target.startsWith("/dev/pts/") || target.startsWith("/dev/tty");
        } catch (IOException | RuntimeException e) {
            // From Java 22 on there is a console even where there is no terminal.
            return Runtime.version().feature() < 22 && System.console() != null;
        }
    }

    private void checkOffer(String variable, String wanted, String code, Object supported) {
        String offer = System.getenv(variable);
        if (offer == null) {
            return;
        }
        for (String entry : offer.split(",")) {
            if (entry.trim().equals(wanted)) {
                return;
            }
        }
        Map<String, Object> report = new LinkedHashMap<>();
        report.put("code", code);
        report.put("message", "the parent offers " + variable + "=" + cut(offer, 256) + ", this worker speaks " + wanted);
        report.put("data", Map.of("supported", List.of(supported)));
        Packer packer = new Packer();
        packer.frame(0, "FAILED", report);
        output.add(packer, false);
        throw end(INCOMPATIBLE, (String) report.get("message"));
    }

    /** Ctrl-C goes to everybody on a terminal, but when to end is the parent's to say. */
    private static void ignoreInterrupts() {
        try {
            // By reflection, since the class is in every JDK and in no specification.
            Class<?> signal = Class.forName("sun.misc.Signal");
            Class<?> handler = Class.forName("sun.misc.SignalHandler");
            Object nothing = Proxy.newProxyInstance(handler.getClassLoader(), new Class<?>[] {handler}, (self, m, args) -> null);
            signal.getMethod("handle", signal, handler).invoke(null, signal.getConstructor(String.class).newInstance("INT"),
                nothing);
        } catch (ReflectiveOperationException | RuntimeException e) {
            // A worker that cannot have this works all the same.
        }
    }

    private static Thread daemon(String name, Runnable body) {
        Thread thread = new Thread(body, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static void joined(Thread thread) {
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                // The worker ends when its tasks are done, and not before.
            }
        }
    }

    private static void say(String line) {
        System.err.println("stokehold: " + line);
    }

    /** Says why and ends in order. Never returns; the type is for the compiler. */
    private static Error end(int code, String why) {
        say(why);
        System.exit(code);
        return new Error(why);
    }

    /** Says why and ends at once, without anything that may wait for a handler. */
    private static void halt(int code, String why) {
        say(why);
        Runtime.getRuntime().halt(code);
    }

    /** An echo, for a first try: {@code stokehold run -- java StokeholdWorker.java}. */
    public static void main(String[] args) {
        serve((input, task) -> input);
    }
}
